"""The dermal-epidermal junction of a phantom: a smooth curve, and distances from it."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d

from skinray.images.cohort.polylines import Points

Bool = NDArray[np.bool_]
Float = NDArray[np.float32]

MIN_RADIUS_PX = 28.0
"""Tightest turn of the junction: the crossing stage smooths with sigma = 10 px and must still find
the same curve."""

FRAME_PX = 22
"""No crossing is nearer to the image frame, where smoothing sees the mirrored image."""

_OUTSIDE_PX = 80
_MOST_ROUNDS = 150


@dataclass(frozen=True)
class Junction:
    """The junction, and what nerves need to know about it.

    Attributes
    ----------
    line : (M, 2) float64, x and y in pixels, about 1 px apart, from frame to frame.
    dermis : (H, W) bool.
    depth : (H, W) float32, pixels from the junction, positive in the dermis.
    inward : (H, W, 2) float32, unit x and y pointing from the junction into the dermis.
    """

    line: Points
    dermis: Bool
    depth: Float
    inward: Float

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return self.dermis.shape[0], self.dermis.shape[1]

    @property
    def length_px(self) -> float:
        """Length of the junction within the frame."""
        return float(np.hypot(*np.diff(self.line, axis=0).T).sum())

    def inward_at(self, points: Points) -> Points:
        """Return unit vectors into the dermis at ``points`` (N, 2)."""
        height, width = self.shape
        column, row = np.round(points).astype(int).T
        found = self.inward[row.clip(0, height - 1), column.clip(0, width - 1)]
        return np.asarray(found, np.float64)


def resample(path: Points, step_px: float = 1.0) -> Points:
    """Return ``path`` with points ``step_px`` apart; both ends are kept."""
    along = np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(path, axis=0).T))])
    count = max(2, int(along[-1] / step_px) + 1)
    wanted = np.linspace(0.0, along[-1], count)
    return np.stack([np.interp(wanted, along, path[:, k]) for k in (0, 1)], axis=1)


def sample(field: Float, path: Points) -> Float:
    """Return bilinear values of ``field`` (H, W) at ``path`` (K, 2), outside it the nearest."""
    at = path.astype(np.float32)
    values = cv2.remap(field, at[:, :1], at[:, 1:], cv2.INTER_LINEAR, None, cv2.BORDER_REPLICATE)
    return np.asarray(values, np.float32)[:, 0]


def signed_depth(dermis: Bool) -> Float:
    """Return the distance of every pixel from the edge of ``dermis``, positive inside."""
    inside = cv2.distanceTransform(dermis.astype(np.uint8), cv2.DIST_L2, 5)
    outside = cv2.distanceTransform((~dermis).astype(np.uint8), cv2.DIST_L2, 5)
    return np.where(dermis, inside - 0.5, 0.5 - outside).astype(np.float32)


def build(line: Points, dermis: Bool) -> Junction:
    """Return the junction along a finished ``line``."""
    depth = signed_depth(dermis)
    soft = cv2.GaussianBlur(depth, (0, 0), 3)
    slope = np.stack([cv2.Scharr(soft, cv2.CV_32F, 1, 0), cv2.Scharr(soft, cv2.CV_32F, 0, 1)], -1)
    unit = slope / np.maximum(np.linalg.norm(slope, axis=-1, keepdims=True), 1e-6)
    return Junction(line, dermis, depth, np.asarray(unit, np.float32))


def survives_smoothing(dermis: Bool) -> bool:
    """Return whether smoothing moves the edge of ``dermis`` by at most 6 px, away from the frame.

    Smoothing is the crossing stage's (sigma 10 px, threshold .6). No part of the edge may
    disappear, and no new one appear.
    """
    soft = cv2.GaussianBlur(dermis.astype(np.float32), (0, 0), 10, borderType=cv2.BORDER_REFLECT)
    inner = (slice(FRAME_PX, -FRAME_PX), slice(FRAME_PX, -FRAME_PX))
    before, after = signed_depth(dermis)[inner], signed_depth(soft > 0.6)[inner]
    lost = np.abs(after[np.abs(before) < 1]).max(initial=0)
    gained = np.abs(before[np.abs(after) < 1]).max(initial=0)
    return float(max(lost, gained)) <= 6.5


def draw_junction(rng: np.random.Generator, size: tuple[int, int]) -> Junction:
    """Draw an undulating junction across a field of ``size`` (width, height), dermis below."""
    width, height = size
    line = resample(_ridges(rng, width, height))
    for _ in range(_MOST_ROUNDS):
        tight = _bend(line) > 1 / MIN_RADIUS_PX
        if not tight.any() and survives_smoothing(_fill_below(line, width, height)):
            break
        line = resample(_relax(line, tight if tight.any() else ~tight))
    dermis = _fill_below(line, width, height)
    return build(_within(line, width), dermis)


def _ridges(rng: np.random.Generator, width: int, height: int) -> Points:
    """Return rete ridges of varied depth and width on a slope, some of them leaning over."""
    x = np.arange(-_OUTSIDE_PX, width + _OUTSIDE_PX, dtype=np.float64)
    spacing = min(190.0, max(95.0, 0.42 * width))
    amplitude = min(125.0, 0.13 * height)
    y = np.full_like(x, height * rng.uniform(0.36, 0.46))
    y += np.tan(np.deg2rad(rng.uniform(-5, 5))) * (x - width / 2) * min(1.0, height / width)
    phase = rng.uniform(0, 2 * np.pi)
    y += 0.3 * amplitude * np.sin(phase + x / (spacing * rng.uniform(0.4, 0.9)))
    lean = np.zeros_like(x)
    centre = -_OUTSIDE_PX + rng.uniform(0, spacing)
    while centre < x[-1]:
        half = spacing * rng.uniform(0.22, 0.42)
        bump = np.exp(-(np.abs((x - centre) / half) ** rng.uniform(2.0, 3.5)))
        depth = amplitude * rng.uniform(0.2, 1.25)
        y += depth * bump
        lean += rng.normal(0, 0.28) * depth * bump
        centre += spacing * rng.uniform(0.6, 1.45)
    y += gaussian_filter1d(rng.standard_normal(x.size), 9, mode="wrap") * 6
    y = np.clip(y, 0.26 * height, 0.74 * height)
    inner = np.clip(np.minimum(x, width - x) / (0.5 * spacing), 0, 1)
    return np.stack([x + lean * inner, y], axis=1)


def _bend(line: Points) -> NDArray[np.float64]:
    """Return the curvature (1 / radius in pixels) of ``line`` at each point; 0 near its ends."""
    first = np.gradient(gaussian_filter1d(line, 2, axis=0, mode="nearest"), axis=0)
    second = np.gradient(first, axis=0)
    cross = np.abs(first[:, 0] * second[:, 1] - first[:, 1] * second[:, 0])
    bend = cross / np.maximum(np.hypot(*first.T), 1e-6) ** 3
    bend[:12] = bend[-12:] = 0
    return np.asarray(bend)


def _relax(line: Points, where: NDArray[np.bool_]) -> Points:
    """Smooth ``line`` around the points marked in ``where``, and only there."""
    share = np.minimum(1, 3 * gaussian_filter1d(where.astype(np.float64), 9))
    share[:12] = share[-12:] = 0
    soft = gaussian_filter1d(line, 6, axis=0, mode="nearest")
    return np.asarray(line + share[:, None] * (soft - line), np.float64)


def _fill_below(line: Points, width: int, height: int) -> Bool:
    far = height + 2 * _OUTSIDE_PX
    polygon = np.vstack([line, [[line[-1, 0], far], [line[0, 0], far]]])
    mask = np.zeros((height, width), np.uint8)
    cv2.fillPoly(mask, [np.round(polygon * 16).astype(np.int32)], 1, shift=4)
    return mask.astype(bool)


def _within(line: Points, width: int) -> Points:
    """Cut ``line`` at the left and right frame."""
    first = int(np.flatnonzero(line[:, 0] <= 0)[-1])
    last = int(np.flatnonzero(line[:, 0] >= width - 1)[0])
    return line[first : last + 1].clip([0, -np.inf], [width - 1, np.inf])
