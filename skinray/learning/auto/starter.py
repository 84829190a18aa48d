"""A start without any download: small networks pretrained on drawn biopsies of many stains."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from safetensors.torch import save as packed
from torch import Tensor, nn

from skinray.config.base import Settings
from skinray.config.images import AugmentSettings, ColourSettings
from skinray.config.kinds import Stage
from skinray.config.recipes import NARROW_HED
from skinray.config.training import ModelSettings, TrainSettings
from skinray.images.augment import apply, draw, generator
from skinray.images.cohort.common_scale import resampled
from skinray.images.phantoms.varied import varied_phantom
from skinray.learning.checkpoint import EpochEnd
from skinray.learning.feed import as_batch
from skinray.learning.loop import Batch, Objective, Snapshot, fit
from skinray.models import build

# Phantoms of a step, and crops cut from each: drawing takes longer than cutting.
BATCH, CROPS = 4, 4
EPOCH_STEPS = 50


class StarterSettings(Settings):
    """How one starter is made."""

    stage: Stage
    model: ModelSettings
    train: TrainSettings
    augment: AugmentSettings
    sizes: tuple[tuple[int, int], ...] = Field(
        description="widths and heights of the phantoms, in turn"
    )
    side_px: int | None = Field(
        None, description="short side at which the network sees a phantom; none: as it is drawn"
    )
    steps: int = Field(ge=1)
    seed: int = Field(0, ge=0)


@dataclass(frozen=True)
class Starter:
    """A pretrained network.

    Attributes
    ----------
    network : float32, with weights that float16 can hold.
    steps : that it was trained for.
    beginning : SHA-256 of the weights after the first :data:`EPOCH_STEPS` steps, as float16.
    """

    network: nn.Module
    steps: int
    beginning: str


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
        model=ModelSettings(name="hed", options=NARROW_HED),
        train=_TRAIN.override({"loss": "dice", "cross_entropy": 0.5}),
        augment=AugmentSettings(
            crop_px=192, translate_px=40, rotate_deg=45, scale=(0.6, 1.7), colour=_COLOUR
        ),
        sizes=((448, 336),),
        steps=3000,
    ),
    "dermis": StarterSettings(
        stage="dermis",
        model=ModelSettings(name="deeplab_lite", options={"scale": 0.25}),
        train=_TRAIN.override({"loss": "bce"}),
        augment=AugmentSettings(
            crop_px=160, translate_px=40, rotate_deg=45, scale=(0.6, 1.7), colour=_COLOUR
        ),
        # The dermis looks the same on a small field and on a large one, seen at one size.
        sizes=((512, 384), (640, 512), (960, 768)),
        side_px=192,
        steps=2000,
    ),
}  # fmt: skip


def drawn_steps(settings: StarterSettings, group: int) -> list[Step]:
    """Draw the phantoms of a group of steps; each step has one crop of each phantom."""
    size = settings.sizes[group % len(settings.sizes)]
    shrunk = 1.0 if settings.side_px is None else settings.side_px / min(size)
    crops: list[list[Any]] = [[] for _ in range(CROPS)]
    for member in range(BATCH):
        index = group * BATCH + member
        sample = resampled(varied_phantom(settings.seed, index, size), shrunk)
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


class _EnoughError(Exception):
    """Ends a training before its last epoch."""


def pretrain(
    settings: StarterSettings,
    stream: Callable[[int], Iterable[Step]],
    progress: Callable[[int, int], None] | None = None,
    stop_after: int | None = None,
) -> Starter:
    """Train a starter.

    Parameters
    ----------
    stream : given a number of groups, yields their steps in order; see :func:`drawn_steps`.
    progress : called with the number of steps done and in total.
    stop_after : steps to take of those of the settings; None: all.
    """
    torch.manual_seed(settings.seed)
    network = build(settings.model.name, **settings.model.options)
    wanted = min(settings.steps, stop_after or settings.steps)
    train = settings.train.override({"epochs": -(-settings.steps // EPOCH_STEPS)})
    beginning: list[str] = []
    drawn = enumerate(islice(stream(-(-wanted // CROPS)), wanted), 1)

    def batches(epoch: int, row: int) -> Iterator[Batch]:
        for done, step in islice(drawn, EPOCH_STEPS):
            yield as_batch(step.images, step.masks, BATCH)
            if progress is not None:
                progress(done, wanted)

    def on_epoch(end: EpochEnd, snapshot: Snapshot) -> None:
        if not beginning:
            beginning.append(weights_sha256(snapshot().model))
        if (end.epoch + 1) * EPOCH_STEPS >= wanted:
            raise _EnoughError

    with contextlib.suppress(_EnoughError):
        fit(
            Objective(network, train), network, train, batches,
            seed=settings.seed, device=torch.device("cpu"), on_epoch=on_epoch,
        )  # fmt: skip
    network.half().float()
    return Starter(network.eval(), wanted, beginning[0])


def weights_sha256(state: dict[str, Tensor]) -> str:
    """Return the SHA-256 of weights as a float16 file holds them."""
    return hashlib.sha256(packed({name: value.half() for name, value in state.items()})).hexdigest()
