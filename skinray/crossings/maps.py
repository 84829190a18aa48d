"""What the crossing stage accepts as a map of nerves or dermis, checked once on entry."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from skinray.errors import SkinrayError

# Resampling may push a probability out of [0, 1] by a rounding error, never by more.
RANGE_SLACK = 1e-3


def as_map(values: ArrayLike, name: str) -> NDArray[Any]:
    """Convert a mask or a probability map to the form that the stage computes with.

    Parameters
    ----------
    values : (H, W) bool or integer mask (above 0 is true), or float probabilities in [0, 1].
    name : what error messages call the map.

    Returns (H, W) uint8 of 0 and 1 for a mask, (H, W) float32 for probabilities.
    Raises SkinrayError if the map is not two-dimensional, is empty, or holds values that are
    neither.
    """
    try:
        array = np.asarray(values)
    except (TypeError, ValueError):
        raise SkinrayError(f"{name} has rows of different lengths: pass one array") from None
    if array.ndim != 2:
        raise SkinrayError(f"{name} has shape {array.shape}: pass one (height, width) map")
    if array.size == 0:
        raise SkinrayError(
            f"{name} has no pixels (shape {array.shape}): pass the map of a whole image"
        )
    if array.dtype == np.bool_ or np.issubdtype(array.dtype, np.integer):
        return (np.ascontiguousarray(array) > 0).view(np.uint8)
    if not np.issubdtype(array.dtype, np.floating):
        raise SkinrayError(f"{name} holds {array.dtype}: pass a mask or float probabilities")
    low, high = float(array.min()), float(array.max())
    if np.isnan(low) or np.isnan(high):
        raise SkinrayError(f"{name} holds NaN: find the step of the model that produced it")
    if low < -RANGE_SLACK or high > 1 + RANGE_SLACK:
        raise SkinrayError(
            f"{name} ranges from {low:g} to {high:g}: probabilities lie in [0, 1] "
            "(apply the sigmoid, or divide by 255)"
        )
    return np.ascontiguousarray(array, dtype=np.float32)


def threshold_map(values: NDArray[Any], threshold: float) -> NDArray[np.bool_]:
    """Return where a map of :func:`as_map` is true: a mask as it is, probabilities by threshold."""
    if values.dtype == np.uint8:
        return values.view(np.bool_)
    return np.asarray(values > threshold)


def true_pixels(mask: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Return the row and column of every true pixel, (N, 2), in scan order."""
    return np.stack(np.divmod(np.flatnonzero(mask), mask.shape[1]), axis=1)
