"""Which pixels of a label image are marked: one rule for every format, or an error.

Palette files are read by index, whatever colours they are painted in: 0 is background, which
QuPath paints white. Otherwise two colours or two grey levels make a mask. Black is background, or
white beside a colour; of two grey levels, the higher is foreground (0/1, 0/255, 1/2 ...). One
level: foreground unless it is 0. More levels are accepted only where all but few pixels are at two
of them, as with soft edges and JPEG; the limit is then half of white, and no line may be fainter.
Layers are marked where they are drawn, however transparent; a file without a clear pixel is no
layer. White-is-zero grey is used as stored: programs that write masks that way (ImageJ's inverting
LUT, boolean arrays) store foreground as the higher value. One bit by other programs is refused.

Anything else is an error: several classes do not say which is meant, and a photograph, an overlay
or a map of numbered objects is not a mask.
"""

from __future__ import annotations

import re
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from skinray.images.file_errors import UnfitLabelError
from skinray.images.formats.raster import Raster, Samples, to_8_bit

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
_ONE_CLASS = "export one class only, as 0 and 255, or name the class in the manifest"
_AS_255 = "export the class as 255 and everything else as 0"
_SHOWN = 6


def to_mask(raster: Raster, source: str, chosen: str | None = None) -> NDArray[np.bool_]:
    """Convert a raster to a mask, by the rule above.

    Parameters
    ----------
    chosen : the one class that is meant, as a palette index or grey level ("2") or as a colour
        ("#ff0000"); None: the file has one class.

    Returns (H, W) bool; raises LabelError if the file is not a mask, or ``chosen`` is not a class.
    """
    if chosen is not None:
        return _class_of(raster, chosen, source)
    if raster.sides_unknown:
        raise UnfitLabelError(
            source,
            "a TIFF of one bit in which 0 is white: programs differ in which side is the class",
            _AS_255,
        )
    if raster.samples.dtype not in (np.uint8, np.uint16):
        return _numbers(raster.samples, source)
    drawn = _drawn(raster, source)
    if raster.index is not None and not _grey_ramp(raster):
        index = raster.index if drawn is None else np.where(drawn, raster.index, 0)
        return _by_index(index, raster, source)
    pixels = to_8_bit(raster.samples, raster.bits)
    if drawn is None:
        return _of_pixels(raster.samples, pixels, raster, source)
    if not drawn.any() or _uniform(pixels[drawn], lossy=raster.lossy):
        return drawn
    layer = drawn if pixels.ndim == 2 else drawn[..., None]
    samples = np.where(layer, raster.samples, 0)
    return _of_pixels(samples, np.where(layer, pixels, 0), raster, source, drawn)


def _of_pixels(
    samples: Samples,
    pixels: NDArray[np.uint8],
    raster: Raster,
    source: str,
    drawn: NDArray[np.bool_] | None = None,
) -> NDArray[np.bool_]:
    """Read grey or colours, (H, W) or (H, W, 3), of the part that is drawn."""
    lossy = raster.lossy
    if pixels.ndim == 3:
        pixels, samples = _one_channel(pixels, samples)
    if pixels.ndim == 3 and np.ptp(pixels, axis=2).max() <= (16 if lossy else 0):
        pixels, samples = pixels.max(axis=2), samples.max(axis=2)
    if samples.ndim == 2:
        levels = _levels(samples)
        if levels.size == 1:
            return np.full(samples.shape, bool(levels[0] > (raster.white // 2 if lossy else 0)))
        if levels.size == 2 and not lossy:
            return np.asarray(samples == levels[1])
        if not lossy and _are_numbered(levels):
            _refuse_low(samples, levels, source)
        if pixels.max() <= 127:
            _refuse_low(samples, levels, source)
        value: NDArray[np.uint8] | None = pixels
    else:
        value = _value_of_colours(pixels)
        if value is not None and value.max() <= 127:
            reason = f"marks darker than half of white ({_colours_in_words(pixels)})"
            raise UnfitLabelError(source, reason, _ONE_CLASS)
    if lossy or _distinct(pixels) > FEW_LEVELS:
        _refuse_pictures(pixels, value, drawn, 2 * SAME if lossy else SAME, source)
        if value is not None and not lossy:
            _refuse_noise(value, source)
    if value is None:
        words = _colours_in_words(pixels)
        reason = f"colours without a black or white background ({words})"
        raise UnfitLabelError(source, reason, _ONE_CLASS)
    marked = np.asarray(value > 127)
    if not lossy:
        _refuse_few_classes(pixels, value, source)
    if pixels.ndim == 3:
        _refuse_colours(pixels, marked, source)
        if not lossy:
            _refuse_areas_of_two_colours(pixels, marked, source)
    _refuse_classes(value, lossy=lossy, source=source)
    _refuse_faint_lines(value, marked, lossy=lossy, source=source)
    return marked


def _one_channel(pixels: NDArray[np.uint8], samples: Samples) -> tuple[NDArray[np.uint8], Samples]:
    """Return the one channel that is not empty, as of grey shown in a colour; else all of them."""
    filled = [at for at in range(3) if pixels[..., at].any()]
    if len(filled) != 1:
        return pixels, samples
    return pixels[..., filled[0]], samples[..., filled[0]]


def _refuse_few_classes(pixels: NDArray[np.uint8], value: NDArray[np.uint8], source: str) -> None:
    """Refuse a third colour or level of a file that has few, however thin its lines are."""
    if not 2 < _distinct(pixels) <= FEW_LEVELS:
        return
    marks = pixels[value > 0]
    colours, counts = np.unique(marks.reshape(len(marks), -1), axis=0, return_counts=True)
    used = colours[counts >= SECOND_SHARE * len(marks)]
    if len(used) <= 1:
        return
    if pixels.ndim == 3:
        reason = f"marks of several colours ({', '.join(map(_hex, used[:_SHOWN]))})"
    else:
        listed = ", ".join(str(level) for level in np.unique(pixels))
        reason = f"more than two grey levels ({listed})"
    raise UnfitLabelError(source, reason, _ONE_CLASS)


def _levels(values: Samples) -> NDArray[Any]:
    """Return the different values of (H, W) samples, sorted."""
    if values.dtype != np.uint8:
        return np.unique(values)
    values = np.ascontiguousarray(values)
    return np.flatnonzero(cv2.calcHist([values], [0], None, [256], [0, 256]))


def _distinct(pixels: NDArray[np.uint8]) -> int:
    """Count the different levels or colours."""
    if pixels.ndim == 2:
        return int(_levels(pixels).size)
    return int(np.unique(pixels.astype(np.uint32) @ np.array([1, 256, 65536], np.uint32)).size)


def _value_of_colours(pixels: NDArray[np.uint8]) -> NDArray[np.uint8] | None:
    """Return how far each pixel, (H, W, 3), is from the background, (H, W) uint8, at most 255.

    None: no pixel is black or white.
    """
    low, high = pixels.min(axis=2), pixels.max(axis=2)
    if high.max() <= 127 and _distinct(pixels) == 2 and not high.min():
        return np.where(high > 0, np.uint8(255), np.uint8(0))  # a dark colour on black
    if (high <= NEAR).any():
        return np.asarray(high)
    if (low >= 255 - NEAR).any():
        return np.asarray(255 - low)
    return None


def _by_index(index: Samples, raster: Raster, source: str) -> NDArray[np.bool_]:
    """Read a palette file: 0 is background, and one other index is the class."""
    used = [int(value) for value in _levels(index)]
    classes = [value for value in used if value]
    assert raster.palette is not None  # noqa: S101 - every indexed raster has one
    if len(classes) <= 1:
        first, other = (raster.palette[at].astype(int) for at in (0, *classes, 0)[:2])
        if 0 in used and classes and np.ptp(first) > CHROMATIC and np.ptp(other) == 0:
            raise UnfitLabelError(
                source,
                f"a palette whose index 0 is painted {_hex(first)} and index {classes[0]} "
                f"{_hex(other)}, so it does not say which is background",
                _AS_255,
            )
        if len(raster.palette) == 2 and first.min() == 255 and other.max() == 0:
            reason = "a palette of white, then black, so it does not say which is background"
            raise UnfitLabelError(source, reason, _AS_255)
        return np.asarray(index > 0)
    painted = {value: _hex(raster.palette[value]) for value in classes[:_SHOWN]}
    shown = ", ".join(f"{value} painted {colour}" for value, colour in painted.items())
    more = ", ..." if len(classes) > _SHOWN else ""
    raise UnfitLabelError(
        source, f"{len(classes)} classes in a palette ({shown}{more})", _ONE_CLASS
    )


def _grey_ramp(raster: Raster) -> bool:
    """Whether a palette only stores grey, so that its colours are the values."""
    assert raster.palette is not None and raster.index is not None  # noqa: S101, PT018 - see caller
    used = _levels(raster.index)
    colours = raster.palette[used]
    if np.ptp(colours, axis=1).any():
        return False
    rising = bool((np.diff(colours[:, 0].astype(int)) > 0).all())
    return rising and (used.size > 2 or bool((colours[:, 0] == used).all()))


def _drawn(raster: Raster, source: str) -> NDArray[np.bool_] | None:
    """Return where a transparent layer is drawn, (H, W); None without such a layer."""
    alpha = raster.alpha
    if alpha is None or (alpha.min() == alpha.max() and alpha.max() > 0):
        return None
    stated = to_8_bit(alpha, raster.bits)
    if stated.min() > NEAR:
        return None  # nothing is clear: a picture with transparency, not a layer
    if not stated.any() and raster.samples.any():
        reason = "its alpha is 0 everywhere, so it shows nothing, but it has colours"
        raise UnfitLabelError(source, reason, "export it without transparency")
    top = max(int(stated.max()), 1)
    scaled = (stated.astype(np.uint16) * 255 // top).astype(np.uint8)
    if _levels(scaled).size > 2:
        _refuse_classes(scaled, lossy=False, source=source, what="levels of transparency")
    return np.asarray(scaled > 127)


def _uniform(colours: NDArray[np.uint8], *, lossy: bool) -> bool:
    """Whether all pixels of a layer have one colour: even black is then a drawing."""
    spread = np.ptp(colours.astype(np.int16), axis=0)
    return bool(np.max(spread) <= (2 * SAME if lossy else 0))


def _numbers(values: Samples, source: str) -> NDArray[np.bool_]:
    """Read samples of 32 bits, signed or with fractions: two values, or an error."""
    if not np.isfinite(values).all():
        raise UnfitLabelError(source, "pixels that are no numbers (NaN)", _ONE_CLASS)
    levels = np.unique(values)
    if levels.size == 1:
        return np.full(values.shape, bool(levels[0] > 0))
    if levels.size == 2 and values.ndim == 2 and levels[0] >= 0:
        return np.asarray(values == levels[1])
    if levels[0] < 0:
        reason = f"negative values (from {levels[0]:g} to {levels[-1]:g})"
        raise UnfitLabelError(source, reason, _AS_255)
    if (levels == np.round(levels)).all():
        _refuse_low(values, levels, source)
    raise UnfitLabelError(
        source,
        f"{levels.size} values with fractions, as of a probability map",
        "apply your threshold and export 0 and 255",
    )


def _class_of(raster: Raster, chosen: str, source: str) -> NDArray[np.bool_]:
    """Return where a file has the class that its user named."""
    if re.fullmatch(r"#[0-9a-fA-F]{6}", chosen):
        wanted = np.array([int(chosen[at : at + 2], 16) for at in (1, 3, 5)], np.int16)
        pixels = np.atleast_3d(to_8_bit(raster.samples, raster.bits)).astype(np.int16)
        near = np.abs(pixels - wanted).max(axis=2) <= (2 * SAME if raster.lossy else 0)
        drawn = _drawn(raster, source)
        return np.asarray(near if drawn is None else near & drawn)
    values = raster.samples if raster.index is None else raster.index
    if not re.fullmatch(r"[0-9]{1,5}", chosen):
        raise UnfitLabelError(
            source, f"'{chosen}' is no class of an image", "name a number or a colour like #ff0000"
        )
    if values.ndim == 3:
        raise UnfitLabelError(
            source, f"colours, but the class is named '{chosen}'", "name a colour like #ff0000"
        )
    if raster.lossy and raster.index is None:
        return np.asarray(np.abs(values.astype(np.int32) - int(chosen)) <= 2 * SAME)
    return np.asarray(values == int(chosen))


def _refuse_low(values: Samples, levels: Samples, source: str) -> None:
    """Refuse whole numbers that are all far below white: classes, objects, or faded by JPEG."""
    shown = ", ".join(f"{level:g}" for level in levels[:_SHOWN])
    more = ", ..." if levels.size > _SHOWN else ""
    if _are_numbered(levels):
        raise UnfitLabelError(
            source,
            f"a map of {levels.size - 1} numbered objects, not a mask",
            "export the objects as one class, as 0 and 255",
        )
    raise UnfitLabelError(
        source, f"a mask with {levels.size} values ({shown}{more}), none above half of white",
        _ONE_CLASS,
    )  # fmt: skip


def _are_numbered(levels: Samples) -> bool:
    """Whether levels are 0, 1, 2 ... as of numbered objects; soft edges reach white."""
    many = levels.size > FEW_LEVELS and int(levels[-1]) != 255
    return many and np.array_equal(levels, np.arange(levels.size))


def _refuse_noise(value: NDArray[np.uint8], source: str) -> None:
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


def _refuse_faint_lines(
    value: NDArray[np.uint8], marked: NDArray[np.bool_], *, lossy: bool, source: str
) -> None:
    """Refuse lines that are fainter than half of white, beside brighter ones."""
    few = not lossy and _distinct(value) <= FEW_LEVELS
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
            _AS_255,
        )


def _refuse_pictures(
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


def _refuse_classes(
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
        listed = ", ".join(map(str, [int(levels[0]), *solid[:_SHOWN], int(levels[-1])]))
        raise UnfitLabelError(source, f"more than two {what} ({listed})", _ONE_CLASS)


def _refuse_colours(pixels: NDArray[np.uint8], marked: NDArray[np.bool_], source: str) -> None:
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
            source, f"marks of several colours ({_colours_in_words(colours)})", _ONE_CLASS
        )


def _refuse_areas_of_two_colours(
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
        reason = f"marks of several colours ({', '.join(map(_hex, solid[:_SHOWN]))})"
        raise UnfitLabelError(source, reason, _ONE_CLASS)


def _clusters(bins: NDArray[np.bool_]) -> int:
    """Count groups of hues, in bins of 10 degrees around the circle, that are apart."""
    at = np.flatnonzero(bins)
    if at.size == 0:
        return 0
    gaps = np.diff([*at, at[0] + len(bins)])
    return max(1, int((gaps > HUE_GAP // 10).sum()))


def _colours_in_words(pixels: NDArray[np.uint8]) -> str:
    """Name the most common colours."""
    colours, counts = np.unique(pixels.reshape(-1, 3), axis=0, return_counts=True)
    most = colours[np.argsort(-counts)[:_SHOWN]]
    return ", ".join(map(_hex, most)) + (", ..." if len(colours) > _SHOWN else "")


def _hex(colour: NDArray[np.uint8]) -> str:
    return "#" + "".join(f"{value:02x}" for value in colour)
