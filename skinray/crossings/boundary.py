"""From a dermis map to the dermal-epidermal boundary (paper 2.4, first step)."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from skinray.config.biopsies import CrossingSettings
from skinray.crossings.maps import as_map, true_pixels
from skinray.crossings.regions import flip_enclosed

# The kernel reaches to 4 sigma (81 taps at sigma 10); the image is mirrored beyond its frame.
TRUNCATE = 4.0
BORDER = cv2.BORDER_REFLECT
# Two single-precision passes of 81 taps are accurate to about 1e-6. Pixels this close to the
# threshold are decided in double precision, so that a rotated image gives the rotated mask.
DOUBT = 1e-5
MANY_DOUBTS = 256
PAPER_SETTINGS = CrossingSettings()
CROSS = np.array([[0, 1, 0], [1, 1, 1], [0, 1, 0]], dtype=np.uint8)


def dermis_boundary(
    dermis: ArrayLike, settings: CrossingSettings = PAPER_SETTINGS
) -> NDArray[np.bool_]:
    """Return the pixels close to the edge of the smoothed dermis.

    Parameters
    ----------
    dermis : (H, W) mask, or float probabilities in [0, 1].
    settings : lengths in pixels of this image; the paper's figures by default.

    Returns (H, W) bool; the image frame is never boundary.
    Raises SkinrayError if ``dermis`` is not the map of one image.
    """
    values = as_map(dermis, "dermis map")
    smoothed = smooth(values, settings.sigma_px)
    return edge_band(dermis_area(values, smoothed, settings), settings.boundary_width_px)


def smooth(values: NDArray[Any], sigma_px: float) -> NDArray[np.float32]:
    """Return the Gaussian-smoothed map, (H, W) float32, mirrored beyond the frame."""
    weights = _gaussian(sigma_px)
    smoothed = cv2.sepFilter2D(values, cv2.CV_32F, weights, weights, borderType=BORDER)
    return np.asarray(smoothed, dtype=np.float32)


def dermis_area(
    values: NDArray[Any], smoothed: NDArray[np.float32], settings: CrossingSettings
) -> NDArray[np.bool_]:
    """Threshold the smoothed map and flip its small enclosed areas.

    Parameters
    ----------
    values : (H, W), the map before smoothing.
    smoothed : (H, W) float32, :func:`smooth` of it.
    settings : the threshold, the largest area to flip, and sigma for doubtful pixels.

    Returns (H, W) bool.
    """
    threshold = settings.dermis_threshold
    area = smoothed > threshold
    doubtful = true_pixels((smoothed > threshold - DOUBT) & (smoothed < threshold + DOUBT))
    if len(doubtful):
        exact = _smooth_exactly(values, settings.sigma_px, doubtful)
        area[tuple(doubtful.T)] = exact > threshold
    return flip_enclosed(area, settings.min_area_fraction * area.size)


def edge_band(area: NDArray[np.bool_], width_px: float) -> NDArray[np.bool_]:
    """Return the pixels within half of ``width_px`` of the edge of ``area``.

    The edge is every pixel of the area with a 4-neighbour outside the area; pixels beyond the
    image frame do not count. Distances are Euclidean, between pixel centres, so a width of 3
    gives the edge pixels and one pixel on either side of them.
    """
    pixels = area.view(np.uint8)
    edge = pixels - cv2.erode(pixels, CROSS)
    return np.asarray(cv2.dilate(edge, _disk(width_px / 2))).view(np.bool_)


def _gaussian(sigma_px: float) -> NDArray[np.float64]:
    reach = int(TRUNCATE * sigma_px + 0.5)
    weights = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma_px) ** 2)
    return np.asarray(weights / weights.sum())


def _disk(radius: float) -> NDArray[np.uint8]:
    reach = int(radius)
    offsets = np.arange(-reach, reach + 1)
    return (offsets[:, None] ** 2 + offsets**2 <= radius**2).astype(np.uint8)


def _smooth_exactly(
    values: NDArray[Any], sigma_px: float, pixels: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Return the smoothed map at ``pixels`` ((N, 2), row and column) in double precision."""
    weights = _gaussian(sigma_px)
    if len(pixels) > MANY_DOUBTS:
        whole = cv2.sepFilter2D(values, cv2.CV_64F, weights, weights, borderType=BORDER)
        return np.asarray(whole[tuple(pixels.T)])
    reach = len(weights) // 2
    offsets = np.arange(-reach, reach + 1)
    height, width = values.shape
    result = np.empty(len(pixels))
    for index, (row, column) in enumerate(pixels):
        window = values[np.ix_(_mirror(row + offsets, height), _mirror(column + offsets, width))]
        result[index] = weights @ window.astype(np.float64) @ weights
    return result


def _mirror(positions: NDArray[np.int64], size: int) -> NDArray[np.int64]:
    """Reflect positions into [0, size): ... 1 0 | 0 1 ... n-1 | n-1 n-2 ..."""
    folded = positions % (2 * size)
    return np.minimum(folded, 2 * size - 1 - folded)
