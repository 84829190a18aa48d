"""Brushes and textures for drawn tissue."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from skinray.images.cohort.polylines import Points
from skinray.images.phantoms.junction import Float

Canvas = NDArray[np.uint8]
_SHIFT = 4


def ellipse(
    canvas: Canvas, at: NDArray[np.float64], axes: tuple[float, float], angle: float, value: float
) -> None:
    """Fill an ellipse: centre x and y, half axes in pixels, radians, grey value."""
    scale = 1 << _SHIFT
    centre = (round(float(at[0]) * scale), round(float(at[1]) * scale))
    size = (max(1, round(axes[0] * scale)), max(1, round(axes[1] * scale)))
    turn = float(np.rad2deg(angle))
    cv2.ellipse(canvas, centre, size, turn, 0, 360, int(value), -1, cv2.LINE_AA, _SHIFT)


def stroke(canvas: Canvas, path: Points, value: float, width_px: int) -> None:
    """Draw a line of ``width_px`` along ``path`` (K, 2), x and y."""
    line = np.round(path * (1 << _SHIFT)).astype(np.int32)
    cv2.polylines(canvas, [line], False, int(value), width_px, cv2.LINE_AA, _SHIFT)


def ink(canvas: Canvas, blur_px: float = 0) -> Float:
    """Return a canvas as values of 0 to 1, blurred by ``blur_px``."""
    soft = cv2.GaussianBlur(canvas, (0, 0), blur_px) if blur_px else canvas
    return np.asarray(soft, np.float32) / np.float32(255)


def clouds(rng: np.random.Generator, shape: tuple[int, int], grain_px: float) -> Float:
    """Return smooth noise (H, W), mean 0 and deviation about 1, features ``grain_px`` wide."""
    height, width = shape
    grain_px = max(1.0, grain_px / 2)
    grid = (int(np.ceil(height / grain_px)) + 5, int(np.ceil(width / grain_px)) + 5)
    coarse = cv2.GaussianBlur(rng.standard_normal(grid, dtype=np.float32), (0, 0), 1.0)
    fine = cv2.resize(coarse, None, fx=grain_px, fy=grain_px, interpolation=cv2.INTER_LINEAR)
    top, left = (int(v) for v in rng.integers(0, int(2 * grain_px), 2))
    return np.asarray(3.6 * fine[top : top + height, left : left + width], np.float32)


def streaks(rng: np.random.Generator, course: Float, grain_px: float, length_px: float) -> Float:
    """Return noise stretched along the angle field ``course`` (H, W), like fibrous tissue.

    Line integral convolution at half resolution; mean 0, deviation about 1.
    """
    height, width = course.shape
    half = (max(1, width // 2), max(1, height // 2))
    small = cv2.resize(course, half, interpolation=cv2.INTER_AREA)
    noise = clouds(rng, (half[1], half[0]), grain_px / 2)
    cosine, sine = np.cos(small), np.sin(small)
    row, column = np.mgrid[0 : half[1], 0 : half[0]].astype(np.float32)
    total = noise.copy()
    step = np.float32(max(1.0, grain_px / 4))
    count = max(2, int(length_px / 4 / step))
    for sign in (-1, 1):
        x, y = column, row
        for _ in range(count):
            dx = cv2.remap(cosine, x, y, cv2.INTER_NEAREST, None, cv2.BORDER_REPLICATE)
            dy = cv2.remap(sine, x, y, cv2.INTER_NEAREST, None, cv2.BORDER_REPLICATE)
            x, y = x + sign * step * dx, y + sign * step * dy
            total += cv2.remap(noise, x, y, cv2.INTER_LINEAR, None, cv2.BORDER_REFLECT)
    full = cv2.resize(total, (width, height), interpolation=cv2.INTER_CUBIC)
    return np.asarray(full / max(float(total.std()), 1e-6), np.float32)


def streams(
    rng: np.random.Generator, course: Float, start: Points, length_px: float, spread: float = 0.4
) -> list[Points]:
    """Return wavy lines (K, 2) along the angle field ``course``, one from each ``start`` (N, 2)."""
    height, width = course.shape
    many = len(start)
    own, turn = rng.normal(0, spread, many), np.zeros(many)
    restless = rng.uniform(0.1, 0.4, many)
    at, trail = start.astype(np.float64), [start.astype(np.float64)]
    for _ in range(12):
        column = at[:, 0].astype(int).clip(0, width - 1)
        row = at[:, 1].astype(int).clip(0, height - 1)
        turn = 0.6 * turn + restless * rng.standard_normal(many)
        angle = course[row, column] + own + turn
        at = at + length_px / 12 * np.stack([np.cos(angle), np.sin(angle)], 1)
        trail.append(at)
    lines, counts = np.stack(trail, 1), rng.integers(7, 14, many)
    return [line[:count] for line, count in zip(lines, counts, strict=True)]


def pick(rng: np.random.Generator, region: NDArray[np.bool_], many: float) -> Points:
    """Draw about ``many`` places (N, 2), x and y, uniformly over ``region`` (H, W)."""
    spots = np.flatnonzero(region)
    if not spots.size:
        return np.empty((0, 2))
    chosen = spots[rng.integers(0, spots.size, int(rng.poisson(many)))]
    row, column = np.divmod(chosen, region.shape[1])
    return np.stack([column, row], 1) + rng.uniform(-0.5, 0.5, (chosen.size, 2))
