"""From the boundary line to the dermis: extend the line's ends to the frame, fill one side.

The paper does it by hand ("the boundary line is extended until it encloses the dermis, then
filled"); here both ends continue along their tangents. What would need guessing is an error: a
line that meets itself, or one that would be mostly extension.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Literal, cast, get_args

import cv2
import numpy as np
from numpy.typing import NDArray

from skinray.images.cohort.polylines import Points
from skinray.images.file_errors import UnfitLabelError

TANGENT_PX = 25.0  # length at an end that gives its direction; less would follow the hand's tremor
LOOP_PX = 20.0  # loops up to this length are slips of the hand, and are cut off
MAX_EXTENSION = 2.0  # times the drawn length: beyond, most of the boundary would be invented
AT_FRAME_PX = 3.0  # an end this near to the frame has reached it
_MARGIN_PX = 16.0  # the ends go this far beyond the frame, so that the line divides all of it
_MIN_LEAN = 0.1  # least difference in share between two opposite edges that decides a side
Edge = Literal["top", "bottom", "left", "right"]
_EDGES = get_args(Edge)
SIDES = "top, bottom, left, right or a point x,y"
_POINT = re.compile(r"\(?\s*(-?[\d.]+)\s*[,; ]\s*(-?[\d.]+)\s*\)?")


@dataclass(frozen=True)
class Side:
    """Where the dermis lies: at an edge of the frame, or around a point x, y in pixels."""

    edge: Edge | None
    point: tuple[float, float] | None

    def __str__(self) -> str:
        if self.point is None:
            return str(self.edge)
        return f"{self.point[0]:g},{self.point[1]:g}"


def parse_side(text: str) -> Side:
    """Read ``top``, ``bottom``, ``left``, ``right`` or a point ``x,y``; ValueError otherwise."""
    word = text.strip().lower()
    if word in _EDGES:
        return Side(cast(Edge, word), None)
    match = _POINT.fullmatch(word)
    if match is None:
        raise ValueError(f"'{text}' is not a side")
    x, y = float(match[1]), float(match[2])
    if not (math.isfinite(x) and math.isfinite(y)):
        raise ValueError(f"'{text}' is not a point")
    return Side(None, (x, y))


def dermis_from_boundary(
    line: Points, shape: tuple[int, int], side: str, source: str = "boundary line"
) -> NDArray[np.bool_]:
    """Fill the dermis's side of the boundary line.

    Parameters
    ----------
    line : (N, 2) points x, y from end to end, in pixels, with (0, 0) at the frame's outer corner.
    shape : height and width of the image.
    side : where the dermis lies: top, bottom, left, right, or a point ``x,y`` in it.
    source : the file, for messages.

    Returns (H, W) bool; the pixels of the line itself belong to the dermis.
    Raises LabelError if the line cannot enclose the dermis (fewer than two points, it meets
    itself, or it would be mostly extension), or the side does not distinguish its two halves.
    """
    try:
        where = parse_side(side)
    except ValueError:
        raise UnfitLabelError(
            source, f"invalid dermis_side '{side}'", f"enter {SIDES} in the dermis"
        ) from None
    points = _distinct(np.asarray(line, np.float64).reshape(-1, 2), source)
    whole = _without_loops(_extended(points, shape, source), source)
    one = _fill(whole, shape)
    other = _fill(whole[::-1], shape)
    if one.all() or other.all():
        raise UnfitLabelError(
            source, "the line runs along the frame and divides nothing", "draw it on the boundary"
        )
    return one if _holds(one, other, where, source) else other


def _distinct(points: Points, source: str) -> Points:
    """Remove repeated points, and points within half a pixel of the line through the others."""
    if len(points) >= 2 and np.isfinite(points).all():
        simple = cv2.approxPolyDP(points.astype(np.float32)[:, None], 0.5, False)
        points = simple.reshape(-1, 2).astype(np.float64)
        points = points[np.r_[True, np.any(np.diff(points, axis=0) != 0, axis=1)]]
    if len(points) < 2 or not np.isfinite(points).all():
        raise UnfitLabelError(
            source, "the boundary line has fewer than two points", "draw it along the boundary"
        )
    return points


def _extended(points: Points, shape: tuple[int, int], source: str) -> Points:
    """Extend both ends beyond the frame."""
    start = _carried_out(points[::-1], shape)
    end = _carried_out(points, shape)
    drawn = _length(points)
    added = _length_inside(points[0], start, shape) + _length_inside(points[-1], end, shape)
    if added > MAX_EXTENSION * drawn:
        raise UnfitLabelError(
            source,
            f"the line is too short: it is {drawn:.0f} px long and would have to be extended by "
            f"{added:.0f} px to reach the frame",
            "continue it towards the edges of the image",
        )
    return np.concatenate([start[None], points, end[None]])


def _carried_out(points: Points, shape: tuple[int, int]) -> Points:
    """Return the point beyond the frame to which the last end is extended."""
    low, high = _margin(shape)
    end = points[-1]
    gaps = np.concatenate([end - low, high - end]) - _MARGIN_PX  # left, top, right, bottom
    nearest = int(gaps.argmin())
    if gaps[nearest] <= AT_FRAME_PX:  # straight out: along its tangent it might come back in
        direction = np.array([(-1, 0), (0, -1), (1, 0), (0, 1)][nearest], np.float64)
    else:
        direction = end - _back_along(points, TANGENT_PX)
    with np.errstate(divide="ignore", invalid="ignore"):
        steps = np.where(direction > 0, (high - end) / direction, (low - end) / direction)
    step = np.min(steps[direction != 0])
    return np.asarray(np.clip(end + step * direction, low, high))


def _back_along(points: Points, length: float) -> Points:
    """Return the point ``length`` before the end of the line, or its start if it is shorter."""
    steps = np.hypot(*np.diff(points[::-1], axis=0).T)
    travelled = np.concatenate([[0.0], np.cumsum(steps)])
    at = min(length, float(travelled[-1]))
    return np.array([np.interp(at, travelled, points[::-1, axis]) for axis in (0, 1)])


def _without_loops(points: Points, source: str) -> Points:
    """Cut off small loops; LabelError if the line meets itself in a larger one."""
    for _ in range(len(points)):
        crossing = _shortest_loop(points)
        if crossing is None:
            return points
        first, second, length, place = crossing
        if length > LOOP_PX:
            raise UnfitLabelError(
                source,
                f"the line does not divide the image: extended to the frame, it meets itself near "
                f"x={place[0]:.0f}, y={place[1]:.0f}",
                "draw one open line whose ends point to the edges of the image",
            )
        points = np.concatenate([points[: first + 1], place[None], points[second + 1 :]])
    return points


def _shortest_loop(points: Points) -> tuple[int, int, float, Points] | None:
    """Return segments i < j, not neighbours, that meet: (i, j, length of the loop, place)."""
    a, b = points[:-1], points[1:]
    travelled = np.concatenate([[0.0], np.cumsum(np.hypot(*(b - a).T))])
    low, high = np.minimum(a, b), np.maximum(a, b)
    best: tuple[int, int, float, Points] | None = None
    for i in range(len(a) - 2):
        later = slice(i + 2, None)
        near = ((low[i] <= high[later]) & (low[later] <= high[i])).all(axis=1)
        for j in np.flatnonzero(near) + i + 2:
            if _meet(a[i], b[i], a[j], b[j]):
                place = _crossing(a[i], b[i], a[j], b[j])
                ends = np.hypot(*(b[i] - place)) + np.hypot(*(a[j] - place))
                length = float(travelled[j] - travelled[i + 1] + ends)
                if best is None or length < best[2]:
                    best = (i, int(j), length, place)
    return best


def _meet(a: Points, b: Points, c: Points, d: Points) -> bool:
    """Return whether segments ab and cd, whose boxes overlap, have a point in common."""
    return bool(_turn(a, b, c) * _turn(a, b, d) <= 0 and _turn(c, d, a) * _turn(c, d, b) <= 0)


def _crossing(a: Points, b: Points, c: Points, d: Points) -> Points:
    """Return the point where two segments meet; if they are collinear, the end of the first."""
    across = (b[0] - a[0]) * (d[1] - c[1]) - (b[1] - a[1]) * (d[0] - c[0])
    if across == 0:
        return b
    share = ((c[0] - a[0]) * (d[1] - c[1]) - (c[1] - a[1]) * (d[0] - c[0])) / across
    return np.asarray(a + share * (b - a))


def _turn(a: Points, b: Points, c: Points) -> float:
    return float((b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0]))


def _fill(points: Points, shape: tuple[int, int]) -> NDArray[np.bool_]:
    """Fill the area to one side of a line that starts and ends on the margin."""
    low, high = _margin(shape)
    size = high - low
    corners = np.array([low, (high[0], low[1]), high, (low[0], high[1])])
    start, end = (_round_frame(point, low, high) for point in (points[0], points[-1]))
    places = np.cumsum([0.0, size[0], size[1], size[0]])  # of the corners, clockwise
    around = float(2 * size.sum())
    ahead = np.mod(places - end, around)
    order = np.argsort(ahead, kind="stable")
    between = corners[[k for k in order if ahead[k] < np.mod(start - end, around)]]
    outline = np.floor(np.concatenate([points, between])).astype(np.int32)
    filled = np.zeros(shape, np.uint8)
    cv2.fillPoly(filled, [outline], 1)
    return filled > 0


def _round_frame(point: Points, low: Points, high: Points) -> float:
    """Return the length along the margin, clockwise from its top left corner, to a point on it."""
    width, height = high - low
    x, y = point - low
    gaps = (y, width - x, height - y, x)  # to the top, right, bottom, left
    along = (x, width + y, width + height + (width - x), 2 * width + height + (height - y))
    return float(along[int(np.argmin(gaps))])


def _holds(one: NDArray[np.bool_], other: NDArray[np.bool_], side: Side, source: str) -> bool:
    """Return whether ``one`` of the two halves is on the given side."""
    if side.point is not None:
        column, row = (int(np.floor(value)) for value in side.point)
        inside = 0 <= row < one.shape[0] and 0 <= column < one.shape[1]
        if not inside or one[row, column] == other[row, column]:
            where = "on the line" if inside else "outside the image"
            raise UnfitLabelError(
                source, f"dermis_side {side} is {where}", "enter a point in the dermis"
            )
        return bool(one[row, column])
    near, far = {"top": (0, -1), "bottom": (-1, 0), "left": (0, -1), "right": (-1, 0)}[
        str(side.edge)
    ]
    across = one if side.edge in ("top", "bottom") else one.T
    lean = float(across[near].mean() - across[far].mean())
    if abs(lean) < _MIN_LEAN:
        raise UnfitLabelError(
            source,
            f"the line does not separate {side.edge} from the opposite side",
            "enter a point x,y in the dermis as dermis_side",
        )
    return lean > 0


def _margin(shape: tuple[int, int]) -> tuple[Points, Points]:
    return np.full(2, -_MARGIN_PX), np.array([shape[1], shape[0]]) + _MARGIN_PX


def _length(points: Points) -> float:
    return float(np.hypot(*np.diff(points, axis=0).T).sum())


def _length_inside(start: Points, end: Points, shape: tuple[int, int]) -> float:
    """Return the length of an extension within the frame."""
    size = np.array([shape[1], shape[0]])
    return float(np.hypot(*(np.clip(end, 0, size) - np.clip(start, 0, size))))
