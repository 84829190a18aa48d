"""How well a network does on whole labelled images."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from skinray.config.kinds import Stage
from skinray.images.augment import Sample
from skinray.learning.losses import jaccard_loss
from skinray.learning.metrics import dice, tolerant_dice
from skinray.models.predict import predict_map

# Tolerances of tables 1 and 2: nerves are traced, so a few pixels off are forgiven.
TOLERANCES: dict[Stage, tuple[int, ...]] = {"nerve": (0, 1, 3), "dermis": (0,), "skin": (0,)}
THRESHOLD = 0.5


def scores(
    stage: Stage, probability: NDArray[np.float32], truth: NDArray[np.uint8]
) -> dict[int, float]:
    """Return Dice by tolerance in pixels (k = 0 is plain Dice) of one (H, W) map."""
    predicted, wanted = probability >= THRESHOLD, truth > 0
    return {
        k: dice(predicted, wanted) if k == 0 else tolerant_dice(predicted, wanted, k)
        for k in TOLERANCES[stage]
    }


def image_scores(
    stage: Stage,
    network: nn.Module,
    samples: Iterable[Sample],
    device: torch.device | None = None,
) -> list[float]:
    """Return each image's score, higher is better: the stage's most tolerant Dice.

    Of skin in photographs: 1 less the Jaccard loss, which training is to stop early by.
    """
    widest = max(TOLERANCES[stage])
    values = []
    for sample in samples:
        found, truth = predict_map(network, sample.image, device), sample.masks[stage]
        skin = stage == "skin"
        values.append(
            1 - _jaccard_loss(found, truth) if skin else scores(stage, found, truth)[widest]
        )
    return values


def _jaccard_loss(probability: NDArray[np.float32], truth: NDArray[np.uint8]) -> float:
    whole, wanted = (torch.from_numpy(values)[None, None] for values in (probability, truth))
    return float(jaccard_loss(whole, wanted))
