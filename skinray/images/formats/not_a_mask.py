"""What only looks like a mask, told apart by its levels, colours and areas, and refused by name.

:mod:`skinray.images.formats.mask` has the rule for what a mask is.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from skinray.images.file_errors import UnfitLabelError
from skinray.images.formats.raster import Samples

# Share of pixels that may be away from both main colours: soft edges of lines are less.
MOST_BETWEEN = 0.15
# Levels this close to black or white (of 255) are black or white with noise.
NEAR = 25
# Distance from a main colour, of 255, up to which a pixel still has it; twice that in JPEG.
SAME = 24
# More exact levels than this are soft edges or noise; as few, or fewer, are classes.
FEW_LEVELS = 8
# A colour is one whose channels differ by more than this, of 255.
CHROMATIC = 64
# Hues further apart than this, in degrees, are two colours.
HUE_GAP = 40
# Share of the marked pixels, and their number, from which a second colour counts.
SECOND_SHARE, SECOND_PIXELS = 0.02, 12
# A piece of so many pixels is a line, not a speck; in JPEG, whose edges ring.
LINE_PX, LINE_PX_LOSSY = 12, 40
ONE_CLASS = "export one class only, as 0 and 255, or name the class in the manifest"
AS_255 = "export the class as 255 and everything else as 0"
SHOWN = 6


def refuse_few_classes(pixels: NDArray[np.uint8], value: NDArray[np.uint8], source: str) -> None:
    """Refuse a third colour or level of a file that has few, however thin its lines are."""
    if not 2 < distinct(pixels) <= FEW_LEVELS:
        return
    marks = pixels[value > 0]
    colours, counts = np.unique(marks.reshape(len(marks), -1), axis=0, return_counts=True)
    used = colours[counts >= SECOND_SHARE * len(marks)]
    if pixels.ndim == 2 and len(used) > 1:
        used = _levels_apart(pixels, used.ravel(), SECOND_SHARE * len(marks))
    if len(used) <= 1:
        return
    if pixels.ndim == 3:
        reason = f"marks of several colours ({', '.join(map(hex_of, used[:SHOWN]))})"
    else:
        listed = ", ".join(str(level) for level in np.unique(pixels))
        reason = f"more than two grey levels ({listed})"
    raise UnfitLabelError(source, reason, ONE_CLASS)


def _levels_apart(
    pixels: NDArray[np.uint8], used: NDArray[np.uint8], least: float
) -> NDArray[np.uint8]:
    """Return the levels that are more than soft edges of the highest, as a shrunk mask has.

    Edges are within two pixels of it; a line of another class continues beyond it on both sides.
    """
    top = used.max()
    near = cv2.dilate((pixels == top).astype(np.uint8), np.ones((5, 5), np.uint8)) > 0
    kept = [at for at in used if at == top or np.count_nonzero((pixels == at) & ~near) >= least]
    return np.array(kept, np.uint8)


def levels_of(values: Samples) -> NDArray[Any]:
    """Return the different values of (H, W) samples, sorted."""
    if values.dtype != np.uint8:
        return np.unique(values)
    values = np.ascontiguousarray(values)
    return np.flatnonzero(cv2.calcHist([values], [0], None, [256], [0, 256]))


def distinct(pixels: NDArray[np.uint8]) -> int:
    """Count the different levels or colours."""
    if pixels.ndim == 2:
        return int(levels_of(pixels).size)
    return int(np.unique(pixels.astype(np.uint32) @ np.array([1, 256, 65536], np.uint32)).size)


def refuse_low(values: Samples, levels: Samples, source: str) -> None:
    """Refuse whole numbers that are all far below white: classes, objects, or faded by JPEG."""
    shown = ", ".join(f"{level:g}" for level in levels[:SHOWN])
    more = ", ..." if levels.size > SHOWN else ""
    if are_numbered(levels):
        raise UnfitLabelError(
            source,
            f"a map of {levels.size - 1} numbered objects, not a mask",
            "export the objects as one class, as 0 and 255",
        )
    low = ", none above half of white" if values.dtype == np.uint8 else ""
    raise UnfitLabelError(
        source, f"a mask with {levels.size} values ({shown}{more}){low}", ONE_CLASS
    )


def are_numbered(levels: Samples) -> bool:
    """Whether levels are 0, 1, 2 ... as of numbered objects; soft edges reach white."""
    many = levels.size > FEW_LEVELS and int(levels[-1]) != 255
    return many and np.array_equal(levels, np.arange(levels.size))


def refuse_noise(value: NDArray[np.uint8], source: str) -> None:
    """Refuse a background of many levels: a camera's, not that of a mask with soft edges."""
    dark = value[value <= NEAR]
    if dark.size < value.size / 2:
        return
    counts = np.bincount(dark)
    if counts.max() < dark.size / 2:
        raise UnfitLabelError(
            source,
            f"a photograph (its background has {np.count_nonzero(counts)} levels), not a mask",
            "export the labels alone, as 0 and 255",
        )


def refuse_faint_lines(
    value: NDArray[np.uint8], marked: NDArray[np.bool_], *, lossy: bool, source: str
) -> None:
    """Refuse lines that are fainter than half of white, beside brighter ones."""
    few = not lossy and distinct(value) <= FEW_LEVELS
    drawn = value > (0 if few else NEAR + 16 * lossy)
    if np.array_equal(drawn, marked):
        return
    pieces, which = cv2.connectedComponents(drawn.astype(np.uint8))
    sizes = np.bincount(which.ravel(), minlength=pieces)
    sizes[np.unique(which[marked])] = sizes[0] = 0
    faint = sizes >= (LINE_PX_LOSSY if lossy else LINE_PX)
    if faint.any() and sizes[faint].sum() >= SECOND_SHARE * marked.sum():
        raise UnfitLabelError(
            source,
            f"{int(faint.sum())} lines or areas that are fainter than half of white, beside "
            "brighter ones",
            AS_255,
        )


def refuse_pictures(
    pixels: NDArray[np.uint8],
    value: NDArray[np.uint8] | None,
    drawn: NDArray[np.bool_] | None,
    same: int,
    source: str,
) -> None:
    """Refuse an image many of whose pixels are not at two colours."""
    if value is None:
        away = np.ones(pixels.shape[:2], bool)
    elif pixels.ndim == 2:
        away = (value > NEAR) & (value < 255 - NEAR)
    else:
        coarse = (pixels >> 5).astype(np.int32) @ np.array([1, 8, 64], np.int32)
        codes, counts = np.unique(coarse, return_counts=True)
        away = np.ones(pixels.shape[:2], bool)
        for code in _apart(codes[np.argsort(-counts)]):
            colour = np.median(pixels[coarse == code], axis=0)
            away &= np.abs(pixels - colour).max(axis=2) > same
    share = float(away.mean() if drawn is None else away[drawn].mean())
    if share > MOST_BETWEEN:
        raise UnfitLabelError(
            source,
            "a photograph, or an image with the labels painted on it "
            f"({share:.0%} of its pixels are neither background nor one colour), not a mask",
            "export the labels alone, as 0 and 255",
        )


def _apart(codes: NDArray[np.int32]) -> list[int]:
    """Return the two most common coarse colours that are not neighbours."""
    first = int(codes[0])
    for code in codes[1:]:
        steps = [abs((first >> 3 * at) % 8 - (int(code) >> 3 * at) % 8) for at in range(3)]
        if max(steps) > 1:
            return [first, int(code)]
    return [first]


def refuse_classes(
    value: NDArray[np.uint8], *, lossy: bool, source: str, what: str = "grey levels"
) -> None:
    """Refuse a third level with an area of its own, which soft edges do not have."""
    levels, counts = np.unique(value, return_counts=True)
    side = 3
    if lossy:
        value, side = np.asarray((value >> 5) * 32 + 16, np.uint8), 5
        levels, counts = np.unique(value, return_counts=True)
        between = [(at > NEAR + 16) & (at < 255 - NEAR - 16) for at in levels]
    elif levels.size <= FEW_LEVELS:
        between = [at not in (levels[0], levels[-1]) for at in levels]
    else:
        between = [NEAR < at < 255 - NEAR for at in levels]
    square = np.ones((side, side), np.uint8)
    solid = [
        int(level)
        for level, count, middle in zip(levels, counts, between, strict=True)
        if middle and count >= side**2
        and cv2.erode((value == level).astype(np.uint8), square, borderValue=0).any()
    ]  # fmt: skip
    if solid:
        shown = dict.fromkeys([int(levels[0]), *solid[:SHOWN], int(levels[-1])])
        listed = ", ".join(map(str, shown))
        raise UnfitLabelError(source, f"more than two {what} ({listed})", ONE_CLASS)


def refuse_colours(pixels: NDArray[np.uint8], marked: NDArray[np.bool_], source: str) -> None:
    """Refuse marks of several colours: each may be a class of its own."""
    colours = pixels[marked]
    if not len(colours):
        return
    chroma = np.ptp(colours, axis=1)
    hue = cv2.cvtColor(colours[:, None], cv2.COLOR_RGB2HSV_FULL)[:, 0, 0] * (360 / 256)
    least = max(SECOND_PIXELS, SECOND_SHARE * len(colours))
    grey = int((chroma <= CHROMATIC).sum() >= least)
    bins = np.bincount((hue[chroma > CHROMATIC] // 10).astype(int), minlength=36) >= least / 2
    if grey + _clusters(bins) > 1:
        raise UnfitLabelError(
            source, f"marks of several colours ({colours_in_words(colours)})", ONE_CLASS
        )


def refuse_areas_of_two_colours(
    pixels: NDArray[np.uint8], marked: NDArray[np.bool_], source: str
) -> None:
    """Refuse a second colour with an area of its own, however near its hue, which no edge has."""
    weights = np.array([1, 256, 65536], np.uint32)
    codes = pixels.astype(np.uint32) @ weights
    used, counts = np.unique(codes[marked], return_counts=True)
    order = np.argsort(-counts)
    many = [int(used[at]) for at in order if counts[at] >= SECOND_SHARE * marked.sum()]
    solid: list[NDArray[np.uint8]] = []
    for code in many:
        area = ((codes == code) & marked).astype(np.uint8)
        colour = np.array([code & 255, code >> 8 & 255, code >> 16], np.uint8)
        apart = all(np.abs(colour.astype(int) - other).max() > 2 * SAME for other in solid)
        if apart and cv2.erode(area, np.ones((3, 3), np.uint8), borderValue=0).any():
            solid.append(colour)
    if len(solid) > 1:
        reason = f"marks of several colours ({', '.join(map(hex_of, solid[:SHOWN]))})"
        raise UnfitLabelError(source, reason, ONE_CLASS)


def _clusters(bins: NDArray[np.bool_]) -> int:
    """Count groups of hues, in bins of 10 degrees around the circle, that are apart."""
    at = np.flatnonzero(bins)
    if at.size == 0:
        return 0
    gaps = np.diff([*at, at[0] + len(bins)])
    return max(1, int((gaps > HUE_GAP // 10).sum()))


def colours_in_words(pixels: NDArray[np.uint8]) -> str:
    """Name the most common colours."""
    colours, counts = np.unique(pixels.reshape(-1, 3), axis=0, return_counts=True)
    most = colours[np.argsort(-counts)[:SHOWN]]
    return ", ".join(map(hex_of, most)) + (", ..." if len(colours) > SHOWN else "")


def hex_of(colour: NDArray[np.uint8]) -> str:
    """Return a colour as #rrggbb."""
    return "#" + "".join(f"{value:02x}" for value in colour)
