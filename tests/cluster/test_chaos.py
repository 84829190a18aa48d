"""Kill -9 of a training worker and of the driver: nothing is lost but the running epoch."""

from __future__ import annotations

import collections
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from skinray.learning.checkpoint import TrainState
from skinray.learning.trial import TrialOutcome
from skinray.report.results import RunResults
from skinray.settings import to_yaml
from tests.cluster.conftest import small
from tests.cluster.test_train_cv_job import tables

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.chaos, pytest.mark.timeout(900)]

EPOCHS = 12


class Job:
    """A run of ``jobs/train_cv.py`` in a process of its own."""

    def __init__(self, cohort: Path, out: Path, recipe: Path, *options: str) -> None:
        root = Path(__file__).parents[2]
        self.out = out
        self.log = (out.parent / f"{out.name}.log").open("a", encoding="utf-8")
        self.process = subprocess.Popen(
            [
                sys.executable, str(root / "jobs" / "train_cv.py"), "--data", str(cohort),
                "--out", str(out), "--recipe", str(recipe), *options,
            ],
            stdout=self.log, stderr=subprocess.STDOUT, cwd=root, env={**os.environ},
        )  # fmt: skip

    def wait_until(self, seen: Callable[[], Any], what: str) -> Any:
        """Wait for something to be seen while the job runs."""
        until = time.monotonic() + 300
        while time.monotonic() < until:
            if found := seen():
                return found
            assert self.process.poll() is None, f"the job ended before {what}"
            time.sleep(0.05)
        pytest.fail(f"waited in vain for {what}")

    def training_workers(self) -> list[psutil.Process]:
        """Processes of the job's Ray that are in a trial."""
        children = psutil.Process(self.process.pid).children(recursive=True)
        return [child for child in children if _title(child).startswith("ray::ImplicitFunc")]

    def epochs_begun(self, least: int) -> list[Path]:
        """Logs of unfinished trials with at least so many epochs."""
        logs = self.out.glob("trials/fit-*/epochs.jsonl")
        return [
            log
            for log in logs
            if len(log.read_text(encoding="utf-8").splitlines()) >= least
            and not (log.parent / "outcome.json").exists()
        ]

    def end(self) -> RunResults:
        """Wait for the job to end well."""
        assert self.process.wait(timeout=600) == 0, Path(self.log.name).read_text(encoding="utf-8")
        return RunResults.load(self.out)


def _title(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run without a search, long enough to be killed in the middle."""
    settings = small(EPOCHS).override({"nerve.main.grid": {}, "dermis.main.grid": {}})
    path = tmp_path_factory.mktemp("recipe") / "recipe.yaml"
    path.write_text(to_yaml(settings), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def undisturbed(
    small_cohort: Path, recipe: Path, tmp_path_factory: pytest.TempPathFactory
) -> RunResults:
    """The same run, never killed."""
    return Job(small_cohort, tmp_path_factory.mktemp("calm") / "run", recipe).end()


def redone_epochs(out: Path) -> dict[str, int]:
    """Epochs that each trial trained more than once."""
    found = {}
    for log in out.glob("trials/fit-*/epochs.jsonl"):
        lines = log.read_text(encoding="utf-8").splitlines()
        times = collections.Counter(json.loads(line)["epoch"] for line in lines)
        found[log.parent.name] = sum(count - 1 for count in times.values())
    return found


def test_a_killed_training_worker_comes_back_by_itself(
    small_cohort: Path, recipe: Path, undisturbed: RunResults, tmp_path: Path
) -> None:
    job = Job(small_cohort, tmp_path / "run", recipe)
    job.wait_until(lambda: job.epochs_begun(3), "three epochs")
    victim = job.wait_until(job.training_workers, "a training worker")[0]
    os.kill(victim.pid, signal.SIGKILL)
    assert tables(job.end()) == tables(undisturbed)
    redone = redone_epochs(tmp_path / "run")
    assert max(redone.values()) <= 1, redone


def test_a_killed_driver_is_resumed_to_the_same_tables(
    small_cohort: Path, recipe: Path, undisturbed: RunResults, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    job = Job(small_cohort, out, recipe)
    job.wait_until(lambda: job.epochs_begun(4), "four epochs")
    os.kill(job.process.pid, signal.SIGKILL)
    job.process.wait()
    time.sleep(3)  # its Ray goes with it
    begun = {
        path.parent.name: TrainState.load(path, _owner(path)).epoch
        for path in out.glob("trials/fit-*/state.safetensors")
    }
    assert max(begun.values()) >= 3
    done = list(out.glob("trials/*/outcome.json"))
    times = {path: path.stat().st_mtime_ns for path in done}
    resumed = Job(small_cohort, out, recipe, "--resume").end()
    assert tables(resumed) == tables(undisturbed)
    redone = redone_epochs(out)
    assert max(redone.values()) <= 1, redone
    assert {path: path.stat().st_mtime_ns for path in done} == times


def _owner(state: Path) -> str:
    from safetensors import safe_open

    with safe_open(state, framework="pt") as file:
        owner: str = json.loads(file.metadata()["state"])["owner"]
    return owner


def test_outcomes_of_the_calm_run_are_whole(undisturbed: RunResults) -> None:
    trials = [trial for trial in undisturbed.trials if trial.phase == "fit"]
    assert all(trial.epochs == EPOCHS for trial in trials)
    assert TrialOutcome.model_fields["history"].is_required()
