"""The training loop: plain torch on one device, without Ray.

Parallelism is applied from outside: :class:`Objective` may be wrapped for data-parallel
training, and :class:`World` averages a number over the workers. The loop passes ``on_step``
and ``on_epoch`` a function that takes a snapshot, so the caller decides what to save and when.
"""

from __future__ import annotations

import copy
import logging
import math
import time
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import nn
from torch.optim import Optimizer

from skinray.config.training import TrainSettings
from skinray.errors import DivergedError, TrainingError
from skinray.images.augment import generator
from skinray.learning.checkpoint import EpochEnd, TrainState
from skinray.learning.losses import stage_loss
from skinray.learning.optimisers import averaged_copy, lower_rate, new_optimizer, new_scheduler
from skinray.models.compute import bfloat16_pays, emulates_bfloat16

LOG = logging.getLogger("skinray.learning")
Snapshot = Callable[[], TrainState]


class Batch(NamedTuple):
    """One worker's part of a step.

    Attributes
    ----------
    image : (N, H, W, 3) uint8, RGB.
    truth : (N, H, W) uint8 masks.
    step : crops in the whole step, over all workers.
    """

    image: torch.Tensor
    truth: torch.Tensor
    step: int


class Objective(nn.Module):
    """A network with its loss, as one module whose forward pass returns the loss.

    Parameters
    ----------
    network : maps (N, 3, H, W) float RGB in 0..1 to (N, 1, H, W) logits.
    settings : names the loss and weights the side outputs.
    """

    def __init__(self, network: nn.Module, settings: TrainSettings) -> None:
        super().__init__()
        self.network = network
        self.settings = settings

    def forward(self, image: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
        """Return the mean loss of (N, H, W, 3) uint8 images and (N, H, W) uint8 masks."""
        # A permuted NHWC array is channels_last already: no copy.
        x = image.permute(0, 3, 1, 2).float().div_(255)
        sides = None
        if self.settings.side_weight > 0:
            *sides, logits = self.network.forward_sides(x)  # type: ignore[operator]
        else:
            logits = self.network(x)
        return stage_loss(logits, truth[:, None].float(), self.settings, sides)


@dataclass(frozen=True)
class World:
    """The workers that train together.

    Attributes
    ----------
    rank, size : this worker's number, and the number of workers.
    mean : returns the mean of a number over all workers; every worker has to call it.
    wrap : wraps a module so that its gradients are averaged over all workers.
    """

    rank: int = 0
    size: int = 1
    mean: Callable[[float], float] = field(default=lambda value: value)
    wrap: Callable[[nn.Module], nn.Module] = field(default=lambda module: module)


def agreed(value: float, world: World, what: str) -> float:
    """Return the value if all workers have the same.

    Each worker reads the trial's folder itself, and a network file system may show one of them
    an older file.

    Raises
    ------
    RuntimeError
        On at least one worker, if they differ: the group has to start again.
    """
    if world.mean(value) != value:
        raise RuntimeError(
            f"the workers disagree on {what}, since the file system shows them different files; "
            "training will be retried"
        )
    return value


def fit(
    objective: nn.Module,
    network: nn.Module,
    settings: TrainSettings,
    batches: Callable[[int, int], Iterable[Batch]],
    *,
    seed: int,
    device: torch.device,
    start: TrainState | None = None,
    validate: Callable[[nn.Module], float] | None = None,
    on_step: Callable[[Snapshot], None] | None = None,
    on_epoch: Callable[[EpochEnd, Snapshot], None] | None = None,
    world: World | None = None,
) -> TrainState:
    """Train ``network`` through ``objective`` and return the state after the last epoch.

    Parameters
    ----------
    objective : an :class:`Objective` of ``network``, possibly wrapped for several workers.
    batches : ``batches(epoch, row)`` yields this worker's part of each step of the epoch,
        starting at ``row`` of its plan. A part of more than ``batch_size`` crops takes several
        passes through the network. The loss of a step is the mean over all its crops, so a step
        is the same for any number of workers.
    start : state to continue from, which is not modified; None: start from the beginning.
    validate : scores the network in evaluation mode, higher is better; called every
        ``validate_every_epochs`` and after the last epoch. With ``average``, it is given a copy
        with the averaged weights.
    on_step, on_epoch : called after each step and epoch; their last argument takes a snapshot.

    Raises
    ------
    DivergedError
        If the loss or its gradient is not finite in more than ``max_skipped_steps`` steps.
    TrainingError
        If there is no image to train on.
    """
    world = world or World()
    if emulates_bfloat16(settings, device):
        LOG.warning(
            "precision is bfloat16, but this processor has neither AVX512_BF16 nor AMX: training "
            "is about ten times slower than with precision auto"
        )
    optimizer = new_optimizer(objective.parameters(), settings)
    scheduler = new_scheduler(optimizer, settings)
    averaged = averaged_copy(network, settings.average) if settings.average else None
    state = TrainState({}, {}, {}) if start is None else copy.copy(start)
    if start is not None:
        network.load_state_dict(start.model)
        # The optimiser modifies the tensors that it is given.
        optimizer.load_state_dict(copy.deepcopy(start.optimizer))
        scheduler.load_state_dict(start.scheduler)
        if averaged is not None and start.average is not None:
            averaged.load_state_dict(start.average)

    def snapshot() -> TrainState:
        state.model = _copied(network)
        state.optimizer = copy.deepcopy(optimizer.state_dict())
        state.scheduler = scheduler.state_dict()
        state.average = None if averaged is None else _copied(averaged)
        return copy.copy(state)

    while state.epoch < settings.epochs and not _stopped_early(state, settings):
        began, rate = time.perf_counter(), optimizer.param_groups[0]["lr"]
        objective.train()
        for batch in batches(state.epoch, state.row):
            # Dropout depends only on the position in the plan, so a resumed run repeats it.
            draw = generator(seed, state.epoch, f"torch {state.row} {world.rank}")
            torch.manual_seed(int(draw.integers(2**62)))
            moved = _step(objective, optimizer, batch, settings, device, state, world)
            if moved and averaged is not None:
                averaged.update_parameters(network)
            state.row += batch.step
            if on_step is not None:
                on_step(snapshot)
        if state.steps == 0:
            raise _no_step(state)
        loss = state.loss_sum / state.steps
        lower_rate(scheduler, loss)
        kept = network if averaged is None else averaged.module
        score = None
        if validate is not None and _is_due(state.epoch, settings):
            score = validate(kept.eval())
        end = EpochEnd(
            state.epoch, loss, rate, score, state.row, time.perf_counter() - began,
            state.skipped_steps,
        )  # fmt: skip
        _close_epoch(state, end, kept, settings, validate is not None)
        if on_epoch is not None:
            on_epoch(end, snapshot)
    return snapshot()


def _copied(module: nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.detach().clone() for name, value in module.state_dict().items()}


def _step(
    objective: nn.Module,
    optimizer: Optimizer,
    batch: Batch,
    settings: TrainSettings,
    device: torch.device,
    state: TrainState,
    world: World,
) -> bool:
    """Take one step; return whether the weights changed."""
    optimizer.zero_grad(set_to_none=True)
    # Averaged in each step, not each epoch, so that the state is the same on all workers.
    loss = world.mean(_gradient(objective, batch, settings, device, world))
    # The averaged gradient is the same on every worker, so all of them skip the step.
    limit = settings.clip_norm if settings.clip_norm is not None else math.inf
    norm = nn.utils.clip_grad_norm_(objective.parameters(), limit)
    if torch.isfinite(norm):
        optimizer.step()
        state.loss_sum += loss
        state.steps += 1
        return True
    state.skipped_steps += 1
    broken = [name for name, b in objective.named_buffers() if not torch.isfinite(b).all()]
    if broken or state.skipped_steps > settings.max_skipped_steps:
        raise DivergedError(
            f"epoch {state.epoch + 1}: loss {loss:.4g}, gradient norm "
            f"{float(norm):.4g}; {state.skipped_steps} steps were not finite "
            f"(at most {settings.max_skipped_steps} are skipped"
            f"{', and ' + broken[0] + ' is no longer finite' if broken else ''}): lower "
            "learning_rate or set clip_norm"
        )
    return False


def _gradient(
    objective: nn.Module,
    batch: Batch,
    settings: TrainSettings,
    device: torch.device,
    world: World,
) -> float:
    """Compute the gradient of this worker's part; return its share of the step's loss.

    Each pass is weighted by its number of crops, so that the average over the workers is the
    gradient of the mean over all crops of the step, even if the parts differ in size.
    """
    half = bfloat16_pays(settings, device)
    # All passes but the last only add to this worker's own gradient.
    no_averaging = getattr(objective, "no_sync", nullcontext)
    parts, total = passes(batch, settings.batch_size, world.size), 0.0
    for at, (image, truth) in enumerate(parts, 1):
        seen, wanted = (part.to(device, non_blocking=True) for part in (image, truth))
        with nullcontext() if at == len(parts) else no_averaging():
            with torch.autocast(device.type, dtype=torch.bfloat16, enabled=half):
                loss = objective(seen, wanted) * (len(image) * world.size / batch.step)
            loss.backward()
        total += float(loss.detach())
    return total


def passes(batch: Batch, size: int, workers: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Divide a worker's part of a step into passes of about ``size`` crops.

    All workers make the same number of passes, even if their parts differ by a crop, since
    synchronised batch norm waits for all of them in each pass. No pass has a single crop if
    ``size`` is above 1, since batch norm cannot normalise a single crop whose map is one pixel.
    """
    fewest, most = batch.step // workers, -(-batch.step // workers)
    count = max(1, min(-(-most // size), fewest // min(size, 2)))
    images, truths = batch.image.tensor_split(count), batch.truth.tensor_split(count)
    return list(zip(images, truths, strict=True))


def _no_step(state: TrainState) -> TrainingError:
    if state.skipped_steps:
        return DivergedError(
            f"epoch {state.epoch + 1}: no step had a finite gradient: lower learning_rate "
            "or set clip_norm"
        )
    return TrainingError(
        f"epoch {state.epoch + 1}: no image to train on: add images, or use fewer folds"
    )


def _is_due(epoch: int, settings: TrainSettings) -> bool:
    return (epoch + 1) % settings.validate_every_epochs == 0 or epoch + 1 == settings.epochs


def _close_epoch(
    state: TrainState, end: EpochEnd, network: nn.Module, settings: TrainSettings, scored: bool
) -> None:
    """Start the next epoch; keep the weights of this one if they are the best so far."""
    state.history = [*state.history, end]
    state.epoch, state.row, state.loss_sum, state.steps = end.epoch + 1, 0, 0.0, 0
    value = _value(end, scored)
    if value is None:
        return
    if state.best_score is None or value > state.best_score:
        state.best_score, state.stale_epochs = value, 0
        if settings.keep == "best":
            state.best = _copied(network)
    else:
        best = next(one for one in state.history if _value(one, scored) == state.best_score)
        state.stale_epochs = end.epoch - best.epoch


def _value(end: EpochEnd, scored: bool) -> float | None:
    """Return what is maximised: the validation score, or without one the negative loss."""
    return end.validation if scored else -end.loss


def _stopped_early(state: TrainState, settings: TrainSettings) -> bool:
    limit = settings.early_stop_epochs
    return limit is not None and state.stale_epochs >= limit
