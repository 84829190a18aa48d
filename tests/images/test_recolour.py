"""Changes of colour against values worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from skinray.images.augment import UNCHANGED, Colour, recolour

TWICE = math.log(2)
# Two pixels; the mean of all six values is 60.
IMAGE = np.array([[[20, 40, 60], [80, 60, 100]]], dtype=np.uint8)


@pytest.mark.parametrize(
    ("colour", "expected"),
    [
        (Colour(exposure=TWICE), [[40, 80, 120], [160, 120, 200]]),
        (Colour(exposure=2 * TWICE), [[80, 160, 240], [255, 240, 255]]),
        (Colour(balance=(TWICE, 0, -TWICE)), [[40, 40, 30], [160, 60, 50]]),
        (Colour(contrast=TWICE), [[0, 20, 60], [100, 60, 140]]),
        (Colour(contrast=-TWICE), [[40, 50, 60], [70, 60, 80]]),
        (Colour(saturation=TWICE), [[0, 40, 80], [80, 40, 120]]),
        (Colour(saturation=-TWICE), [[30, 40, 50], [80, 70, 90]]),
        (Colour(gamma=TWICE), [[2, 6, 14], [25, 14, 39]]),
    ],
)
def test_each_change_alone(colour: Colour, expected: list[list[int]]) -> None:
    np.testing.assert_array_equal(recolour(IMAGE, colour)[0], expected)


def test_changes_are_applied_in_order() -> None:
    """Exposure first, so that what it brings to more than 255 is there for the contrast."""
    found = recolour(IMAGE, Colour(exposure=2 * TWICE, contrast=-2 * TWICE))
    np.testing.assert_array_equal(found[0], [[200, 220, 240], [255, 240, 255]])
    # After the contrast red is -20, cut off only at the end: the grey of (-20, 20, 60) is 20.
    found = recolour(IMAGE, Colour(contrast=TWICE, saturation=-TWICE))
    np.testing.assert_array_equal(found[0], [[0, 20, 40], [100, 80, 120]])


def test_nothing_changes_nothing() -> None:
    assert recolour(IMAGE, UNCHANGED) is IMAGE


@given(
    st.builds(
        Colour,
        exposure=st.floats(-2, 2),
        balance=st.tuples(*[st.floats(-2, 2)] * 3),
        contrast=st.floats(-2, 2),
        saturation=st.floats(-2, 2),
        gamma=st.floats(-2, 2),
    )
)
def test_any_change_gives_an_image_and_leaves_its_input(colour: Colour) -> None:
    image = np.random.default_rng(0).integers(0, 256, (5, 4, 3), dtype=np.uint8)
    before = image.copy()
    found = recolour(image, colour)
    assert (found.dtype, found.shape) == (image.dtype, image.shape)
    np.testing.assert_array_equal(image, before)
