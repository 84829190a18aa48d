"""Which courses of a fibre count as crossings of the junction, by geometry alone.

Every fibre either passes through the zone round the junction in one go, steeply, or stays
out of it, so that the count leaves no doubt; a fibre that does neither is refused.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from skinray.images.phantom_junction import FRAME_PX, Junction, Points, sample

ZONE_PX = 9.0
"""Half-width of the zone in which a fibre counts as touching the junction."""

LONGEST_PASS_PX = 27.0
"""A steep pass through the zone is no longer than this."""

APART_PX = 17.0
"""Least distance of two passes from each other."""


@dataclass(frozen=True)
class Fibre:
    """One fibre or branch.

    Attributes
    ----------
    path : (K, 2) float64, x and y of the centre-line, about 1 px apart.
    width_px : full width at half of its darkness.
    kind : "crossing", "fork", "arch", "branch", "along", "shy", "dermal", "epidermal" or
        "bundle".
    passes : (N, 2) float64, x and y of its true crossings.
    """

    path: Points
    width_px: float
    kind: str
    passes: Points = field(default_factory=lambda: np.empty((0, 2)))


def settle(fibre: Fibre, junction: Junction, taken: Points) -> tuple[Fibre | None, Points]:
    """Find the passes of ``fibre``; None if any is grazing, crowded or at the frame.

    Returns
    -------
    The fibre with its passes, and (Z, 2) its points within the zone.
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
    """Say whether a run through the zone goes through steeply and on for 12 px."""
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
