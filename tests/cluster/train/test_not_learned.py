"""Trainings that cannot work, as a user would start them: each ends with what is wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from skinray.cli.options import NOT_LEARNED
from skinray.errors import BundleError
from skinray.images.phantoms.cohort import write_cohort
from skinray.learning.bundle.info import read_info
from skinray.report.biopsies.results import RunResults
from tests.support.commands import Command

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(1200)]

QUICK = (
    "nerve.main.train.epochs=2", "nerve.main.train.draws_per_image=8",
    "dermis.main.train.epochs=2", "dermis.main.grid={}", "fit.max_images=3",
)  # fmt: skip


@pytest.fixture
def drawn(tmp_path: Path) -> Path:
    write_cohort(tmp_path / "cohort", 9, seed=4, size=(320, 256), subjects=3)
    return tmp_path / "cohort"


def _failures(skinray: Command, data: Path, *changes: str) -> list[str]:
    """Train with ``auto``; check that nothing calls the run good, and return what failed."""
    out = data.parent / "run"
    settings = [word for change in (*QUICK, *changes) for word in ("--set", change)]
    ended = skinray("train-cv", "--data", data, "--out", out, "--hours", "0.05", *settings)
    assert ended.code == NOT_LEARNED, ended.err
    assert "Parts of this run failed: do not use its results." in ended.err
    assert "Parts of this run failed" in (out / "report.html").read_text(encoding="utf-8")
    with pytest.raises(BundleError, match="did not learn"):
        read_info(out / "bundle").refuse_failed(out / "bundle")
    failures = RunResults.load(out).failures
    assert all(failure in ended.err for failure in failures)
    return failures


def test_a_rate_that_moves_nothing(skinray: Command, ray_session: Any, drawn: Path) -> None:
    failures = _failures(skinray, drawn, "nerve.main.train.learning_rate=1e-7")
    assert any("learning rate 1e-07 is probably far too low" in one for one in failures)


def test_a_rate_that_destroys_the_network(skinray: Command, ray_session: Any, drawn: Path) -> None:
    out = drawn.parent / "run"
    settings = [word for change in QUICK for word in ("--set", change)]
    settings += ["--set", "nerve.main.train.learning_rate=10"]
    ended = skinray("train-cv", "--data", drawn, "--out", out, "--hours", "0.05", *settings)
    assert ended.code == NOT_LEARNED, ended.err
    assert "nerve" in ended.err
    assert "learning rate" in ended.err
    if (out / "bundle").exists():
        with pytest.raises(BundleError, match="did not learn"):
            read_info(out / "bundle").refuse_failed(out / "bundle")
