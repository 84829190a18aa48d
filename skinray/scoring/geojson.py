"""Crossings and boundary as GeoJSON that QuPath opens (File, Import objects).

The classes are those that ``images.cohort.polylines`` reads, so a file may become a label.

QuPath's coordinates are x, y in pixels of the full image, with 0, 0 at the corner of the first
pixel. The middle of a pixel is therefore half a pixel beyond its column and row.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from skinray.images.cohort import polylines
from skinray.images.cohort.polylines import MIDDLE
from skinray.scoring.overlays import BOUNDARY, CROSSING

DECIMALS = 3


def to_geojson(points: NDArray[np.float64], dermis: NDArray[np.bool_]) -> dict[str, Any]:
    """Return a FeatureCollection: a point for each crossing, a line for each piece of boundary.

    Parameters
    ----------
    points : (N, 2) row and column of the crossings.
    dermis : (H, W) bool, the dermis; its edge within the image is the boundary.
    """
    crossings = [
        _feature(polylines.CROSSING, n, CROSSING, "Point", _place(column, row))
        for n, (row, column) in enumerate(points, start=1)
    ]
    pieces = [
        _feature(polylines.BOUNDARY, n, BOUNDARY, "LineString", [_place(x, y) for x, y in line])
        for n, line in enumerate(edge_lines(dermis), start=1)
    ]
    return {"type": "FeatureCollection", "features": crossings + pieces}


def edge_lines(dermis: NDArray[np.bool_]) -> list[NDArray[np.int64]]:
    """Return the edge of a mask as polylines, (N, 2) x and y, without the image's frame."""
    found, _ = cv2.findContours(
        np.ascontiguousarray(dermis).view(np.uint8), cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE
    )
    height, width = dermis.shape
    lines = []
    for contour in found:
        ring = contour.reshape(-1, 2).astype(np.int64)
        x, y = ring.T
        framed = (x == 0) | (y == 0) | (x == width - 1) | (y == height - 1)
        lines += _pieces(ring, ~framed)
    return lines


def _pieces(ring: NDArray[np.int64], inside: NDArray[np.bool_]) -> list[NDArray[np.int64]]:
    """Cut a closed ring where it touches the frame; pieces keep the pixel where they meet it."""
    if inside.all():
        return [np.concatenate([ring, ring[:1]])] if len(ring) > 1 else []
    first = int(np.argmin(inside))
    ring, inside = np.roll(ring, -first, axis=0), np.roll(inside, -first)
    edges = np.flatnonzero(np.diff(np.concatenate([[False], inside, [False]]).astype(np.int8)))
    closed = np.concatenate([ring, ring[:1]])
    return [closed[start - 1 : end + 1] for start, end in edges.reshape(-1, 2)]


def _place(x: float, y: float) -> list[float]:
    return [round(float(x) + MIDDLE, DECIMALS), round(float(y) + MIDDLE, DECIMALS)]


def _feature(
    kind: str, number: int, colour: tuple[int, int, int], shape: str, coordinates: list[Any]
) -> dict[str, Any]:
    return {
        "type": "Feature",
        "geometry": {"type": shape, "coordinates": coordinates},
        "properties": {
            "objectType": "annotation",
            "name": f"{kind} {number}",
            "classification": {"name": kind, "color": list(colour)},
        },
    }
