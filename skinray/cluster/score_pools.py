"""How many actors each stage of scoring gets on the cluster at hand, and what each takes."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import ray

from skinray.config import PoolSettings, ScoreSettings
from skinray.errors import ResourcesError
from skinray.learning.bundle_info import Stage

Layout = Literal["fused", "separate"]


@dataclass(frozen=True)
class Machines:
    """What the cluster has."""

    cpus: float
    gpus: float
    nodes: int
    cores: int

    @classmethod
    def at_hand(cls) -> Machines:
        """Look at the cluster that is joined."""
        have = ray.cluster_resources()
        return cls(have.get("CPU", 0), have.get("GPU", 0), len(ray.nodes()), _cores())


@dataclass(frozen=True)
class Pool:
    """The actors of one stage."""

    most: int
    cpus: float
    gpus: float


@dataclass(frozen=True)
class Pools:
    """The pools of a layout: one, or one for each network."""

    layout: Layout
    actors: tuple[Pool, ...]


def plan_pools(
    settings: ScoreSettings, stages: Sequence[Stage], machines: Machines, batches: int
) -> Pools:
    """Choose the layout and the size of its pools.

    Parameters
    ----------
    settings : what the user asks for.
    stages : of the bundle.
    machines : what there is.
    batches : how many there are to score: more actors would have nothing to do.

    Raises
    ------
    ResourcesError
        If one actor of each kind, and a task to feed them, do not fit on the cluster.
    """
    layout: Layout
    if settings.layout == "auto":
        layout = "separate" if machines.gpus > 0 else "fused"
    else:
        layout = settings.layout
    asked = [settings.fused] if layout == "fused" else [settings.stage(stage) for stage in stages]
    pools = tuple(_pool(pool, machines, len(asked), batches) for pool in asked)
    feeding = 1.0 if layout == "fused" else max(settings.decode_cpus, settings.crossing_cpus)
    cpus, gpus = sum(pool.cpus for pool in pools) + feeding, sum(pool.gpus for pool in pools)
    if cpus > machines.cpus or gpus > machines.gpus:
        raise ResourcesError(
            f"the cluster has {machines.cpus:g} CPUs and {machines.gpus:g} GPUs; layout {layout} "
            f"needs {cpus:g} and {gpus:g} at least: lower cpus_per_actor or gpus_per_actor, or add "
            "nodes"
        )
    return Pools(layout, pools)


def _pool(asked: PoolSettings, machines: Machines, pools: int, batches: int) -> Pool:
    gpus = asked.gpus_per_actor
    if gpus == "auto":
        # All networks live on one GPU unless the settings say otherwise.
        gpus = 1 / pools if machines.gpus > 0 else 0.0
    if asked.actors != "auto":
        most = asked.actors
    elif gpus:
        most = int(machines.gpus / (gpus * pools))
    elif machines.nodes == 1:
        # Logical CPUs may outnumber the cores here; more actors than cores only share them.
        most = machines.cores // pools
    else:
        most = int((machines.cpus - 1) / (asked.cpus_per_actor * pools))
    # One logical CPU stays free for the tasks that feed the actors.
    fit = int((machines.cpus - 1) / (asked.cpus_per_actor * pools))
    return Pool(max(1, min(most, fit, batches)), asked.cpus_per_actor, gpus)


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
