"""Crossings on drawn masks whose answer is known."""

import numpy as np
import pytest

from skinray.config.biopsies import CrossingSettings
from skinray.crossings import find_crossings
from skinray.errors import SkinrayError
from tests.support.scenes import blurred, draw_scene

# Smoothing with sigma 10 and threshold .6 moves a straight edge .6 = Phi(d / 10), d = 2.53 px,
# into the dermis: of a dermis from row 100 on, the first row that is left is 103.
FIRST_ROW = 103


def straight_skin(shape=(200, 300)):
    nerve, dermis = np.zeros(shape, bool), np.zeros(shape, bool)
    dermis[100:] = True
    return nerve, dermis


def test_a_line_across_the_boundary_crosses_once():
    nerve, dermis = straight_skin()
    nerve[80:126, 60:63] = True
    found = find_crossings(nerve, dermis)
    assert found.count == 1
    np.testing.assert_array_equal(found.points, [[FIRST_ROW, 61]])
    assert found.dermis[:, 0].argmax() == FIRST_ROW
    assert found.boundary_px == 300
    assert found.boundary_mm is None
    assert found.density_per_mm is None


def test_points_are_sorted_by_row_then_column():
    nerve, dermis = np.zeros((300, 300), bool), np.zeros((300, 300), bool)
    dermis[100:200] = True
    for column in (200, 60, 130):
        nerve[70:230, column : column + 3] = True
    top, bottom = FIRST_ROW, 199 - (FIRST_ROW - 100)
    expected = [[row, column] for row in (top, bottom) for column in (61, 131, 201)]
    np.testing.assert_array_equal(find_crossings(nerve, dermis).points, expected)


@pytest.mark.parametrize(
    ("rows", "crosses"),
    [
        (slice(60, FIRST_ROW + 1), False),  # one row of three below: 3 pixels
        (slice(60, FIRST_ROW + 2), True),  # two rows below: 6 pixels
        (slice(FIRST_ROW - 1, 150), False),  # one row above: 3 pixels
        (slice(FIRST_ROW - 2, 150), True),  # two rows above: 6 pixels
        (slice(60, 90), False),
        (slice(120, 150), False),
    ],
)
def test_fewer_than_five_pixels_on_a_side_do_not_cross(rows, crosses):
    nerve, dermis = straight_skin()
    nerve[rows, 60:63] = True
    assert find_crossings(nerve, dermis).count == crosses


def test_a_fibre_along_the_boundary_borders_it():
    nerve, dermis = straight_skin()
    nerve[FIRST_ROW : FIRST_ROW + 3, 40:200] = True
    assert find_crossings(nerve, dermis).count == 0


def test_a_fibre_that_turns_back_crosses_twice():
    nerve, dermis = straight_skin()
    nerve[80:130, 60:63] = nerve[80:130, 90:93] = nerve[80:83, 60:93] = True
    np.testing.assert_array_equal(
        find_crossings(nerve, dermis).points, [[FIRST_ROW, 61], [FIRST_ROW, 91]]
    )


@pytest.mark.parametrize(("gap", "count"), [(2, 1), (3, 2)])
def test_lines_nearer_than_eps_are_one_crossing(gap, count):
    nerve, dermis = straight_skin()
    nerve[80:130, 60:63] = nerve[80:130, 63 + gap : 66 + gap] = True
    assert find_crossings(nerve, dermis).count == count


def test_masks_of_any_type_give_the_same_result():
    nerve, dermis = draw_scene(3)
    expected = find_crossings(nerve, dermis)
    assert expected.count > 3
    for kind in (np.uint8, np.int64, np.float32, np.float64):
        found = find_crossings(nerve.astype(kind), dermis.astype(kind))
        np.testing.assert_array_equal(found.points, expected.points)
    found = find_crossings(nerve.astype(np.uint8) * 255, dermis.astype(np.uint8) * 255)
    np.testing.assert_array_equal(found.points, expected.points)


def test_inputs_are_left_as_they_were():
    nerve, dermis = (blurred(mask, 1) for mask in draw_scene(5))
    copies = nerve.copy(), dermis.copy()
    nerve.flags.writeable = dermis.flags.writeable = False
    found = find_crossings(nerve, dermis)
    np.testing.assert_array_equal((nerve, dermis), copies)
    again = find_crossings(np.asfortranarray(nerve), dermis[:, ::-1][:, ::-1])
    np.testing.assert_array_equal(again.points, found.points)


def test_empty_maps_have_no_crossings():
    nothing = np.zeros((50, 70), bool)
    for nerve, dermis in ((nothing, nothing), (~nothing, nothing), (~nothing, ~nothing)):
        found = find_crossings(nerve, dermis, um_per_px=0.5)
        assert found.points.shape == (0, 2)
        assert (found.count, found.boundary.any(), found.boundary_px) == (0, False, 0)
        assert found.density_per_mm is None


@pytest.mark.parametrize("shape", [(1, 1), (1, 90), (90, 1), (2, 3)])
def test_images_smaller_than_the_filter_are_accepted(shape):
    found = find_crossings(np.ones(shape), np.ones(shape))
    assert found.count == 0
    assert found.boundary.shape == shape


def test_scale_gives_millimetres_and_scales_the_lengths():
    nerve, dermis = straight_skin()
    nerve[80:126, 60:63] = True
    found = find_crossings(nerve, dermis, um_per_px=0.5)
    assert found.boundary_mm == pytest.approx(0.15)
    assert found.density_per_mm == pytest.approx(1 / 0.15)
    twice = np.ones((2, 2), bool)
    fine = find_crossings(np.kron(nerve, twice), np.kron(dermis, twice), um_per_px=0.25)
    assert fine.count == 1
    np.testing.assert_allclose(fine.points, found.points * 2 + 0.5, atol=2)
    assert fine.boundary_mm == pytest.approx(0.15)


@pytest.mark.parametrize("scale", [0.0, -1.0, float("nan"), float("inf")])
def test_an_invalid_scale_is_refused(scale):
    nerve, dermis = straight_skin()
    with pytest.raises(SkinrayError, match="micrometres per pixel above 0"):
        find_crossings(nerve, dermis, um_per_px=scale)


GOOD = np.zeros((20, 30))


@pytest.mark.parametrize(
    ("nerve", "dermis", "message"),
    [
        (GOOD, np.zeros((30, 20)), "nerve map 30x20 does not match dermis map 20x30"),
        (np.zeros((20, 30, 3)), GOOD, r"nerve map has shape \(20, 30, 3\): pass one"),
        (GOOD, np.zeros((0, 30)), "dermis map has no pixel"),
        (np.where(np.eye(20, 30), np.nan, 0), GOOD, "nerve map holds NaN"),
        (GOOD, GOOD - 3.5, "dermis map ranges from -3.5 to -3.5: probabilities lie in"),
        (GOOD + 255, GOOD, "divide by 255"),
        (GOOD.astype(str), GOOD, "nerve map holds <U"),
        (GOOD, GOOD.astype(complex), "dermis map holds complex128"),
    ],
)
def test_invalid_maps_are_refused_with_a_remedy(nerve, dermis, message):
    with pytest.raises(SkinrayError, match=message):
        find_crossings(nerve, dermis)


def test_nerve_threshold_is_adjustable():
    nerve, dermis = straight_skin()
    probability = np.where(nerve, 0, 0).astype(np.float32)
    probability[80:126, 60:63] = 0.45
    assert find_crossings(probability, dermis).count == 0
    assert find_crossings(probability, dermis, CrossingSettings(nerve_threshold=0.4)).count == 1


def test_window_is_adjustable():
    """A fibre of 3 px with 2 rows above and below: the 17 px window sees 6 pixels a side."""
    nerve, dermis = straight_skin()
    nerve[FIRST_ROW - 2 : FIRST_ROW + 2, 60:63] = True
    assert find_crossings(nerve, dermis).count == 1
    assert find_crossings(nerve, dermis, CrossingSettings(window_px=3)).count == 0
