"""Random changes of colour, as another camera, another light or another stain would bring."""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Colour:
    """One change of colour. All are natural logarithms of a factor: 0 changes nothing.

    Attributes
    ----------
    exposure : of all values.
    balance : of red, green and blue, each by itself.
    contrast : of the distance from the image's mean.
    saturation : of the distance from each pixel's own grey, the mean of its three values.
    gamma : of the exponent that values in 0..1 are raised to; above 0 darkens.
    """

    exposure: float = 0.0
    balance: tuple[float, float, float] = (0.0, 0.0, 0.0)
    contrast: float = 0.0
    saturation: float = 0.0
    gamma: float = 0.0


UNCHANGED = Colour()


def recolour(image: NDArray[np.uint8], colour: Colour) -> NDArray[np.uint8]:
    """Return the image in other colours, changed in the order in which :class:`Colour` lists them.

    Parameters
    ----------
    image : (H, W, 3) RGB.
    colour : what changes. What leaves 0..255 is cut off, before gamma.

    Returns
    -------
    (H, W, 3) RGB; the image itself where nothing changes.
    """
    if colour == UNCHANGED:
        return image
    gains = np.exp(np.array(colour.balance, dtype=np.float32) + np.float32(colour.exposure))
    values = image * gains
    values += (math.exp(colour.contrast) - 1) * (values - values.mean(dtype=np.float64))
    values += (math.exp(colour.saturation) - 1) * (values - values.mean(axis=2, keepdims=True))
    whole = np.clip(np.rint(values), 0, 255).astype(np.uint8)
    curve = 255 * (np.arange(256) / 255) ** math.exp(colour.gamma)
    return np.asarray(cv2.LUT(whole, np.rint(curve).astype(np.uint8)), dtype=np.uint8)
