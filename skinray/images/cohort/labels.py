"""Labels of a biopsy: traced nerves, and the boundary line that becomes the dermis.

Masks are images; lines may also be GeoJSON as exported by QuPath. Coordinates are x, y in pixels
with (0, 0) at the outer corner of the first pixel, so the centre of that pixel is (.5, .5).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from skinray.config.images import ReadSettings
from skinray.errors import size_of
from skinray.images.cohort.boundary_line import trace_line
from skinray.images.cohort.polylines import (
    BOUNDARY,
    MIDDLE,
    NERVE,
    Points,
    draw_line,
    looks_like_json,
    read_polylines,
)
from skinray.images.file_errors import UnfitLabelError
from skinray.images.read import read_mask

# A line midway between two pixels counts as on the second, so that it is not drawn a pixel wider.
TIE_PX = 1e-6


def read_nerves(
    path: Path,
    shape: tuple[int, int],
    settings: ReadSettings,
    width_px: int = 3,
    chosen: str | None = None,
) -> NDArray[np.bool_]:
    """Read traced nerves of an image of ``shape`` as (H, W) bool.

    A mask image is taken as it is; GeoJSON polylines are drawn ``width_px`` wide (the paper's
    experts drew lines about 3 px wide). ``chosen`` names the class that is meant, where the file
    has several.

    Raises LabelError if the file cannot be read, differs in size from the image, or reaches
    outside it.
    """
    if not looks_like_json(path):
        return match_shape(read_mask(path, settings, chosen), shape, path)
    mask = np.zeros(shape, bool)
    for line in read_polylines(path, shape, settings, NERVE, chosen):
        draw_line(mask, line - MIDDLE + TIE_PX, width_px)
    return mask


def read_boundary(
    path: Path, shape: tuple[int, int], settings: ReadSettings, chosen: str | None = None
) -> Points:
    """Read the boundary line of an image of ``shape``, ordered from end to end.

    Returns (N, 2) float x, y, from a GeoJSON LineString or along the middle of a drawn line.
    Raises LabelError if the file cannot be read, does not match the image, or is not one open
    line.
    """
    if not looks_like_json(path):
        mask = match_shape(read_mask(path, settings, chosen), shape, path)
        return trace_line(mask, str(path))
    lines = read_polylines(path, shape, settings, BOUNDARY, chosen)
    if len(lines) != 1:
        remedy = "join them into one boundary line and export that"
        raise UnfitLabelError(
            str(path),
            f"holds {len(lines)} lines" if lines else "holds no line",
            remedy if lines else "draw the boundary line and export it",
        )
    return lines[0]


def match_shape(mask: NDArray[np.bool_], shape: tuple[int, int], path: Path) -> NDArray[np.bool_]:
    """Return the mask if it has the image's (H, W), else raise LabelError."""
    if mask.shape == tuple(shape):
        return mask
    turned = mask.shape == tuple(reversed(shape))
    raise UnfitLabelError(
        str(path),
        f"mask {size_of(mask.shape)} does not match image {size_of(shape)}",
        "turn the mask by 90 degrees: an image is read upright, as its camera was held"
        if turned
        else "export both at the same magnification",
    )
