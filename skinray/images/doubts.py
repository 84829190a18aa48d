"""What makes the count of an image doubtful before any network sees it: its scale, or no tissue."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

# Counts at scales beyond this factor of the training scale were never measured.
FAR = 2.0
# The image is averaged to a grid of this many cells a side: that removes the camera's noise.
GRID = 32
# Grey levels. Blank fields have less than 1 (up to 3 with much noise on few pixels), sections of
# skin more than 18, confocal images of nerves alone more than 8.
LEAST_SPREAD = 3.0
# Share of rows at the end, all black below a bright image, from which a part of it may be lost.
LEAST_BLACK, BRIGHT = 0.01, 60
NO_TISSUE = "the image is blank or shows no tissue, so its count says nothing and has no density"


def is_far_scale(um_per_px: float | None, trained_um_per_px: float | None) -> bool:
    """Return whether a scale is beyond twice or half of the training's; False if one is unknown."""
    if um_per_px is None or trained_um_per_px is None:
        return False
    return not trained_um_per_px / FAR <= um_per_px <= FAR * trained_um_per_px


def shows_tissue(image: NDArray[np.uint8]) -> bool:
    """Return whether an image, (H, W, 3) uint8 RGB, varies more than an empty field does.

    Noise and uneven light do not count: the image is averaged in cells, and a smooth surface of
    second degree is taken away.
    """
    height, width = image.shape[:2]
    size = (min(GRID, width), min(GRID, height))
    cells = cv2.resize(image, size, interpolation=cv2.INTER_AREA).astype(np.float64)
    y, x = (axis.ravel() - axis.mean() for axis in np.mgrid[: size[1], : size[0]])
    light = np.stack([np.ones_like(x), x, y, x * x, y * y, x * y], axis=1)
    colours = cells.reshape(-1, 3)
    smooth = light @ np.linalg.lstsq(light, colours)[0]
    return bool((colours - smooth).std(axis=0).max() >= LEAST_SPREAD)


def black_end(image: NDArray[np.uint8]) -> float:
    """Return the share of rows at the end of an image, (H, W, 3) uint8, that are black; or 0.

    An uncompressed file whose end was lost in copying has them. Dark images may have them by right.
    """
    lit = np.flatnonzero(image.any(axis=(1, 2)))
    if not len(lit):
        return 0.0
    share = 1 - (int(lit[-1]) + 1) / len(image)
    bright = share >= LEAST_BLACK and np.median(image[: lit[-1] + 1 : 4, ::4]) >= BRIGHT
    return share if bright else 0.0


def doubts(
    tissue: bool, um_per_px: float | None, trained_um_per_px: float | None, black: float = 0.0
) -> list[str]:
    """Return what a reader must know before believing a count, in plain sentences.

    Parameters
    ----------
    tissue : whether the image shows any, from :func:`shows_tissue`.
    um_per_px, trained_um_per_px : scale of the image and of the bundle's training images.
    black : share of black rows at the end, from :func:`black_end`.
    """
    said = [] if tissue else [NO_TISSUE]
    if black:
        said.append(
            f"the bottom {black:.0%} of the image is black: if the file was cut off while copying, "
            "copy it again; otherwise crop the black rows"
        )
    if is_far_scale(um_per_px, trained_um_per_px):
        said.append(
            f"the scale of {um_per_px:.4g} um per pixel is more than twice or less than half of "
            f"the {trained_um_per_px:.4g} that the bundle was trained at: check it, because counts "
            "at such scales were not measured"
        )
    return said
