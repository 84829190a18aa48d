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

import cv2
import numpy as np
from numpy.typing import NDArray

from skinray.images.file_errors import UnfitLabelError
from skinray.images.formats.not_a_mask import (
    AS_255,
    CHROMATIC,
    FEW_LEVELS,
    NEAR,
    ONE_CLASS,
    SAME,
    SECOND_PIXELS,
    SECOND_SHARE,
    SHOWN,
    are_numbered,
    colours_in_words,
    distinct,
    hex_of,
    levels_of,
    refuse_areas_of_two_colours,
    refuse_classes,
    refuse_colours,
    refuse_faint_lines,
    refuse_few_classes,
    refuse_low,
    refuse_noise,
    refuse_pictures,
)
from skinray.images.formats.raster import Raster, Samples, to_8_bit

# How far colours may be off, of 255, after alpha was multiplied in and out again.
ROUNDED = 4


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
            AS_255,
        )
    if raster.samples.dtype not in (np.uint8, np.uint16):
        return _numbers(raster.samples, source)
    drawn = _drawn(raster, source)
    if raster.index is not None and not _grey_ramp(raster):
        if drawn is not None and levels_of(raster.index[drawn]).size <= 1:
            return drawn
        index = raster.index if drawn is None else np.where(drawn, raster.index, 0)
        return _by_index(index, raster, source)
    pixels = to_8_bit(raster.samples, raster.bits)
    if drawn is None:
        return _of_pixels(raster.samples, pixels, raster, source)
    if not drawn.any() or _uniform(pixels[drawn], lossy=raster.lossy):
        return drawn
    _refuse_black_lines(pixels, drawn, source)
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
        levels = levels_of(samples)
        if levels.size == 1:
            return np.full(samples.shape, bool(levels[0] > (raster.white // 2 if lossy else 0)))
        if levels.size == 2 and not lossy:
            return np.asarray(samples == levels[1])
        if not lossy and are_numbered(levels):
            refuse_low(samples, levels, source)
        if pixels.max() <= 127:
            refuse_low(samples, levels, source)
        value: NDArray[np.uint8] | None = pixels
    else:
        value = _value_of_colours(pixels)
        if value is not None and value.max() <= 127:
            reason = f"marks darker than half of white ({colours_in_words(pixels)})"
            raise UnfitLabelError(source, reason, ONE_CLASS)
    if lossy or distinct(pixels) > FEW_LEVELS:
        refuse_pictures(pixels, value, drawn, 2 * SAME if lossy else SAME, source)
        if value is not None and not lossy:
            refuse_noise(value, source)
    if value is None:
        words = colours_in_words(pixels)
        reason = f"colours without a black or white background ({words})"
        raise UnfitLabelError(source, reason, ONE_CLASS)
    marked = np.asarray(value > 127)
    if not lossy:
        refuse_few_classes(pixels, value, source)
    if pixels.ndim == 3:
        refuse_colours(pixels, marked, source)
        if not lossy:
            refuse_areas_of_two_colours(pixels, marked, source)
    refuse_classes(value, lossy=lossy, source=source)
    refuse_faint_lines(value, marked, lossy=lossy, source=source)
    return marked


def _one_channel(pixels: NDArray[np.uint8], samples: Samples) -> tuple[NDArray[np.uint8], Samples]:
    """Return the one channel that is not empty, as of grey shown in a colour; else all of them."""
    filled = [at for at in range(3) if pixels[..., at].any()]
    if len(filled) != 1:
        return pixels, samples
    return pixels[..., filled[0]], samples[..., filled[0]]


def _value_of_colours(pixels: NDArray[np.uint8]) -> NDArray[np.uint8] | None:
    """Return how far each pixel, (H, W, 3), is from the background, (H, W) uint8, at most 255.

    None: no pixel is black or white.
    """
    low, high = pixels.min(axis=2), pixels.max(axis=2)
    if high.max() <= 127 and distinct(pixels) == 2 and not high.min():
        return np.where(high > 0, np.uint8(255), np.uint8(0))  # a dark colour on black
    if (high <= NEAR).any():
        return np.asarray(high)
    if low.max() == 255 and distinct(pixels) == 2:
        return np.where(low < 255, np.uint8(255), np.uint8(0))  # a light colour on white
    if (low >= 255 - NEAR).any():
        return np.asarray(255 - low)
    return None


def _by_index(index: Samples, raster: Raster, source: str) -> NDArray[np.bool_]:
    """Read a palette file: 0 is background, and one other index is the class."""
    used = [int(value) for value in levels_of(index)]
    classes = [value for value in used if value]
    assert raster.palette is not None  # noqa: S101 - every indexed raster has one
    if len(classes) <= 1:
        first, other = (raster.palette[at].astype(int) for at in (0, *classes, 0)[:2])
        if 0 in used and classes and np.ptp(first) > CHROMATIC and np.ptp(other) == 0:
            raise UnfitLabelError(
                source,
                f"a palette whose index 0 is painted {hex_of(first)} and index {classes[0]} "
                f"{hex_of(other)}, so it does not say which is background",
                AS_255,
            )
        if len(raster.palette) == 2 and first.min() == 255 and other.max() == 0:
            reason = "a palette of white, then black, so it does not say which is background"
            raise UnfitLabelError(source, reason, AS_255)
        return np.asarray(index > 0)
    painted = {value: hex_of(raster.palette[value]) for value in classes[:SHOWN]}
    shown = ", ".join(f"{value} painted {colour}" for value, colour in painted.items())
    more = ", ..." if len(classes) > SHOWN else ""
    raise UnfitLabelError(source, f"{len(classes)} classes in a palette ({shown}{more})", ONE_CLASS)


def _grey_ramp(raster: Raster) -> bool:
    """Whether a palette only stores grey, so that its colours are the values."""
    assert raster.palette is not None and raster.index is not None  # noqa: S101, PT018 - see caller
    used = levels_of(raster.index)
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
    if levels_of(scaled).size > 2:
        refuse_classes(scaled, lossy=False, source=source, what="levels of transparency")
    return np.asarray(scaled > 127)


def _uniform(colours: NDArray[np.uint8], *, lossy: bool) -> bool:
    """Whether all pixels of a layer have one colour: even black is then a drawing.

    Where alpha has been multiplied in and out again, colours are a little off.
    """
    spread = np.ptp(colours.astype(np.int16), axis=0)
    return bool(np.max(spread) <= (2 * SAME if lossy else ROUNDED))


def _refuse_black_lines(pixels: NDArray[np.uint8], drawn: NDArray[np.bool_], source: str) -> None:
    """Refuse a layer with black lines and others: black would be taken for background.

    A black area is one, as of a mask with a clear margin.
    """
    bright = pixels if pixels.ndim == 2 else pixels.max(axis=2)
    black, other = drawn & (bright <= NEAR), drawn & (bright > NEAR)
    if min(black.sum(), other.sum()) < max(SECOND_PIXELS, SECOND_SHARE * drawn.sum()):
        return
    side = 2 * round(max(4, min(drawn.shape) / 40)) + 1
    if not cv2.erode(black.astype(np.uint8), np.ones((side, side), np.uint8), borderValue=0).any():
        raise UnfitLabelError(source, "black lines beside others on a clear layer", ONE_CLASS)


def _numbers(values: Samples, source: str) -> NDArray[np.bool_]:
    """Read samples of 32 bits, signed or with fractions: two values, or an error."""
    if not np.isfinite(values).all():
        raise UnfitLabelError(source, "pixels that are not numbers (NaN)", ONE_CLASS)
    levels = np.unique(values)
    if levels.size == 1:
        return np.full(values.shape, bool(levels[0] > 0))
    if levels.size == 2 and values.ndim == 2 and levels[0] >= 0:
        return np.asarray(values == levels[1])
    if levels[0] < 0:
        reason = f"negative values (from {levels[0]:g} to {levels[-1]:g})"
        raise UnfitLabelError(source, reason, AS_255)
    if (levels == np.round(levels)).all():
        refuse_low(values, levels, source)
    raise UnfitLabelError(
        source,
        f"{levels.size} values with fractions, as of a probability map",
        "apply your threshold and export 0 and 255",
    )


def _class_of(raster: Raster, chosen: str, source: str) -> NDArray[np.bool_]:
    """Return where a file has the class that its user named."""
    if re.fullmatch(r"#[0-9a-fA-F]{6}", chosen):
        if raster.samples.dtype not in (np.uint8, np.uint16):
            raise UnfitLabelError(
                source, f"no colours, but the class is named '{chosen}'", "name a number"
            )
        wanted = np.array([int(chosen[at : at + 2], 16) for at in (1, 3, 5)], np.int16)
        pixels = np.atleast_3d(to_8_bit(raster.samples, raster.bits)).astype(np.int16)
        near = np.abs(pixels - wanted).max(axis=2) <= (2 * SAME if raster.lossy else 0)
        drawn = _drawn(raster, source)
        return np.asarray(near if drawn is None else near & drawn)
    values = raster.samples if raster.index is None else raster.index
    if not re.fullmatch(r"[0-9]{1,5}", chosen):
        raise UnfitLabelError(
            source,
            f"'{chosen}' is not a class of an image",
            "name a number or a colour like #ff0000",
        )
    if values.ndim == 3:
        raise UnfitLabelError(
            source, f"colours, but the class is named '{chosen}'", "name a colour like #ff0000"
        )
    if raster.lossy and raster.index is None:
        return np.asarray(np.abs(values.astype(np.int32) - int(chosen)) <= 2 * SAME)
    return np.asarray(values == int(chosen))
