"""Courses of nerve fibres: correlated random walks that know where the junction is."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d

from skinray.images.phantom_junction import Bool, Junction, Points, resample

STEP_PX = 2.0
_FREE_PX = 14.0
_MARGIN_PX = 6.0


@dataclass(frozen=True)
class Departures:
    """Where walkers set out; every field has one row a walker.

    Attributes
    ----------
    start : (N, 2) float64, x and y.
    heading : (N,) float64, radians, x axis to the downward y axis.
    length_px : (N,) float64.
    side : (N,) int, +1 stays in the dermis, -1 in the epidermis.
    wander : (N,) float64, radians of turn a step.
    lift : (N,) float64, pull away from the junction.
    home_px : (N,) float64, distance from the junction the walker seeks; NaN: none.
    """

    start: Points
    heading: NDArray[np.float64]
    length_px: NDArray[np.float64]
    side: NDArray[np.int64]
    wander: NDArray[np.float64]
    lift: NDArray[np.float64]
    home_px: NDArray[np.float64]


def walk(
    rng: np.random.Generator, field: Junction, living: Bool, go: Departures, clear_px: float = 22
) -> list[Points]:
    """Let all walkers go at once and return each course, 1 px between its points.

    A walker is pushed back within ``clear_px`` of the junction once it has left its start,
    and ends at its length, at the edge of the ``living`` tissue or past the frame.
    """
    height, width = field.shape
    position, heading = go.start.copy(), go.heading.copy()
    turn = np.zeros_like(heading)
    habit = np.stack([np.cos(heading), np.sin(heading)], 1)
    alive = np.ones(heading.size, bool)
    steps = np.zeros(heading.size, np.int64)
    trail = [position.copy()]
    far_corner = np.array([width, height]) + _MARGIN_PX
    for number in range(int(np.ceil(go.length_px.max(initial=0) / STEP_PX))):
        column = np.clip(np.round(position[:, 0]).astype(np.int64), 0, width - 1)
        row = np.clip(np.round(position[:, 1]).astype(np.int64), 0, height - 1)
        away = field.inward[row, column] * go.side[:, None]
        far = field.depth[row, column] * go.side
        push = 1.6 * np.clip((clear_px - far) / clear_px, 0, 1.2) * (number * STEP_PX > _FREE_PX)
        push = push + go.lift
        seek = np.clip((go.home_px - far) / 18, -1, 1)
        push = push + np.where(np.isnan(seek), 0.0, 1.1 * np.nan_to_num(seek))
        ahead = np.stack([np.cos(heading), np.sin(heading)], 1)
        habit = 0.96 * habit + 0.04 * ahead
        want = ahead + 0.5 * habit + push[:, None] * away
        error = np.arctan2(want[:, 1], want[:, 0]) - heading
        error = (error + np.pi) % (2 * np.pi) - np.pi
        turn = 0.86 * turn + go.wander * rng.standard_normal(heading.size)
        heading = heading + np.clip(error, -0.22, 0.22) + turn
        ahead = position + STEP_PX * np.stack([np.cos(heading), np.sin(heading)], 1)
        inside = (ahead > -_MARGIN_PX).all(1) & (ahead < far_corner).all(1)
        alive &= inside & living[row, column] & (number * STEP_PX < go.length_px)
        if not alive.any():
            break
        position = np.where(alive[:, None], ahead, position)
        steps += alive
        trail.append(position.copy())
    courses = np.stack(trail)
    return [_smooth(courses[: count + 1, k]) for k, count in enumerate(steps)]


def _smooth(course: Points) -> Points:
    if len(course) < 4:
        return course
    soft = gaussian_filter1d(course, 1.2, axis=0, mode="nearest")
    soft[0], soft[-1] = course[0], course[-1]
    return resample(soft)


def bezier(start: Points, leave: Points, arrive: Points, end: Points) -> Points:
    """Cubic curve from ``start`` to ``end``, pulled by its two inner points; 1 px apart."""
    t = np.linspace(0, 1, 64)[:, None]
    curve = (1 - t) ** 3 * start + 3 * (1 - t) ** 2 * t * leave
    return resample(curve + 3 * (1 - t) * t**2 * arrive + t**3 * end)
