"""Decoded samples as the file stores them, and the two policies for them: RGB uint8, and mask.

Colour (:func:`to_rgb`)
    8 bit stays as it is. 16 bit is shifted by the depth that the file declares, ``v >> 8`` for
    full 16 bit. It is never stretched to the values in the image, so that equal stain gives equal
    values in every image. Grey is repeated three times. Alpha is composited on white, the colour
    of an empty slide.
Mask (:func:`to_mask`)
    Two values: the higher one is foreground (0/1, 0/255, 1/2 ...). One value: foreground unless
    it is 0. Lossy files and files with soft edges: above half of white. A few low values
    (0, 1, 2, 3 ...) are a map of several classes, which is an error because it does not say which
    is meant. Transparent pixels are background. White-is-zero grey is used as stored: programs
    that write masks that way (ImageJ's inverting LUT, boolean arrays) store foreground as the
    higher value.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skinray.images.file_errors import UnfitLabelError, UnreadableImageError

Samples = NDArray[Any]  # uint8 or uint16


@dataclass(frozen=True)
class Raster:
    """One image as its file stores it.

    Attributes
    ----------
    samples : (H, W) grey or (H, W, 3) RGB, uint8 or uint16.
    bits : declared depth; white is ``2**bits - 1``.
    alpha : (H, W) of the same type, ``2**bits - 1`` where opaque; None: opaque.
    premultiplied : the samples are already multiplied by alpha.
    white_is_zero : grey is stored inverted (TIFF only).
    lossy : the values may be a few levels off (JPEG).
    um_per_px : scale stated in the file, in micrometres per pixel; None: not stated.
    """

    samples: Samples
    bits: int
    alpha: Samples | None = None
    premultiplied: bool = False
    white_is_zero: bool = False
    lossy: bool = False
    um_per_px: float | None = None

    @property
    def white(self) -> int:
        """The largest value of the declared depth."""
        return (1 << self.bits) - 1


def check_size(width: int, height: int, max_pixels: int, source: str) -> None:
    """Raise ImageError if an image is empty or has more than ``max_pixels``."""
    if width < 1 or height < 1:
        raise UnreadableImageError(source, f"no pixels ({width}x{height})", "export it again")
    if width * height > max_pixels:
        raise UnreadableImageError(
            source,
            f"{width}x{height} is {width * height / 1e6:.0f} megapixels, "
            f"more than the limit of {max_pixels / 1e6:.0f}",
            "crop or tile it, or raise read.max_pixels if the size is correct",
        )


def to_rgb(raster: Raster) -> NDArray[np.uint8]:
    """Convert a raster to (H, W, 3) uint8 RGB, by the policy above."""
    rgb = to_8_bit(raster.samples, raster.bits)
    if raster.white_is_zero:
        rgb = 255 - rgb
    if rgb.ndim == 2:
        rgb = np.repeat(rgb[..., None], 3, axis=2)
    if raster.alpha is not None:
        alpha = to_8_bit(raster.alpha, raster.bits)[..., None].astype(np.uint16)
        colour = rgb.astype(np.uint16)
        if not raster.premultiplied:
            colour = (colour * alpha + 127) // 255
        rgb = to_8_bit(np.minimum(colour + (255 - alpha), 255), 8)
    return np.ascontiguousarray(rgb)


def to_mask(raster: Raster, source: str) -> NDArray[np.bool_]:
    """Convert a raster to an (H, W) bool mask, by the policy above; LabelError if ambiguous."""
    values = raster.samples if raster.samples.ndim == 2 else raster.samples.max(axis=2)
    if raster.alpha is not None and raster.alpha.min() < raster.white:
        return _drawn_layer(values, raster.alpha, raster.white)
    half = raster.white // 2
    if raster.lossy:
        return np.asarray(values > half)
    levels = np.unique(values)
    if levels.size == 1:
        return np.full(values.shape, bool(levels[0] > 0))
    if levels.size == 2:
        return np.asarray(values == levels[1])
    if levels[-1] <= half:
        shown = ", ".join(str(level) for level in levels[:5]) + (", ..." if levels.size > 5 else "")
        raise UnfitLabelError(
            source,
            f"a mask with {levels.size} values ({shown}), none above half of white",
            "export one class only, as 0 and 255",
        )
    return np.asarray(values > half)


def _drawn_layer(values: Samples, alpha: Samples, white: int) -> NDArray[np.bool_]:
    """Return the opaque part of a transparent layer; if it has several colours, the lighter."""
    opaque = np.greater(alpha, white // 2)
    drawn = values[opaque]
    if drawn.size == 0 or drawn.min() == drawn.max():
        return opaque  # one colour, even black: the layer holds only the drawing
    return np.logical_and(opaque, values > white // 2)


def to_8_bit(samples: Samples, bits: int) -> NDArray[np.uint8]:
    """Convert samples of a declared depth to 8 bit: shifted down, or stretched from 1 to 7 bits."""
    if bits > 8:
        samples = np.minimum(samples >> (bits - 8), 255)
    elif bits < 8:
        samples = samples.astype(np.uint16) * 255 // ((1 << bits) - 1)
    return samples.astype(np.uint8, copy=False)


def orientation_of(stated: object) -> int:
    """Return the orientation from a file (EXIF and TIFF tag 274); 1 (upright) if it is invalid.

    Some programs write words, fractions or numbers above 8 there, although the pixels are fine.
    """
    return int(stated) if isinstance(stated, int) and 1 <= stated <= 8 else 1


def upright(raster: Raster, orientation: int) -> Raster:
    """Turn the stored rows and columns upright (EXIF and TIFF tag 274, 1 to 8)."""
    alpha = None if raster.alpha is None else _turn(raster.alpha, orientation)
    return replace(raster, samples=_turn(raster.samples, orientation), alpha=alpha)


def _turn(array: Samples, orientation: int) -> Samples:
    if orientation in (5, 6, 7, 8):
        array = array.swapaxes(0, 1)
    if orientation in (2, 3, 6, 7):
        array = array[:, ::-1]
    if orientation in (3, 4, 7, 8):
        array = array[::-1]
    return np.ascontiguousarray(array)
