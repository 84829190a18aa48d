"""Cut an image into overlapping tiles, and blend maps of the tiles into one without a seam.

Tiles begin at multiples of ``ALIGN_PX``, so that the coarse grid of a network lies on the same
pixels in every tile as in the whole image. Where tiles overlap, their maps are mixed by weights
that rise from 0 to 1 over the middle half of the overlap: the outermost pixels of a tile, which a
network sees with too little round them, count for nothing. The weights of all tiles sum to 1 at
every pixel.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

# The coarsest stride of the networks in use is 16; a power of two above it does no harm.
ALIGN_PX = 32


@dataclass(frozen=True)
class Tile:
    """A part of an image.

    Attributes
    ----------
    rows, columns : where it lies, in pixels of the image.
    row_weights, column_weights : (h,) and (w,) float32; the weight of a pixel of the tile is
        their product.
    """

    rows: slice
    columns: slice
    row_weights: NDArray[np.float32]
    column_weights: NDArray[np.float32]


def cut(shape: tuple[int, int], tile_px: int, overlap_px: int) -> Iterator[Tile]:
    """Yield the tiles of an image of ``shape`` (height, width), row by row.

    Parameters
    ----------
    shape : height and width of the image, each at least 1.
    tile_px : side of a tile, a multiple of ``ALIGN_PX``; the last of a row or column may be
        smaller.
    overlap_px : shared by neighbours, a multiple of ``ALIGN_PX`` and at most half of a tile.

    Raises
    ------
    ValueError
        If the sides do not fit together.
    """
    if tile_px % ALIGN_PX or overlap_px % ALIGN_PX or not 0 < overlap_px <= tile_px // 2:
        raise ValueError(f"tiles of {tile_px} px cannot overlap by {overlap_px} px")
    columns = _spans(shape[1], tile_px, overlap_px)
    for row, row_weights in _spans(shape[0], tile_px, overlap_px):
        for column, column_weights in columns:
            yield Tile(row, column, row_weights, column_weights)


def blend(
    maps: Iterable[tuple[Tile, NDArray[np.float32]]], shape: tuple[int, ...]
) -> NDArray[np.float32]:
    """Mix the tiles' maps into one map of the image, (H, W) float32; or of N images, (N, H, W).

    Each map is (h, w) or (N, h, w) float32 on the pixels of its tile; one is held at a time.
    """
    whole = np.zeros(shape, np.float32)
    for tile, values in maps:
        whole[..., tile.rows, tile.columns] += (
            values * tile.row_weights[:, None] * tile.column_weights[None, :]
        )
    return whole


def _spans(length: int, tile: int, overlap: int) -> list[tuple[slice, NDArray[np.float32]]]:
    """Cut one side: where each span lies, and its weights; these sum to 1 at every pixel."""
    step = tile - overlap
    starts = [0]
    while starts[-1] + tile < length:
        starts.append(starts[-1] + step)
    spans = []
    for index, start in enumerate(starts):
        end = min(start + tile, length)
        weights = np.ones(end - start, np.float32)
        if index > 0:
            weights[:overlap] = _rise(overlap)
        if index < len(starts) - 1:
            weights[-overlap:] = 1 - _rise(overlap)
        spans.append((slice(start, end), weights))
    return spans


def _rise(overlap: int) -> NDArray[np.float32]:
    """Weights over an overlap: 0 in the first quarter, 1 in the last, a slope between."""
    at = (np.arange(overlap) + 0.5) / overlap
    return np.clip(2 * at - 0.5, 0, 1).astype(np.float32)
