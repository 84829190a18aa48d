"""Dice and tolerant Dice: drawn lines with exact answers, and a plain scipy version beside."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt

from skinray.errors import LabelError, SkinrayError
from skinray.learning.metrics import dice, tolerant_dice

Mask = NDArray[np.bool_]
SHAPES = st.tuples(st.integers(1, 14), st.integers(1, 14))
PAIRS = SHAPES.flatmap(
    lambda shape: st.tuples(*[arrays(bool, shape, elements=st.booleans()) for _ in "pt"])
)


def line(row: int) -> Mask:
    mask = np.zeros((9, 9), dtype=bool)
    mask[row] = True
    return mask


def by_distance_transform(pred: Mask, truth: Mask, k: float) -> float:
    """The paper's formula word for word."""
    if not pred.any() and not truth.any():
        return 1.0
    distance = distance_transform_edt(~truth) if truth.any() else np.full(truth.shape, np.inf)
    near = pred & (distance <= k)
    return float(near.sum() / ((pred.sum() + (truth | near).sum()) / 2))


def test_a_line_one_pixel_off() -> None:
    # Nothing overlaps; within k = 1 all nine pixels count, and the union has eighteen.
    assert dice(line(4), line(5)) == 0
    assert tolerant_dice(line(4), line(5), 1) == 9 / ((9 + 18) / 2)


def test_a_line_four_pixels_off_is_wrong_at_three() -> None:
    assert tolerant_dice(line(1), line(5), 3) == 0
    assert tolerant_dice(line(1), line(5), 4) > 0


def test_distance_is_euclidean() -> None:
    pred, truth = np.zeros((5, 5), dtype=bool), np.zeros((5, 5), dtype=bool)
    pred[1, 1] = truth[2, 2] = True
    assert tolerant_dice(pred, truth, 1) == 0
    assert tolerant_dice(pred, truth, 1.5) == 1 / ((1 + 2) / 2)


def test_dice_of_half_an_overlap() -> None:
    pred, truth = np.array([[1, 1, 0, 0]], bool), np.array([[0, 1, 1, 0]], bool)
    assert dice(pred, truth) == 0.5


@pytest.mark.parametrize("k", [0, 1, 3])
def test_empty_masks(k: int) -> None:
    empty = np.zeros((9, 9), dtype=bool)
    assert tolerant_dice(empty, empty, k) == 1
    assert tolerant_dice(empty, line(4), k) == 0
    assert tolerant_dice(line(4), empty, k) == 0


@given(PAIRS, st.sampled_from([0, 0.5, 1, 1.5, 2, 3, 4.3, 7]))
@settings(max_examples=150, deadline=None)
def test_equals_the_distance_transform(masks: tuple[Mask, Mask], k: float) -> None:
    assert tolerant_dice(*masks, k) == pytest.approx(by_distance_transform(*masks, k), abs=1e-12)


@given(PAIRS)
@settings(max_examples=60, deadline=None)
def test_identities(masks: tuple[Mask, Mask]) -> None:
    pred, truth = masks
    assert tolerant_dice(pred, truth, 0) == dice(pred, truth) == dice(truth, pred)
    assert dice(truth, truth) == tolerant_dice(truth, truth, 3) == 1
    scores = [tolerant_dice(pred, truth, k) for k in range(5)]
    assert scores == sorted(scores)
    assert 0 <= scores[0] <= scores[-1] <= 1
    assert tolerant_dice(pred[::-1, ::-1], truth[::-1, ::-1], 2) == scores[2]
    assert tolerant_dice(pred.T, truth.T, 2) == scores[2]


@pytest.mark.parametrize("kind", [np.uint8, np.int64, np.float32])
def test_masks_of_other_types_score_as_bool_ones(kind: Any) -> None:
    pred, truth = line(4) | line(5), line(5)
    assert dice(pred.astype(kind), truth.astype(kind)) == dice(pred, truth)
    assert dice(pred.astype(np.uint8) * 255, truth) == dice(pred, truth)


def test_the_masks_are_left_as_they_were() -> None:
    pred, truth = line(4), line(5)
    tolerant_dice(pred, truth, 3)
    assert np.array_equal(pred, line(4))
    assert np.array_equal(truth, line(5))


@pytest.mark.parametrize(
    ("pred", "truth", "k", "says"),
    [
        (np.ones((4, 5), bool), np.ones((5, 4), bool), 1, "5x4 does not match truth 4x5"),
        (np.full((3, 3), 0.7), np.ones((3, 3), bool), 0, "threshold"),
        (np.ones((3, 3, 3), bool), np.ones((3, 3, 3), bool), 0, "one mask"),
        (np.ones((3, 3), bool), np.ones((3, 3), bool), -1, "at least 0"),
        (np.ones((3, 3), bool), np.ones((3, 3), bool), float("nan"), "at least 0"),
        (np.full((3, 3), "x"), np.ones((3, 3), bool), 0, "bool mask"),
    ],
)
def test_arrays_that_are_not_masks_are_refused(pred: Any, truth: Any, k: float, says: str) -> None:
    with pytest.raises(LabelError, match=says) as caught:
        tolerant_dice(pred, truth, k)
    assert isinstance(caught.value, SkinrayError)
