"""Drawn skin: where its layers lie, its dermis, and all of it as concentrations of stain.

There are three stains: haematoxylin (nuclei), protein (the pale background) and chromogen (the
nerves, and anything else that took it up).
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from scipy.ndimage import gaussian_filter1d

from skinray.images.phantoms.epidermis import paint_corneum, paint_epidermis
from skinray.images.phantoms.junction import Bool, Float, Junction
from skinray.images.phantoms.texture import (
    Canvas,
    clouds,
    ellipse,
    ink,
    pick,
    streaks,
    streams,
    stroke,
)


@dataclass(frozen=True)
class SkinLayers:
    """Layers of a drawn field.

    Attributes
    ----------
    below : (H, W) float32, pixels below the surface of the living epidermis.
    corneum : (H, W) float32, from 0 at the epidermis to 1 at the outer edge; above 1 is air.
    """

    junction: Junction
    below: Float
    corneum: Float

    @property
    def living(self) -> Bool:
        """Dermis and living epidermis, (H, W)."""
        return np.asarray(self.below > 0)


def lay_skin(rng: np.random.Generator, junction: Junction, thickness: float) -> SkinLayers:
    """Place epidermis and stratum corneum above a junction; ``thickness`` is relative."""
    height, width = junction.shape
    top = np.argmax(junction.dermis, axis=0).astype(np.float64)
    swell = gaussian_filter1d(rng.standard_normal(width + 400), 45)[200 : 200 + width] * 45**0.5
    epidermis = min(160.0, 0.25 * height) * thickness
    surface = gaussian_filter1d(top, 70, mode="nearest") - epidermis * (1 + 0.13 * swell)
    surface = np.minimum(surface, gaussian_filter1d(top, 12, mode="nearest") - 26)
    surface = np.maximum(surface, 8)
    keratin = np.maximum(min(64.0, 0.08 * height) * thickness * (1 + 0.2 * swell), 6)
    below = np.arange(height, dtype=np.float32)[:, None] - surface[None].astype(np.float32)
    return SkinLayers(junction, below, -below / keratin[None].astype(np.float32))


def paint_skin(
    rng: np.random.Generator, skin: SkinLayers, clutter: float, pigment: float
) -> list[Float]:
    """Return concentrations of haematoxylin, protein and chromogen, each (H, W) float32.

    ``clutter`` is the amount of what looks like nerve but is not, ``pigment`` the melanin of the
    basal layer; 1 is typical.
    """
    layers = [np.zeros(skin.junction.shape, np.float32) for _ in range(3)]
    paint_dermis(rng, skin.junction, layers, clutter)
    paint_epidermis(rng, skin.junction, skin.below, layers, clutter, pigment)
    paint_corneum(rng, skin.corneum, layers)
    _paint_debris(rng, layers, clutter)
    return layers


def _paint_debris(rng: np.random.Generator, layers: list[Float], clutter: float) -> None:
    """Add specks of dust and precipitate."""
    height, width = layers[0].shape
    canvas = np.zeros((height, width), np.uint8)
    for _ in range(int(rng.poisson(clutter * height * width / 42000))):
        at = rng.uniform(0, 1, 2) * [width, height]
        size = (rng.uniform(0.8, 3.2), rng.uniform(0.8, 2.0))
        ellipse(canvas, at, size, rng.uniform(0, np.pi), rng.uniform(80, 255))
    layers[2] += 0.55 * ink(canvas, 0.6)


def paint_dermis(
    rng: np.random.Generator, junction: Junction, layers: list[Float], clutter: float
) -> None:
    """Add the dermis to ``layers``: fine near the junction, coarse bundles deeper."""
    shape = junction.shape
    if not junction.dermis.any():
        return
    soft = cv2.GaussianBlur(junction.dermis.astype(np.float32), (0, 0), 1.0)
    course = 0.3 * clouds(rng, shape, 320) + 0.22 * clouds(rng, shape, 110)
    course += np.float32(rng.normal(0, 0.2))
    body, uptake = _collagen(rng, junction, course)
    elastic = _elastic(rng, junction, course, clutter)
    nuclei, lumen = np.zeros(shape, np.uint8), np.zeros(shape, np.uint8)
    _paint_cells(rng, junction, course, nuclei)
    _paint_vessels(rng, junction, nuclei, lumen)
    shown = soft * (1 - 0.85 * ink(lumen, 0.8))
    grain = clouds(rng, shape, 4)
    layers[0] += shown * (0.016 + 0.06 * body + 0.007 * grain)
    layers[0] += soft * ink(nuclei) * (0.66 + 0.07 * grain)
    layers[1] += shown * np.maximum(0.03 + body + 0.010 * grain, 0.01)
    haze = np.maximum(0.02 + 0.022 * clouds(rng, shape, 130), 0)
    layers[2] += shown * (haze + uptake + 0.55 * elastic)
    layers[1] += shown * 0.12 * elastic


def _collagen(rng: np.random.Generator, junction: Junction, course: Float) -> tuple[Float, Float]:
    """Return protein and the chromogen it took up: fine near the junction, bundles deeper."""
    shape = junction.shape
    deep = np.clip((junction.depth - 30) / 90, 0, 1)
    coarse = np.clip(0.55 + 0.45 * streaks(rng, course, 10, 64), 0, 1.3)
    fine = np.clip(0.45 + 0.42 * streaks(rng, course, 4, 26), 0, 1.3)
    felt = 0.05 + 0.09 * fine
    bundles = 0.21 * coarse * (0.55 + 0.45 * fine)
    uneven = np.clip(1 + 0.22 * clouds(rng, shape, 150), 0.4, 1.8)
    body = (felt + deep * (bundles - felt)) * uneven
    taken = np.clip(0.35 + 0.45 * clouds(rng, shape, 75), 0.02, 1.5)
    return body, 0.62 * body * taken


def _elastic(rng: np.random.Generator, junction: Junction, course: Float, clutter: float) -> Float:
    """Return thin wavy fibres, as wide as nerves and nearly of their colour, without beads."""
    canvas = np.zeros(junction.shape, np.uint8)
    region = junction.depth > 9
    area = np.count_nonzero(region)
    for line in streams(rng, course, pick(rng, region, clutter * area / 3400), 90):
        stroke(canvas, line, rng.uniform(40, 190), int(rng.choice(3, p=[0.42, 0.46, 0.12])) + 1)
    for line in streams(rng, course, pick(rng, region, area / 700), 40, 0.6):
        stroke(canvas, line, rng.uniform(20, 90), int(rng.integers(1, 3)))
    return ink(canvas, 0.8)


def _paint_cells(
    rng: np.random.Generator, junction: Junction, course: Float, nuclei: Canvas
) -> None:
    """Paint fibroblasts along the collagen, and round cells between them."""
    region = junction.depth > 8
    for at in pick(rng, region, np.count_nonzero(region) / 2700):
        angle = float(course[int(max(at[1], 0)), int(max(at[0], 0))] + rng.normal(0, 0.4))
        if rng.random() < 0.75:
            size = (rng.uniform(5, 9.5), rng.uniform(1.3, 2.9))
            ellipse(nuclei, at, size, angle, rng.uniform(90, 215))
        else:
            size = (rng.uniform(3, 4.6), rng.uniform(2.8, 4))
            ellipse(nuclei, at, size, angle, rng.uniform(140, 240))


def _paint_vessels(
    rng: np.random.Generator, junction: Junction, nuclei: Canvas, lumen: Canvas
) -> None:
    """Paint capillaries: a pale lumen in a ring of nuclei, with a few white cells around it."""
    region = junction.depth > 24
    for at in pick(rng, region, np.count_nonzero(region) / 42000):
        angle, long = rng.uniform(0, np.pi), rng.uniform(6, 14)
        short = long * rng.uniform(0.4, 0.8)
        ellipse(lumen, at, (long, short), angle, 255)
        turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        for theta in rng.uniform(0, 2 * np.pi, int(rng.integers(4, 8))):
            rim = at + turn @ np.array([(long + 2) * np.cos(theta), (short + 2) * np.sin(theta)])
            size = (rng.uniform(3.5, 5.5), rng.uniform(1.6, 2.6))
            ellipse(nuclei, rim, size, angle + theta + np.pi / 2, rng.uniform(120, 220))
        for _ in range(int(rng.poisson(3))):
            near = at + rng.normal(0, long + 8, 2)
            ellipse(nuclei, near, (3.6, 3.3), 0.0, rng.uniform(140, 235))
