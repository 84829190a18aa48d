"""Each fault of the chaos suite with one seed; ``benchmarks.chaos.run`` runs more of them."""

from __future__ import annotations

import os

import pytest

from benchmarks.chaos.lab import Lab
from benchmarks.chaos.run import FAULTS, break_once

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.chaos, pytest.mark.timeout(1800)]

SEEDS = range(int(os.environ.get("SKINRAY_CHAOS_SEEDS", "1")))


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    return Lab(tmp_path_factory.mktemp("lab"))


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("name", FAULTS)
def test_the_promise_is_kept(lab: Lab, name: str, seed: int) -> None:
    run = break_once(lab, name, seed)
    print(run)
    if "not_run" in run:
        pytest.skip(run["not_run"])
    assert run["kept"], run
