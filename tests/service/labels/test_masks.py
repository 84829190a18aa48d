"""Corrected counts as masks: the crossings of a label are exactly the corrected ones."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from skinray.config.biopsies import CrossingSettings, PhantomSettings
from skinray.crossings import find_crossings
from skinray.errors import LabelError
from skinray.images.phantoms.phantom import make_phantom
from skinray.service.labels.masks import LabelMasks, make_label, unmatched

SETTINGS = CrossingSettings()
SHAPE = (160, 240)
EDGE = 80  # first row of the drawn dermis


def drawn(*columns: int) -> tuple[np.ndarray, np.ndarray]:
    """Maps with a straight boundary and vertical nerves across it."""
    nerve, dermis = np.full(SHAPE, 0.02, np.float32), np.full(SHAPE, 0.02, np.float32)
    dermis[EDGE:] = 0.98
    for column in columns:
        nerve[EDGE - 30 : EDGE + 30, column - 1 : column + 2] = 0.9
    return nerve, dermis


def at(*columns: float) -> np.ndarray:
    return np.array([[EDGE + 2, column] for column in columns], np.float64).reshape(-1, 2)


def assert_holds(label: LabelMasks, corrected: np.ndarray, scale: float | None = None) -> None:
    found = find_crossings(label.nerves, label.dermis, SETTINGS, scale).points
    window = SETTINGS.at_scale(scale).window_px
    missing, surplus = unmatched(corrected, found, window / 2)
    assert len(found) == len(corrected)
    assert (missing.size, surplus.size) == (0, 0)
    np.testing.assert_array_equal(found, label.points)


def test_without_corrections_the_masks_are_the_thresholded_maps() -> None:
    nerve, dermis = drawn(60, 180)
    label = make_label(nerve, dermis, find_crossings(nerve, dermis).points, SETTINGS)
    np.testing.assert_array_equal(label.nerves, nerve > 0.5)
    np.testing.assert_array_equal(label.dermis, dermis > 0.5)


def test_the_chosen_threshold_applies_to_the_nerves() -> None:
    nerve, dermis = drawn(60, 180)
    nerve[:, 170:190] *= 0.4
    low = SETTINGS.override({"nerve_threshold": 0.3})
    assert len(make_label(nerve, dermis, at(60, 180), low).points) == 2
    faint = make_label(nerve, dermis, at(60), SETTINGS)
    assert not faint.nerves[:, 170:190].any()


def test_a_removed_crossing_loses_its_nerve_only_at_the_boundary() -> None:
    nerve, dermis = drawn(60, 180)
    label = make_label(nerve, dermis, at(180), SETTINGS)
    assert_holds(label, at(180))
    before = nerve > 0.5
    np.testing.assert_array_equal(label.nerves[:, 120:], before[:, 120:])
    assert not label.nerves[EDGE - 5 : EDGE + 8, :120].any()
    assert label.nerves[EDGE - 30 : EDGE - 12, 60].all()  # away from the boundary it is kept
    assert not (label.nerves & ~before).any()


def test_an_added_crossing_is_a_stroke_of_three_pixels_across_the_boundary() -> None:
    nerve, dermis = drawn(60)
    label = make_label(nerve, dermis, at(60, 150), SETTINGS)
    assert_holds(label, at(60, 150))
    stroke = label.nerves & ~(nerve > 0.5)
    rows, columns = np.nonzero(stroke)
    assert set(columns) == {149, 150, 151}
    assert rows.min() < EDGE - 5
    assert rows.max() > EDGE + 8
    assert rows.max() - rows.min() < 25


def test_every_crossing_removed_and_others_added() -> None:
    nerve, dermis = drawn(40, 100, 160)
    corrected = at(70, 130, 200, 220)
    assert_holds(make_label(nerve, dermis, corrected, SETTINGS), corrected)
    assert_holds(make_label(nerve, dermis, at(), SETTINGS), at())


def test_a_click_next_to_the_boundary_counts_on_it() -> None:
    nerve, dermis = drawn(60)
    corrected = np.array([[EDGE - 4.0, 150.0], [EDGE + 2.0, 60.0]])
    assert_holds(make_label(nerve, dermis, corrected, SETTINGS), corrected)


def test_a_nerve_along_the_boundary_can_be_corrected_to_two_crossings() -> None:
    nerve, dermis = drawn()
    nerve[EDGE - 3 : EDGE + 7, 80:140] = 0.9
    corrected = at(90, 130)
    assert_holds(make_label(nerve, dermis, corrected, SETTINGS), corrected)


def test_a_slanted_boundary_gets_a_stroke_along_its_normal() -> None:
    row, column = np.mgrid[: SHAPE[0], : SHAPE[1]]
    dermis = (row > 20 + 0.6 * column).astype(np.float32)
    nerve = np.zeros(SHAPE, np.float32)
    place = np.argwhere(find_crossings(nerve, dermis).boundary)[200:201].astype(np.float64)
    label = make_label(nerve, dermis, place, SETTINGS)
    assert_holds(label, place)
    y, x = np.nonzero(label.nerves)
    along = np.linalg.svd(np.stack([x, y]).T - [x.mean(), y.mean()])[2][0]
    across = np.array([0.6, -1.0]) / np.hypot(0.6, 1.0)
    assert abs(along @ across) > 0.98


@pytest.mark.parametrize("scale", [0.1, 0.25, 1.0, 2.0])
def test_labels_hold_at_other_scales(scale: float) -> None:
    factor = round(0.5 / scale) if scale < 0.5 else 1
    nerve, dermis = (np.kron(values, np.ones((factor, factor), np.float32)) for values in drawn(60))
    corrected = at(150) * factor
    assert_holds(make_label(nerve, dermis, corrected, SETTINGS, scale), corrected, scale)


def test_a_crossing_off_the_boundary_is_refused_with_its_position() -> None:
    nerve, dermis = drawn(60)
    with pytest.raises(LabelError, match=r"not on the boundary.*row 20, column 150"):
        make_label(nerve, dermis, np.array([[20.0, 150.0], [EDGE, 60.0]]), SETTINGS)


def test_two_crossings_in_one_place_are_refused_with_their_position() -> None:
    nerve, dermis = drawn()
    with pytest.raises(LabelError, match=r"cannot show .* row 8\d, column 15\d.*too close"):
        make_label(nerve, dermis, at(150, 152), SETTINGS)


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_an_image_without_boundary_is_refused(share: float) -> None:
    nerve, _ = drawn(60)
    with pytest.raises(LabelError, match="no boundary"):
        make_label(nerve, np.full(SHAPE, share, np.float32), at(), SETTINGS)


def test_partners_are_one_to_one() -> None:
    wanted = np.array([[0.0, 0.0], [0.0, 6.0]])
    found = np.array([[0.0, 3.0], [50.0, 50.0]])
    missing, surplus = unmatched(wanted, found, 8.5)
    assert len(missing) == 1
    assert surplus.tolist() == [1]
    assert unmatched(wanted, np.array([[0.0, 4.0], [0.0, -4.0]]), 8.5)[0].size == 0


@pytest.mark.parametrize("index", [0, 1, 2])
def test_randomly_corrected_phantoms_give_exact_labels(index: int) -> None:
    """Blurred truth stands in for a model; some crossings are removed, added or doubled."""
    phantom = make_phantom(PhantomSettings(), 5, index, size=(800, 600))
    nerve = cv2.GaussianBlur(phantom.nerve_label.astype(np.float32), (0, 0), 0.8)
    dermis = cv2.GaussianBlur(phantom.dermis_label.astype(np.float32), (0, 0), 4)
    found = find_crossings(nerve, dermis)
    rng = np.random.default_rng(index)
    kept = found.points[rng.random(found.count) < 0.6]
    line = np.argwhere(found.boundary).astype(np.float64)
    inside = ((line > 12) & (line < np.array(nerve.shape) - 12)).all(axis=1)
    corrected = kept
    for place in rng.permutation(line[inside]):
        if len(corrected) == len(kept) + 4:
            break
        if len(corrected) == 0 or np.hypot(*(corrected - place).T).min() > 25:
            corrected = np.concatenate([corrected, place[None]])
    assert 0 < len(kept) < found.count
    assert len(corrected) == len(kept) + 4
    assert_holds(make_label(nerve, dermis, corrected, SETTINGS), corrected)
