"""How many actors each stage of scoring gets on the current cluster, and what each takes."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import ray

from skinray.cluster.autoscaler import offered
from skinray.config.kinds import Stage
from skinray.config.scoring import PoolSettings, ScoreSettings
from skinray.errors import ResourcesError

ActorLayout = Literal["fused", "separate"]


@dataclass(frozen=True)
class Machines:
    """What the cluster has, and whether it may get more while images are scored."""

    cpus: float
    gpus: float
    nodes: int
    cores: int
    may_grow: bool = False

    @classmethod
    def at_hand(cls) -> Machines:
        """Return what the joined cluster has."""
        have = ray.cluster_resources()
        # Without an address the cluster is this machine alone, which does not grow.
        may_grow = "RAY_ADDRESS" in os.environ
        return cls(have.get("CPU", 0), have.get("GPU", 0), len(ray.nodes()), _cores(), may_grow)


@dataclass(frozen=True)
class Pool:
    """The actors of one stage.

    Attributes
    ----------
    least : as many as fit on the cluster as it is; the pool starts with them.
    most : the pool grows to this many if the cluster grows.
    cpus, gpus : of each.
    """

    least: int
    most: int
    cpus: float
    gpus: float


@dataclass(frozen=True)
class Pools:
    """The pools of a layout: one in all, or one for each network."""

    layout: ActorLayout
    actors: tuple[Pool, ...]


def machines_for(settings: ScoreSettings, stages: Sequence[Stage], images: int) -> Machines:
    """Return what the cluster has; if it is smaller than the settings ask for, first let it grow.

    A cluster with an autoscaler may be idle, without a single CPU. This asks it for the number of
    actors in the settings (one of each kind if they say "auto"), waits at most
    ``resources_timeout_s``, and takes what there is then.
    """
    machines = Machines.at_hand()
    if not machines.may_grow:
        return machines
    bundles = _wanted(settings, stages, machines, images)
    cpus, gpus = (sum(b.get(name, 0) for b in bundles) for name in ("CPU", "GPU"))
    if cpus > machines.cpus or gpus > machines.gpus:
        offered(bundles, settings.resources_timeout_s)
        machines = Machines.at_hand()
    return machines


def _wanted(
    settings: ScoreSettings, stages: Sequence[Stage], machines: Machines, images: int
) -> list[dict[str, float]]:
    _, asked, feeding = _layout(settings, stages, machines)
    bundles = [{"CPU": feeding}] if feeding else []
    for pool in asked:
        actors = 1 if pool.actors == "auto" else min(pool.actors, images)
        bundles += [{"CPU": pool.cpus_per_actor, "GPU": _gpus(pool, machines, len(asked))}] * actors
    return [{name: value for name, value in b.items() if value} for b in bundles]


def plan_pools(
    settings: ScoreSettings, stages: Sequence[Stage], machines: Machines, batches: int
) -> Pools:
    """Choose the layout and the size of its pools.

    Parameters
    ----------
    settings : what the user asks for.
    stages : of the bundle.
    machines : what there is.
    batches : how many there are to score: further actors would have nothing to do.

    Raises
    ------
    ResourcesError
        If one actor of each kind, and a task to feed separate ones, do not fit on the cluster.
    """
    layout, asked, feeding = _layout(settings, stages, machines)
    pools = tuple(_pool(pool, asked, machines, feeding, batches) for pool in asked)
    cpus, gpus = sum(pool.cpus for pool in pools) + feeding, sum(pool.gpus for pool in pools)
    if cpus > machines.cpus or gpus > machines.gpus:
        raise ResourcesError(
            f"the cluster has {machines.cpus:g} CPUs and {machines.gpus:g} GPUs; layout {layout} "
            f"needs at least {cpus:g} and {gpus:g}: lower cpus_per_actor or gpus_per_actor, add "
            "nodes, or raise resources_timeout_s if nodes start slowly"
        )
    return Pools(layout, pools)


def _layout(
    settings: ScoreSettings, stages: Sequence[Stage], machines: Machines
) -> tuple[ActorLayout, list[PoolSettings], float]:
    """Return the layout, its pools, and the CPUs of the tasks that feed them.

    Actors of all stages need no such tasks: the driver feeds them.
    """
    layout = settings.layout
    if layout == "auto":
        layout = "separate" if machines.gpus > 0 else "fused"
    if layout == "fused":
        return layout, [settings.fused], 0.0
    feeding = max(settings.decode_cpus, settings.crossing_cpus)
    return layout, [settings.stage(stage) for stage in stages], feeding


def _gpus(asked: PoolSettings, machines: Machines, pools: int) -> float:
    """Return the GPUs of an actor: all networks share one unless the settings say otherwise."""
    if asked.gpus_per_actor == "auto":
        return 1 / pools if machines.gpus > 0 else 0.0
    return asked.gpus_per_actor


def _pool(
    asked: PoolSettings,
    pools: Sequence[PoolSettings],
    machines: Machines,
    feeding: float,
    batches: int,
) -> Pool:
    """Size one of the layout's pools; they share what there is evenly."""
    gpus = _gpus(asked, machines, len(pools))
    fit = int((machines.cpus - feeding) / (asked.cpus_per_actor * len(pools)))
    if gpus:
        on_gpus = sum(_gpus(pool, machines, len(pools)) > 0 for pool in pools)
        fit = min(fit, int(machines.gpus / (gpus * on_gpus)))
    elif asked.actors == "auto" and machines.nodes == 1:
        # Logical CPUs may outnumber the cores here; more actors than cores only share them.
        fit = min(fit, machines.cores // len(pools))
    wanted = fit if asked.actors == "auto" else asked.actors
    least = max(1, min(wanted, fit, batches))
    most = max(least, min(wanted, batches)) if machines.may_grow else least
    return Pool(least, most, asked.cpus_per_actor, gpus)


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
