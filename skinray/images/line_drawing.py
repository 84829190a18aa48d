"""Lines of an exact width on a mask.

OpenCV 5.0 draws lines thicker than asked (5 pixels for a thickness of 3), so the width of a label
is kept here by distance: a pixel belongs to the line if its middle lies within half the width.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

Points = NDArray[np.float64]  # (N, 2): x, y


def draw_line(mask: NDArray[np.bool_], points: Points, width_px: float) -> None:
    """Set the pixels of a polyline on a mask, with round ends.

    Parameters
    ----------
    mask : (H, W) bool, changed in place; what lies outside of it is not drawn.
    points : (N, 2) x, y; whole numbers are middles of pixels.
    width_px : across the line.
    """
    for start, end in pairwise(points):
        _draw_segment(mask, start, end, width_px / 2)


def _draw_segment(mask: NDArray[np.bool_], start: Points, end: Points, radius: float) -> None:
    height, width = mask.shape
    left, top = np.maximum(np.floor(np.minimum(start, end) - radius), 0).astype(int)
    right, bottom = np.minimum(
        np.ceil(np.maximum(start, end) + radius), [width - 1, height - 1]
    ).astype(int)
    if left > right or top > bottom:
        return
    y, x = np.ogrid[top : bottom + 1, left : right + 1]
    along = end - start
    length2 = float(along @ along)
    offset_x, offset_y = x - start[0], y - start[1]
    if length2 > 0:
        at = np.clip((offset_x * along[0] + offset_y * along[1]) / length2, 0, 1)
        offset_x, offset_y = offset_x - at * along[0], offset_y - at * along[1]
    mask[top : bottom + 1, left : right + 1] |= offset_x**2 + offset_y**2 <= radius**2
