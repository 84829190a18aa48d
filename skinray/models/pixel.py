"""Logistic regression on the colour of single pixels: what a colour threshold can do."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from skinray.errors import SettingsError


class PixelClassifier(nn.Module):
    """A weighted sum of a pixel's red, green and blue as logit.

    The floor that a network must beat, and a stand-in that answers at once where the road to
    and from a network is what matters.

    Parameters
    ----------
    weights : start values for red, green and blue, on RGB in 0..1; by default dark is positive.
    bias : start value of the bias.

    Raises
    ------
    SettingsError
        If ``weights`` are not three.
    """

    def __init__(self, weights: Sequence[float] = (-4.0, -4.0, -4.0), bias: float = 6.0) -> None:
        super().__init__()
        if len(weights) != 3:
            raise SettingsError(f"weights are {len(weights)}: give one each for red, green, blue")
        self.sum = nn.Conv2d(3, 1, 1)
        with torch.no_grad():
            self.sum.weight.copy_(torch.tensor(weights).view(1, 3, 1, 1))
            self.sum.bias.fill_(bias)  # type: ignore[union-attr]

    def forward(self, image: Tensor) -> Tensor:
        """Return logits, (N, 1, H, W) float32, of RGB ``image`` (N, 3, H, W) in 0..1."""
        logits: Tensor = self.sum(image).float()
        return logits
