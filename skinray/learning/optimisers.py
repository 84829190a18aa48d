"""What steps of training are made with: optimiser, rates, a running mean of the weights."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import nn
from torch.optim import SGD, Adam, AdamW, Optimizer
from torch.optim.lr_scheduler import CosineAnnealingLR, ReduceLROnPlateau
from torch.optim.swa_utils import AveragedModel

from skinray.config.training import TrainSettings

Scheduler = ReduceLROnPlateau | CosineAnnealingLR


def new_optimizer(parameters: Iterable[nn.Parameter], settings: TrainSettings) -> Optimizer:
    """Return the optimiser that the settings name, for these parameters.

    Its first group learns at the full rate; with ``rate_fan_in`` others follow, at less.
    """
    rate, decay = settings.learning_rate, settings.weight_decay
    groups = [
        {"params": members, "lr": rate * share}
        for share, members in rate_shares(parameters, settings.rate_fan_in).items()
    ]
    if settings.optimizer == "sgd":
        return SGD(groups, rate, momentum=settings.momentum, weight_decay=decay)
    if settings.optimizer == "adamw":
        return AdamW(groups, rate, weight_decay=decay)
    return Adam(groups, rate, weight_decay=decay)


def rate_shares(
    parameters: Iterable[nn.Parameter], fan_in: int | None
) -> dict[float, list[nn.Parameter]]:
    """Sort parameters by the share of the rate that they learn at, the full rate first.

    One step of Adam moves each weight about as far as the rate. A neuron's sum over n inputs can
    then move n times as far, to where its ReLU answers to nothing and learns no more. So weights
    of more than ``fan_in`` inputs learn at ``fan_in / n`` of the rate, as hidden layers do in muP
    (Yang et al., 2022). Biases and scales learn at the full rate.

    Parameters
    ----------
    fan_in : most inputs that learn at the full rate; none: all do.
    """
    shares: dict[float, list[nn.Parameter]] = {1.0: []}
    for parameter in parameters:
        inputs = parameter[0].numel() if parameter.dim() > 1 else 1
        share = 1.0 if fan_in is None else min(1.0, fan_in / inputs)
        shares.setdefault(share, []).append(parameter)
    return shares


def new_scheduler(optimizer: Optimizer, settings: TrainSettings) -> Scheduler:
    """Return what lowers the optimiser's rate, told once an epoch by :func:`lower_rate`."""
    if settings.schedule == "cosine":
        return CosineAnnealingLR(optimizer, settings.epochs)
    return ReduceLROnPlateau(
        optimizer, factor=settings.plateau_factor, patience=settings.plateau_patience_epochs
    )


def lower_rate(scheduler: Scheduler, loss: float) -> None:
    """Set the rate of the next epoch, after one of this mean training loss."""
    if isinstance(scheduler, ReduceLROnPlateau):
        scheduler.step(loss)
    else:
        scheduler.step()


def averaged_copy(network: nn.Module, share: float) -> AveragedModel:
    """Return a copy of the network that is to hold the running mean of its weights.

    Each update leaves ``share`` of the mean, the first ones less, lest the weights that training
    began with stay in it for long. Buffers are the network's own after its last step.
    """

    def move(
        means: Sequence[torch.Tensor], weights: Sequence[torch.Tensor], updates: torch.Tensor | int
    ) -> None:
        moved = 1 - min(share, (1 + int(updates)) / (10 + int(updates)))
        for mean, weight in zip(means, weights, strict=True):
            mean.lerp_(weight, moved)

    # All tensors in one call: on a GPU, to ask for the number of updates waits for it.
    return AveragedModel(network, multi_avg_fn=move)
