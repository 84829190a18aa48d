"""What one training takes of a cluster: choose it, show it, and wait until it is free."""

from __future__ import annotations

import logging
import math
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

from ray.util.placement_group import placement_group, remove_placement_group
from rich.console import Console

from skinray.cluster.autoscaler import alive_nodes, capacity_at_hand, offered
from skinray.cluster.capacity import (
    ACTOR_CPUS_FOR_CPU,
    ACTOR_CPUS_FOR_GPU,
    HEAD,
    Capacity,
    ResourceBundle,
    in_words,
    side_by_side,
)
from skinray.config.training import ClusterSettings
from skinray.errors import ResourcesError
from skinray.learning.spec import TrialSpec

LOG = logging.getLogger("skinray.cluster")
WAITING_SHOWN_EVERY_S = 30.0
# A driver of Ray Train takes this share of the head node's own marker, so it runs there without a
# worker's CPU. The head's memory limits the number of drivers: two processes with torch and Ray.
DRIVER_SHARE, DRIVER_BYTES = 0.001, 1 << 30
MOST_ACTORS = 8
# Workers on CPUs that share the steps of a network of the bundle, if each sees some crops of
# a step: batch norm cannot normalise a single crop whose features come down to a single pixel.
KEPT_WORKERS, LEAST_CROPS = 2, 2


@dataclass(frozen=True)
class Resources:
    """What one training takes, and how many trainings may run at once.

    Attributes
    ----------
    cpus_per_worker, gpus_per_worker : of each worker; only a single worker may share a GPU.
    workers : fewest and most workers of one training.
    at_once : trainings side by side, at least 1.
    data_workers : fewest and most augmenting actors that feed ONE worker; (0, 0): it makes its
        crops itself.
    kept : whether these are trainings of the bundle's networks.
    """

    cpus_per_worker: int
    gpus_per_worker: float
    workers: tuple[int, int]
    at_once: int
    data_workers: tuple[int, int] = (0, 0)
    kept: bool = False

    @property
    def nested(self) -> bool:
        """Whether Ray Train runs it: several workers, a GPU, or a network of the bundle."""
        return self.workers[1] > 1 or self.gpus_per_worker > 0 or self.kept

    @property
    def actor_cpus(self) -> float:
        """CPUs of one actor that augments for such a training."""
        return ACTOR_CPUS_FOR_GPU if self.gpus_per_worker else ACTOR_CPUS_FOR_CPU

    @property
    def worker(self) -> dict[str, float]:
        """The bundle of each worker and the first actor that feeds it.

        Because they are one bundle, a worker that is placed can be fed, whatever else takes CPUs.
        """
        cpus = self.cpus_per_worker + (self.actor_cpus if self.data_workers[0] else 0)
        return {"CPU": cpus} | ({"GPU": self.gpus_per_worker} if self.gpus_per_worker else {})


def bundles_of(one: Resources, workers: int) -> list[dict[str, float]]:
    """Return everything that a training with ``workers`` workers holds while it runs."""
    return [one.worker] * workers + [{HEAD: DRIVER_SHARE}] * one.nested


def plan(
    settings: ClusterSettings,
    gpus: float,
    capacity: Capacity,
    cores: int = 1,
    kept_step: int = 0,
) -> Resources:
    """Work out what one training takes, and how many fit on the cluster at its largest.

    Parameters
    ----------
    gpus : of each worker.
    cores : of this machine. If it is the whole cluster, it may count more logical CPUs than cores,
        but more trainings than cores would only slow each other down.
    kept_step : crops of the smallest step, for trainings of the bundle's networks; 0: all others.
    """
    actors = (0, 0) if settings.data_workers == 0 else (1, 1)
    one = Resources(
        settings.cpus_per_worker, gpus, settings.worker_range, 1, actors, kept=kept_step > 0
    )
    if settings.workers == "auto" and not gpus and kept_step >= KEPT_WORKERS * LEAST_CROPS:
        several = replace(one, workers=(KEPT_WORKERS, KEPT_WORKERS))
        if cores > 1 and side_by_side(capacity.nodes, bundles_of(several, KEPT_WORKERS)):
            one = several
    nodes = capacity.at_most(one.worker)
    cpus = sum(node.get("CPU", 0) for node in nodes)
    if len(nodes) == 1 and not gpus:
        cpus = min(cpus, cores)
    one = replace(one, at_once=_at_once(one, nodes, cores))
    if not actors[1]:
        return one
    if settings.data_workers != "auto":
        return replace(one, data_workers=(1, settings.data_workers))
    training = one.at_once * one.workers[1]
    spare = cpus - training * one.worker["CPU"]
    return replace(one, data_workers=(1, min(MOST_ACTORS, max(1, 1 + int(spare // training)))))


def _at_once(one: Resources, nodes: Sequence[ResourceBundle], cores: int) -> int:
    """Return how many such trainings the nodes hold, at least 1."""
    workers = one.workers[1]
    found = side_by_side(nodes, bundles_of(one, workers))
    if len(nodes) == 1 and not one.gpus_per_worker:
        # The actors that augment share the cores: they are idle for most of a step.
        found = min(found, cores // (workers * one.cpus_per_worker))
    head = next((node for node in nodes if HEAD in node), {})
    if one.nested and "memory" in head:
        found = min(found, int(head["memory"] // DRIVER_BYTES))
    return max(1, found)


def trial_resources(settings: ClusterSettings, console: Console | None = None) -> Resources:
    """Work out what one training takes on the joined cluster, and wait until it is free.

    Parameters
    ----------
    console : shows the choice between GPUs and CPUs, and what the run waits for.

    Raises
    ------
    ResourcesError
        If the cluster can never offer it; or, where the autoscaler's limits are unknown, did not
        within ``resources_timeout_s``.
    """
    console = console or Console()
    capacity = capacity_at_hand()
    gpus = settings.gpus_per_worker
    if gpus == "auto":
        gpus = _gpus(capacity, settings, console)
    _await(plan(settings, gpus, capacity), capacity, settings, console)
    if capacity.addable is None:
        capacity = replace(capacity, nodes=alive_nodes())  # count the nodes that were added
    return plan(settings, gpus, capacity, os.cpu_count() or 1)


def kept_resources(
    settings: ClusterSettings, others: Resources, specs: Sequence[TrialSpec]
) -> Resources:
    """Work out what the training of a network of the bundle takes.

    Parameters
    ----------
    others : what any other training takes.
    specs : these trainings.
    """
    step = min((spec.step for spec in specs), default=0)
    return plan(settings, others.gpus_per_worker, capacity_at_hand(), os.cpu_count() or 1, step)


def _gpus(capacity: Capacity, settings: ClusterSettings, console: Console) -> float:
    """Choose a GPU for each worker if the cluster has GPUs or can add them, else none."""
    now, later = capacity.gpus()
    if now >= 1:
        more = f", and its autoscaler can add {later:g}" if later else ""
        _show(console, f"Training on GPUs: the cluster has {now:g}{more}.")
        return 1.0
    if later >= 1:
        _show(
            console,
            f"No GPU on the cluster yet; its autoscaler can add up to {later:g}: requesting them.",
        )
        return 1.0
    if capacity.addable is not None:
        _show(console, "No GPU here, and none can be added: training on CPUs.")
        return 0.0
    patience = settings.resources_timeout_s
    _show(
        console,
        "No GPU on the cluster yet, and whether its autoscaler can add one is unknown. Requesting "
        f"one and waiting up to {patience:g} s.",
    )
    if offered([{"GPU": 1.0}], patience):
        _show(console, "A GPU has been added: training on GPUs.")
        return 1.0
    _show(
        console,
        "No GPU was added: training on CPUs. If GPUs take longer to start, raise "
        "cluster.resources_timeout_s.",
    )
    return 0.0


def _await(one: Resources, capacity: Capacity, settings: ClusterSettings, console: Console) -> None:
    """Wait until the cluster offers a training's fewest workers, without limit if it can."""
    bundles = bundles_of(one, one.workers[0])
    asked, has = in_words(bundles), capacity.words(one.worker)
    remedy = "lower cluster.workers, cpus_per_worker or gpus_per_worker, or add nodes"
    if one.data_workers[0]:
        remedy += (
            f"; with cluster.data_workers=0 each worker augments its own images and needs "
            f"{one.actor_cpus:g} CPU less"
        )
    can = side_by_side(capacity.at_most(one.worker), bundles) > 0
    if not can and capacity.addable is not None:
        raise ResourcesError(f"the cluster can never offer {asked}: {has}; {remedy}")
    patience = math.inf if can else settings.resources_timeout_s
    began = time.monotonic()
    group = placement_group([bundle for bundle in bundles if HEAD not in bundle])
    try:
        while not group.wait(min(WAITING_SHOWN_EVERY_S, began + patience - time.monotonic())):
            waited = time.monotonic() - began
            if waited >= patience:
                raise ResourcesError(
                    f"the cluster did not offer {asked} within {patience:g} s: {has}; {remedy}. "
                    "If nodes start slowly, raise cluster.resources_timeout_s"
                )
            _show(console, f"Waiting for {asked} for {waited:.0f} s: {has}.")
    finally:
        remove_placement_group(group)


def _show(console: Console, text: str) -> None:
    LOG.info(text)
    console.print(text, highlight=False, soft_wrap=True)
