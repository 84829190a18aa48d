"""Shared fixtures: where the real data is, and one Ray session for the whole run."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest
from xdist.scheduler import LoadScopeScheduling

from skinray import cli
from tests.support.commands import Command, Ended
from tests.support.tiny import write_drawn_cohort

REAL_DATA = Path(os.environ.get("SKINRAY_REAL_DATA", Path(__file__).parents[1] / "../shared/data"))

# Ray gives its workers a niceness of 15: the tests of the other process would starve them.
os.environ.setdefault("RAY_worker_niceness", "0")
# As in skinray's own sessions, but sooner: a test waits for the end of many trainings.
os.environ.setdefault("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.2")
# Nothing is read from, or left in, the cache of who runs the tests; Ray's workers inherit this.
CACHE = tempfile.TemporaryDirectory(prefix="skinray-tests-cache-")
os.environ["SKINRAY_CACHE"] = CACHE.name
SHARE_RAY = ("tests/cluster/", "tests/benchmarks/")


class FilesSideBySide(LoadScopeScheduling):
    """Hands whole files to the two test processes, and to one of them all that may start Ray."""

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.split("::")[0]
        return "ray" if file.startswith(SHARE_RAY) else file


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> FilesSideBySide:
    """Group tests by what they share."""
    return FilesSideBySide(config, log)


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Folder of real images and weights; the test is skipped where it is missing."""
    if not REAL_DATA.is_dir():
        pytest.skip(f"no real data at {REAL_DATA}: set SKINRAY_REAL_DATA")
    return REAL_DATA.resolve()


@pytest.fixture(scope="session")
def tiny_cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten drawn biopsies of five subjects as a cohort folder; copy it before damaging it."""
    return write_drawn_cohort(tmp_path_factory.mktemp("drawn") / "cohort")


@pytest.fixture
def cohort(tiny_cohort: Path, tmp_path: Path) -> Path:
    """The drawn cohort as a folder of one's own, to damage."""
    return shutil.copytree(tiny_cohort, tmp_path / "cohort")


@pytest.fixture
def skinray(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Command:
    """Run ``skinray WORDS`` as the console script does, in this process."""

    def run(*words: object) -> Ended:
        monkeypatch.setattr(sys, "argv", ["skinray", *map(str, words)])
        capsys.readouterr()
        code = 0
        try:
            cli.main()
        except SystemExit as end:
            code = int(end.code or 0)
        return Ended(code, *capsys.readouterr())

    return run


@pytest.fixture
def without_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray must not be started: whoever tries is told so by a trace."""
    from skinray.cluster.train import run

    def started(**_: object) -> None:
        raise AssertionError("Ray was started")

    monkeypatch.setattr(run, "session", started)
