"""Scores of a network on whole labelled images."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from statistics import fmean

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from skinray.config.kinds import Stage
from skinray.images.augment import Sample
from skinray.learning.losses import jaccard_loss
from skinray.learning.metrics import dice, tolerant_dice
from skinray.learning.spec import TrialSpec
from skinray.models.predict import predict_map

# Tolerances of tables 1 and 2: nerves are traced, so errors of a few pixels are forgiven.
TOLERANCES: dict[Stage, tuple[int, ...]] = {"nerve": (0, 1, 3), "dermis": (0,), "skin": (0,)}
THRESHOLD = 0.5


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
