"""A training small enough to be run dozens of times: six drawn images, a few hundred weights."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from skinray.config.training import TrainSettings
from skinray.learning.checkpoint import TrainState
from skinray.learning.loop import Batch, Objective, fit
from tests.support.tiny import ConvNetwork, drawn_sample, train_settings

CPU = torch.device("cpu")
SAMPLES = [drawn_sample(seed, (16, 16), nerves=1) for seed in range(6)]
IMAGES = torch.stack([torch.from_numpy(sample.image) for sample in SAMPLES])
TRUTHS = torch.stack([torch.from_numpy(sample.masks["nerve"]) for sample in SAMPLES])


def batches(epoch: int, row: int) -> Iterator[Batch]:
    """Six rows in batches of two, in an order of the epoch's own."""
    order = torch.randperm(6, generator=torch.Generator().manual_seed(epoch))[row:]
    for pair in order.view(-1, 2):
        yield Batch(IMAGES[pair], TRUTHS[pair], 2)


def network(dropout: float = 0.0) -> ConvNetwork:
    torch.manual_seed(0)
    return ConvNetwork(dropout)


def train(net: nn.Module, settings: TrainSettings | None = None, **options: Any) -> TrainState:
    settings = settings or train_settings()
    options = {"seed": 5, "device": CPU, "batches": batches} | options
    return fit(Objective(net, settings), net, settings, **options)


def measured(state: TrainState) -> list[tuple[float, ...]]:
    """The history without what the clock says."""
    return [(e.epoch, e.loss, e.learning_rate, e.skipped_steps) for e in state.history]
