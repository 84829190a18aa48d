"""A network's probability maps of whole images, in overlapping tiles where images are large.

Scoring, the service and training all predict with these functions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from skinray.config.images import PredictSettings
from skinray.errors import AbandonedError, ImageError
from skinray.images.cohort.common_scale import resized, scale_factor
from skinray.models import working_scale

# In a stack of images, sums may round differently. This is the largest difference of a probability
# from that of the image alone, in float32 on a CPU (measured by benchmarks/serve/batches.py).
STACK_TOLERANCE = 1e-2
WHOLE = PredictSettings()
# Axes along which an image is mirrored: none, left-right, up-down, both.
MIRRORED: tuple[tuple[int, ...], ...] = ((), (1,), (0,), (0, 1))
# Whether nobody waits for the maps any more; asked from the thread that computes them.
Gone = Callable[[], bool]
# A multiple of the coarsest stride of the networks, 16.
ALIGN_PX = 32


def predict_map(
    network: nn.Module,
    image: NDArray[np.uint8],
    device: torch.device | None = None,
    settings: PredictSettings = WHOLE,
) -> NDArray[np.float32]:
    """Return the probability map of one image, (H, W) float32; see :func:`predict_maps`."""
    result: NDArray[np.float32] = predict_maps(network, [image], device, settings)[0]
    return result


def predict_maps(
    network: nn.Module,
    images: Sequence[NDArray[np.uint8]],
    device: torch.device | None = None,
    settings: PredictSettings = WHOLE,
    factor: float = 1.0,
    gone: Gone = lambda: False,
) -> NDArray[np.float32]:
    """Return the probability maps of images of one size, in tiles if they are large.

    All images, or all tiles at one position, go through the network in one pass. A single image
    always gives the same map; in a stack, the map is within ``STACK_TOLERANCE`` of it.

    Parameters
    ----------
    network : maps (N, 3, H, W) float RGB in 0..1 to (N, 1, H, W) logits, at its working scale.
    images : N of (H, W, 3) uint8, RGB; all of the same size.
    device : the network's device; None: the CPU.
    settings : when and how to cut tiles, and whether to average over mirrored images.
    factor : the network's training pixels per image pixel, at full scale.
    gone : asked before each pass of the network; True ends the work.

    Returns
    -------
    (N, H, W) float32 in 0..1, on the pixels of the images and in their order.

    Raises
    ------
    ImageError
        If an array is not an 8-bit RGB image, for which the map would be wrong.
    AbandonedError
        If the work was ended.
    """
    for image in images:
        refuse_other_arrays(image)
    device, factor = device or torch.device("cpu"), factor * working_scale(network)
    seen = [resized(image, factor) for image in images]
    with evaluating(network), torch.inference_mode():
        if settings.mirrored == 1:
            maps = _maps(network, seen, device, settings, gone)
        else:
            total = np.zeros((len(seen), *seen[0].shape[:2]), np.float32)
            for axes in MIRRORED[: settings.mirrored]:
                flipped = [np.flip(image, axes) for image in seen]
                views = _maps(network, flipped, device, settings, gone)
                total += np.flip(views, tuple(axis + 1 for axis in axes))
            maps = np.asarray(total / np.float32(settings.mirrored), np.float32)
    if factor == 1:
        return maps
    height, width = images[0].shape[:2]
    back = [cv2.resize(one, (width, height), interpolation=cv2.INTER_LINEAR) for one in maps]
    return np.asarray(back, np.float32)


def refuse_other_arrays(image: Any) -> None:
    """Raise ImageError, which says what to give, unless ``image`` is an 8-bit RGB array."""
    remedy = "give (height, width, 3) uint8 in RGB order, as skinray.read_image returns it"
    if not isinstance(image, np.ndarray):
        raise ImageError(f"image of type {type(image).__name__}: {remedy}")
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or image.size == 0:
        raise ImageError(f"image of shape {image.shape} and type {image.dtype}: {remedy}")


@contextmanager
def evaluating(network: nn.Module) -> Iterator[None]:
    """Set the network to evaluation mode within a block, then restore its mode."""
    before = network.training
    network.eval()
    try:
        yield
    finally:
        network.train(before)


def _maps(
    network: nn.Module,
    images: Sequence[NDArray[np.uint8]],
    device: torch.device,
    settings: PredictSettings,
    gone: Gone,
) -> NDArray[np.float32]:
    def passed(part: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        if gone():
            raise AbandonedError("nobody waits for this image any more")
        return _forward(network, part, device)

    shape = images[0].shape[0], images[0].shape[1]
    if shape[0] * shape[1] <= settings.max_pixels:
        return passed(images)
    tiles = cut(shape, settings.tile_px, settings.overlap_px)
    maps = ((t, passed([image[t.rows, t.columns] for image in images])) for t in tiles)
    # Weights sum to 1 except for rounding, which may raise a blend slightly above 1.
    return np.minimum(blend(maps, (len(images), *shape)), np.float32(1))


def _forward(
    network: nn.Module, images: Sequence[NDArray[np.uint8]], device: torch.device
) -> NDArray[np.float32]:
    pixels = torch.from_numpy(np.stack(images)).to(device)
    logits = network(pixels.permute(0, 3, 1, 2).float().div_(255))
    result: NDArray[np.float32] = torch.sigmoid(logits.float())[:, 0].cpu().numpy()
    return result


def predict_at_scale(
    network: nn.Module,
    images: Sequence[NDArray[np.uint8]],
    um_per_px: float | None,
    trained_um_per_px: float | None,
    device: torch.device | None = None,
    settings: PredictSettings = WHOLE,
    gone: Gone = lambda: False,
) -> NDArray[np.float32]:
    """Predict at the network's training scale; return the maps (N, H, W) at the images' scale.

    If both scales are known and differ, the images are resampled first, as the paper's discussion
    suggests for other magnifications.

    Parameters
    ----------
    network, images, device, settings, gone : as in :func:`predict_maps`.
    um_per_px, trained_um_per_px : scale of the images, and of the network's training images.

    Raises
    ------
    ImageError
        If an array is not an 8-bit RGB image.
    AbandonedError
        If the work was ended.
    """
    factor = scale_factor(um_per_px, trained_um_per_px)
    return predict_maps(network, images, device, settings, factor, gone)


@dataclass(frozen=True)
class Tile:
    """A part of an image.

    Attributes
    ----------
    rows, columns : its position in the image.
    row_weights, column_weights : (h,) and (w,) float32; a pixel's weight is their product.
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
    tile_px : side of a tile, a multiple of ``ALIGN_PX``; the last in a row or column may be
        smaller.
    overlap_px : overlap of neighbours, a multiple of ``ALIGN_PX``, at most half of a tile.

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
    """Blend the tiles' maps into the map of the image, (H, W) float32, or of N images, (N, H, W).

    Each map is (h, w) or (N, h, w) float32 on the pixels of its tile; only one is in memory.
    """
    whole = np.zeros(shape, np.float32)
    for tile, values in maps:
        whole[..., tile.rows, tile.columns] += (
            values * tile.row_weights[:, None] * tile.column_weights[None, :]
        )
    return whole


def _spans(length: int, tile: int, overlap: int) -> list[tuple[slice, NDArray[np.float32]]]:
    """Cut one side into spans with weights, which sum to 1 at every pixel."""
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
    """Return weights over an overlap: 0 in the first quarter, 1 in the last, linear between."""
    at = (np.arange(overlap) + 0.5) / overlap
    return np.clip(2 * at - 0.5, 0, 1).astype(np.float32)
