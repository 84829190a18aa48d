"""Colours as networks see them: HSV beside RGB, and channels of equal weight."""

from __future__ import annotations

import torch
from torch import Tensor

# Below this deviation a channel is constant, and what is left of it is rounding.
CONSTANT = 1e-6


def rgb_to_hsv(image: Tensor) -> Tensor:
    """Return hue, saturation and value, (N, 3, H, W) in 0..1, of RGB (N, 3, H, W) in 0..1.

    Hue is the hexagon's (Smith, 1978), 0 for red, 1/3 for green; grey has hue and saturation 0.
    """
    red, green, blue = image.unbind(1)
    high, low = image.amax(1), image.amin(1)
    span = high - low
    safe = torch.where(span > 0, span, 1.0)
    sixth = torch.where(
        high == red,
        (green - blue) / safe,
        torch.where(high == green, (blue - red) / safe + 2, (red - green) / safe + 4),
    )
    hue = torch.where(span > 0, (sixth / 6) % 1, 0.0)
    saturation = torch.where(high > 0, span / torch.where(high > 0, high, 1.0), 0.0)
    return torch.stack([hue, saturation, high], dim=1)


def standardise(values: Tensor) -> Tensor:
    """Bring each channel of each image to mean 0 and deviation 1; a constant one to 0.

    Parameters
    ----------
    values : (N, C, H, W) float32.
    """
    mean = values.mean((2, 3), keepdim=True)
    deviation = values.std((2, 3), keepdim=True, correction=0)
    constant = deviation < CONSTANT
    return torch.where(constant, 0.0, (values - mean) / torch.where(constant, 1.0, deviation))
