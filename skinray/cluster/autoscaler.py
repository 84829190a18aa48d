"""What the autoscaler of the joined cluster may add, read where it reads it itself.

Ray has no public call for this: its control service has a place for it, but neither of the
autoscalers that come with Ray 2.60 writes there. So the head node is asked for the config that its
autoscaler was started with. Where that fails, in another version of Ray or without the rights, the
answer is that nobody knows, and callers have to ask for what they want and see whether it comes.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ray
import yaml
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from skinray.cluster.capacity import HEAD, Bundle, Capacity, capacity

LOG = logging.getLogger("skinray.cluster")
ANSWER_S = 30.0
CLUSTER, NAMESPACE = "RAY_CLUSTER_NAME", "RAY_CLUSTER_NAMESPACE"
POD_NAMESPACE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")


def alive_nodes() -> tuple[Bundle, ...]:
    """Return the resources of each node of the joined cluster."""
    return capacity(ray.nodes(), {}).nodes


def capacity_at_hand() -> Capacity:
    """Look at the joined cluster, and at what could be added to it."""
    nodes = ray.nodes()
    if "RAY_ADDRESS" not in os.environ:
        return capacity(nodes, {})  # this machine alone, which does not grow
    return capacity(nodes, _on_the_head(nodes))


def _on_the_head(nodes: list[dict[str, Any]]) -> dict[str, Any] | None:
    context = ray.get_runtime_context()
    heads = [node["NodeID"] for node in nodes if node["Alive"] and HEAD in node["Resources"]]
    if not heads:
        return None
    there: Any = ray.remote(num_cpus=0, max_retries=0)(autoscaler_config).options(
        scheduling_strategy=NodeAffinitySchedulingStrategy(heads[0], soft=False)
    )
    try:
        if context.get_node_id() == heads[0]:
            return autoscaler_config(context.gcs_address)
        answer: dict[str, Any] | None = ray.get(there.remote(context.gcs_address), timeout=ANSWER_S)
    except Exception as error:  # of a private part of Ray, which may change: not worth a run
        LOG.debug("the autoscaler's config cannot be read: %r", error)
        return None
    return answer


def autoscaler_config(gcs_address: str) -> dict[str, Any] | None:
    """Return the autoscaler's config; empty if the cluster has none, None if nobody can tell.

    To be called on the head node. `ray up` and `ray start` name a file on the command line of the
    head's monitor process. KubeRay's autoscaler has a container of its own and reads the cluster's
    resource from Kubernetes at each step, through a part of Ray that is not public.
    """
    port = gcs_address.rpartition(":")[2]
    for command in _commands():
        words = dict(word.partition("=")[::2] for word in command)
        if words.get("--gcs-address", "").rpartition(":")[2] != port or not any(
            "autoscaler" in word and word.endswith("monitor.py") for word in command
        ):
            continue
        file = words.get("--autoscaling-config")
        if file is None:
            return {}
        return dict(yaml.safe_load(Path(file).expanduser().read_text(encoding="utf-8")))
    if CLUSTER not in os.environ:
        return None
    from ray.autoscaler._private.kuberay.autoscaling_config import AutoscalingConfigProducer

    namespace = os.environ.get(NAMESPACE) or POD_NAMESPACE.read_text(encoding="utf-8").strip()
    return dict(AutoscalingConfigProducer(os.environ[CLUSTER], namespace)())


def _commands() -> Iterator[list[str]]:
    """Yield the command line of every process that can be seen."""
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            yield file.read_bytes().decode(errors="replace").split("\0")
        except OSError:  # it has ended
            continue
