"""Losses of the stages, always computed in float32.

Maps are (N, 1, H, W); the truth has the same shape, 1 on the object and 0 elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from skinray.config.training import TrainSettings

_PER_IMAGE = (1, 2, 3)
# Erosions after which no traced line is left.
_HALF_WIDTH_PX = 8


def dice_loss(probability: Tensor, truth: Tensor) -> Tensor:
    """Return the paper's Dice loss (2.2) of probabilities: per image, then the mean.

    ``1 - (2 sum(P T) + 1) / (sum(P) + sum(T) + 1)``; empty against empty is 0.
    """
    probability, truth = probability.float(), truth.float()
    overlap = (probability * truth).sum(_PER_IMAGE)
    total = probability.sum(_PER_IMAGE) + truth.sum(_PER_IMAGE)
    return (1 - (2 * overlap + 1) / (total + 1)).mean()


def jaccard_loss(probability: Tensor, truth: Tensor) -> Tensor:
    """Return the Jaccard loss for photographs (Codella et al., 2018): per image, then the mean.

    ``1 - sum(T P) / (sum(T^2) + sum(P^2) - sum(T P))``; empty against empty is 0.
    """
    probability, truth = probability.float(), truth.float()
    overlap = (probability * truth).sum(_PER_IMAGE)
    squares = probability.square().sum(_PER_IMAGE) + truth.square().sum(_PER_IMAGE)
    union = squares - overlap
    empty = union == 0
    return torch.where(empty, 0.0, 1 - overlap / torch.where(empty, 1.0, union)).mean()


def bce_loss(logits: Tensor, truth: Tensor) -> Tensor:
    """Return the binary cross-entropy of logits, the mean over pixels (paper 2.3)."""
    return F.binary_cross_entropy_with_logits(logits.float(), truth.float())


def balanced_bce(logits: Tensor, truth: Tensor) -> Tensor:
    """Return HED's class-balanced cross-entropy (Xie and Tu 2015, equation 2) of logits.

    In each image the object is weighted by the share of background and the background by the
    share of the object; pixels with a negative truth are ignored. HED sums over pixels; here it
    is the mean over the other pixels, which only scales the step. As in the formula, an image
    without object gives 0.
    """
    logits, truth = logits.float(), truth.float()
    counted, positive = truth >= 0, truth > 0.5
    pixels = counted.sum(_PER_IMAGE, keepdim=True).clamp_min(1)
    share = positive.sum(_PER_IMAGE, keepdim=True) / pixels
    weight = torch.where(positive, 1 - share, share) * counted / pixels
    losses = F.binary_cross_entropy_with_logits(logits, positive.float(), weight, reduction="none")
    return losses.sum(_PER_IMAGE).mean()


def skeleton_recall_loss(probability: Tensor, truth: Tensor) -> Tensor:
    """Return the share of the middle lines of the truth that is missed (Kirchhoff et al., 2024).

    ``1 - (sum(P S) + 1) / (sum(S) + 1)`` with the truth's skeleton S: per image, then the mean.
    """
    probability, lines = probability.float(), _skeleton(truth.float())
    found = (probability * lines).sum(_PER_IMAGE)
    return (1 - (found + 1) / (lines.sum(_PER_IMAGE) + 1)).mean()


def _skeleton(mask: Tensor) -> Tensor:
    """Return the morphological skeleton of (N, 1, H, W) masks, by erosions and openings."""
    found = torch.zeros_like(mask)
    for _ in range(_HALF_WIDTH_PX):
        eroded = -F.max_pool2d(-mask, 3, 1, 1)
        opened = F.max_pool2d(eroded, 3, 1, 1)
        found = torch.maximum(found, mask - opened)
        mask = eroded
    return found


def _dice_of_logits(logits: Tensor, truth: Tensor) -> Tensor:
    return dice_loss(logits.float().sigmoid(), truth)


def _jaccard_of_logits(logits: Tensor, truth: Tensor) -> Tensor:
    return jaccard_loss(logits.float().sigmoid(), truth)


_LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "dice": _dice_of_logits,
    "bce": bce_loss,
    "balanced_bce": balanced_bce,
    "jaccard": _jaccard_of_logits,
}


def stage_loss(
    logits: Tensor, truth: Tensor, settings: TrainSettings, sides: Sequence[Tensor] | None = None
) -> Tensor:
    """Return the loss that trains a stage: a scalar.

    Parameters
    ----------
    logits : output of the network's ``forward`` (HED: the fused map).
    truth : same shape, 0 or 1.
    settings : ``loss`` names the loss; ``cross_entropy`` and ``skeleton_recall`` weight
        further terms, and ``side_weight`` the side outputs.
    sides : HED's side outputs without the fused map, ``forward_sides(image)[:-1]``; their
        mean loss times ``side_weight`` is added (not in the paper; the default weight is 0).
    """

    def loss(logits: Tensor, truth: Tensor) -> Tensor:
        found = _LOSSES[settings.loss](logits, truth)
        if settings.cross_entropy:
            found = found + settings.cross_entropy * bce_loss(logits, truth)
        if settings.skeleton_recall:
            missed = skeleton_recall_loss(logits.float().sigmoid(), truth)
            found = found + settings.skeleton_recall * missed
        return found

    total = loss(logits, truth)
    if sides and settings.side_weight > 0:
        side_losses = torch.stack([loss(side, truth) for side in sides])
        total = total + settings.side_weight * side_losses.mean()
    return total
