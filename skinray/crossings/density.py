"""Length of the boundary line, and crossings per millimetre of it."""

from __future__ import annotations

from numbers import Real
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from skinray.crossings.maps import true_pixels
from skinray.errors import SkinrayError


def density_per_mm(count: int, boundary_mm: float | None) -> float | None:
    """Return crossings per millimetre of boundary.

    None if the length is unknown (no um/px) or there is no boundary.
    """
    if boundary_mm is None or boundary_mm <= 0:
        return None
    return count / boundary_mm


def to_mm(length_px: float, um_per_px: float | None) -> float | None:
    """Return a length in pixels as millimetres; None without a scale.

    Raises SkinrayError if the scale is not a positive, finite number.
    """
    if um_per_px is None:
        return None
    _check_scale(um_per_px)
    return length_px * um_per_px / 1000


def _check_scale(um_per_px: Any) -> None:
    number = isinstance(um_per_px, Real) and not isinstance(um_per_px, bool)
    if not (number and np.isfinite(um_per_px) and um_per_px > 0):
        raise SkinrayError(
            f"um_per_px is {um_per_px!r}: give micrometres per pixel above 0 as a number, or None"
        )


def boundary_length_px(
    smoothed: NDArray[np.float32], area: NDArray[np.bool_], threshold: float
) -> float:
    """Return the length of the dermis's edge within the image, in pixels.

    The line follows the threshold in the smoothed map, by marching squares: in each square of
    four pixel centres with both labels it runs from one side of the square to another, at the
    places that linear interpolation gives. It is accurate to below a pixel at any slope. The
    image frame does not count; there the line is extended by the half pixel to the border.

    Parameters
    ----------
    smoothed : (H, W) float32, the smoothed dermis map.
    area : (H, W) bool, the same above ``threshold``, with small enclosed areas flipped. Any edge
        of it has the threshold between its two sides, also after flipping.
    threshold : the level of the line.
    """
    frame = sum(
        np.count_nonzero(side[1:] != side[:-1])
        for side in (area[0], area[-1], area[:, 0], area[:, -1])
    )
    rows, columns = _mixed_squares(area)
    corners = [(rows, columns), (rows, columns + 1), (rows + 1, columns + 1), (rows + 1, columns)]
    labels = np.stack([area[corner] for corner in corners])
    levels = np.stack([smoothed[corner] for corner in corners]).astype(np.float64)
    passes = labels != np.roll(labels, -1, axis=0)
    points = _passing_points(levels, threshold)
    # From the point on each side of the square to that on the next side, and on the opposite one.
    next_round = np.hypot(*(points - np.roll(points, -1, axis=0)).transpose(2, 0, 1))
    across = np.hypot(*(points[:2] - points[2:]).transpose(2, 0, 1))
    saddle = passes.all(axis=0)
    adjacent = passes & np.roll(passes, -1, axis=0) & ~saddle
    opposite = passes[:2] & passes[2:] & ~saddle
    inside = next_round[adjacent].sum() + across[opposite].sum()
    # At a saddle the two segments can be drawn in two ways: take the mean of both.
    inside += next_round[:, saddle].sum() / 2
    return float(inside) + 0.5 * frame


def _mixed_squares(area: NDArray[np.bool_]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return row and column of the upper left pixel of every 2x2 square with both labels."""
    square = np.ones((2, 2), dtype=np.uint8)
    pixels = area.view(np.uint8)
    mixed = cv2.morphologyEx(pixels, cv2.MORPH_GRADIENT, square, anchor=(0, 0)).view(np.bool_)
    mixed[-1], mixed[:, -1] = False, False
    rows, columns = true_pixels(mixed).T
    return rows, columns


def _passing_points(levels: NDArray[np.float64], threshold: float) -> NDArray[np.float64]:
    """Return where each side of each square crosses the threshold, (4, N, 2), within the square.

    ``levels`` is (4, N), the corners in order. A side without a crossing gives any point on it.
    """
    corners = np.array([[0, 0], [0, 1], [1, 1], [1, 0]], dtype=np.float64)
    ends = np.roll(levels, -1, axis=0)
    rise = ends - levels
    share = np.clip((threshold - levels) / np.where(rise == 0, 1, rise), 0, 1)
    way = np.roll(corners, -1, axis=0) - corners
    return np.asarray(corners[:, None] + share[:, :, None] * way[:, None])
