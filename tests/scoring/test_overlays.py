from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from skinray.scoring.overlays import (
    BOUNDARY,
    CROSSING,
    INSIDE,
    NERVE,
    OPACITY,
    encode_jpeg,
    outline,
    overlay,
)

NONE = np.zeros((40, 60), bool)
NO_POINTS = np.empty((0, 2))


def grey() -> np.ndarray:
    return np.full((40, 60, 3), 100, np.uint8)


def test_nothing_to_draw_leaves_the_image() -> None:
    image = grey()
    drawn = overlay(image, NONE, NONE, NO_POINTS)
    assert (drawn == image).all()
    assert drawn is not image


def test_a_nerve_has_a_blue_outline_above_the_green_boundary() -> None:
    image, nerve, boundary = grey(), NONE.copy(), NONE.copy()
    boundary[20] = True
    nerve[:, 30] = True
    drawn = overlay(image, nerve, boundary, NO_POINTS)
    green = np.rint((1 - OPACITY) * 100 + OPACITY * np.array(BOUNDARY))
    assert (drawn[20, 3] == green).all()
    assert drawn[20, 3].argmax() == 1
    blue = np.rint((1 - OPACITY) * 100 + OPACITY * np.array(NERVE))
    assert (drawn[3, [29, 31]] == blue).all()
    assert (drawn[20, 29] == np.rint((1 - OPACITY) * green + OPACITY * np.array(NERVE))).all()
    changed = (drawn != image).any(axis=2)
    assert (changed == (nerve | boundary | outline(nerve))).all()
    assert (image == 100).all()


def test_the_tissue_stays_visible_in_a_nerve() -> None:
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (40, 60, 3), np.uint8)
    nerve = NONE.copy()
    nerve[10:30, 20:40] = True
    drawn = overlay(image, nerve, NONE, NO_POINTS)
    shown = (1 - INSIDE) * image[nerve] + INSIDE * np.array(NERVE)
    assert np.abs(drawn[nerve] - shown).max() <= 0.5
    assert INSIDE < 0.2


def test_an_outline_lies_outside_and_is_wider_in_wide_images() -> None:
    for width, thick in ((60, 1), (1000, 1), (3000, 3)):
        nerve = np.zeros((30, width), bool)
        nerve[:, 20] = True
        line = outline(nerve)
        assert not (line & nerve).any()
        assert line[15].sum() == 2 * thick
    assert not outline(NONE).any()


def test_a_crossing_is_a_red_ring_with_a_white_rim_round_its_place() -> None:
    drawn = overlay(grey(), NONE, NONE, np.array([[20.0, 30.0]]))
    changed = (drawn != 100).any(axis=2)
    rows, columns = np.nonzero(changed)
    assert (rows.mean(), columns.mean()) == pytest.approx((20, 30), abs=0.1)
    assert not changed[18:23, 28:33].any()  # the crossing itself stays visible
    assert drawn[20, 25].tolist() == pytest.approx(CROSSING, abs=40)  # its edges are smoothed
    assert drawn[20, 24].min() > 150  # grey was 100


def test_a_crossing_at_the_frame_is_drawn_in_part() -> None:
    drawn = overlay(grey(), NONE, NONE, np.array([[0.0, 59.0]]))
    assert (drawn != 100).any()


@pytest.mark.parametrize(
    ("nerve", "points"),
    [(np.zeros((60, 40), bool), NO_POINTS), (NONE, np.zeros((2, 3))), (NONE, np.zeros(2))],
)
def test_masks_and_points_must_fit_the_image(nerve: np.ndarray, points: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"masks|points"):
        overlay(grey(), nerve, NONE, points)


def test_jpeg_is_scaled_down_and_keeps_thin_colours() -> None:
    image = np.full((30, 2000, 3), 255, np.uint8)
    image[:, 1000:1004] = (230, 0, 30)
    shown = np.asarray(Image.open(io.BytesIO(encode_jpeg(image, max_width=1000))))
    assert shown.shape == (15, 1000, 3)
    assert shown[7, 500:502].astype(int).mean(axis=0) == pytest.approx((230, 0, 30), abs=12)
    small = np.asarray(Image.open(io.BytesIO(encode_jpeg(image[:, :50]))))
    assert small.shape == (30, 50, 3)
