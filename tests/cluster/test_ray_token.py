"""A Ray cluster that asks for no token is refused, unless the environment allows it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from skinray.cluster.ray_internals import answers_strangers
from skinray.cluster.ray_token import MODE, OPEN, show_token
from skinray.errors import ResourcesError

pytestmark = pytest.mark.ray


def test_a_client_shows_its_token_unless_switched_off() -> None:
    environment: dict[str, str] = {}
    show_token(environment)
    assert environment == {MODE: "token"}
    environment = {MODE: "disabled"}
    with pytest.raises(ResourcesError, match=f"Set {MODE}=token, or set {OPEN}=1"):
        show_token(environment)
    with pytest.raises(ResourcesError):
        show_token(environment | {OPEN: "yes"})  # only the one word is meant
    show_token(environment | {OPEN: "1"})
    assert environment == {MODE: "disabled"}


def test_our_own_ray_lets_no_stranger_in(ray_session: Any) -> None:
    import ray

    from skinray.cluster.ray_token import refuse_open_cluster

    assert not answers_strangers(ray.get_runtime_context().gcs_address)
    refuse_open_cluster()


OPEN_CLUSTER = """
import os, subprocess, sys
import ray
ray.init(address="local", num_cpus=1, include_dashboard=False, log_to_driver=False,
         object_store_memory=80 << 20, _node_ip_address="127.0.0.1")
address = ray.get_runtime_context().gcs_address
from skinray.cluster.ray_internals import answers_strangers
assert answers_strangers(address)
code = '''
from skinray.cluster.session import session
from skinray.cli import guarded
def go():
    with session():
        print("joined")
guarded(go)
'''
for more in ({"RAY_AUTH_MODE": ""}, {"RAY_AUTH_MODE": "disabled"},
             {"RAY_AUTH_MODE": "disabled", "SKINRAY_OPEN_CLUSTER": "1"}):
    environment = {**os.environ, "RAY_ADDRESS": address, **more}
    if not environment["RAY_AUTH_MODE"]:
        del environment["RAY_AUTH_MODE"]
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True,
                          text=True, timeout=120)
    print("ENDED", done.returncode, done.stdout.strip(), done.stderr.strip().splitlines()[-1:])
ray.shutdown()
"""


@pytest.mark.slow
def test_a_cluster_without_a_token_is_not_joined(tmp_path: Path) -> None:
    (tmp_path / ".ray").mkdir()
    (tmp_path / ".ray" / "auth_token").write_text("a" * 32)
    environment = {k: v for k, v in os.environ.items() if k not in ("RAY_ADDRESS", OPEN)}
    environment |= {MODE: "disabled", "HOME": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", OPEN_CLUSTER], env=environment, capture_output=True, text=True,
        timeout=280, check=False,
    )  # fmt: skip
    ended = [line for line in done.stdout.splitlines() if line.startswith("ENDED")]
    assert len(ended) == 3, done.stdout + done.stderr
    assert ended[0].startswith("ENDED 1")
    assert "asks for no token" in ended[0]
    assert ended[1].startswith("ENDED 1")
    assert "Set RAY_AUTH_MODE=token" in ended[1]
    assert ended[2].startswith("ENDED 0 joined")
