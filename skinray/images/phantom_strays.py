"""Nerves that never cross the junction: branches, the plexus below it, bundles, fragments."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from skinray.images.phantom_junction import Bool, Junction, Points, sample
from skinray.images.phantom_passes import Fibre
from skinray.images.phantom_texture import pick
from skinray.images.phantom_walk import Departures, leaving, turned, walk

_BRANCHES = 0.35


@dataclass(frozen=True)
class Scene:
    """What nerves grow in.

    Attributes
    ----------
    living : (H, W) bool, tissue that fibres can run in.
    crossings : how often nerves are to cross the junction.
    others : density of nerves that do not cross, 1 for an average control.
    """

    junction: Junction
    living: Bool
    crossings: int
    others: float


@dataclass(frozen=True)
class _Kind:
    """A kind of stray fibre: how many, on which side (+1 dermis), starting how deep."""

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


def draw_branches(rng: np.random.Generator, scene: Scene, parents: list[Fibre]) -> list[Fibre]:
    """Let some of ``parents`` branch above and below the junction, away from it."""
    branches = []
    for side in (-1, 1):
        starts, headings, widths = [], [], []
        for parent in parents:
            far = sample(scene.junction.depth, parent.path) * side
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
            courses = walk(rng, scene.junction, scene.living, go)
            branches += [Fibre(c, w, "branch") for c, w in zip(courses, widths, strict=True)]
    return branches


def draw_strays(rng: np.random.Generator, scene: Scene) -> list[Fibre]:
    """Draw fibres along the junction, free in the dermis, in bundles, and bits above."""
    fibres: list[Fibre] = []
    for kind in _KINDS:
        depth = scene.junction.depth * kind.side
        region = (depth > kind.shallow_px) & (depth < kind.deep_px) & scene.living
        many = kind.per_100_px * scene.junction.length_px / 100
        many += kind.per_100_000_px2 * np.count_nonzero(region) / 1e5
        start = pick(rng, region, scene.others * many)
        if len(start):
            fibres += _walk_kind(rng, scene, kind, start)
    return fibres


def _walk_kind(rng: np.random.Generator, scene: Scene, kind: _Kind, start: Points) -> list[Fibre]:
    """Walk fibres of one kind from ``start`` (N, 2)."""
    many = len(start)
    inward = scene.junction.inward_at(start)
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
    courses = walk(rng, scene.junction, scene.living, go)
    return [Fibre(c, float(w), kind.name) for c, w in zip(courses, width, strict=True)]
