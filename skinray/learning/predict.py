"""A network's probability map for a whole image: the one function that all callers share."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from skinray.config import PredictSettings
from skinray.errors import ImageError
from skinray.images.tiles import blend, cut

# Images whose scale differs from the training scale by less than this are not resampled.
SAME_SCALE = 0.02
WHOLE = PredictSettings()
# Axes that an image is mirrored along: none, left and right, up and down, both.
MIRRORED: tuple[tuple[int, ...], ...] = ((), (1,), (0,), (0, 1))


def predict_map(
    network: nn.Module,
    image: NDArray[np.uint8],
    device: torch.device | None = None,
    settings: PredictSettings = WHOLE,
) -> NDArray[np.float32]:
    """Return the probability map of one image, in tiles where it is large.

    Parameters
    ----------
    network : maps (1, 3, H, W) float RGB in 0..1 to (1, 1, H, W) logits.
    image : (H, W, 3) uint8, RGB, of any size.
    device : where the network lies; none: the CPU.
    settings : from which size on tiles are cut, and how.

    Returns
    -------
    (H, W) float32 in 0..1, on the pixels of ``image``.

    Raises
    ------
    ImageError
        If the array is no RGB image of bytes: read as one, it would give a wrong map.
    """
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or image.size == 0:
        raise ImageError(
            f"image of shape {image.shape} and type {image.dtype}: give (height, width, 3) uint8 "
            "in RGB order, as skinray.images.read gives it"
        )
    device = device or torch.device("cpu")
    with evaluating(network), torch.inference_mode():
        if settings.mirrored == 1:
            return _map(network, image, device, settings)
        total = np.zeros(image.shape[:2], np.float32)
        for axes in MIRRORED[: settings.mirrored]:
            total += np.flip(_map(network, np.flip(image, axes), device, settings), axes)
        return total / np.float32(settings.mirrored)


def _map(
    network: nn.Module, image: NDArray[np.uint8], device: torch.device, settings: PredictSettings
) -> NDArray[np.float32]:
    shape = image.shape[0], image.shape[1]
    if shape[0] * shape[1] <= settings.max_pixels:
        return _forward(network, image, device)
    tiles = cut(shape, settings.tile_px, settings.overlap_px)
    maps = ((t, _forward(network, image[t.rows, t.columns], device)) for t in tiles)
    # Weights sum to 1 but for rounding, which may lift a blend of ones a little above 1.
    return np.minimum(blend(maps, shape), np.float32(1))


def _forward(
    network: nn.Module, image: NDArray[np.uint8], device: torch.device
) -> NDArray[np.float32]:
    pixels = torch.from_numpy(np.array(image, copy=True))[None].to(device)
    logits = network(pixels.permute(0, 3, 1, 2).float().div_(255))
    result: NDArray[np.float32] = torch.sigmoid(logits.float())[0, 0].cpu().numpy()
    return result


def predict_at_scale(
    network: nn.Module,
    image: NDArray[np.uint8],
    um_per_px: float | None,
    trained_um_per_px: float | None,
    device: torch.device | None = None,
    settings: PredictSettings = WHOLE,
) -> NDArray[np.float32]:
    """Predict at the scale the network was trained at, then bring the map back.

    With both scales known and different, the image is resampled first (the remedy that the
    paper's discussion names for other magnifications); else it is taken as it is.
    """
    factor = scale_factor(um_per_px, trained_um_per_px)
    if factor == 1.0:
        return predict_map(network, image, device, settings)
    height, width = image.shape[:2]
    size = (max(1, round(width * factor)), max(1, round(height * factor)))
    how = cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR
    resized = cv2.resize(image, size, interpolation=how)
    small = predict_map(network, np.asarray(resized, np.uint8), device, settings)
    back = cv2.resize(small, (width, height), interpolation=cv2.INTER_LINEAR)
    return np.asarray(back, np.float32)


def scale_factor(um_per_px: float | None, trained_um_per_px: float | None) -> float:
    """Return how many training pixels one image pixel is; 1 where a scale is unknown."""
    if um_per_px is None or trained_um_per_px is None:
        return 1.0
    factor = um_per_px / trained_um_per_px
    return 1.0 if abs(factor - 1) <= SAME_SCALE else factor


@contextmanager
def evaluating(network: nn.Module) -> Iterator[None]:
    """Set the network to evaluation for a while, then back to what it was."""
    before = network.training
    network.eval()
    try:
        yield
    finally:
        network.train(before)
