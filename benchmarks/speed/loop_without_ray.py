"""The training loop in plain processes, to compare with the loop under Ray Train."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import torch
from torch import distributed
from torch.nn.parallel import DistributedDataParallel

from skinray.images.augment import Sample
from skinray.learning.checkpoint import StateKeeper
from skinray.learning.feed import InProcessFeed
from skinray.learning.loop import World
from skinray.learning.spec import TrialSpec
from skinray.learning.trial import STATE, run_trial

NEVER_S = 1e9


def without_ray(spec: TrialSpec, samples: Sequence[Sample], workers: int, folder: Path) -> None:
    """Train with the same loop in plain processes."""
    torch.multiprocessing.spawn(  # type: ignore[attr-defined,no-untyped-call]
        plain_worker, (workers, spec, list(samples), str(folder)), nprocs=workers
    )


def plain_worker(
    rank: int, size: int, spec: TrialSpec, samples: Sequence[Sample], folder: str
) -> None:
    """Train on one process of the group, as ``worker_loop`` of ``cluster/train/workers`` does."""
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=size
    )
    world = World(
        rank,
        size,
        mean_over_processes,
        lambda module: DistributedDataParallel(module) if size > 1 else module,
    )
    run_trial(
        spec,
        samples,
        Path(folder),
        feed=InProcessFeed(spec, samples, world=world),
        world=world,
        keeper=StateKeeper(
            Path(folder) / STATE, spec.fingerprint(), every_s=NEVER_S, stores=rank == 0
        ),
    )
    distributed.destroy_process_group()


def mean_over_processes(value: float) -> float:
    """Return the mean of a number over the processes of the group."""
    total = torch.tensor([value], dtype=torch.float64)
    distributed.all_reduce(total)
    return float(total.item()) / distributed.get_world_size()
