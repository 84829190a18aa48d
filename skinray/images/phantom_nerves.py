"""Nerves of a phantom: where fibres run, and where they truly cross the junction.

Every fibre either passes through the zone round the junction in one go, steeply, or stays
out of it, so that the crossing count follows from geometry alone and leaves no doubt.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from skinray.images.phantom_junction import FRAME_PX, Bool, Junction, Points, sample
from skinray.images.phantom_walk import Departures, bezier, walk

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
    kind : "crossing", "arch", "branch", "along", "dermal", "epidermal" or "bundle".
    passes : (N, 2) float64, x and y of its true crossings.
    """

    path: Points
    width_px: float
    kind: str
    passes: Points = field(default_factory=lambda: np.empty((0, 2)))


@dataclass(frozen=True)
class Scene:
    """What nerves grow in: the junction, the living tissue and how many to grow."""

    junction: Junction
    living: Bool
    crossings: int
    others: float


def grow_nerves(rng: np.random.Generator, scene: Scene) -> list[Fibre]:
    """Grow the nerves of ``scene``; the number of passes is ``scene.crossings`` if they fit."""
    accepted: list[Fibre] = []
    zone = np.empty((0, 2))
    count = 0
    proposals = [*_arches(rng, scene), *_single(rng, scene)]
    order = np.concatenate([rng.permutation(len(proposals))]).astype(int)
    for index in order:
        if count >= scene.crossings:
            break
        fibre, near = settle(proposals[index], scene.junction, zone)
        if fibre is None or count + len(fibre.passes) > scene.crossings or not len(fibre.passes):
            continue
        accepted.append(fibre)
        zone = np.vstack([zone, near])
        count += len(fibre.passes)
    for proposal in [*_branches(rng, scene, accepted), *_others(rng, scene)]:
        fibre, near = settle(proposal, scene.junction, zone)
        if fibre is not None and not len(fibre.passes):
            accepted.append(fibre)
            zone = np.vstack([zone, near])
    return accepted


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
    passes, runs = [], []
    for first, last in zip(edges[::2], edges[1::2], strict=True):
        if not _is_pass(depth, first, last):
            return None, none
        run = path[first:last]
        edge = [width - 1 - FRAME_PX, height - 1 - FRAME_PX]
        if (run < FRAME_PX).any() or (run > edge).any():
            return None, none
        if _nearest(run, np.vstack([taken, *runs])) < APART_PX:
            return None, none
        runs.append(run)
        passes.append(_place(path, depth, first, last))
    found = np.array(passes).reshape(-1, 2)
    return replace(fibre, passes=found), np.vstack([none, *runs])


def _is_pass(depth: NDArray[np.float32], first: int, last: int) -> bool:
    """Say whether a run through the zone goes through steeply and on for 12 px."""
    if first < 6 or last > len(depth) - 6 or last - first > LONGEST_PASS_PX:
        return False
    signs = np.diff(np.sign(depth[first:last]))
    before, after = depth[max(0, first - 6)], depth[min(len(depth) - 1, last + 5)]
    return bool(before * after < 0 and np.count_nonzero(signs) == 1)


def _place(path: Points, depth: NDArray[np.float32], first: int, last: int) -> Points:
    """Point of ``path`` where its depth changes sign."""
    k = first + int(np.flatnonzero(np.diff(np.sign(depth[first:last])))[0])
    share = depth[k] / (depth[k] - depth[k + 1])
    return path[k] + share * (path[k + 1] - path[k])


def _nearest(points: Points, others: Points) -> float:
    if not len(points) or not len(others):
        return float("inf")
    return float(np.sqrt(((points[:, None] - others[None]) ** 2).sum(-1)).min())


def _sites(rng: np.random.Generator, junction: Junction, apart_px: float, most: int) -> list[int]:
    """Choose indices of junction points at least ``apart_px`` from each other and off the frame."""
    height, width = junction.shape
    line = junction.line
    clear = (line > FRAME_PX + 4).all(1) & (
        line < [width - FRAME_PX - 5, height - FRAME_PX - 5]
    ).all(1)
    chosen: list[int] = []
    for index in rng.permutation(np.flatnonzero(clear)):
        if len(chosen) >= most:
            break
        if _nearest(line[[index]], line[chosen]) >= apart_px:
            chosen.append(int(index))
    return chosen


def _inward(junction: Junction, at: Points) -> Points:
    """Return unit vectors into the dermis at points ``at`` (N, 2)."""
    height, width = junction.shape
    column, row = np.round(at).astype(int).T
    return junction.inward[row.clip(0, height - 1), column.clip(0, width - 1)].astype(np.float64)


def _turned(vectors: Points, angle: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.arctan2(vectors[:, 1], vectors[:, 0]) + angle


def _leave(
    rng: np.random.Generator, start: Points, heading: NDArray[np.float64], side: int
) -> Departures:
    """Departures of fibres that go away from the junction for good."""
    many = len(start)
    length = rng.gamma(2.6, 20, many) + 16 if side < 0 else rng.gamma(2.2, 55, many) + 22
    return Departures(
        start, heading, length, np.full(many, side), rng.uniform(0.04, 0.13, many),
        np.full(many, 0.10 if side < 0 else 0.02), np.full(many, np.nan),
    )  # fmt: skip


def _width(rng: np.random.Generator) -> float:
    return float(rng.uniform(2.2, 3.6))


def _single(rng: np.random.Generator, scene: Scene) -> list[Fibre]:
    """Fibres that come up from the dermis and end free in the epidermis."""
    junction = scene.junction
    sites = _sites(rng, junction, APART_PX + 4, 2 * scene.crossings + 6)
    at = junction.line[sites]
    if not len(at):
        return []
    inward, angle = _inward(junction, at), rng.normal(0, 0.33, len(at)).clip(-0.62, 0.62)
    down = walk(rng, junction, scene.living, _leave(rng, at, _turned(inward, angle), 1))
    up = walk(rng, junction, scene.living, _leave(rng, at, _turned(-inward, angle), -1))
    pairs = zip(down, up, strict=True)
    return [Fibre(np.vstack([d[::-1], u[1:]]), _width(rng), "crossing") for d, u in pairs]


def _arches(rng: np.random.Generator, scene: Scene) -> list[Fibre]:
    """Fibres that cross, turn in the epidermis (or in a papilla) and cross back."""
    junction = scene.junction
    line = junction.line
    fibres = []
    for first in _sites(rng, junction, 90, int(rng.poisson(0.12 * scene.crossings))):
        second = first + int(rng.uniform(28, 60))
        if second >= len(line):
            continue
        feet = line[[first, second]]
        out = -_inward(junction, feet) * (1 if rng.random() < 0.75 else -1)
        top = feet + out * rng.uniform(34, 62)
        arch = bezier(feet[0], top[0], top[1], feet[1])
        side = int(np.sign(sample(junction.depth, feet - 10 * out).sum()))
        heading = _turned(-out, rng.normal(0, 0.1, 2))
        ends = walk(rng, junction, scene.living, _leave(rng, feet, heading, side))
        path = np.vstack([ends[0][::-1], arch[1:-1], ends[1]])
        fibres.append(Fibre(path, _width(rng), "arch"))
    return fibres


def _branches(rng: np.random.Generator, scene: Scene, parents: list[Fibre]) -> list[Fibre]:
    """Branches above and below the junction that do not cross it themselves."""
    starts, headings, sides, widths = [], [], [], []
    for parent in parents:
        for side, chance in ((-1, 0.35), (1, 0.35)):
            depth = sample(scene.junction.depth, parent.path) * side
            good = np.flatnonzero(depth > 16)[4:-4]
            if not len(good) or rng.random() > chance:
                continue
            k = int(rng.choice(good))
            along = parent.path[k + 2] - parent.path[k - 2]
            along = along * np.sign(
                along @ _inward(scene.junction, parent.path[[k]])[0] * side or 1
            )
            starts.append(parent.path[k])
            headings.append(
                np.arctan2(along[1], along[0]) + rng.choice([-1, 1]) * rng.uniform(0.35, 0.9)
            )
            sides.append(side)
            widths.append(0.85 * parent.width_px)
    fibres = []
    for side in (-1, 1):
        of = np.flatnonzero(np.array(sides) == side)
        if len(of):
            go = _leave(rng, np.array(starts)[of], np.array(headings)[of], side)
            for k, path in zip(of, walk(rng, scene.junction, scene.living, go), strict=True):
                fibres.append(Fibre(path, widths[k], "branch"))
    return fibres


_OTHERS = (
    # kind, per 1e5 px of dermis or junction share, side, depth from, to, home
    ("along", 1.1, 1, 11.0, 32.0),
    ("dermal", 1.3, 1, 26.0, 1e9),
    ("epidermal", 0.55, -1, 14.0, 60.0),
    ("shy", 0.8, 1, 30.0, 70.0),
    ("bundle", 0.35, 1, 75.0, 1e9),
)


def _others(rng: np.random.Generator, scene: Scene) -> list[Fibre]:
    """Fibres that never cross: along the junction, free in the dermis, bundles, fragments."""
    junction = scene.junction
    fibres: list[Fibre] = []
    reach = junction.length_px / 100
    for kind, rate, side, low, high in _OTHERS:
        depth = junction.depth * side
        rows, columns = np.nonzero((depth > low) & (depth < high) & scene.living)
        area = rows.size / 1e5
        many = int(
            rng.poisson(
                scene.others * rate * (reach if kind not in ("dermal", "bundle") else 1.5 * area)
            )
        )
        if not many or not rows.size:
            continue
        pick = rng.integers(0, rows.size, many)
        start = np.stack([columns[pick], rows[pick]], 1).astype(np.float64)
        fibres += _stray(rng, scene, kind, start, side)
    return fibres


def _stray(
    rng: np.random.Generator, scene: Scene, kind: str, start: Points, side: int
) -> list[Fibre]:
    """Walk fibres of one non-crossing ``kind`` from ``start``."""
    many = len(start)
    inward = _inward(scene.junction, start)
    heading = rng.uniform(-np.pi, np.pi, many)
    home = np.full(many, np.nan)
    length = rng.gamma(2.5, 40, many) + 20
    if kind == "along":
        heading = _turned(inward, rng.choice([-1, 1], many) * rng.normal(np.pi / 2, 0.2, many))
        home = rng.uniform(12, 30, many)
    elif kind == "shy":
        heading = _turned(-inward, rng.normal(0, 0.5, many))
    elif kind == "epidermal":
        length = rng.gamma(2, 14, many) + 14
    elif kind == "bundle":
        length = rng.gamma(4, 50, many) + 60
    wander = rng.uniform(0.03, 0.12, many) * (0.5 if kind == "bundle" else 1.0)
    go = Departures(start, heading, length, np.full(many, side), wander, np.zeros(many), home)
    courses = walk(rng, scene.junction, scene.living, go)
    widths = rng.uniform(6, 13, many) if kind == "bundle" else rng.uniform(2.0, 3.6, many)
    return [Fibre(c, float(w), kind) for c, w in zip(courses, widths, strict=True)]
