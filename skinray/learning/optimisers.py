"""The optimiser, its learning rates and schedule, and the running mean of the weights."""

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
    """Return the optimiser of the settings.

    Its first group has the full learning rate; with ``rate_fan_in`` others have lower ones.
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
    """Group parameters by their share of the learning rate, the full rate first.

    One step of Adam moves each weight by about the learning rate. A neuron's sum over n inputs
    may then move n times as far, and its ReLU may die. So weights of n > ``fan_in`` inputs get
    ``fan_in / n`` of the rate, as hidden layers do in muP (Yang et al., 2022). Biases and scales
    get the full rate.

    Parameters
    ----------
    fan_in : most inputs with the full rate; None: all parameters have the full rate.
    """
    shares: dict[float, list[nn.Parameter]] = {1.0: []}
    for parameter in parameters:
        inputs = parameter[0].numel() if parameter.dim() > 1 else 1
        share = 1.0 if fan_in is None else min(1.0, fan_in / inputs)
        shares.setdefault(share, []).append(parameter)
    return shares


def new_scheduler(optimizer: Optimizer, settings: TrainSettings) -> Scheduler:
    """Return the learning rate schedule; :func:`lower_rate` is to be called after each epoch."""
    if settings.schedule == "cosine":
        return CosineAnnealingLR(optimizer, settings.epochs)
    return ReduceLROnPlateau(
        optimizer, factor=settings.plateau_factor, patience=settings.plateau_patience_epochs
    )


def lower_rate(scheduler: Scheduler, loss: float) -> None:
    """Set the rate of the next epoch, given the mean training loss of the last one."""
    if isinstance(scheduler, ReduceLROnPlateau):
        scheduler.step(loss)
    else:
        scheduler.step()


def averaged_copy(network: nn.Module, share: float) -> AveragedModel:
    """Return a copy of the network for the running mean of its weights.

    Each update keeps ``share`` of the mean; the first updates keep less, so that the initial
    weights fade quickly. Buffers are those of the network after its last step.
    """

    def move(
        means: Sequence[torch.Tensor], weights: Sequence[torch.Tensor], updates: torch.Tensor | int
    ) -> None:
        moved = 1 - min(share, (1 + int(updates)) / (10 + int(updates)))
        for mean, weight in zip(means, weights, strict=True):
            mean.lerp_(weight, moved)

    # All tensors in one call, since reading the number of updates waits for the GPU.
    return AveragedModel(network, multi_avg_fn=move)
