"""Joining Ray: what is missing is said soon, with the remedy."""

from __future__ import annotations

import subprocess
import sys
import time
from typing import Any

import pytest

from skinray.cluster.session import trial_resources
from skinray.config import ClusterSettings
from skinray.errors import ResourcesError

pytestmark = pytest.mark.ray


def test_a_run_that_cannot_get_its_resources_says_so_and_ends(ray_session: Any) -> None:
    began = time.monotonic()
    with pytest.raises(ResourcesError, match=r"did not offer .*lower cluster\.workers"):
        trial_resources(ClusterSettings(gpus_per_worker=1, resources_timeout_s=2))
    assert time.monotonic() - began < 60


def test_the_default_patience_is_under_a_minute() -> None:
    assert ClusterSettings().resources_timeout_s < 60


def test_one_machine_runs_as_many_trials_as_it_has_cores(ray_session: Any) -> None:
    import os

    found = trial_resources(ClusterSettings())
    assert found.at_once == os.cpu_count()
    assert not found.nested
    assert found.gpus_per_worker == 0


def test_several_workers_leave_a_cpu_for_their_data(ray_session: Any) -> None:
    found = trial_resources(ClusterSettings(workers=2, data_workers=1))
    assert found.nested
    assert found.at_once == 1
    with pytest.raises(ResourcesError):
        trial_resources(ClusterSettings(workers=4, data_workers=1, resources_timeout_s=2))


def test_a_cluster_that_is_not_there_is_one_message() -> None:
    code = (
        "from skinray.cluster.session import session\n"
        "from skinray.cli import guarded\n"
        "def go():\n"
        "    with session(): pass\n"
        "guarded(go)\n"
    )
    env = {"RAY_ADDRESS": "127.0.0.1:1", "PATH": "/usr/bin"}
    done = subprocess.run(
        [sys.executable, "-c", code], env=env, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 1
    assert "127.0.0.1:1" in done.stderr
    assert "RAY_ADDRESS" in done.stderr
    assert "Traceback" not in done.stderr.split("error:")[-1]
