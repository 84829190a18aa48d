"""Nerves of a phantom: fibres that cross the junction, their branches, and strays around them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from skinray.images.cohort.polylines import Points
from skinray.images.phantoms.junction import FRAME_PX, Bool, Junction, sample
from skinray.images.phantoms.texture import pick
from skinray.images.phantoms.walk import (
    APART_PX,
    Departures,
    Fibre,
    bezier,
    leaving,
    nearest,
    settle,
    turned,
    walk,
)

_BRANCHES = 0.35  # share of fibres with a branch, on either side of the junction


@dataclass(frozen=True)
class NerveField:
    """Where nerves grow, and how many.

    Attributes
    ----------
    living : (H, W) bool, tissue in which fibres can run.
    crossings : how often nerves should cross the junction.
    others : density of nerves that do not cross; 1 for an average control.
    """

    junction: Junction
    living: Bool
    crossings: int
    others: float


@dataclass(frozen=True)
class _Kind:
    """A kind of stray fibre: how many, on which side (+1 is dermis), and starting how deep."""

    name: str
    per_100_px: float
    per_100_000_px2: float
    side: int
    shallow_px: float
    deep_px: float


_KINDS = (
    _Kind("along", 1.1, 0, 1, 11, 32),
    _Kind("shy", 0.8, 0, 1, 30, 70),
    _Kind("epidermal", 0.55, 0, -1, 14, 60),
    _Kind("dermal", 0, 2.0, 1, 26, 1e9),
    _Kind("bundle", 0, 0.5, 1, 75, 1e9),
)


def grow_nerves(rng: np.random.Generator, field: NerveField) -> list[Fibre]:
    """Grow the nerves of ``field``; they cross ``field.crossings`` times if there is room."""
    accepted: list[Fibre] = []
    taken = np.empty((0, 2))
    count = 0
    singles = _singles(rng, field)
    proposals = [*singles, *_forks(rng, field, singles), *_arches(rng, field)]
    for index in rng.permutation(len(proposals)):
        fibre, near = settle(proposals[index], field.junction, taken)
        crosses = 0 if fibre is None else len(fibre.passes)
        if fibre is not None and 0 < crosses <= field.crossings - count:
            accepted.append(fibre)
            taken = np.vstack([taken, near])
            count += crosses
    for proposal in [*draw_branches(rng, field, accepted), *draw_strays(rng, field)]:
        fibre, _ = settle(proposal, field.junction, taken)
        if fibre is not None and not len(fibre.passes):
            accepted.append(fibre)
    return accepted


def _sites(rng: np.random.Generator, junction: Junction, apart_px: float, most: int) -> list[int]:
    """Choose indices of junction points at least ``apart_px`` from each other, off the frame."""
    height, width = junction.shape
    line = junction.line
    edge = FRAME_PX + 4
    clear = (line > edge).all(1) & (line < [width - 1 - edge, height - 1 - edge]).all(1)
    chosen: list[int] = []
    for index in rng.permutation(np.flatnonzero(clear)):
        if len(chosen) >= most:
            break
        if nearest(line[[index]], line[chosen]) >= apart_px:
            chosen.append(int(index))
    return chosen


def _width(rng: np.random.Generator) -> float:
    return float(rng.uniform(2.2, 3.6))


def _singles(rng: np.random.Generator, field: NerveField) -> list[Fibre]:
    """Return fibres that rise from the dermis and end freely in the epidermis."""
    junction = field.junction
    at = junction.line[_sites(rng, junction, APART_PX + 4, 2 * field.crossings + 6)]
    if not len(at):
        return []
    inward, angle = junction.inward_at(at), rng.normal(0, 0.33, len(at)).clip(-0.62, 0.62)
    down = walk(rng, junction, field.living, leaving(rng, at, turned(inward, angle), 1))
    up = walk(rng, junction, field.living, leaving(rng, at, turned(-inward, angle), -1))
    pairs = zip(down, up, strict=True)
    return [Fibre(np.vstack([d[::-1], u[1:]]), _width(rng), "crossing") for d, u in pairs]


def _forks(rng: np.random.Generator, field: NerveField, parents: list[Fibre]) -> list[Fibre]:
    """Return second prongs: they leave a parent below the junction and cross beside it."""
    junction = field.junction
    forks = []
    for parent in parents:
        depth = sample(junction.depth, parent.path)
        joints = np.flatnonzero((depth > 26) & (depth < 75))
        if not len(joints) or rng.random() > 0.3:
            continue
        joint = parent.path[int(rng.choice(joints))]
        away = np.hypot(*(junction.line - joint).T)
        feet = np.flatnonzero((away > 28) & (away < 85))
        if not len(feet):
            continue
        foot = junction.line[[int(rng.choice(feet))]]
        inward = junction.inward_at(foot)
        down = bezier(foot[0], foot[0] + 22 * inward[0], (foot[0] + joint) / 2, joint)
        heading = turned(-inward, rng.normal(0, 0.15, 1))
        up = walk(rng, junction, field.living, leaving(rng, foot, heading, -1))[0]
        forks.append(Fibre(np.vstack([down[::-1], up[1:]]), 0.9 * parent.width_px, "fork"))
    return forks


def _arches(rng: np.random.Generator, field: NerveField) -> list[Fibre]:
    """Return fibres that cross, turn in the epidermis (or a papilla), and cross back."""
    junction = field.junction
    arches = []
    for first in _sites(rng, junction, 90, int(rng.poisson(0.12 * field.crossings))):
        second = first + int(rng.uniform(28, 60))
        if second >= len(junction.line):
            continue
        feet: Points = junction.line[[first, second]]
        side = 1 if rng.random() < 0.75 else -1
        out = -side * junction.inward_at(feet)
        top = feet + out * rng.uniform(34, 62)
        heading = turned(-out, rng.normal(0, 0.1, 2))
        ends = walk(rng, junction, field.living, leaving(rng, feet, heading, side))
        arch = bezier(feet[0], top[0], top[1], feet[1])
        path = np.vstack([ends[0][::-1], arch[1:-1], ends[1]])
        arches.append(Fibre(path, _width(rng), "arch"))
    return arches


def draw_branches(rng: np.random.Generator, field: NerveField, parents: list[Fibre]) -> list[Fibre]:
    """Draw branches of some ``parents`` above and below the junction, leading away from it."""
    branches = []
    for side in (-1, 1):
        starts, headings, widths = [], [], []
        for parent in parents:
            far = sample(field.junction.depth, parent.path) * side
            joints = np.flatnonzero(far > 16)[4:-4]
            if not len(joints) or rng.random() > _BRANCHES:
                continue
            joint = int(rng.choice(joints))
            along = parent.path[joint + 2] - parent.path[joint - 2]
            if far[joint + 2] < far[joint - 2]:
                along = -along
            angle = rng.choice([-1, 1]) * rng.uniform(0.35, 0.9)
            starts.append(parent.path[joint])
            headings.append(np.arctan2(along[1], along[0]) + angle)
            widths.append(0.85 * parent.width_px)
        if starts:
            go = leaving(rng, np.array(starts), np.array(headings), side)
            courses = walk(rng, field.junction, field.living, go)
            branches += [Fibre(c, w, "branch") for c, w in zip(courses, widths, strict=True)]
    return branches


def draw_strays(rng: np.random.Generator, field: NerveField) -> list[Fibre]:
    """Draw fibres along the junction, in the dermis alone and in bundles, and in the epidermis."""
    fibres: list[Fibre] = []
    for kind in _KINDS:
        depth = field.junction.depth * kind.side
        region = (depth > kind.shallow_px) & (depth < kind.deep_px) & field.living
        many = kind.per_100_px * field.junction.length_px / 100
        many += kind.per_100_000_px2 * np.count_nonzero(region) / 1e5
        start = pick(rng, region, field.others * many)
        if len(start):
            fibres += _walk_kind(rng, field, kind, start)
    return fibres


def _walk_kind(
    rng: np.random.Generator, field: NerveField, kind: _Kind, start: Points
) -> list[Fibre]:
    """Walk fibres of one kind from ``start`` (N, 2)."""
    many = len(start)
    inward = field.junction.inward_at(start)
    heading = rng.uniform(-np.pi, np.pi, many)
    home, length = np.full(many, np.nan), rng.gamma(2.5, 40, many) + 20
    wander, width = rng.uniform(0.03, 0.12, many), rng.uniform(2.0, 3.6, many)
    if kind.name == "along":
        heading = turned(inward, rng.choice([-1, 1], many) * rng.normal(np.pi / 2, 0.2, many))
        home = rng.uniform(12, 30, many)
    elif kind.name == "shy":
        heading = turned(-inward, rng.normal(0, 0.5, many))
    elif kind.name == "epidermal":
        length = rng.gamma(2, 14, many) + 14
    elif kind.name == "bundle":
        length, width = rng.gamma(4, 50, many) + 60, rng.uniform(6, 13, many)
        wander = wander / 2
    sides = np.full(many, kind.side)
    go = Departures(start, heading, length, sides, wander, np.zeros(many), home)
    courses = walk(rng, field.junction, field.living, go)
    return [Fibre(c, float(w), kind.name) for c, w in zip(courses, width, strict=True)]
