"""Painted skin: where its layers lie, and the whole of it as concentrations of stain.

Three stains take part: haematoxylin (nuclei), protein (the pale background) and chromogen
(the nerves, and whatever else took it up).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter1d

from skinray.images.phantom_dermis import paint_dermis
from skinray.images.phantom_epidermis import paint_corneum, paint_epidermis
from skinray.images.phantom_junction import Bool, Float, Junction
from skinray.images.phantom_texture import ellipse, ink


@dataclass(frozen=True)
class Skin:
    """Layers of a painted field.

    Attributes
    ----------
    below : (H, W) float32, pixels below the surface of the living epidermis.
    corneum : (H, W) float32, 0 at the epidermis to 1 at the outer edge; beyond that: air.
    """

    junction: Junction
    below: Float
    corneum: Float

    @property
    def living(self) -> Bool:
        """Dermis and living epidermis, (H, W)."""
        return np.asarray(self.below > 0)


def lay_skin(rng: np.random.Generator, junction: Junction, thickness: float) -> Skin:
    """Lay epidermis and stratum corneum over a junction; ``thickness`` is relative."""
    height, width = junction.shape
    top = np.argmax(junction.dermis, axis=0).astype(np.float64)
    swell = gaussian_filter1d(rng.standard_normal(width + 400), 45)[200 : 200 + width] * 45**0.5
    epidermis = min(160.0, 0.25 * height) * thickness
    surface = gaussian_filter1d(top, 70, mode="nearest") - epidermis * (1 + 0.13 * swell)
    surface = np.minimum(surface, gaussian_filter1d(top, 12, mode="nearest") - 26)
    surface = np.maximum(surface, 8)
    keratin = np.maximum(min(64.0, 0.08 * height) * thickness * (1 + 0.2 * swell), 6)
    below = np.arange(height, dtype=np.float32)[:, None] - surface[None].astype(np.float32)
    return Skin(junction, below, -below / keratin[None].astype(np.float32))


def paint_skin(rng: np.random.Generator, skin: Skin, clutter: float, pigment: float) -> list[Float]:
    """Return concentrations of haematoxylin, protein and chromogen, each (H, W) float32.

    Parameters
    ----------
    clutter : how much there is that looks like nerve and is none; 1 is usual.
    pigment : melanin of the basal layer; 1 is usual.
    """
    layers = [np.zeros(skin.junction.shape, np.float32) for _ in range(3)]
    paint_dermis(rng, skin.junction, layers, clutter)
    paint_epidermis(rng, skin.junction, skin.below, layers, clutter, pigment)
    paint_corneum(rng, skin.corneum, layers)
    _paint_debris(rng, layers, clutter)
    return layers


def _paint_debris(rng: np.random.Generator, layers: list[Float], clutter: float) -> None:
    """Specks of dust and precipitate."""
    height, width = layers[0].shape
    canvas = np.zeros((height, width), np.uint8)
    for _ in range(int(rng.poisson(clutter * height * width / 42000))):
        at = rng.uniform(0, 1, 2) * [width, height]
        size = (rng.uniform(0.8, 3.2), rng.uniform(0.8, 2.0))
        ellipse(canvas, at, size, rng.uniform(0, np.pi), rng.uniform(80, 255))
    layers[2] += 0.55 * ink(canvas, 0.6)
