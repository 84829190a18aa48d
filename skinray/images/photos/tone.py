"""How light a photograph and its skin are, in CIELAB (D65, from sRGB values)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

# Linear light of the 256 values of sRGB, and its weights in CIE Y and Z relative to white.
_VALUES = np.arange(256, dtype=np.float32) / 255
LINEAR = np.where(_VALUES <= 0.04045, _VALUES / 12.92, ((_VALUES + 0.055) / 1.055) ** 2.4).astype(
    np.float32
)
Y_OVER_WHITE = np.array([0.2126729, 0.7151522, 0.0721750], np.float32)
Z_OVER_WHITE = np.array([0.0193339, 0.1191920, 0.9503041], np.float32) / np.float32(1.08883)
# In larger photographs only every second, third, ... row and column is measured.
MOST_PIXELS = 1_000_000


@dataclass(frozen=True)
class Tone:
    """The tone of a photograph.

    Attributes
    ----------
    lightness : mean L* of all pixels, 0 (black) to 100 (white).
    ita_deg : individual typology angle of the skin, in degrees: ``arctan((L* - 50) / b*)`` of the
        skin's median L* and b* (Chardon et al., 1991; medians, so that highlights and shadows
        matter little). None if no pixel is skin, or if the skin is not yellowish (b* <= 0), where
        the angle is undefined: a grey photograph, or one with a strong blue cast.
    """

    lightness: float
    ita_deg: float | None


def measure_tone(image: NDArray[np.uint8], skin: NDArray[np.bool_]) -> Tone:
    """Measure a photograph, (H, W, 3) uint8 sRGB, and its skin, (H, W) bool."""
    step = max(1, math.ceil(math.sqrt(skin.size / MOST_PIXELS)))
    light, yellow = _light_and_yellow(image[::step, ::step])
    lightness = float(light.mean(dtype=np.float64))
    within = skin[::step, ::step]
    if not within.any():
        return Tone(lightness, None)
    of_skin, yellowness = float(np.median(light[within])), float(np.median(yellow[within]))
    # A grey pixel's b* is 0 up to rounding.
    ita = math.degrees(math.atan((of_skin - 50) / yellowness)) if yellowness > 0.1 else None
    return Tone(lightness, ita)


def _light_and_yellow(
    image: NDArray[np.uint8],
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return L* and b* of (H, W, 3) sRGB, each (H, W) (CIE 15)."""
    linear = LINEAR[image]
    y, z = (_cube_root(linear @ weights) for weights in (Y_OVER_WHITE, Z_OVER_WHITE))
    return np.asarray(116 * y - 16, np.float32), np.asarray(200 * (y - z), np.float32)


def _cube_root(share: NDArray[Any]) -> NDArray[Any]:
    near_black = share * (841 / 108) + 4 / 29
    return np.where(share > (6 / 29) ** 3, np.cbrt(share), near_black)
