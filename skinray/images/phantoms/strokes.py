"""The look of a nerve fibre: beaded, uneven, fading, in or out of focus."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d

from skinray.images.cohort.polylines import Points
from skinray.images.phantoms.junction import Float
from skinray.images.phantoms.walk import Fibre

_FOCUS_SIGMA_PX = (0.0, 0.9, 1.7)


def visibility(rng: np.random.Generator, fibre: Fibre) -> NDArray[np.float64]:
    """Return the stain at each point of the fibre's path, from about .3 (faint) to 1.2 (bead)."""
    many = len(fibre.path)
    level = rng.uniform(0.62, 1.05)
    slow = gaussian_filter1d(rng.standard_normal(many), 30, mode="nearest") * 30**0.5 * 1.9
    fade = np.clip(level + 0.14 * slow, 0.34, 1.1)
    ends = np.minimum(1, 0.45 + np.arange(many)[::-1] / 30)
    return np.asarray(fade * ends)


def stain_nerves(
    rng: np.random.Generator, fibres: list[Fibre], shape: tuple[int, int]
) -> tuple[Float, list[NDArray[np.float64]]]:
    """Draw all fibres as concentration of chromogen, (H, W) float32, about 0 to 1.2.

    Returns the map, and the strength along each fibre's path, from which experts miss faint ones.
    """
    layers = [np.zeros(shape, np.float32) for _ in _FOCUS_SIGMA_PX]
    strengths = []
    for fibre in fibres:
        strength = visibility(rng, fibre)
        strengths.append(strength)
        layer = layers[int(rng.choice(3, p=[0.6, 0.3, 0.1]))]
        for path, width, level in _strands(rng, fibre, strength):
            _splat(layer, path, width / 2.355, level)
    total = np.zeros(shape, np.float32)
    for layer, sigma in zip(layers, _FOCUS_SIGMA_PX, strict=True):
        total = np.maximum(total, cv2.GaussianBlur(layer, (0, 0), sigma) if sigma else layer)
    return total, strengths


def _strands(
    rng: np.random.Generator, fibre: Fibre, strength: NDArray[np.float64]
) -> list[tuple[Points, NDArray[np.float64], NDArray[np.float64]]]:
    """Return path, width and level of each strand of a fibre; only a bundle has several."""
    if fibre.kind != "bundle":
        beads = _beads(rng, len(fibre.path))
        width = fibre.width_px * (0.86 + 0.5 * beads)
        return [(fibre.path, width, strength * (0.8 + 0.42 * beads))]
    along = np.gradient(gaussian_filter1d(fibre.path, 3, axis=0, mode="nearest"), axis=0)
    across = along[:, ::-1] * [-1, 1] / np.maximum(np.hypot(*along.T), 1e-6)[:, None]
    strands = []
    for place in np.linspace(-0.5, 0.5, max(3, round(fibre.width_px / 2.2))):
        sway = gaussian_filter1d(rng.standard_normal(len(along)), 14, mode="nearest") * 4
        shift = place * fibre.width_px + sway
        level = strength * rng.uniform(0.4, 0.9) * (0.85 + 0.3 * _beads(rng, len(along)))
        strands.append((fibre.path + shift[:, None] * across, np.full(len(along), 2.8), level))
    return strands


def _beads(rng: np.random.Generator, many: int) -> NDArray[np.float64]:
    """Return varicosities: bumps of 0 to 1 at irregular distances of about 8 to 18 px."""
    at = np.cumsum(rng.uniform(7, 19, many // 7 + 2))
    at = at[at < many].astype(int)
    spikes = np.zeros(many)
    spikes[at] = rng.uniform(0.3, 1.0, at.size)
    return np.asarray(gaussian_filter1d(spikes, 1.9, mode="constant") * 1.9 * 2.507)


def _splat(
    layer: Float, path: Points, sigma: NDArray[np.float64], level: NDArray[np.float64]
) -> None:
    """Draw a soft dot of ``sigma`` and ``level`` at each point; the darkest value is kept."""
    height, width = layer.shape
    reach = int(np.ceil(2.6 * float(sigma.max())))
    corner = np.round(path).astype(np.int64)
    offset = np.arange(-reach, reach + 1)
    rows = corner[:, 1, None, None] + offset[None, :, None]
    columns = corner[:, 0, None, None] + offset[None, None, :]
    square = (rows - path[:, 1, None, None]) ** 2 + (columns - path[:, 0, None, None]) ** 2
    dots = level[:, None, None] * np.exp(-square / (2 * sigma[:, None, None] ** 2))
    rows, columns = np.broadcast_arrays(rows, columns)
    inside = (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)
    flat = (rows * width + columns)[inside]
    np.maximum.at(layer.reshape(-1), flat, dots[inside].astype(np.float32))


def strength_at(fibre: Fibre, strength: NDArray[np.float64], at: Points) -> float:
    """Return the mean strength of ``fibre`` within 8 px of the point ``at``."""
    near = np.hypot(*(fibre.path - at).T) < 8
    return float(strength[near].mean()) if near.any() else 0.0
