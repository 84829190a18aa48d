"""Ray Train runs one training on a group of workers: the same loop, with gradients averaged."""

from __future__ import annotations

import json
import math
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray.train
import torch
from ray.train import FailureConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchConfig, TorchTrainer, get_device
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from skinray.cluster.device import process_group, ready_device
from skinray.cluster.session import reason
from skinray.cluster.train.data import feed_for
from skinray.cluster.train.resources import Resources
from skinray.cluster.train.sources import Source
from skinray.config.training import ClusterSettings
from skinray.errors import DivergedError, SkinrayError, TrainingError
from skinray.files import write_whole
from skinray.learning.checkpoint import EpochEnd, StateKeeper
from skinray.learning.loop import World, agreed
from skinray.learning.spec import TrialSpec
from skinray.learning.trial import STATE, TrialOutcome, finished, run_trial
from skinray.models.compute import synchronised

# Asking whether a node will be preempted is a barrier over the workers, so not after every step.
# Once one will be, the state is stored every few seconds, so that its last minute is not lost.
STEPS_BETWEEN_PREEMPTION_CHECKS, STORED_AGAIN_S = 10, 5.0
PREEMPTION_WATCHER = "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER"
ELASTIC_MONITOR_S = 60.0
# How long Ray Train waits for the CPUs and GPUs of a group. A group of a fixed size waits until
# they are free (here: a month). An elastic group starts over with the size that the nodes allow
# by then, as nodes come and go, and so waits for other jobs to end (here: a day).
START_TIMEOUT = "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S"
FIXED_START_S, ELASTIC_START_S = 30 * 24 * 3600, 20
ELASTIC_STARTS = 5000
# Ray Train takes one report of each worker every two seconds, and a worker waits until its last
# report is taken: without this limit every short epoch would take two seconds.
REPORT_EVERY_S = 5.0
# Files in a trial's folder: why a restart would not help, and that the workers have started.
REFUSED, BEGUN = "refused.txt", "workers-have-begun"


@dataclass(frozen=True)
class Work:
    """What every worker of a group is sent."""

    spec: TrialSpec
    source: Source
    folder: Path
    resources: Resources
    checkpoint_every_s: float


def train_on_workers(
    spec: TrialSpec,
    source: Source,
    folder: Path,
    resources: Resources,
    settings: ClusterSettings,
    callbacks: list[Any] | None = None,
) -> TrialOutcome:
    """Train one trial with :class:`TorchTrainer`, or continue where it was interrupted.

    Raises
    ------
    DivergedError
        If the loss is not finite.
    TrainingError
        If the workers failed more often than ``max_failures``.
    """
    done = finished(spec, folder)
    if done is not None:
        return done
    refused = folder / REFUSED
    for left_before in (refused, folder / BEGUN):
        left_before.unlink(missing_ok=True)
    work = Work(spec, source, folder.absolute(), resources, settings.checkpoint_every_s)
    try:
        _trainer(work, settings, callbacks or []).fit()
    except Exception as error:
        raise _refusal(spec, refused, reason(str(error))) from error
    finally:
        (folder / BEGUN).unlink(missing_ok=True)
    outcome = finished(spec, folder)
    if outcome is None:
        why = "the workers ended without an outcome; continue with --resume"
        raise _refusal(spec, refused, why)
    return outcome


def _trainer(work: Work, settings: ClusterSettings, callbacks: list[Any]) -> TorchTrainer:
    low, high = work.resources.workers
    elastic = low != high
    os.environ[START_TIMEOUT] = str(ELASTIC_START_S if elastic else FIXED_START_S)
    monitor = {"elastic_resize_monitor_interval_s": ELASTIC_MONITOR_S} if elastic else {}
    return TorchTrainer(
        worker_loop,
        train_loop_config={"work": work},
        torch_config=TorchConfig(backend=process_group(work.resources.gpus_per_worker)),
        scaling_config=ScalingConfig(
            num_workers=(low, high) if elastic else low,
            use_gpu=work.resources.gpus_per_worker > 0,
            resources_per_worker=work.resources.worker,
            **monitor,
        ),
        run_config=RunConfig(
            name="train",
            storage_path=str(work.folder),
            failure_config=FailureConfig(
                max_failures=settings.max_failures,
                controller_failure_limit=ELASTIC_STARTS if elastic else settings.max_failures,
                max_preemption_failures=-1,
            ),
            callbacks=callbacks,
        ),
    )


def worker_loop(config: dict[str, Any]) -> None:
    """Train on one worker of the group."""
    work: Work = config["work"]
    spec, folder = work.spec, work.folder
    context = ray.train.get_context()
    rank, size = context.get_world_rank(), context.get_world_size()
    folder.mkdir(parents=True, exist_ok=True)
    if rank == 0:
        (folder / BEGUN).touch()

    # Ray Train restarts a group after an error, but an error of the settings would only recur.
    if (folder / REFUSED).is_file():
        return
    try:
        device = _own_device(work.resources.cpus_per_worker)
        world = World(
            rank,
            size,
            mean=lambda value: mean_over_workers(value, device),
            wrap=lambda one: averaging(synchronised(one, spec.arm.train, device, size), device),
        )
        if agreed(finished(spec, folder) is not None, world, "whether the training is over"):
            return
        run_trial(
            spec,
            work.source,
            folder,
            device=device,
            feed=feed_for(spec, work.source, world, work.resources, folder),
            world=world,
            keeper=StateKeeper(
                folder / STATE,
                spec.fingerprint(),
                work.checkpoint_every_s,
                urgent=_Preemption(),
                stores=world.rank == 0,
            ),
            on_epoch=_Reports(world),
        )
    except SkinrayError as error:
        why = {"error": str(error), "diverged": isinstance(error, DivergedError)}
        write_whole(folder / REFUSED, json.dumps(why))
        raise
    # The other workers wait here until the first has scored and stored the network.
    ray.train.report({"epoch": spec.arm.train.epochs})


def averaging(module: nn.Module, device: torch.device) -> nn.Module:
    """Wrap a module so that its gradients are the mean over all workers of the group."""
    if not _several():
        return module
    ids = [device] if device.type == "cuda" else None
    return DistributedDataParallel(module, device_ids=ids)


def mean_over_workers(value: float, device: torch.device) -> float:
    """Return the mean of a number over all workers of the group."""
    if not _several():
        return value
    total = torch.tensor([value], dtype=torch.float64, device=device)
    torch.distributed.all_reduce(total)
    return float(total.item()) / torch.distributed.get_world_size()


def _several() -> bool:
    return torch.distributed.is_initialized() and torch.distributed.get_world_size() > 1


def _own_device(threads: int) -> torch.device:
    """Prepare this worker to compute; return its own device, as it sees all GPUs of its node."""
    device = ready_device(threads)
    if device.type == "cuda":
        device = get_device()
        torch.cuda.set_device(device)
    return device


class _Reports:
    """Reports epochs to Ray Train: the first, and then one every few seconds."""

    def __init__(self, world: World) -> None:
        self.world, self.reported_at = world, -math.inf

    def __call__(self, end: EpochEnd) -> None:
        # A report is a barrier over the workers, so the first one decides for all.
        due = self.world.rank == 0 and time.monotonic() - self.reported_at >= REPORT_EVERY_S
        if self.world.mean(float(due)) > 0:
            ray.train.report({"epoch": end.epoch + 1, "loss": end.loss})
            self.reported_at = time.monotonic()


class _Preemption:
    """Whether to store the state now, because a node of the group is about to be preempted.

    Every worker of the group calls it after every step.
    """

    def __init__(self) -> None:
        self.steps = 0
        self.watched = os.environ.get(PREEMPTION_WATCHER) != "0"
        self.announced, self.stored_at = False, -math.inf

    def __call__(self) -> bool:
        self.steps += 1
        if not self.announced:
            if not self.watched or self.steps % STEPS_BETWEEN_PREEMPTION_CHECKS:
                return False
            self.announced = ray.train.get_preemption_info() is not None
        if not self.announced or time.monotonic() - self.stored_at < STORED_AGAIN_S:
            return False
        self.stored_at = time.monotonic()
        return True


def _refusal(spec: TrialSpec, refused: Path, otherwise: str) -> TrainingError:
    """Return the error that a worker left in the trial's folder, else one with ``otherwise``."""
    if not refused.is_file():
        return TrainingError(f"{spec.key}: {otherwise}")
    why = json.loads(refused.read_text(encoding="utf-8"))
    kind = DivergedError if why["diverged"] else TrainingError
    return kind(f"{spec.key}: {why['error']}")
