"""Ray Train runs a trial on several workers: the same loop, wrapped for data parallelism."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import ray.train
import torch
from ray.train import DataConfig, FailureConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchTrainer, get_device, prepare_model

from skinray.cluster.data import ShardFeed, execution_options, plan_dataset
from skinray.cluster.session import Resources
from skinray.cluster.sources import Source
from skinray.config import ClusterSettings
from skinray.errors import SkinrayError, TrainingError
from skinray.learning.checkpoint import EpochEnd
from skinray.learning.feed import Feed
from skinray.learning.loop import Objective, Snapshot, World, fit
from skinray.learning.trial import (
    STATE,
    TrialOutcome,
    TrialSpec,
    finish,
    finished,
    interrupted,
    log_epoch,
    new_network,
    validator,
)

# Asking for preemption news is a barrier over the workers, so not after every step.
STEPS_BETWEEN_PREEMPTION_CHECKS = 10
ELASTIC_MONITOR_S = 60.0


def train_on_workers(
    spec: TrialSpec,
    source: Source,
    folder: Path,
    resources: Resources,
    settings: ClusterSettings,
    callbacks: list[Any] | None = None,
) -> TrialOutcome:
    """Train one trial with :class:`TorchTrainer`, or go on from where it was interrupted.

    Raises
    ------
    TrainingError
        If the workers failed more often than ``max_failures``.
    """
    done = finished(spec, folder)
    if done is not None:
        return done
    low, high = resources.workers
    elastic = {"elastic_resize_monitor_interval_s": ELASTIC_MONITOR_S} if low != high else {}
    trainer = TorchTrainer(
        worker_loop,
        train_loop_config={
            "spec": spec, "source": source, "folder": str(folder), "resources": resources,
        },
        scaling_config=ScalingConfig(
            num_workers=low if low == high else (low, high),
            use_gpu=resources.gpus_per_worker > 0,
            resources_per_worker=_per_worker(resources),
            **elastic,
        ),
        run_config=RunConfig(
            name="train",
            storage_path=str(folder.absolute()),
            failure_config=FailureConfig(
                max_failures=settings.max_failures,
                controller_failure_limit=settings.max_failures,
                max_preemption_failures=-1,
            ),
            callbacks=callbacks or [],
        ),
        datasets=_datasets(spec, source, folder, resources),
        dataset_config=DataConfig(
            datasets_to_split=["train"], execution_options=execution_options()
        ),
    )  # fmt: skip
    refused = folder / "refused.txt"
    refused.unlink(missing_ok=True)  # of a run before
    try:
        trainer.fit()
    except Exception as error:
        reason = refused.read_text(encoding="utf-8") if refused.is_file() else str(error)
        raise TrainingError(f"{spec.key}: {reason}") from error
    outcome = finished(spec, folder)
    if outcome is None:
        raise TrainingError(f"{spec.key}: the workers ended without an outcome; run with --resume")
    return outcome


def worker_loop(config: dict[str, Any]) -> None:
    """Train on one worker of the group: unpack the shard, call the loop, report."""
    spec, folder = config["spec"], Path(config["folder"])
    if finished(spec, folder) is not None:
        return
    context = ray.train.get_context()
    world = World(context.get_world_rank(), context.get_world_size(), mean_over_workers)
    device = get_device()
    network = new_network(spec, folder).to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    objective = prepare_model(Objective(network, spec.arm.train))
    resources: Resources = config["resources"]
    source = config["source"]
    feed: Feed | ShardFeed
    if resources.data_workers:
        shard = ray.train.get_dataset_shard("train")
        feed = ShardFeed(spec, shard, resources.workers, world.size)
    else:
        feed = Feed(spec, source, resources.cpus_per_worker, world, resources.workers)
    reporter = _Reporter(spec, folder, world.rank)
    judge = validator(spec, source, device)
    try:
        state = fit(
            objective,
            network,
            spec.arm.train,
            feed.batches,
            seed=spec.seed,
            device=device,
            start=interrupted(spec, folder),
            validate=None if judge is None else _on_first_worker(judge, world),
            on_step=reporter.step,
            on_epoch=reporter.epoch,
            world=world,
        )
    except SkinrayError as error:
        if world.rank == 0:
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "refused.txt").write_text(str(error), encoding="utf-8")
        raise
    if world.rank == 0:
        finish(spec, folder, network, state, source, device, 0.0)
    ray.train.report({"epoch": state.epoch, "done": True})


def mean_over_workers(value: float) -> float:
    """Return the mean of a number over all workers of the group."""
    if not torch.distributed.is_initialized():
        return value
    total = torch.tensor([value], dtype=torch.float64, device=get_device())
    torch.distributed.all_reduce(total)
    return float(total.item()) / torch.distributed.get_world_size()


class _Reporter:
    """Stores the state on the first worker and reports to Ray on all of them."""

    def __init__(self, spec: TrialSpec, folder: Path, rank: int) -> None:
        self.spec, self.folder, self.rank = spec, folder, rank
        self.steps, self.saved_for_preemption = 0, False

    def step(self, snapshot: Snapshot) -> None:
        """Store a just-in-time state once when the node is about to be taken away."""
        self.steps += 1
        if self.saved_for_preemption or self.steps % STEPS_BETWEEN_PREEMPTION_CHECKS:
            return
        if ray.train.get_preemption_info() is not None:
            self.saved_for_preemption = True
            self._store(snapshot)

    def epoch(self, end: EpochEnd, snapshot: Snapshot) -> None:
        """Store the state after an epoch and say how it went."""
        if self.rank == 0:
            log_epoch(self.folder, end)
        self._store(snapshot)
        ray.train.report({"epoch": end.epoch + 1, "loss": end.loss})

    def _store(self, snapshot: Snapshot) -> None:
        if self.rank == 0:
            snapshot().save(self.folder / STATE, self.spec.fingerprint())


def _on_first_worker(
    judge: Callable[[torch.nn.Module], float], world: World
) -> Callable[[torch.nn.Module], float]:
    def validate(network: torch.nn.Module) -> float:
        own = judge(network) if world.rank == 0 else 0.0
        return world.mean(own) * world.size

    return validate


def _datasets(
    spec: TrialSpec, source: Source, folder: Path, resources: Resources
) -> dict[str, Callable[[], Any]] | None:
    """Return what Ray Data is to make; None where the workers make their crops themselves."""
    if not resources.data_workers:
        return None
    # Called at every start of the workers: the plan begins at the stored state.
    return {
        "train": lambda: plan_dataset(
            spec, source, resources.workers, resources.data_workers, interrupted(spec, folder)
        )
    }


def _per_worker(resources: Resources) -> dict[str, float]:
    wanted = {"CPU": float(resources.cpus_per_worker)}
    if resources.gpus_per_worker:
        wanted["GPU"] = resources.gpus_per_worker
    return wanted
