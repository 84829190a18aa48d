"""Dice and the paper's tolerant Dice (paper 3.1) of two masks, and what they say of learning."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from skinray.errors import LabelError, size_of

# A network has learned if it closes at least this share of the gap between the best mask that
# ignores the image and a perfect one. Of the networks measured, those that counted well closed
# more than half of it, and those that marked nothing, everything or noise none.
LEAST_GAIN = 0.15


def dice(pred: ArrayLike, truth: ArrayLike) -> float:
    """Return ``|P & T| / ((|P| + |T|) / 2)`` of two masks; empty against empty is 1.

    Parameters
    ----------
    pred, truth : (H, W) bool masks of the same image, or integer masks, where not 0 is true.

    Raises
    ------
    LabelError
        If the shapes differ, or an array is not a mask.
    """
    return tolerant_dice(pred, truth, 0)


def tolerant_dice(pred: ArrayLike, truth: ArrayLike, k: float) -> float:
    """Return the Dice that accepts predictions up to ``k`` pixels from the truth.

    ``|TPk| / ((|P| + |T u TPk|) / 2)`` where TPk is the part of the prediction at most ``k``
    pixels (Euclidean; the paper names no norm) from the truth. ``k`` = 0 is :func:`dice`;
    empty against empty is 1.

    Parameters
    ----------
    pred, truth : (H, W) bool masks of the same image, or integer masks, where not 0 is true.
    k : tolerance in pixels, at least 0.

    Raises
    ------
    LabelError
        If the shapes differ, an array is not a mask, or ``k`` is negative.
    """
    if not k >= 0:
        raise LabelError(f"tolerance k is {k}: give a number of pixels, at least 0")
    p, t = _pair(pred, truth)
    if p.size == 0:
        return 1.0
    both = cv2.countNonZero(cv2.bitwise_and(p, t))
    near = both
    if k >= 1:  # pixels closer than 1 are the pixel itself
        # Dilating the truth by a disk marks all pixels within k of it: exact, and in one pass.
        near = cv2.countNonZero(cv2.bitwise_and(p, cv2.dilate(t, _disk(int(k * k)))))
    predicted, true = cv2.countNonZero(p), cv2.countNonZero(t)
    if predicted + true == 0:
        return 1.0
    # |T u TPk| = |T| + |TPk| - |T & TPk|, and T & TPk = T & P.
    return 2 * near / (predicted + true + near - both)


def has_learned(score: float, chance: float) -> bool:
    """Whether a score is clearly better than that of a mask that ignores the image."""
    return score > chance + LEAST_GAIN * (1 - chance)


@lru_cache(maxsize=16)
def _disk(radius_squared: int) -> NDArray[np.uint8]:
    """Return the square array with 1 where the squared distance to its centre is no larger."""
    radius = int(np.sqrt(radius_squared))
    offsets = np.arange(-radius, radius + 1) ** 2
    return (offsets[:, None] + offsets <= radius_squared).astype(np.uint8)


def _pair(pred: ArrayLike, truth: ArrayLike) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    p, t = _mask(pred, "prediction"), _mask(truth, "truth")
    if p.shape != t.shape:
        raise LabelError(
            f"prediction {size_of(p.shape)} does not match truth {size_of(t.shape)}: "
            "compare masks of the same image at the same magnification"
        )
    return p, t


def _mask(values: ArrayLike, what: str) -> NDArray[np.uint8]:
    """Return a contiguous (H, W) uint8 array, not 0 on the mask."""
    array: NDArray[Any] = np.asarray(values)
    if array.ndim != 2:
        raise LabelError(f"{what} has {array.ndim} dimensions: give one mask of height x width")
    if array.dtype.kind == "f" and not np.isin(array, (0, 1)).all():
        raise LabelError(f"{what} holds fractions, not a mask: apply a threshold first")
    if array.dtype.kind not in "buif":
        raise LabelError(f"{what} has type {array.dtype}: give a bool mask")
    return np.ascontiguousarray(array.astype(bool, copy=False)).view(np.uint8)
