"""Drawn epidermis: cells and nuclei, the dark basal row, pigment, the stratum corneum."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from skinray.images.cohort.polylines import Points
from skinray.images.phantoms.junction import Float, Junction
from skinray.images.phantoms.texture import Canvas, clouds, ellipse, ink, pick, stroke

_BASAL_PX = 15.0


def paint_epidermis(
    rng: np.random.Generator,
    junction: Junction,
    below: Float,
    layers: list[Float],
    clutter: float,
    pigment: float,
) -> None:
    """Add the living epidermis to ``layers``; ``below`` is the depth under its surface."""
    shape = junction.shape
    region = (below > 0) & ~junction.dermis
    cells = _cell_places(rng, junction, below)
    if not len(cells):
        return
    tone, border = _cell_mosaic(rng, cells, shape)
    nuclei, halo, granules = (np.zeros(shape, np.uint8) for _ in range(3))
    for at in cells:
        _paint_cell(rng, at, junction, below, (nuclei, halo, granules), pigment)
    _paint_dendritic_cells(rng, (junction.depth < -12) & (below > 12), granules, clutter)
    soft = cv2.GaussianBlur(region.astype(np.float32), (0, 0), 1.0)
    basal = np.exp(np.minimum(junction.depth, 0) / 22)
    upper = np.clip(1 - below / 34, 0, 1)
    grain = clouds(rng, shape, 3)
    shown = soft * (1 - 0.6 * ink(halo))
    base = 0.10 + 0.05 * basal + 0.028 * tone + 0.016 * grain + 0.025 * clouds(rng, shape, 80)
    layers[0] += shown * base * (1 - 0.5 * border)
    layers[0] += soft * ink(nuclei) * (0.60 + 0.07 * grain)
    layers[1] += shown * (0.15 + 0.10 * upper + 0.03 * tone)
    haze = 0.12 + 0.07 * clouds(rng, shape, 110) + 0.16 * upper + 0.05 * pigment * basal
    layers[2] += shown * np.maximum(haze, 0.01) + soft * ink(granules) * 0.75


def _cell_places(rng: np.random.Generator, junction: Junction, below: Float) -> Points:
    """Return centres of cells (N, 2): a row along the junction, loosely packed ones above."""
    height, width = junction.shape
    basal = junction.line[:: int(rng.integers(10, 13))]
    basal = basal - junction.inward_at(basal) * rng.uniform(6.5, 11.5, (len(basal), 1))
    basal = basal + rng.normal(0, 1.2, basal.shape)
    step = 18.0
    grid = np.mgrid[0 : height : step * 0.87, 0:width:step].astype(np.float64)
    grid[1, 1::2] += step / 2
    upper = np.stack([grid[1].ravel(), grid[0].ravel()], 1)
    upper += rng.normal(0, 3.0, upper.shape)
    places = np.vstack([basal, upper]).clip(0, [width - 1, height - 1])
    column, row = places.astype(int).T
    depth, under = junction.depth[row, column], below[row, column]
    first = np.arange(len(places)) < len(basal)
    return np.asarray(places[(first & (depth < -3)) | (~first & (depth < -19) & (under > 9))])


def _cell_mosaic(
    rng: np.random.Generator, cells: Points, shape: tuple[int, int]
) -> tuple[Float, Float]:
    """Return the tone of each pixel's cell (deviation 1), and how much the pixel is border."""
    seeds = np.full(shape, 255, np.uint8)
    column, row = cells.astype(int).T
    seeds[row, column] = 0
    kind = cv2.DIST_LABEL_PIXEL
    _, owner = cv2.distanceTransformWithLabels(seeds, cv2.DIST_L2, 5, labelType=kind)
    tones = rng.standard_normal(int(owner.max()) + 1).astype(np.float32)
    edge = np.zeros(shape, np.float32)
    edge[:, 1:] += owner[:, 1:] != owner[:, :-1]
    edge[1:] += owner[1:] != owner[:-1]
    border = cv2.GaussianBlur(np.minimum(edge, 1), (0, 0), 0.8)
    tone = cv2.GaussianBlur(tones[owner], (0, 0), 1)
    return np.asarray(tone, np.float32), np.asarray(border, np.float32)


def _paint_cell(
    rng: np.random.Generator,
    at: NDArray[np.float64],
    junction: Junction,
    below: Float,
    canvases: tuple[Canvas, Canvas, Canvas],
    pigment: float,
) -> None:
    """Paint nucleus, pale halo and pigment of a cell: upright in the basal row, flat on top."""
    nuclei, halo, granules = canvases
    place = int(at[1]), int(at[0])
    upright = float(np.arctan2(junction.inward[place][1], junction.inward[place][0]))
    long = rng.uniform(5.2, 7.4)
    if -junction.depth[place] < _BASAL_PX:
        angle = upright + rng.normal(0, 0.3)
        ellipse(nuclei, at, (long, long * rng.uniform(0.45, 0.65)), angle, rng.uniform(140, 235))
        if rng.random() < 0.55 * pigment:
            _paint_granules(rng, at, granules)
        return
    flat = float(np.clip(1 - below[place] / 45, 0, 1))
    angle = upright + rng.normal(0, 0.3) + np.pi / 2 * (rng.random() < 0.4 + flat)
    short = long * (rng.uniform(0.6, 0.85) - 0.3 * flat)
    if rng.random() < 0.45:
        ellipse(halo, at, (long + 2.5, short + 2.2), angle, rng.uniform(70, 170))
    ellipse(nuclei, at, (long, short), angle, rng.uniform(80, 190))
    inner = at + rng.normal(0, 0.6, 2)
    ellipse(nuclei, inner, (0.62 * long, 0.58 * short), angle, rng.uniform(60, 140))


def _paint_granules(rng: np.random.Generator, at: NDArray[np.float64], granules: Canvas) -> None:
    """Paint melanin: brown grains over a basal cell."""
    for _ in range(int(rng.integers(3, 10))):
        size = (rng.uniform(0.9, 2.4), rng.uniform(0.8, 1.6))
        spot = at + rng.normal(0, 3.4, 2)
        ellipse(granules, spot, size, rng.uniform(0, np.pi), rng.uniform(70, 230))


def _paint_dendritic_cells(
    rng: np.random.Generator, region: NDArray[np.bool_], canvas: Canvas, clutter: float
) -> None:
    """Paint stained cells with short arms, which look like pieces of nerve."""
    for at in pick(rng, region, clutter * np.count_nonzero(region) / 12000):
        value = rng.uniform(100, 220)
        size = (rng.uniform(3, 5), rng.uniform(2.2, 3.6))
        ellipse(canvas, at, size, rng.uniform(0, np.pi), value)
        for angle in rng.uniform(0, 2 * np.pi, int(rng.integers(2, 5))):
            bend = angle + np.cumsum(rng.normal(0, 0.35, 4))
            steps = np.stack([np.cos(bend), np.sin(bend)], 1) * rng.uniform(1.8, 4.0)
            stroke(canvas, np.vstack([at, at + steps.cumsum(0)]), value, int(rng.integers(1, 3)))


def paint_corneum(rng: np.random.Generator, out: Float, layers: list[Float]) -> None:
    """Add wavy lamellae that flake off outwards; ``out`` is 0 to 1 across them."""
    shape = (out.shape[0], out.shape[1])
    place = out + 0.12 * clouds(rng, shape, 90) + 0.05 * clouds(rng, shape, 26)
    band = np.sin(place * rng.uniform(20, 30) + 2 * clouds(rng, shape, 140))
    flakes = clouds(rng, shape, 34)
    loose = 1.15 * np.clip(place, 0, 1.4) + 0.3 * flakes - 1.4
    inside = (out > 0) & (place < 1 + 0.12 * flakes) & ~((band < loose) & (place > 0.2))
    soft = cv2.GaussianBlur(inside.astype(np.float32), (0, 0), 1.0)
    tone = 1 + 0.28 * band + 0.2 * flakes
    layers[0] += soft * 0.04
    layers[1] += soft * np.maximum(0.2 * tone, 0.05)
    patchy = 0.3 * tone + 0.12 * clouds(rng, shape, 60)
    layers[2] += soft * np.maximum(patchy, 0.05)
