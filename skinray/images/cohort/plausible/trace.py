"""What is kept of each image of a cohort, to compare images and labels with each other."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from skinray.config.images import ReadSettings
from skinray.images.cohort.polylines import (
    BOUNDARY,
    NERVE,
    foreign_class,
    looks_like_json,
    read_polylines,
)
from skinray.images.cohort.rows import Biopsy
from skinray.images.doubts import black_end, shows_tissue
from skinray.images.read import Image

# Side of the small copies that are compared.
SMALL_PX = 128
# Counts the crossings of two masks, (H, W), at a scale: the crossing stage is another package.
Count = Callable[[NDArray[np.bool_], NDArray[np.bool_], float | None], int]


@dataclass(frozen=True)
class Trace:
    """What is kept of an image and its labels.

    Attributes
    ----------
    size : height and width.
    crossings : of the labels; None: not counted.
    reach : largest x and y of the nerve lines, as shares of the sides; None: no GeoJSON lines.
    line_reach : the same of the boundary line.
    orientation : of the pixels in the file; 1: upright.
    tracing : hash of the nerve label; empty if it marks nothing.
    small : (S, S) float32, grey, standardised.
    dermis : (S, S) bool.
    stated, in_file : um per pixel by the manifest and by the image file.
    tissue : whether the image shows any; False: it is blank.
    black : share of black rows at the image's end.
    traced : whether the nerve label marks anything; None: there is none.
    classes : column and class of GeoJSON lines that were taken although their class is not ours.
    """

    biopsy: Biopsy
    size: tuple[int, int]
    crossings: int | None
    reach: tuple[float, float] | None
    small: NDArray[np.float32]
    dermis: NDArray[np.bool_] | None
    stated: float | None
    in_file: float | None
    tissue: bool = True
    black: float = 0.0
    traced: bool | None = None
    classes: tuple[tuple[str, str], ...] = ()
    line_reach: tuple[float, float] | None = None
    orientation: int = 1
    tracing: str = ""


def trace_of(
    biopsy: Biopsy,
    image: Image,
    nerves: NDArray[np.bool_] | None,
    dermis: NDArray[np.bool_] | None,
    count: Count | None = None,
) -> Trace:
    """Return what is kept of an image and its masks, (H, W)."""
    pixels, in_file = image.pixels, image.um_per_px
    height, width = pixels.shape[:2]
    side = (SMALL_PX, SMALL_PX)
    copy = np.asarray(cv2.resize(pixels, side, interpolation=cv2.INTER_AREA), np.uint8)
    grey = copy.mean(axis=2, dtype=np.float32)
    crossings = None
    scale = biopsy.um_per_px or in_file
    both = nerves is not None and dermis is not None and dermis.any() and not dermis.all()
    if count is not None and both:
        crossings = count(nerves, dermis, scale)  # type: ignore[arg-type]
    reach = None
    if nerves is not None and nerves.any() and biopsy.nerves and looks_like_json(biopsy.nerves):
        rows, columns = np.flatnonzero(nerves.any(axis=1)), np.flatnonzero(nerves.any(axis=0))
        reach = (columns[-1] + 1) / width, (rows[-1] + 1) / height
    return Trace(
        biopsy=biopsy,
        size=(height, width),
        crossings=crossings,
        reach=reach,
        small=(grey - grey.mean()) / max(float(grey.std()), 1e-6),
        dermis=None if dermis is None else _small(dermis) > 0.5,
        stated=biopsy.um_per_px,
        in_file=in_file,
        tissue=shows_tissue(copy),
        black=black_end(pixels),
        traced=None if nerves is None else bool(nerves.any()),
        classes=tuple(_foreign_classes(biopsy)) if nerves is not None and both else (),
        line_reach=_line_reach(biopsy, (height, width)) if dermis is not None else None,
        orientation=image.orientation,
        tracing=_hash(nerves) if nerves is not None and nerves.any() else "",
    )


def _hash(mask: NDArray[np.bool_]) -> str:
    return hashlib.sha256(np.packbits(mask).tobytes() + str(mask.shape).encode()).hexdigest()


def _line_reach(biopsy: Biopsy, shape: tuple[int, int]) -> tuple[float, float] | None:
    """Return the largest x and y of the boundary line, as shares of the sides; None without one."""
    path = biopsy.boundary
    if biopsy.dermis is not None or path is None or not looks_like_json(path):
        return None
    settings, chosen = ReadSettings(), biopsy.classes.get("boundary")
    points = np.concatenate(read_polylines(path, shape, settings, BOUNDARY, chosen))
    x, y = points.max(axis=0)
    return float(x) / shape[1], float(y) / shape[0]


def _foreign_classes(biopsy: Biopsy) -> Iterator[tuple[str, str]]:
    """Yield the columns whose lines have a class that is neither ours nor named in the row."""
    line = None if biopsy.dermis else biopsy.boundary
    for column, path, kind in (("nerves", biopsy.nerves, NERVE), ("boundary", line, BOUNDARY)):
        if path is not None and column not in biopsy.classes and looks_like_json(path):
            name = foreign_class(path, ReadSettings(), kind)
            if name is not None:
                yield column, name


def _small(mask: NDArray[np.bool_]) -> NDArray[np.float32]:
    side = (SMALL_PX, SMALL_PX)
    white = mask.view(np.uint8) * np.uint8(255)
    shrunk = cv2.resize(white, side, interpolation=cv2.INTER_AREA)
    return np.asarray(shrunk, np.float32) / np.float32(255)
