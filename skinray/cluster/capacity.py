"""What a cluster has, what its autoscaler could add, and how much fits on it side by side.

Plain arithmetic on the resources of nodes; nothing here asks Ray. Amounts are counted in
ten-thousandths, as Ray counts them, so that sums are exact.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

# Resources of a node, or those that one bundle of a placement group asks for.
ResourceBundle = Mapping[str, float]
HEAD = "node:__internal_head__"
# The label of a node that names its type in the autoscaler's config.
NODE_TYPE = "ray.io/node-group"
# CPUs of an actor that augments: one keeps up with several workers that train on CPUs, but not
# with a GPU.
ACTOR_CPUS_FOR_CPU, ACTOR_CPUS_FOR_GPU = 0.25, 1.0
# Ray Train, Data and Tune each hold logical CPUs; with fewer than this they wait for each other.
LEAST_LOGICAL_CPUS = 4
_PART = 10_000


@dataclass(frozen=True)
class Capacity:
    """The nodes of a cluster, now and later.

    Attributes
    ----------
    nodes : resources of each node that is alive.
    addable : resources of each node that the autoscaler could add, if it added no other; empty
        without an autoscaler, None if unknown.
    room : the most nodes that the autoscaler adds in total.
    """

    nodes: tuple[ResourceBundle, ...]
    addable: tuple[ResourceBundle, ...] | None = ()
    room: int = 0

    def at_most(self, bundle: ResourceBundle) -> tuple[ResourceBundle, ...]:
        """Return the nodes of the cluster once it has grown as far as it can for ``bundle``.

        Nodes that hold the bundle are added first; of these, those without a GPU that it does not
        need, then the largest.
        """

        def last(node: ResourceBundle) -> tuple[bool, bool, float]:
            unneeded = node.get("GPU", 0) > 0 and not bundle.get("GPU")
            return not _holds(node, bundle), unneeded, -node.get("CPU", 0)

        others = sorted(self.addable or (), key=last)
        return (*self.nodes, *others[: self.room])

    def gpus(self) -> tuple[float, float]:
        """Return the GPUs of the cluster, and those that the autoscaler could add."""
        now, later = (
            sum(node.get("GPU", 0) for node in nodes)
            for nodes in (self.nodes, self.at_most({"GPU": 1}))
        )
        return now, later - now

    def words(self, bundle: ResourceBundle) -> str:
        """Describe the cluster, and what could be added for ``bundle``."""
        has = f"the cluster has {in_words(self.nodes) or 'no CPU'}"
        if self.addable is None:
            return f"{has}, and whether its autoscaler can add nodes is unknown"
        more = self.at_most(bundle)[len(self.nodes) :]
        if not more:
            return f"{has}, and no more can be added"
        return f"{has}, and its autoscaler can add {in_words(more)}"


def capacity(nodes: Sequence[Mapping[str, Any]], config: Mapping[str, Any] | None) -> Capacity:
    """Compare the nodes of a cluster with its autoscaler's config.

    Parameters
    ----------
    nodes : as ``ray.nodes()`` lists them; dead nodes are left out.
    config : the autoscaler's, as in ``cluster.yaml``; empty without an autoscaler, None if unknown.
    """
    alive = [node for node in nodes if node["Alive"]]
    present = tuple(node["Resources"] for node in alive)
    types = {} if config is None else config.get("available_node_types", {})
    if config is None or any("resources" not in kind for kind in types.values()):
        return Capacity(present, None)
    workers = [node for node in alive if HEAD not in node["Resources"]]
    room = max(0, config.get("max_workers", 2) - len(workers)) if types else 0
    there = Counter(_type_of(node, types) for node in workers)
    addable: list[ResourceBundle] = []
    for name, kind in types.items():
        most = kind.get("max_workers", room) if name != config["head_node_type"] else 0
        addable += [kind["resources"]] * min(room, max(0, most - there[name]))
    return Capacity(present, tuple(addable), room)


def logical_cpus(cores: int, *, trains: bool) -> int:
    """Return the CPUs that a local Ray counts.

    A training on every core leaves room for the actors that feed it.
    """
    wanted = math.ceil(cores * (1 + ACTOR_CPUS_FOR_CPU)) if trains else cores
    return max(LEAST_LOGICAL_CPUS, wanted)


def side_by_side(nodes: Sequence[ResourceBundle], bundles: Sequence[ResourceBundle]) -> int:
    """Return how many times all the bundles fit on the nodes together.

    A bundle is not split over nodes. What needs no GPU goes to nodes without one while there is
    room. A share of a GPU comes from one GPU: two shares of 0.6 need two of them.
    """
    share = next((b["GPU"] for b in bundles if 0 < b.get("GPU", 0) < 1), 0.0)
    free = [_parts(node, share) for node in nodes]
    wanted = [_parts(bundle, share, wanted=True) for bundle in bundles]
    # The hardest to place come first.
    wanted.sort(key=lambda one: (one.get("GPU", 0), one.get("CPU", 0)), reverse=True)
    count = 0
    while wanted and all(_place(one, free) for one in wanted):
        count += 1
    return count


def _place(wanted: Mapping[str, int], free: list[dict[str, int]]) -> bool:
    fitting = [node for node in free if all(node.get(k, 0) >= n for k, n in wanted.items())]
    if not fitting:
        return False
    # Take the node with the fewest free CPUs; a node with a GPU that is not needed comes last.
    spoilt = 0 if "GPU" in wanted else 1
    best = min(fitting, key=lambda node: (spoilt * node.get("GPU", 0), node.get("CPU", 0)))
    for name, amount in wanted.items():
        best[name] -= amount
    return True


def _parts(resources: ResourceBundle, share: float, *, wanted: bool = False) -> dict[str, int]:
    """Return whole parts of each resource; a GPU counts as many as there are shares in one."""
    parts = {name: round(amount * _PART) for name, amount in resources.items() if amount > 0}
    if share and "GPU" in parts:
        whole = math.floor(1 / share + 1e-9)
        parts["GPU"] = 1 if wanted else int(resources["GPU"]) * whole
    return parts


def _holds(node: ResourceBundle, bundle: ResourceBundle) -> bool:
    return all(node.get(name, 0) >= amount for name, amount in bundle.items())


def _type_of(node: Mapping[str, Any], types: Mapping[str, Any]) -> str | None:
    """Return the type of a node, by its label, else by its CPUs and GPUs."""
    named: str | None = (node.get("Labels") or {}).get(NODE_TYPE)
    if named in types:
        return named
    size = [node["Resources"].get(name, 0) for name in ("CPU", "GPU")]
    for name, kind in types.items():
        if [kind["resources"].get(one, 0) for one in ("CPU", "GPU")] == size:
            return name
    return None


def in_words(bundles: Sequence[ResourceBundle]) -> str:
    """Describe the CPUs and GPUs of bundles, such as "2 x (4 CPUs, 1 GPU) and 1 x (16 CPUs)"."""
    sizes = Counter((bundle.get("CPU", 0), bundle.get("GPU", 0)) for bundle in bundles)
    return " and ".join(
        f"{count} x ({cpus:g} CPU{'' if cpus == 1 else 's'}"
        + (f", {gpus:g} GPU{'s' if gpus > 1 else ''})" if gpus else ")")
        for (cpus, gpus), count in sizes.items()
        if cpus or gpus
    )
