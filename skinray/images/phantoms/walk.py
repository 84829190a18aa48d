"""Courses of nerve fibres: random walks that avoid the junction, and where fibres cross it.

:func:`walk` makes the courses. :func:`settle` finds the crossings of one, and rejects a fibre whose
crossings would be ambiguous.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d

from skinray.images.cohort.polylines import Points
from skinray.images.phantoms.junction import FRAME_PX, Bool, Junction, resample, sample

STEP_PX = 2.0
_FREE_PX = 14.0
_CLEAR_PX = 22.0
ZONE_PX = 9.0
"""Half-width of the zone in which a fibre touches the junction."""

LONGEST_PASS_PX = 27.0
"""Longest path through the zone that is still a steep pass."""

APART_PX = 17.0
"""Least distance between two passes."""


@dataclass(frozen=True)
class Departures:
    """Where walkers start; every field has one row per walker.

    Attributes
    ----------
    start : (N, 2) float64, x and y.
    heading : (N,) float64, radians from the x axis towards the downward y axis.
    length_px : (N,) float64.
    side : (N,) int, +1 to stay in the dermis, -1 in the epidermis.
    wander : (N,) float64, radians of random turn per step.
    lift : (N,) float64, pull away from the junction.
    home_px : (N,) float64, distance from the junction that the walker seeks; NaN: none.
    """

    start: Points
    heading: NDArray[np.float64]
    length_px: NDArray[np.float64]
    side: NDArray[np.int64]
    wander: NDArray[np.float64]
    lift: NDArray[np.float64]
    home_px: NDArray[np.float64]


@dataclass(frozen=True)
class Fibre:
    """One fibre or branch.

    Attributes
    ----------
    path : (K, 2) float64, x and y of the centre-line, about 1 px apart.
    width_px : full width at half its darkness.
    kind : "crossing", "fork", "arch", "branch", "along", "shy", "dermal", "epidermal" or
        "bundle".
    passes : (N, 2) float64, x and y of its true crossings.
    """

    path: Points
    width_px: float
    kind: str
    passes: Points = field(default_factory=lambda: np.empty((0, 2)))


def leaving(
    rng: np.random.Generator, start: Points, heading: NDArray[np.float64], side: int
) -> Departures:
    """Return departures of fibres that leave the junction and do not return."""
    many = len(start)
    length = rng.gamma(2.6, 20, many) + 16 if side < 0 else rng.gamma(2.2, 55, many) + 22
    return Departures(
        start=start,
        heading=heading,
        length_px=length,
        side=np.full(many, side),
        wander=rng.uniform(0.04, 0.13, many),
        lift=np.full(many, 0.10 if side < 0 else 0.02),
        home_px=np.full(many, np.nan),
    )


def turned(vectors: Points, angle: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the headings of ``vectors`` (N, 2), each turned by its ``angle``."""
    return np.asarray(np.arctan2(vectors[:, 1], vectors[:, 0]) + angle)


def walk(rng: np.random.Generator, field: Junction, living: Bool, go: Departures) -> list[Points]:
    """Let all walkers go at once and return each course, with points 1 px apart.

    A walker is pushed away from the junction once it has left its start. It ends at its length, at
    the edge of the ``living`` tissue, or past the frame.
    """
    height, width = field.shape
    position, heading = go.start.copy(), go.heading.copy()
    turn, habit = np.zeros_like(heading), _unit(heading)
    alive, steps = np.ones(heading.size, bool), np.zeros(heading.size, np.int64)
    trail = [position.copy()]
    for number in range(int(np.ceil(go.length_px.max(initial=0) / STEP_PX))):
        travelled = number * STEP_PX
        column = np.clip(np.round(position[:, 0]).astype(np.int64), 0, width - 1)
        row = np.clip(np.round(position[:, 1]).astype(np.int64), 0, height - 1)
        push = _push(go, field.depth[row, column] * go.side, travelled)
        habit = 0.96 * habit + 0.04 * _unit(heading)
        away = field.inward[row, column] * (go.side * push)[:, None]
        want = _unit(heading) + 0.5 * habit + away
        turn = 0.86 * turn + go.wander * rng.standard_normal(heading.size)
        heading = heading + _swerve(want, heading) + turn
        ahead = position + STEP_PX * _unit(heading)
        inside = (np.abs(ahead - [width / 2, height / 2]) < [width / 2 + 6, height / 2 + 6]).all(1)
        alive &= inside & living[row, column] & (travelled < go.length_px)
        if not alive.any():
            break
        position = np.where(alive[:, None], ahead, position)
        steps += alive
        trail.append(position.copy())
    courses = np.stack(trail)
    return [_smooth(courses[: count + 1, k]) for k, count in enumerate(steps)]


def _unit(heading: NDArray[np.float64]) -> Points:
    return np.stack([np.cos(heading), np.sin(heading)], 1)


def _push(go: Departures, far: NDArray[np.float32], travelled: float) -> NDArray[np.float64]:
    """Return how strongly each walker, ``far`` pixels from the junction, is pushed away from it."""
    shy = 1.6 * np.clip(1 - far / _CLEAR_PX, 0, 1.2) * (travelled > _FREE_PX)
    seek = np.nan_to_num(np.clip((go.home_px - far) / 18, -1, 1))
    return np.asarray(shy + go.lift + 1.1 * seek, np.float64)


def _swerve(want: Points, heading: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the turn of one step from ``heading`` towards ``want`` (N, 2), at most .22 radians."""
    error = np.arctan2(want[:, 1], want[:, 0]) - heading
    return np.clip((error + np.pi) % (2 * np.pi) - np.pi, -0.22, 0.22)


def _smooth(course: Points) -> Points:
    if len(course) < 4:
        return course
    soft = gaussian_filter1d(course, 1.2, axis=0, mode="nearest")
    soft[0], soft[-1] = course[0], course[-1]
    return resample(soft)


def bezier(start: Points, leave: Points, arrive: Points, end: Points) -> Points:
    """Return the cubic curve from ``start`` to ``end`` with two control points; 1 px apart."""
    t = np.linspace(0, 1, 64)[:, None]
    curve = (1 - t) ** 3 * start + 3 * (1 - t) ** 2 * t * leave
    return resample(curve + 3 * (1 - t) * t**2 * arrive + t**3 * end)


def settle(fibre: Fibre, junction: Junction, taken: Points) -> tuple[Fibre | None, Points]:
    """Find the passes of ``fibre``; None if one is grazing, too close to others or to the frame.

    Returns the fibre with its passes, and its points within the zone, (Z, 2); ``taken`` are those
    of accepted fibres.
    """
    none = np.empty((0, 2))
    path = fibre.path
    if len(path) < 12:
        return None, none
    depth = sample(junction.depth, path)
    inside = np.abs(depth) < ZONE_PX
    edges = np.flatnonzero(np.diff(np.concatenate([[False], inside, [False]]).astype(int)))
    height, width = junction.shape
    passes: list[Points] = []
    runs: list[Points] = []
    for first, last in zip(edges[::2], edges[1::2], strict=True):
        if not _is_pass(depth, first, last):
            return None, none
        run = path[first:last]
        edge = [width - 1 - FRAME_PX, height - 1 - FRAME_PX]
        if (run < FRAME_PX).any() or (run > edge).any():
            return None, none
        if nearest(run, np.vstack([taken, *runs])) < APART_PX:
            return None, none
        runs.append(run)
        passes.append(_place(path, depth, first, last))
    found = np.array(passes).reshape(-1, 2)
    return replace(fibre, passes=found), np.vstack([none, *runs])


def _is_pass(depth: NDArray[np.float32], first: int, last: int) -> bool:
    """Return whether a run crosses the zone steeply, and continues on both sides."""
    if first < 6 or last > len(depth) - 6 or last - first > LONGEST_PASS_PX:
        return False
    turns = np.diff(depth[first:last] >= 0)
    before, after = depth[max(0, first - 6)], depth[min(len(depth) - 1, last + 5)]
    return bool(before * after < 0 and np.count_nonzero(turns) == 1)


def _place(path: Points, depth: NDArray[np.float32], first: int, last: int) -> Points:
    """Return the point of ``path`` where its depth changes sign."""
    k = first + int(np.flatnonzero(np.diff(depth[first:last] >= 0))[0])
    share = depth[k] / (depth[k] - depth[k + 1])
    return np.asarray(path[k] + share * (path[k + 1] - path[k]), np.float64)


def nearest(points: Points, others: Points) -> float:
    """Return the least distance between two sets of points (N, 2); infinite if one is empty."""
    if not len(points) or not len(others):
        return float("inf")
    return float(np.sqrt(((points[:, None] - others[None]) ** 2).sum(-1)).min())
