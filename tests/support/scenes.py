"""Drawn skin for the tests: a wavy boundary with lines that cross, border, branch and stop."""

import cv2
import numpy as np


def draw_scene(seed, shape=(360, 480), lines=24):
    """Return a nerve mask and a dermis mask, (H, W) bool each, drawn from a seed."""
    rng = np.random.default_rng(seed)
    height, width = shape
    columns = np.arange(width)
    level = np.full(width, height * rng.uniform(0.35, 0.65))
    for _ in range(4):
        period, phase = rng.uniform(60, 300), rng.uniform(0, 6.3)
        level += rng.uniform(4, height / 12) * np.sin(columns / period * 6.28 + phase)
    dermis = (np.arange(height)[:, None] > level).astype(np.uint8)
    for _ in range(6):
        centre = (int(rng.integers(width)), int(rng.integers(height)))
        axes = (int(rng.integers(5, 40)), int(rng.integers(5, 40)))
        cv2.ellipse(dermis, centre, axes, 0, 0, 360, int(rng.integers(2)), -1)
    nerve = np.zeros(shape, dtype=np.uint8)
    for _ in range(lines):
        x = rng.integers(width)
        start = np.array([x, level[x] + rng.uniform(-40, 40)])
        steps = rng.normal(0, 8, (8, 2)) + rng.normal(0, 8, 2)
        path = np.round(start + np.cumsum(steps, axis=0)).astype(np.int32)
        cv2.polylines(nerve, [path], False, 1, int(rng.integers(1, 4)))
    return nerve > 0, dermis > 0


def blurred(mask, seed, amount=0.25):
    """Return a probability map that is unsure about the mask, (H, W) float32."""
    rng = np.random.default_rng(seed)
    noise = cv2.GaussianBlur(rng.standard_normal(mask.shape), (0, 0), 2) * 4
    soft = cv2.GaussianBlur(mask.astype(np.float64), (0, 0), 1)
    return np.clip(soft + amount * noise, 0, 1).astype(np.float32)
