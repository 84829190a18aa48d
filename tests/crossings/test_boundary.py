"""Smoothed dermis, enclosed areas and the boundary band on drawn masks."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter, label

from skinray.config.biopsies import CrossingSettings
from skinray.crossings import dermis_boundary
from skinray.crossings.boundary import dermis_area, edge_band, smooth
from skinray.crossings.maps import as_map
from skinray.crossings.regions import flip_enclosed
from tests.support.plain_crossings import plain_boundary
from tests.support.scenes import blurred, draw_scene


def drawn(text):
    return np.array([[mark == "#" for mark in row] for row in text.split()])


def area_of(dermis, settings):
    values = as_map(dermis, "dermis map")
    return dermis_area(values, smooth(values, settings.sigma_px), settings)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (".... .##. .... ....", ".... .... .... ...."),  # an island
        ("#### #..# #### ####", "#### #### #### ####"),  # a hole
        (".##. .... .... ....", ".##. .... .... ...."),  # touches the frame
        ("#### #..# ##.# ##.#", "#### #..# ##.# ##.#"),  # open to the frame
        (".... .#.. ..#. ....", ".... .... .... ...."),  # diagonal: two islands
        (".... .#.. #... ....", ".... .... #... ...."),  # diagonal to one on the frame
    ],
)
def test_enclosed_areas_are_flipped(before, after):
    np.testing.assert_array_equal(flip_enclosed(drawn(before), 100), drawn(after))


def test_an_island_in_a_hole_still_differs_from_it():
    mask = np.ones((9, 9), bool)
    mask[2:7, 2:7] = False
    mask[4, 4] = True
    expected = np.ones((9, 9), bool)
    expected[4, 4] = False
    np.testing.assert_array_equal(flip_enclosed(mask, 81), expected)
    # An island too small alone: the hole of 24 pixels stays.
    np.testing.assert_array_equal(flip_enclosed(mask, 24).sum(), 81 - 25)


def test_an_area_of_exactly_the_limit_stays():
    mask = drawn("..... .##.. .##.. .....")
    np.testing.assert_array_equal(flip_enclosed(mask, 4), mask)
    assert not flip_enclosed(mask, 4.01).any()


def flipped_plainly(mask, limit):
    result = mask.copy()
    for value in (True, False):
        areas, count = label(mask == value)
        frame = set(np.concatenate([areas[0], areas[-1], areas[:, 0], areas[:, -1]]))
        for area in set(range(1, count + 1)) - frame:
            if (areas == area).sum() < limit:
                result[areas == area] = not value
    return result


@settings(max_examples=150, deadline=None)
@given(
    st.integers(1, 14), st.integers(1, 14), st.integers(0, 2**32 - 1), st.sampled_from([2, 5, 999])
)
def test_enclosed_areas_of_noise(height, width, seed, limit):
    rng = np.random.default_rng(seed)
    mask = rng.random((height, width)) < rng.uniform(0.3, 0.7)
    np.testing.assert_array_equal(flip_enclosed(mask, limit), flipped_plainly(mask, limit))


@pytest.mark.parametrize(
    ("width", "rows"), [(1, [6]), (1.9, [6]), (2, [5, 6, 7]), (3, [5, 6, 7]), (5, [4, 5, 6, 7, 8])]
)
def test_band_of_a_straight_edge(width, rows):
    area = np.zeros((12, 9), bool)
    area[6:] = True
    expected = np.zeros_like(area)
    expected[rows] = True
    np.testing.assert_array_equal(edge_band(area, width), expected)
    np.testing.assert_array_equal(edge_band(area.T.copy(), width), expected.T)


def test_band_is_euclidean():
    corner = drawn("....... ....... ....... ...#### ...#### ...#### ...####")
    plain = plain_boundary(corner)
    np.testing.assert_array_equal(edge_band(corner, 3), plain)
    assert plain[2, 2], "the diagonal neighbour lies within 1.5 px"
    assert not edge_band(corner, 2)[2, 2], "but not within 1 px"


def test_the_frame_is_never_boundary():
    full = np.ones((60, 80), bool)
    assert not dermis_boundary(full).any()
    full[:30] = False
    boundary = dermis_boundary(full)
    assert boundary.any(axis=0).all()
    assert not boundary[[0, -1]].any()


def test_holes_in_the_dermis_leave_no_boundary():
    dermis = np.zeros((200, 300), bool)
    dermis[100:] = True
    clean = dermis_boundary(dermis)
    dermis[140:170, 100:130] = False
    assert (smooth(as_map(dermis, ""), 10)[155, 115]) < 0.6, "large enough to leave a hole"
    np.testing.assert_array_equal(dermis_boundary(dermis), clean)


@pytest.mark.parametrize("sign", [-1, 1])
def test_a_pixel_on_the_threshold_is_decided_in_double_precision(sign):
    """Single precision could not tell the sides apart, nor agree with itself when turned."""
    dermis = blurred(draw_scene(1, (90, 120))[1], 2)
    exact = gaussian_filter(dermis.astype(np.float64), 10)
    middle = np.argsort(abs(exact - 0.5), axis=None)[:40]
    for value in exact.ravel()[middle]:
        settings = CrossingSettings(
            dermis_threshold=float(value) + sign * 1e-12, min_area_fraction=0
        )
        expected = exact > settings.dermis_threshold
        np.testing.assert_array_equal(area_of(dermis, settings), expected)


def test_a_flat_map_just_off_the_threshold():
    """Every pixel is in doubt at once."""
    flat = np.full((100, 100), 0.6, np.float32)
    above = CrossingSettings(dermis_threshold=float(np.float32(0.6)) - 1e-9)
    below = CrossingSettings(dermis_threshold=float(np.float32(0.6)) + 1e-9)
    assert area_of(flat, above).all()
    assert not area_of(flat, below).any()


@pytest.mark.parametrize("sigma", [0.4, 2.5, 10.0])
@pytest.mark.parametrize("shape", [(30, 44), (7, 100)])
def test_smoothing_is_scipys(sigma, shape):
    values = np.random.default_rng(0).random(shape).astype(np.float32)
    expected = gaussian_filter(values.astype(np.float64), sigma)
    np.testing.assert_allclose(smooth(values, sigma), expected, atol=2e-6)
