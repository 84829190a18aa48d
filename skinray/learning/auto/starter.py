"""A start without any download: small networks pretrained on drawn biopsies of many stains."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field

from skinray.config.base import Settings
from skinray.config.images import AugmentSettings, ColourSettings
from skinray.config.kinds import Stage
from skinray.config.training import ModelSettings, TrainSettings
from skinray.images.augment import apply, draw, generator
from skinray.images.cohort.common_scale import resampled
from skinray.images.phantoms.varied import varied_phantom
from skinray.learning.checkpoint import EpochEnd
from skinray.learning.feed import as_batch
from skinray.learning.loop import Batch, Objective, fit
from skinray.models import build, working_scale
from skinray.models.weights.files import write_state

# Phantoms of a step, and crops cut from each: drawing takes longer than cutting.
BATCH, CROPS = 4, 4
EPOCH_STEPS = 100


class StarterSettings(Settings):
    """How one starter is made."""

    stage: Stage
    model: ModelSettings
    train: TrainSettings
    augment: AugmentSettings
    size: tuple[int, int] = Field(description="width and height of the phantoms")
    steps: int = Field(ge=1)
    seed: int = Field(0, ge=0)


class Step(NamedTuple):
    """The crops of one step, (B, S, S, 3) and (B, S, S) uint8."""

    images: NDArray[np.uint8]
    masks: NDArray[np.uint8]


_COLOUR = ColourSettings(exposure=0.3, balance=0.25, contrast=0.4, saturation=0.5, gamma=0.3)
_TRAIN = TrainSettings(
    learning_rate=2e-3, weight_decay=1e-4, batch_size=BATCH, schedule="cosine", clip_norm=1.0,
    validate_every_epochs=1 << 20,
)  # fmt: skip
STARTERS: dict[Stage, StarterSettings] = {
    "nerve": StarterSettings(
        stage="nerve",
        model=ModelSettings(
            name="hed", options={"width": 0.25, "batch_norm": True, "group_norm": True}
        ),
        train=_TRAIN.override({"loss": "dice", "cross_entropy": 0.5}),
        augment=AugmentSettings(
            crop_px=192, translate_px=40, rotate_deg=45, scale=(0.6, 1.7), colour=_COLOUR
        ),
        size=(448, 336),
        steps=4000,
    ),
    "dermis": StarterSettings(
        stage="dermis",
        model=ModelSettings(name="deeplab_lite", options={"scale": 0.25}),
        train=_TRAIN.override({"loss": "bce"}),
        augment=AugmentSettings(
            crop_px=160, translate_px=40, rotate_deg=45, scale=(0.6, 1.7), colour=_COLOUR
        ),
        size=(960, 768),
        steps=3000,
    ),
}  # fmt: skip


def drawn_steps(settings: StarterSettings, group: int) -> list[Step]:
    """Draw the phantoms of a group of steps; each step has one crop of each phantom."""
    network_scale = float(settings.model.options.get("scale", 1))
    crops: list[list[Any]] = [[] for _ in range(CROPS)]
    for member in range(BATCH):
        index = group * BATCH + member
        sample = varied_phantom(settings.seed, index, settings.size)
        sample = resampled(sample, network_scale)
        for at in range(CROPS):
            rng = generator(settings.seed, group, f"{settings.stage} {index}", at)
            crops[at].append(apply(draw(rng, settings.augment), sample, settings.augment))
    return [
        Step(
            np.stack([crop.image for crop in step]),
            np.stack([crop.masks[settings.stage] for crop in step]),
        )
        for step in crops
    ]


def groups_of(settings: StarterSettings, epoch: int) -> list[int]:
    """Return the groups whose steps make an epoch."""
    steps = min(EPOCH_STEPS, settings.steps - epoch * EPOCH_STEPS)
    first = epoch * EPOCH_STEPS // CROPS
    return list(range(first, first - (-steps // CROPS)))


def pretrain(
    settings: StarterSettings,
    out: Path,
    stream: Callable[[list[int]], Iterable[Step]],
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Train a starter; return its file of weights, float16, in ``out``.

    Parameters
    ----------
    stream : yields the steps of groups in order; see :func:`drawn_steps`.
    progress : called with the number of steps done and in total.
    """
    torch.manual_seed(settings.seed)
    network = build(settings.model.name, **settings.model.options)
    epochs = -(-settings.steps // EPOCH_STEPS)
    train = settings.train.override({"epochs": epochs})

    def batches(epoch: int, row: int) -> Iterator[Batch]:
        left = min(EPOCH_STEPS, settings.steps - epoch * EPOCH_STEPS)
        for done, step in enumerate(stream(groups_of(settings, epoch))):
            if done == left:
                break
            yield as_batch(step.images, step.masks, BATCH)
            if progress is not None:
                progress(epoch * EPOCH_STEPS + done + 1, settings.steps)

    losses: list[float] = []

    def on_epoch(end: EpochEnd, _: object) -> None:
        losses.append(end.loss)

    state = fit(
        Objective(network, train), network, train, batches,
        seed=settings.seed, device=torch.device("cpu"), on_epoch=on_epoch,
    )  # fmt: skip
    weights = {key: value.half() for key, value in state.kept.items()}
    notes = {
        "trained_on": "phantoms of many laboratories, drawn by skinray",
        "settings": json.dumps(settings.model_dump(mode="json")),
        "working_scale": f"{working_scale(network):g}",
        "loss": f"{losses[0]:.4f} to {losses[-1]:.4f}",
    }
    path = out / f"{settings.stage}.safetensors"
    write_state(path, weights, notes)
    return path
