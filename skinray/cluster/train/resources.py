"""What one training takes of a cluster, and how many trainings fit on it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from skinray.cluster.capacity import (
    ACTOR_CPUS_FOR_CPU,
    ACTOR_CPUS_FOR_GPU,
    HEAD,
    Capacity,
    ResourceBundle,
    side_by_side,
)
from skinray.config.training import ClusterSettings

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
