"""As many trainings run at once as the GPUs allow, even if the CPUs would allow more."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(900)]

ROOT = Path(__file__).parents[3]
SCRIPT = ROOT / "tests/support/pretended_gpus.py"


def run(cpus: int, gpus: int, workers: int, trials: int) -> dict[str, Any]:
    """Train in a process and a Ray of its own; return what it saw."""
    paths = [str(ROOT), os.environ.get("PYTHONPATH", "")]
    done = subprocess.run(
        [sys.executable, str(SCRIPT), *map(str, (cpus, gpus, workers, trials))],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
        capture_output=True, text=True, timeout=800,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    # Ray's own warnings may follow.
    told = [line for line in done.stdout.splitlines() if line.startswith("{")]
    found: dict[str, Any] = json.loads(told[-1])
    return found


@pytest.mark.parametrize(
    ("cpus", "gpus", "workers", "trials", "at_once"), [(16, 2, 2, 3, 1), (16, 8, 4, 3, 2)]
)
def test_trainings_side_by_side_follow_from_the_gpus(
    cpus: int, gpus: int, workers: int, trials: int, at_once: int
) -> None:
    found = run(cpus, gpus, workers, trials)
    assert found["errors"] == [""] * trials
    assert found["workers"] == [workers] * trials
    assert (found["at_once"], found["gpus_per_worker"]) == (at_once, 1.0)
    assert workers <= found["most_workers"] <= at_once * workers
    assert found["left"] == []
