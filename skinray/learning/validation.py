"""Scores of a network on whole labelled images, and whether it has learned at all."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from statistics import fmean

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict
from torch import nn

from skinray.config.kinds import Stage
from skinray.images.augment import Sample
from skinray.learning.losses import jaccard_loss
from skinray.learning.metrics import dice, has_learned, tolerant_dice
from skinray.learning.spec import TrialSpec
from skinray.models.predict import predict_map

# Tolerances of tables 1 and 2: nerves are traced, so errors of a few pixels are forgiven.
TOLERANCES: dict[Stage, tuple[int, ...]] = {"nerve": (0, 1, 3), "dermis": (0,), "skin": (0,)}
THRESHOLD = 0.5
# Images that show whether a network has learned; more would say the same and take longer.
SHOWN = 4


def scores(
    stage: Stage, probability: NDArray[np.float32], truth: NDArray[np.uint8]
) -> dict[int, float]:
    """Return the Dice of one (H, W) map by tolerance in pixels; tolerance 0 is plain Dice."""
    predicted, wanted = probability >= THRESHOLD, truth > 0
    return {
        k: dice(predicted, wanted) if k == 0 else tolerant_dice(predicted, wanted, k)
        for k in TOLERANCES[stage]
    }


def _nerve_dice(probability: NDArray[np.float32], truth: NDArray[np.uint8]) -> float:
    return scores("nerve", probability, truth)[max(TOLERANCES["nerve"])]


def _dermis_dice(probability: NDArray[np.float32], truth: NDArray[np.uint8]) -> float:
    return scores("dermis", probability, truth)[0]


def _skin_jaccard(probability: NDArray[np.float32], truth: NDArray[np.uint8]) -> float:
    found, wanted = (torch.from_numpy(values)[None, None] for values in (probability, truth))
    return 1 - float(jaccard_loss(found, wanted))


# What a trial maximises. For skin it is the loss that training minimises, so that early stopping
# depends on that.
_SCORE: dict[Stage, Callable[[NDArray[np.float32], NDArray[np.uint8]], float]] = {
    "nerve": _nerve_dice,
    "dermis": _dermis_dice,
    "skin": _skin_jaccard,
}


def image_scores(
    stage: Stage,
    network: nn.Module,
    samples: Iterable[Sample],
    device: torch.device | None = None,
) -> list[float]:
    """Return each image's score, higher is better.

    Biopsies: Dice, for nerves with the largest tolerance. Skin: 1 minus the Jaccard loss.
    """
    return [
        _SCORE[stage](predict_map(network, sample.image, device), sample.masks[stage])
        for sample in samples
    ]


class Judgement(BaseModel):
    """How a network does on some labelled images, compared with masks that ignore the image.

    Attributes
    ----------
    score : mean over the images; see :func:`image_scores`.
    chance : mean score of the better of an empty and a full mask.
    marked, truth : share of the pixels that the network and the labels mark; None: not known.
    """

    model_config = ConfigDict(frozen=True)

    score: float
    chance: float
    marked: float | None
    truth: float

    @property
    def learned(self) -> bool:
        """Whether the network has learned to see what the labels mark."""
        return has_learned(self.score, self.chance)


def chance(stage: Stage, truth: NDArray[np.uint8]) -> float:
    """Return the score of the better of an empty and a full mask of one image."""
    full = np.ones(truth.shape, np.float32)
    return max(_SCORE[stage](full, truth), _SCORE[stage](full * 0, truth))


def judged(
    stage: Stage,
    network: nn.Module,
    samples: Sequence[Sample],
    positions: Sequence[int],
    device: torch.device | None = None,
) -> Judgement | None:
    """Judge a network on at most :data:`SHOWN` of the samples, in which the labels mark something.

    None if there is no such sample.
    """
    shown = []
    for at in positions:
        if samples[at].masks[stage].any():
            shown.append(samples[at])
        if len(shown) == SHOWN:
            break
    if not shown:
        return None
    maps = [predict_map(network, sample.image, device) for sample in shown]
    truths = [sample.masks[stage] for sample in shown]
    return Judgement(
        score=fmean(_SCORE[stage](*pair) for pair in zip(maps, truths, strict=True)),
        chance=fmean(chance(stage, truth) for truth in truths),
        marked=fmean(float((one >= THRESHOLD).mean()) for one in maps),
        truth=fmean(float((truth > 0).mean()) for truth in truths),
    )


class Judge:
    """Scores networks on a trial's validation images; ``scores`` are those of the last network."""

    def __init__(self, spec: TrialSpec, samples: Sequence[Sample], device: torch.device) -> None:
        self.spec, self.samples, self.device = spec, samples, device
        self.scores: list[float] = []

    def __call__(self, network: nn.Module) -> float:
        """Return the mean of :meth:`each`."""
        return fmean(self.each(network))

    def each(self, network: nn.Module) -> list[float]:
        """Return the score of each validation image."""
        seen = (self.samples[at] for at in self.spec.validation)
        self.scores = image_scores(self.spec.stage, network, seen, self.device)
        return self.scores

    def judgement(self) -> Judgement:
        """Return the judgement of the last network on the validation images."""
        stage = self.spec.stage
        truths = [self.samples[at].masks[stage] for at in self.spec.validation]
        return Judgement(
            score=fmean(self.scores),
            chance=fmean(chance(stage, truth) for truth in truths),
            marked=None,
            truth=fmean(float((truth > 0).mean()) for truth in truths),
        )
