"""A check, before anything is trained, that other nodes see the run folder."""

from __future__ import annotations

import secrets
import time
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import NodeDiedError, RayError, TaskUnschedulableError, WorkerCrashedError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from skinray.cluster.session import reason
from skinray.errors import ResourcesError

MARKER = ".seen-by-every-node-"
NODES_ASKED = 8
# Network file systems may show a new file late, and a node may take long to start a process.
LOOK_S, ANSWER_S = 10.0, 45.0
LOST = (NodeDiedError, TaskUnschedulableError, WorkerCrashedError)


def check_shared(folder: Path) -> None:
    """Make other nodes look for a file that this process writes into the run folder.

    Nodes that join later are not checked.

    Raises
    ------
    ResourcesError
        If a node does not see it, or does not answer within a minute.
    """
    here = ray.get_runtime_context().get_node_id()
    others = [n for n in ray.nodes() if n["Alive"] and n["NodeID"] != here][:NODES_ASKED]
    if not others:
        return
    marker = folder.absolute() / f"{MARKER}{secrets.token_hex(8)}"
    marker.touch()
    try:
        looks = {_look(node["NodeID"], marker): node["NodeManagerAddress"] for node in others}
        answered, late = ray.wait(list(looks), num_returns=len(looks), timeout=ANSWER_S)
        for look in answered:
            if not _answer(look, looks[look]):
                raise ResourcesError(_blind(folder, looks[look], "does not see"))
        for look in late:
            ray.cancel(look, force=True)
        if late:
            what = f"did not say within {ANSWER_S:g} s whether it sees"
            raise ResourcesError(_blind(folder, looks[late[0]], what))
    finally:
        marker.unlink(missing_ok=True)


def sees(file: str, seconds: float) -> bool:
    """Whether this process sees a file within ``seconds``."""
    end = time.monotonic() + seconds
    while not Path(file).exists():
        if time.monotonic() > end:
            return False
        time.sleep(0.5)
    return True


def _look(node: str, marker: Path) -> Any:
    there = NodeAffinitySchedulingStrategy(node, soft=False)
    look: Any = ray.remote(num_cpus=0, max_retries=0)(sees).options(scheduling_strategy=there)
    return look.remote(str(marker), LOOK_S)


def _answer(look: Any, node: str) -> bool:
    try:
        return bool(ray.get(look))
    except LOST:  # the node is gone and will train nothing
        return True
    except RayError as error:
        raise ResourcesError(
            f"node {node} cannot run skinray: {reason(str(error))}; install the same versions of "
            "all packages there as here"
        ) from error


def _blind(folder: Path, node: str, what: str) -> str:
    return (
        f"node {node} {what} the run folder {folder}: with --out or SKINRAY_RUNS, choose a folder "
        "on storage that every node has mounted at the same path"
    )
