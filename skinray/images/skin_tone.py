"""How light a photograph is, and how light the skin in it, in CIELAB (D65, of sRGB values)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

# Of larger photographs every second, third, ... row and column is looked at.
MOST_PIXELS = 1_000_000


@dataclass(frozen=True)
class Tone:
    """What a photograph's colours tell.

    Attributes
    ----------
    lightness : mean L* of all pixels, 0 (black) to 100 (white).
    ita_deg : individual typology angle of the skin, in degrees: ``arctan((L* - 50) / b*)`` of the
        skin's median L* and b* (Chardon et al., 1991; medians, so that a highlight or a shadow
        weighs little). None where no pixel is skin, or the skin is not yellowish (b* <= 0), for
        which the angle is not defined: a grey photograph, a strong blue cast.
    """

    lightness: float
    ita_deg: float | None


def measure_tone(image: NDArray[np.uint8], skin: NDArray[np.bool_]) -> Tone:
    """Measure a photograph and its skin.

    Parameters
    ----------
    image : (H, W, 3) uint8, sRGB.
    skin : (H, W) bool, on the pixels of ``image``.
    """
    step = max(1, math.ceil(math.sqrt(skin.size / MOST_PIXELS)))
    pixels = np.ascontiguousarray(image[::step, ::step], dtype=np.float32) / 255
    lab = np.asarray(cv2.cvtColor(pixels, cv2.COLOR_RGB2Lab))
    lightness = float(lab[..., 0].mean(dtype=np.float64))
    of_skin = lab[skin[::step, ::step]]
    if not len(of_skin):
        return Tone(lightness, None)
    light, _, yellow = (float(value) for value in np.median(of_skin, axis=0))
    # A grey pixel's b* is 0 but for rounding.
    ita = math.degrees(math.atan((light - 50) / yellow)) if yellow > 0.1 else None
    return Tone(lightness, ita)
