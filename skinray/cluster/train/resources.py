"""What one training takes of a cluster, and how many trainings fit on it."""

from __future__ import annotations

from dataclasses import dataclass, replace

from skinray.cluster.capacity import HEAD, Capacity, side_by_side
from skinray.config.training import ClusterSettings

# A share of the head node's own marker: a driver of Ray Train runs there without taking a
# worker's CPU. How many the head holds follows from its memory: two processes with torch and Ray.
DRIVER_SHARE, DRIVER_BYTES = 0.001, 1 << 30
# An actor that augments keeps up with several workers that train on CPUs, but not with a GPU.
ACTOR_CPUS_FOR_CPU, ACTOR_CPUS_FOR_GPU = 0.25, 1.0
MOST_ACTORS = 8
# Workers on CPUs that share the steps of a network of the bundle, if each sees some crops of
# a step: batch norm has nothing to normalise by where a single crop comes to a single pixel.
KEPT_WORKERS, LEAST_CROPS = 2, 2


@dataclass(frozen=True)
class Resources:
    """What one training takes, and how many trainings may run at once.

    Attributes
    ----------
    cpus_per_worker, gpus_per_worker : that each worker computes with; a share of a GPU for a
        single worker alone.
    workers : fewest and most workers of one training.
    at_once : trainings side by side, at least 1.
    data_workers : fewest and most augmenting actors that feed ONE worker; (0, 0): it makes its
        crops itself.
    kept : whether these are trainings of the networks that a run hands out in its bundle.
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
        """CPUs that an actor takes which augments for such a training."""
        return ACTOR_CPUS_FOR_GPU if self.gpus_per_worker else ACTOR_CPUS_FOR_CPU

    @property
    def worker(self) -> dict[str, float]:
        """What Ray is asked for, for each worker and the first actor that feeds it.

        They are one bundle: a worker that is placed can be fed, whatever else takes the CPUs.
        """
        cpus = self.cpus_per_worker + (self.actor_cpus if self.data_workers[0] else 0)
        return {"CPU": cpus} | ({"GPU": self.gpus_per_worker} if self.gpus_per_worker else {})


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
    cores : of this machine: if it is all there is, its logical CPUs may outnumber them, and more
        trainings would only slow each other down.
    kept_step : crops of the smallest step, for trainings of the bundle's networks; 0: all others.
    """
    workers = settings.worker_range
    one = Resources(settings.cpus_per_worker, gpus, workers, at_once=1, kept=kept_step > 0)
    if settings.data_workers != 0:
        one = replace(one, data_workers=(1, 1))
    if settings.workers == "auto" and not gpus and kept_step >= KEPT_WORKERS * LEAST_CROPS:
        several = replace(one, workers=(KEPT_WORKERS, KEPT_WORKERS))
        if cores > 1 and side_by_side(capacity.nodes, bundles_of(several, KEPT_WORKERS)):
            one, workers = several, several.workers
    nodes, bundles = capacity.at_most(one.worker), bundles_of(one, workers[1])
    at_once = side_by_side(nodes, bundles)
    cpus = sum(node.get("CPU", 0) for node in nodes)
    if len(nodes) == 1 and not gpus:
        cpus = min(cpus, cores)
        # Actors that augment share the cores: they rest for most of a step.
        at_once = min(at_once, cores // (workers[1] * one.cpus_per_worker))
    head = next((node for node in nodes if HEAD in node), {})
    if one.nested and "memory" in head:
        at_once = min(at_once, int(head["memory"] // DRIVER_BYTES))
    at_once = max(1, at_once)
    if not one.data_workers[0]:
        return replace(one, at_once=at_once)
    if settings.data_workers != "auto":
        return replace(one, at_once=at_once, data_workers=(1, settings.data_workers))
    training = at_once * workers[1]
    spare = cpus - training * one.worker["CPU"]
    most = 1 + int(spare // training)
    return replace(one, at_once=at_once, data_workers=(1, min(MOST_ACTORS, max(1, most))))


def bundles_of(one: Resources, workers: int) -> list[dict[str, float]]:
    """Return all that a training of so many workers holds on to while it runs."""
    return [one.worker] * workers + [{HEAD: DRIVER_SHARE}] * one.nested
