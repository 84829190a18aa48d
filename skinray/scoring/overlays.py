"""Findings drawn on the image: on a biopsy in the colours of the paper's figure 4."""

from __future__ import annotations

import io

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from skinray.errors import size_of

# Blue nerves, green boundary, red crossings, as in the paper. Crossings are rings with a white
# rim, so that nobody needs to tell red from green.
NERVE = (20, 70, 255)
BOUNDARY = (0, 190, 70)
CROSSING = (230, 0, 30)
RIM = (255, 255, 255)
OPACITY = 0.75
# A nerve is outlined, with next to nothing inside, so that the tissue stays visible.
INSIDE = 0.12
# Brightness of a photograph where there is no skin.
SHADE = 0.35


def overlay(
    image: NDArray[np.uint8],
    nerve: NDArray[np.bool_],
    boundary: NDArray[np.bool_],
    points: NDArray[np.float64],
) -> NDArray[np.uint8]:
    """Return a copy of an image with nerves outlined, and boundary and crossings drawn over it.

    Parameters
    ----------
    image : (H, W, 3) uint8 RGB, as is the result.
    nerve, boundary : (H, W) bool, pixels of the image.
    points : (N, 2) row and column of the crossings.

    Raises
    ------
    ValueError
        If a mask is not of the image's size, or ``points`` is not (N, 2).
    """
    points = np.asarray(points, dtype=np.float64)
    if nerve.shape != image.shape[:2] or boundary.shape != image.shape[:2]:
        raise ValueError(
            f"masks {size_of(nerve.shape)}, {size_of(boundary.shape)}; image {size_of(image.shape)}"
        )
    if points.ndim != 2 or points.shape[1] != 2:
        raise ValueError(f"points must be (N, 2), got {points.shape}")
    drawn = image.copy()
    _paint(drawn, boundary, BOUNDARY, OPACITY)
    _paint(drawn, nerve, NERVE, INSIDE)
    _paint(drawn, outline(nerve), NERVE, OPACITY)
    _draw_rings(drawn, points)
    return drawn


def outline(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return a thin line just outside the areas of a mask; both (H, W) bool.

    It is a pixel wide, and wider in images that are shown smaller than they are.
    """
    side = 2 * max(1, round(mask.shape[1] / 1000)) + 1
    area = np.ascontiguousarray(mask).view(np.uint8)
    grown = cv2.dilate(area, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side)))
    return np.asarray(grown > area)


def _paint(
    image: NDArray[np.uint8], mask: NDArray[np.bool_], colour: tuple[int, int, int], opacity: float
) -> None:
    """Blend a colour into the pixels of a mask."""
    under = image[mask].astype(np.float32)
    image[mask] = np.rint((1 - opacity) * under + opacity * np.array(colour, np.float32))


def skin_overlay(
    image: NDArray[np.uint8], mask: NDArray[np.bool_], colour: tuple[int, int, int] = NERVE
) -> NDArray[np.uint8]:
    """Return a copy of a photograph with the skin outlined and everything else darkened.

    Parameters
    ----------
    image : (H, W, 3) uint8 RGB, as is the result.
    mask : (H, W) bool, pixels that are skin.
    colour : RGB of the outline; blue is the network's on every page.

    Raises
    ------
    ValueError
        If the mask is not of the image's size.
    """
    if mask.shape != image.shape[:2]:
        raise ValueError(f"mask {size_of(mask.shape)}; image {size_of(image.shape)}")
    drawn = np.where(mask[..., None], image, (SHADE * image).astype(np.uint8))
    outlines, _ = cv2.findContours(
        np.ascontiguousarray(mask).view(np.uint8), cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE
    )
    thick = max(1, round(image.shape[1] / 160))
    return np.asarray(cv2.drawContours(drawn, outlines, -1, colour, thick), np.uint8)


def encode_png(image: NDArray[np.uint8]) -> bytes:
    """Return (H, W) grey, (H, W, 3) RGB or (H, W, 4) RGBA bytes as a PNG file."""
    stream = io.BytesIO()
    # Quick: these pictures are sent once, or are masks, which are small at any level.
    Image.fromarray(image).save(stream, "PNG", compress_level=1)
    return stream.getvalue()


def encode_jpeg(image: NDArray[np.uint8], max_width: int = 1000, quality: int = 88) -> bytes:
    """Return an RGB or grey image as JPEG, scaled down if it is wider than ``max_width``.

    Colours keep their full resolution: thin coloured lines would blur otherwise.
    """
    height, width = image.shape[:2]
    if width > max_width:
        size = (max_width, max(1, round(height * max_width / width)))
        image = np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, "JPEG", quality=quality, subsampling=0)
    return stream.getvalue()


def _draw_rings(image: NDArray[np.uint8], points: NDArray[np.float64]) -> None:
    """Draw a red ring with a white rim around each crossing, large enough to be seen."""
    width = image.shape[1]
    radius, thick = max(5, round(width / 110)), max(1, round(width / 500))
    for row, column in np.rint(points).astype(int).tolist():
        place = (column, row)
        cv2.circle(image, place, radius + thick, RIM, thick, cv2.LINE_AA)
        cv2.circle(image, place, radius, CROSSING, thick, cv2.LINE_AA)
