"""Lightness and typology angle against values worked out by hand and by another library."""

from __future__ import annotations

import math

import numpy as np
import pytest
from skimage.color import rgb2lab

from skinray.images.photos.tone import MOST_PIXELS, measure_tone

# Published sRGB examples, light to dark; their class by Chardon et al.
COLOURS = [((246, 237, 228), 55, 90), ((215, 171, 140), 41, 55), ((130, 92, 67), -30, 10)]


def plain(colour: tuple[int, int, int], size: tuple[int, int] = (6, 8)) -> np.ndarray:
    return np.full((*size, 3), colour, np.uint8)


@pytest.mark.parametrize(("colour", "low", "high"), COLOURS)
def test_the_angle_is_that_of_the_formula(
    colour: tuple[int, int, int], low: float, high: float
) -> None:
    image = plain(colour)
    tone = measure_tone(image, np.ones(image.shape[:2], np.bool_))
    light, _, yellow = rgb2lab(image, illuminant="D65")[0, 0]
    assert tone.lightness == pytest.approx(light, abs=0.001)
    assert tone.ita_deg == pytest.approx(math.degrees(math.atan((light - 50) / yellow)), abs=0.02)
    assert low < tone.ita_deg < high


def test_the_angle_is_of_the_skin_and_the_lightness_of_everything() -> None:
    image = plain((215, 171, 140), (10, 10))
    image[:, 5:] = 0
    skin = np.zeros((10, 10), np.bool_)
    skin[:, :5] = True
    alone = measure_tone(image[:, :5], skin[:, :5])
    both = measure_tone(image, skin)
    assert both.ita_deg == pytest.approx(alone.ita_deg)
    assert both.lightness == pytest.approx(alone.lightness / 2)
    image[0, :5] = 255  # a highlight on a tenth of the skin moves no median
    assert measure_tone(image, skin).ita_deg == pytest.approx(alone.ita_deg)


@pytest.mark.parametrize("colour", [(120, 120, 120), (90, 110, 200)])
def test_grey_and_bluish_skin_has_no_angle(colour: tuple[int, int, int]) -> None:
    image = plain(colour)
    assert measure_tone(image, np.ones(image.shape[:2], np.bool_)).ita_deg is None
    warm = plain((215, 171, 140))
    assert measure_tone(warm, np.zeros(warm.shape[:2], np.bool_)).ita_deg is None


def test_a_large_photograph_is_measured_like_a_small_one() -> None:
    small = plain((215, 171, 140))
    side = math.isqrt(MOST_PIXELS) + 200
    large = plain((215, 171, 140), (side, side))
    for one in (small[:1, :1], small, large):
        tone = measure_tone(one, np.ones(one.shape[:2], np.bool_))
        assert tone == measure_tone(small, np.ones(small.shape[:2], np.bool_))
