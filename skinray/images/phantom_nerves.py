"""Nerves of a phantom: fibres that cross the junction, and all the others round them."""

from __future__ import annotations

import numpy as np

from skinray.images.phantom_junction import FRAME_PX, Junction, Points, sample
from skinray.images.phantom_passes import APART_PX, Fibre, nearest, settle
from skinray.images.phantom_strays import Scene, draw_branches, draw_strays
from skinray.images.phantom_walk import bezier, leaving, turned, walk


def grow_nerves(rng: np.random.Generator, scene: Scene) -> list[Fibre]:
    """Grow the nerves of ``scene``; they cross ``scene.crossings`` times if there is room."""
    accepted: list[Fibre] = []
    taken = np.empty((0, 2))
    count = 0
    singles = _singles(rng, scene)
    proposals = [*singles, *_forks(rng, scene, singles), *_arches(rng, scene)]
    for index in rng.permutation(len(proposals)):
        fibre, near = settle(proposals[index], scene.junction, taken)
        crosses = 0 if fibre is None else len(fibre.passes)
        if fibre is not None and 0 < crosses <= scene.crossings - count:
            accepted.append(fibre)
            taken = np.vstack([taken, near])
            count += crosses
    for proposal in [*draw_branches(rng, scene, accepted), *draw_strays(rng, scene)]:
        fibre, _ = settle(proposal, scene.junction, taken)
        if fibre is not None and not len(fibre.passes):
            accepted.append(fibre)
    return accepted


def _sites(rng: np.random.Generator, junction: Junction, apart_px: float, most: int) -> list[int]:
    """Choose indices of junction points at least ``apart_px`` from each other and off the frame."""
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


def _singles(rng: np.random.Generator, scene: Scene) -> list[Fibre]:
    """Fibres that come up from the dermis and end free in the epidermis."""
    junction = scene.junction
    at = junction.line[_sites(rng, junction, APART_PX + 4, 2 * scene.crossings + 6)]
    if not len(at):
        return []
    inward, angle = junction.inward_at(at), rng.normal(0, 0.33, len(at)).clip(-0.62, 0.62)
    down = walk(rng, junction, scene.living, leaving(rng, at, turned(inward, angle), 1))
    up = walk(rng, junction, scene.living, leaving(rng, at, turned(-inward, angle), -1))
    pairs = zip(down, up, strict=True)
    return [Fibre(np.vstack([d[::-1], u[1:]]), _width(rng), "crossing") for d, u in pairs]


def _forks(rng: np.random.Generator, scene: Scene, parents: list[Fibre]) -> list[Fibre]:
    """Second prongs: fibres that part from a parent below the junction and cross beside it."""
    junction = scene.junction
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
        up = walk(rng, junction, scene.living, leaving(rng, foot, heading, -1))[0]
        forks.append(Fibre(np.vstack([down[::-1], up[1:]]), 0.9 * parent.width_px, "fork"))
    return forks


def _arches(rng: np.random.Generator, scene: Scene) -> list[Fibre]:
    """Fibres that cross, turn in the epidermis (or in a papilla) and cross back."""
    junction = scene.junction
    arches = []
    for first in _sites(rng, junction, 90, int(rng.poisson(0.12 * scene.crossings))):
        second = first + int(rng.uniform(28, 60))
        if second >= len(junction.line):
            continue
        feet: Points = junction.line[[first, second]]
        side = 1 if rng.random() < 0.75 else -1
        out = -side * junction.inward_at(feet)
        top = feet + out * rng.uniform(34, 62)
        heading = turned(-out, rng.normal(0, 0.1, 2))
        ends = walk(rng, junction, scene.living, leaving(rng, feet, heading, side))
        arch = bezier(feet[0], top[0], top[1], feet[1])
        path = np.vstack([ends[0][::-1], arch[1:-1], ends[1]])
        arches.append(Fibre(path, _width(rng), "arch"))
    return arches
