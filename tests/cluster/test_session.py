"""Joining Ray: a cluster that is missing is reported soon, with the remedy."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from benchmarks.serve.stops import PATIENT_RAY

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


SIGTERM = """
import os, signal, time
import psutil
from skinray.cluster.session import session
HANDLER
try:
    with session(trains=TRAINS):
        children = psutil.Process().children(recursive=True)
        sockets = [
            (one.name(), socket.laddr.ip)
            for one in [psutil.Process(), *children]
            for socket in one.net_connections("inet")
            if socket.status == psutil.CONN_LISTEN
        ]
        words = [word for child in children for word in child.cmdline()]
        helpers = ("monitor.py", "log_monitor.py", "dashboard.py")
        print("helpers:", [name for name in helpers if any(w.endswith("/" + name) for w in words)])
        print("elsewhere:", [one for one in sockets if "127.0.0.1" not in one[1]], len(sockets) > 3)
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(6)  # Ray's own alarm comes after three seconds
        print("went on")
finally:
    print("left:", [one.name() for one in psutil.Process().children(recursive=True)])
"""


@pytest.mark.slow
@pytest.mark.parametrize("own", [True, False])
def test_a_local_session_is_on_loopback_and_sigterm_is_the_programs(own: bool) -> None:
    """With a handler of its own a program goes on; without one it leaves, and takes Ray along."""
    handler = "signal.signal(signal.SIGTERM, lambda *_: print('told'))" if own else ""
    done = subprocess.run(
        [sys.executable, "-c", SIGTERM.replace("HANDLER", handler).replace("TRAINS", str(own))],
        env={k: v for k, v in os.environ.items() if k != "RAY_ADDRESS"} | PATIENT_RAY,
        capture_output=True, text=True, timeout=280,
    )  # fmt: skip
    assert "SIGTERM received" not in done.stderr
    assert "elsewhere: [] True" in done.stdout
    assert f"helpers: {['dashboard.py'] if own else []}" in done.stdout  # it trains if own
    assert "left: []" in done.stdout
    assert ("told" in done.stdout, "went on" in done.stdout) == (own, own)
    assert done.returncode == (0 if own else 15)
