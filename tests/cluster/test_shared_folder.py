"""A run folder that another node does not see is refused before anything is trained."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import ray
from ray.exceptions import NodeDiedError

from benchmarks.own_cluster import ROOT, OwnCluster
from skinray.cluster import shared_folder
from skinray.cluster.shared_folder import MARKER, check_shared, sees
from skinray.errors import ResourcesError

# The folder is named by way of /proc/self/cwd: each process then sees another one there.
JOB = """
import sys, time
from pathlib import Path
from skinray.cluster.autoscaler import capacity_at_hand
from skinray.cluster.session import session
from skinray.cluster.shared_folder import check_shared
from skinray.errors import ResourcesError
with session():
    print(capacity_at_hand())
    check_shared(Path(sys.argv[1]))
    print("seen", flush=True)
    began = time.monotonic()
    try:
        check_shared(Path("/proc/self/cwd/run"))
    except ResourcesError as error:
        print(f"refused {error}", time.monotonic() - began < 60, flush=True)
"""


class Looks:
    """Nodes with given answers; records whether the marker existed when they looked."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, **answers: Any) -> None:
        self.answers, self.cancelled, self.seen = answers, [], []
        nodes = [
            {"NodeID": name, "Alive": name != "dead", "NodeManagerAddress": f"at-{name}"}
            for name in ("here", "dead", *answers)
        ]
        context = SimpleNamespace(get_node_id=lambda: "here")
        monkeypatch.setattr(ray, "nodes", lambda: nodes)
        monkeypatch.setattr(ray, "get_runtime_context", lambda: context)
        monkeypatch.setattr(ray, "wait", self.wait)
        monkeypatch.setattr(ray, "get", self.get)
        monkeypatch.setattr(ray, "cancel", lambda look, force: self.cancelled.append(look))
        monkeypatch.setattr(shared_folder, "_look", self.look)

    def look(self, node: str, marker: Path) -> str:
        self.seen.append(sees(str(marker), 0))
        return node

    def wait(self, looks: list[str], num_returns: int, timeout: float) -> Any:
        assert (num_returns, timeout <= 60) == (len(looks), True)
        done = [look for look in looks if self.answers[look] is not None]
        return done, [look for look in looks if look not in done]

    def get(self, look: str) -> bool:
        answer = self.answers[look]
        if isinstance(answer, Exception):
            raise answer
        return bool(answer)


def test_a_folder_that_every_node_sees_is_good(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = NodeDiedError("it has gone")
    looks = Looks(monkeypatch, one=True, two=True, lost=gone)
    check_shared(tmp_path)
    assert looks.seen == [True] * 3
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("answer", "words"), [(False, "does not see"), (None, "did not say within 45 s whether it")]
)
def test_a_node_that_does_not_see_it_ends_the_run(
    answer: bool | None, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = Looks(monkeypatch, one=True, two=answer)
    with pytest.raises(ResourcesError, match=f"at-two {words}.*{tmp_path}.*SKINRAY_RUNS"):
        check_shared(tmp_path)
    assert looks.cancelled == ([] if answer is False else ["two"])
    assert list(tmp_path.iterdir()) == []


def test_a_single_node_needs_no_check(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    looks = Looks(monkeypatch)
    check_shared(tmp_path / "not even there")
    assert looks.seen == []


def test_a_file_that_appears_late_is_seen(tmp_path: Path) -> None:
    assert not sees(str(tmp_path / "none"), 0.1)
    (tmp_path / "some").touch()
    assert sees(str(tmp_path / "some"), 0.1)


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.timeout(300)
def test_two_real_nodes_and_a_folder_of_one_of_them(tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    with OwnCluster(head_cpus=1) as cluster:
        cluster.add_node(1)
        done = subprocess.run(
            [sys.executable, "-c", JOB, run],
            env=cluster.driver_env | {"PYTHONPATH": str(ROOT)}, cwd=tmp_path,
            capture_output=True, text=True, timeout=200,
        )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    capacity, seen, refused = done.stdout.splitlines()
    assert "addable=()" in capacity  # read on the head: it has no autoscaler
    assert seen == "seen"
    assert refused.startswith("refused node 127.0.0.1 does not see the run folder /proc/self/cwd")
    assert refused.endswith("True")
    assert [p.name for p in run.iterdir() if p.name.startswith(MARKER)] == []
