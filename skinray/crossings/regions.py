"""Enclosed areas of a mask, found from its runs instead of its pixels.

A row of a biopsy's mask changes its label only a few times, so a graph of runs is a hundred
times smaller than one of pixels.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components


def flip_enclosed(mask: NDArray[np.bool_], max_area_px: float) -> NDArray[np.bool_]:
    """Flip the label of every enclosed area smaller than ``max_area_px`` (paper 2.4).

    An area is a 4-connected component of pixels of either label. It is enclosed if none of its
    pixels touches the image frame. All areas are found on the input mask and flipped at once,
    so an island within a hole still differs from the hole. Takes and returns (H, W) bool.
    """
    height, width = mask.shape
    starts, lengths = _runs(mask)
    columns = starts % width
    rows = starts // width
    component = _components(mask, starts)
    area = np.bincount(component, weights=lengths)
    on_frame = (rows == 0) | (rows == height - 1) | (columns == 0) | (columns + lengths == width)
    enclosed = np.bincount(component, weights=on_frame) == 0
    flipped = (enclosed & (area < max_area_px))[component]
    result = mask.copy()
    flat = result.reshape(-1)
    for start, length in zip(starts[flipped], lengths[flipped], strict=True):
        flat[start : start + length] ^= True
    return result


def _runs(mask: NDArray[np.bool_]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the flat start and the length of every run of one label in a row, in scan order."""
    begins = np.ones(mask.shape, dtype=np.bool_)
    np.not_equal(mask[:, 1:], mask[:, :-1], out=begins[:, 1:])
    starts = np.flatnonzero(begins)
    return starts, np.diff(starts, append=mask.size)


def _components(mask: NDArray[np.bool_], starts: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the 4-connected component of every run.

    If two runs of neighbouring rows touch, one of them begins below or above the other, so it is
    enough to check below and above every start.
    """
    width = mask.shape[1]
    upper = np.concatenate([starts[starts < mask.size - width], starts[starts >= width] - width])
    lower = upper + width
    flat = mask.reshape(-1)
    touching = flat[upper] == flat[lower]
    above = np.searchsorted(starts, upper[touching], side="right") - 1
    below = np.searchsorted(starts, lower[touching], side="right") - 1
    count = len(starts)
    links = coo_array((np.ones(len(above), dtype=np.int8), (above, below)), shape=(count, count))
    return np.asarray(connected_components(links, directed=False)[1], dtype=np.int64)
