"""The training loop in plain processes, as a yardstick for the loop under Ray Train."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

import cv2
import torch
from torch import distributed
from torch.nn.parallel import DistributedDataParallel

from skinray.images.sample import Sample
from skinray.learning.feed import Feed
from skinray.learning.loop import Objective, World, fit
from skinray.learning.trial import STATE, TrialSpec, finish, new_network


def without_ray(spec: TrialSpec, samples: Sequence[Sample], workers: int, folder: Path) -> None:
    """Train with the same loop in plain processes."""
    torch.multiprocessing.spawn(  # type: ignore[attr-defined,no-untyped-call]
        plain_worker, (workers, spec, list(samples), str(folder)), nprocs=workers
    )


def plain_worker(
    rank: int, size: int, spec: TrialSpec, samples: Sequence[Sample], folder: str
) -> None:
    """Train on one process of the group, as :func:`skinray.cluster.train.worker_loop` does."""
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=size
    )
    device = torch.device("cpu")
    network = new_network(spec).to(memory_format=torch.channels_last)
    objective: torch.nn.Module = Objective(network, spec.arm.train)
    if size > 1:
        objective = DistributedDataParallel(objective)
    world = World(rank, size, mean_over_processes)
    began = time.monotonic()
    state = fit(
        objective,
        network,
        spec.arm.train,
        Feed(spec, samples, world=world, workers=(size, size)).batches,
        seed=spec.seed,
        device=device,
        on_epoch=lambda end, snapshot: (
            snapshot().save(Path(folder) / STATE, spec.fingerprint()) if rank == 0 else None
        ),
        world=world,
    )
    if rank == 0:
        finish(spec, Path(folder), network, state, samples, device, time.monotonic() - began)
    distributed.destroy_process_group()


def mean_over_processes(value: float) -> float:
    """Return the mean of a number over the processes of the group."""
    total = torch.tensor([value], dtype=torch.float64)
    distributed.all_reduce(total)
    return float(total.item()) / distributed.get_world_size()
