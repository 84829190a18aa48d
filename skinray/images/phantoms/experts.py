"""What people would record of a phantom: the exact truth, a hand tracing and a second count."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d

from skinray.images.cohort.polylines import Points, draw_line
from skinray.images.phantoms.junction import Bool
from skinray.images.phantoms.walk import Fibre

LINE_PX = 3


def draw_lines(paths: list[Points], shape: tuple[int, int]) -> Bool:
    """Draw centre-lines 3 px wide on a mask (H, W)."""
    mask = np.zeros(shape, bool)
    for path in paths:
        if len(path) > 1:
            # The points are about 1 px apart; every third keeps the curve within .1 px.
            draw_line(mask, np.vstack([path[:-1:3], path[-1:]]), LINE_PX)
    return mask


def shaky(rng: np.random.Generator, path: Points, sd_px: float, wave_px: float) -> Points:
    """Add smooth noise to ``path``: ``sd_px`` per coordinate, changing over ``wave_px``."""
    noise = rng.standard_normal((len(path) + int(6 * wave_px), 2))
    smooth = gaussian_filter1d(noise, wave_px, axis=0)[int(3 * wave_px) :][: len(path)]
    return np.asarray(path + smooth * sd_px * np.sqrt(2 * np.sqrt(np.pi) * wave_px))


def trace_by_hand(
    rng: np.random.Generator, fibres: list[Fibre], strengths: list[NDArray[np.float64]]
) -> list[Points]:
    """Trace ``fibres`` like an expert: about 1 px off, with gaps, and with some ends missed.

    Gaps stay 14 px from crossings, where experts look closely. A faint fibre that does not cross
    is sometimes missed.
    """
    lines: list[Points] = []
    for fibre, strength in zip(fibres, strengths, strict=True):
        if not len(fibre.passes) and strength.mean() < 0.5 and rng.random() < 0.2:
            continue
        path = _ends(rng, shaky(rng, fibre.path, 0.6, 9))
        lines += _gaps(rng, path, fibre.passes)
    return lines


def _ends(rng: np.random.Generator, path: Points) -> Points:
    """Stop up to 4 px before either end, or up to 4 px beyond it."""
    for _ in range(2):
        over = int(rng.integers(-4, 5))
        if over < 0 and len(path) > 30:
            path = path[:over]
        elif over > 0:
            step = (path[-1] - path[-4]) / max(float(np.hypot(*(path[-1] - path[-4]))), 1e-6)
            path = np.vstack([path, path[-1] + step * np.arange(1, over + 1)[:, None]])
        path = path[::-1]
    return path


def _gaps(rng: np.random.Generator, path: Points, passes: Points) -> list[Points]:
    keep = np.ones(len(path), bool)
    for start in rng.integers(0, len(path), int(rng.poisson(len(path) / 260))):
        stop = start + int(rng.integers(4, 10))
        middle = path[min((start + stop) // 2, len(path) - 1)]
        if not len(passes) or np.hypot(*(passes - middle).T).min() > 14:
            keep[start:stop] = False
    edges = np.flatnonzero(np.diff(np.concatenate([[False], keep, [False]]).astype(int)))
    return [path[a:b] for a, b in zip(edges[::2], edges[1::2], strict=True)]


def second_opinion(rng: np.random.Generator, seen: NDArray[np.float64], reach: float) -> int:
    """Count like a second expert, from the visibility of each crossing.

    Faint crossings are missed, some are split or merged, doubtful ones are added, and the
    expert's strictness differs from image to image. ``seen`` (N,) is the visibility of the true
    crossings, and ``reach`` the mean number of crossings in a field of this kind.
    """
    strict = rng.normal(0.58, 0.38)
    odds = 1 / (1 + np.exp(-(seen - strict) / 0.25))
    found = int((rng.random(seen.size) < odds).sum())
    split, merged = rng.binomial(found, 0.12), rng.binomial(found, 0.12)
    added = rng.poisson(0.22 * reach * rng.gamma(1.0, 1.0))
    return max(0, found + int(split) - int(merged) + int(added))
