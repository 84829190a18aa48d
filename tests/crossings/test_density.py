"""Length of straight, oblique and round boundaries, and crossings per millimetre."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter
from skimage.measure import find_contours

from skinray.config.biopsies import CrossingSettings
from skinray.crossings import density_per_mm, find_crossings
from skinray.crossings.density import boundary_length_px
from tests.support.scenes import draw_scene

ROWS, COLUMNS = np.mgrid[:400, :900]


def measured(dermis):
    return find_crossings(np.zeros_like(dermis), dermis)


def length_of(field):
    return boundary_length_px(field.astype(np.float32), field > 0, 0)


def test_straight_boundaries_are_exact_to_the_pixel():
    assert measured(ROWS >= 150).boundary_px == pytest.approx(900)
    assert measured(COLUMNS >= 333).boundary_px == pytest.approx(400)
    assert measured((COLUMNS >= 300) & (COLUMNS < 700)).boundary_px == pytest.approx(800)


@pytest.mark.parametrize("degrees", [5, 14, 20, -11])
def test_oblique_boundaries_of_drawn_masks(degrees):
    slope = np.tan(np.radians(degrees))
    dermis = slope * (COLUMNS - 450) < ROWS - 200
    expected = 900 / np.cos(np.radians(degrees))
    assert measured(dermis).boundary_px == pytest.approx(expected, rel=0.005)


def contour_length(dermis):
    """Length of scikit-image's contour, with the half pixel from its open ends to the frame."""
    smoothed = gaussian_filter(dermis.astype(np.float64), 10)
    total = 0.0
    for line in find_contours(smoothed, 0.6):
        total += np.hypot(*np.diff(line, axis=0).T).sum()
        total += 0.5 * 2 * (not np.array_equal(line[0], line[-1]))
    return total


@pytest.mark.parametrize("degrees", [30, 45, 60, 70, 110, 135])
def test_steep_boundaries_of_drawn_masks(degrees):
    """From the upper to the lower frame, where smoothing bends the line by a few pixels."""
    radians = np.radians(degrees)
    dermis = (ROWS - 200) * np.cos(radians) > (COLUMNS - 450) * np.sin(radians)
    found = measured(dermis).boundary_px
    assert found == pytest.approx(contour_length(dermis), rel=1e-4)
    assert found == pytest.approx(400 / abs(np.sin(radians)), abs=20)


@pytest.mark.parametrize("seed", range(4))
def test_wavy_boundaries(seed):
    nerve, dermis = draw_scene(seed, (400, 900))
    settings = CrossingSettings(min_area_fraction=0)
    found = find_crossings(nerve, dermis, settings).boundary_px
    assert found == pytest.approx(contour_length(dermis), rel=1e-4)


@pytest.mark.parametrize("radius", [160, 180])
def test_round_boundaries_of_drawn_masks(radius):
    disk = np.hypot(ROWS[:, :400] - 199.7, COLUMNS[:, :400] - 198.9) < radius
    found = measured(disk)
    own_radius = np.sqrt(found.dermis.sum() / np.pi)
    assert found.boundary_px == pytest.approx(2 * np.pi * own_radius, rel=0.002)
    assert own_radius == pytest.approx(radius - 2.5, abs=0.5)


@pytest.mark.parametrize("degrees", range(0, 180, 15))
def test_a_plane_gives_the_line_in_any_direction(degrees):
    """The line passes between the pixel centres of a disk; its length is the diameter."""
    radians = np.radians(degrees)
    line = (ROWS - 199.5) * np.cos(radians) + (COLUMNS - 449.5) * np.sin(radians)
    reach = min(450 / max(abs(np.cos(radians)), 1e-9), 200 / max(abs(np.sin(radians)), 1e-9))
    # At the frame the last half pixel is taken at right angles to the frame.
    assert length_of(line + 0.01) == pytest.approx(2 * reach, abs=1.2)


def test_a_saddle_is_the_mean_of_both_ways_through_it():
    field = np.array([[1.0, -1.0], [-1.0, 1.0]])
    to_the_frame = 4 * 0.5
    assert length_of(field) == pytest.approx(2 * np.sqrt(0.5) + to_the_frame)


def test_flipped_areas_have_no_boundary():
    dermis = ROWS >= 150
    clean = measured(dermis).boundary_px
    dermis[250:300, 200:260] = False
    dermis[30:80, 500:560] = True
    assert measured(dermis).boundary_px == pytest.approx(clean)


def test_density():
    assert density_per_mm(6, 1.5) == 4
    assert density_per_mm(0, 1.5) == 0
    assert density_per_mm(6, None) is None
    assert density_per_mm(0, 0.0) is None
