"""Joining Ray: a cluster that is missing is reported soon, with the remedy."""

from __future__ import annotations

import subprocess
import sys

import pytest

pytestmark = pytest.mark.ray


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
