"""A drawn line, several pixels wide, traced from end to end along its middle."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array, csr_array
from scipy.sparse.csgraph import dijkstra

from skinray.images.file_errors import UnfitLabelError

_MAX_HALF_WIDTH_PX = 15.0
_MIN_SHARE = 0.98  # of the line's pixels that its largest piece, and the path along it, must cover
_STEPS = ((0, 1), (1, -1), (1, 0), (1, 1))  # down and right to half of the 8 neighbours


def trace_line(mask: NDArray[np.bool_], source: str) -> NDArray[np.float64]:
    """Order the pixels of a drawn line.

    The ends are the two pixels farthest apart along the line; the path between them keeps to
    the middle.

    Parameters
    ----------
    mask : (H, W) bool, the drawn line.
    source : the file, for messages.

    Returns (N, 2) float x, y: centres of pixels, with (0, 0) at the outer corner of the first
    pixel.
    Raises LabelError if the mask holds no line, several pieces, an area, branches, or a closed
    ring.
    """
    rows, columns = np.nonzero(mask)
    if rows.size < 2:
        raise UnfitLabelError(
            source, "contains no boundary line", "draw the line and export it again"
        )
    if rows.size > mask.size / 2:
        raise UnfitLabelError(
            source, f"marks {rows.size / mask.size:.0%} of the image", "invert it: the line is 255"
        )
    top, left = int(rows.min()), int(columns.min())
    tight = np.pad(mask[top : rows.max() + 1, left : columns.max() + 1], 1).astype(np.uint8)
    piece = _one_piece(tight, source)
    middle = cv2.distanceTransform(piece, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    half_width = float(middle.max())
    if half_width > _MAX_HALF_WIDTH_PX:
        raise UnfitLabelError(
            source,
            f"an area (up to {2 * half_width:.0f} px wide), not a line",
            "draw a line, or enter a filled mask in the manifest's column dermis",
        )
    path = _end_to_end(piece, middle)
    _check_covered(piece, path, half_width, source)
    trim = min(int(half_width), (len(path) - 2) // 2)  # the ends' corners pull the path aside
    path = path[trim : len(path) - trim]
    return np.asarray(path[:, ::-1] + [left - 0.5, top - 0.5], np.float64)


def _one_piece(mask: NDArray[np.uint8], source: str) -> NDArray[np.uint8]:
    """Return the largest connected piece; specks beside it are ignored."""
    count, labels, stats, _ = cv2.connectedComponentsWithStats(mask, connectivity=8)
    areas = stats[1:, cv2.CC_STAT_AREA]
    if areas.max() < _MIN_SHARE * areas.sum():
        raise UnfitLabelError(
            source, f"the boundary line is in {count - 1} pieces", "join them into one line"
        )
    return np.asarray(labels == 1 + int(areas.argmax()), np.uint8)


def _end_to_end(piece: NDArray[np.uint8], middle: NDArray[Any]) -> NDArray[np.int64]:
    """Return rows and columns, (N, 2), of the path between the two ends."""
    places = np.argwhere(piece)
    lengths = _neighbours(piece, np.ones_like(middle))
    first = _farthest(lengths, 0)
    last = _farthest(lengths, first)
    centred = _neighbours(piece, 1 / np.maximum(middle, 1e-3) ** 2)
    start = np.array([first])
    _, before = dijkstra(centred, directed=False, indices=start, return_predecessors=True)
    path = [last]
    while path[-1] != first:
        path.append(int(before[0, path[-1]]))
    return np.asarray(places[path[::-1]], np.int64)


def _farthest(graph: csr_array, start: int) -> int:
    distance = dijkstra(graph, directed=False, indices=np.array([start]))
    return int(np.argmax(distance[0]))


def _neighbours(piece: NDArray[np.uint8], cost: NDArray[Any]) -> csr_array:
    """Return the graph of the pixels: 8-neighbours, weighted by step length times mean cost."""
    index = np.full(piece.shape, -1)
    index[piece > 0] = np.arange(int(piece.sum()))
    starts, ends, weights = [], [], []
    for down, right in _STEPS:
        # The crop has an empty margin, so rolling never joins opposite edges.
        other = np.roll(index, (-down, -right), axis=(0, 1))
        both = (index >= 0) & (other >= 0)
        mean = (cost + np.roll(cost, (-down, -right), axis=(0, 1)))[both] / 2
        starts.append(index[both])
        ends.append(other[both])
        weights.append(mean * np.hypot(down, right))
    size = int(piece.sum())
    entries = (np.concatenate(weights), (np.concatenate(starts), np.concatenate(ends)))
    return coo_array(entries, shape=(size, size)).tocsr()


def _check_covered(
    piece: NDArray[np.uint8], path: NDArray[np.int64], half_width: float, source: str
) -> None:
    """Refuse a line with parts that the path from end to end misses (a branch or a ring)."""
    away = np.ones_like(piece)
    away[path[:, 0], path[:, 1]] = 0
    distance = cv2.distanceTransform(away, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    missed = (distance > 2 * half_width + 2) & (piece > 0)
    if missed.sum() > (1 - _MIN_SHARE) * piece.sum():
        raise UnfitLabelError(
            source,
            "the boundary line branches or forms a ring",
            "draw one open line from one edge of the tissue to the other",
        )
