"""What the joined cluster has, what its autoscaler may add, and a request for it.

If the autoscaler's config cannot be read, in another version of Ray or for lack of rights, what it
may add is unknown: callers request what they want and wait to see whether it arrives.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from typing import Any

import ray
from ray.util.placement_group import placement_group, remove_placement_group
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from skinray.cluster.capacity import HEAD, Capacity, ResourceBundle, capacity
from skinray.cluster.ray_internals import autoscaler_config

LOG = logging.getLogger("skinray.cluster")
ANSWER_S = 30.0


def capacity_at_hand() -> Capacity:
    """Return the nodes of the joined cluster, and those that could be added."""
    nodes = ray.nodes()
    if "RAY_ADDRESS" not in os.environ:
        return capacity(nodes, {})  # this machine alone, which does not grow
    return capacity(nodes, _on_the_head(nodes))


def alive_nodes() -> tuple[ResourceBundle, ...]:
    """Return the resources of each node of the joined cluster."""
    return capacity(ray.nodes(), {}).nodes


def offered(bundles: Sequence[ResourceBundle], timeout_s: float) -> bool:
    """Return whether the cluster can place all bundles at once; nothing stays reserved.

    The request also prompts an autoscaler.
    """
    group = placement_group([dict(bundle) for bundle in bundles])
    try:
        return bool(group.wait(timeout_s))
    finally:
        remove_placement_group(group)


def _on_the_head(nodes: list[dict[str, Any]]) -> dict[str, Any] | None:
    """Return the autoscaler's config as the head node reads it; None if unknown."""
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
    except Exception as error:  # the inside of Ray may change; that must not end a run
        LOG.debug("the autoscaler's config cannot be read: %r", error)
        return None
    return answer
