"""Decoded samples as the file stores them, and how they become RGB uint8 (:func:`to_rgb`).

8 bit stays as it is. 16 bit is shifted by the depth that the file declares, ``v >> 8`` for full 16
bit. It is never stretched to the values in the image, so that equal stain gives equal values in
every image. A file that uses less than a quarter of its 16 bits is refused, because it does not say
what its white is. Grey is repeated three times. Alpha is composited on white, the colour of an
empty slide. Colours with a profile other than sRGB are converted to sRGB.
"""

from __future__ import annotations

import io
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow
from PIL import ImageCms

from skinray.images.file_errors import UnreadableImageError

Samples = NDArray[Any]  # uint8 or uint16; other types only in labels
# Depths of cameras, and of 8-bit pixels in a file of 16.
_CAMERA_BITS = (8, 10, 12, 14)
# A profile that changes no colour by more than this, of 255, is sRGB under another name.
SAME_AS_SRGB = 3


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
    index, palette : (H, W) indices of a palette file, and its colours, (N, 3) uint8; None: the file
        has no palette. ``samples`` are then the painted colours.
    profile : ICC profile of RGB colours; None: sRGB.
    sides_unknown : of a mask of one bit, it is unknown which value is the class.
    orientation : as stored (EXIF and TIFF tag 274); the samples are upright.
    """

    samples: Samples
    bits: int
    alpha: Samples | None = None
    premultiplied: bool = False
    white_is_zero: bool = False
    lossy: bool = False
    um_per_px: float | None = None
    index: Samples | None = None
    palette: NDArray[np.uint8] | None = None
    profile: bytes | None = None
    sides_unknown: bool = False
    orientation: int = 1

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


def to_rgb(raster: Raster, source: str, bits: int | None = None) -> NDArray[np.uint8]:
    """Convert a raster to (H, W, 3) uint8 RGB, by the policy above.

    Parameters
    ----------
    bits : depth of files with 16 bits per sample, if the user states it; what a file declares
        counts more, unless its values exceed it.

    Raises ImageError if the samples are not of 8 or 16 bits, or of an unknown depth.
    """
    if raster.samples.dtype not in (np.uint8, np.uint16):
        raise UnreadableImageError(
            source, f"pixels of type {raster.samples.dtype}", "export it as 8-bit RGB or grey"
        )
    depth = raster.bits
    if raster.samples.dtype == np.uint16:
        top = int(raster.samples.max())
        if bits is not None and (depth == 16 or top >> depth):
            depth = bits  # what a file declares counts, unless it cannot be
        elif depth == 16:
            _refuse_unknown_depth(raster.samples, source)
        if top >> depth:
            raise UnreadableImageError(
                source,
                f"its values reach {top}, more than {depth} bits hold, so most would become white",
                "export it as 8-bit RGB, or correct its depth (read.bits, or bits in the manifest)",
            )
    rgb = to_8_bit(raster.samples, depth)
    if raster.white_is_zero:
        rgb = 255 - rgb
    if rgb.ndim == 2:
        rgb = np.repeat(rgb[..., None], 3, axis=2)
    elif raster.profile is not None:
        rgb = _to_srgb(rgb, raster.profile)
    if raster.alpha is not None:
        if not raster.alpha.any():
            raise UnreadableImageError(
                source, "its alpha is 0 everywhere, so it shows nothing",
                "export it without transparency",
            )  # fmt: skip
        alpha = to_8_bit(raster.alpha, raster.bits)[..., None].astype(np.uint16)
        colour = rgb.astype(np.uint16)
        if not raster.premultiplied:
            colour = (colour * alpha + 127) // 255
        rgb = to_8_bit(np.minimum(colour + (255 - alpha), 255), 8)
    return np.ascontiguousarray(rgb)


def _refuse_unknown_depth(samples: Samples, source: str) -> None:
    """Refuse 16-bit samples that stay in the lowest quarter: the file declares a wrong depth.

    A scale bar, a hot pixel or a white margin at the top says nothing about the others.
    """
    some = samples[::4, ::4] if samples.size > 64 else samples
    inside = some[some < np.iinfo(np.uint16).max]
    if inside.size < some.size / 10:
        inside = some  # white all over, which is no margin
    top = int(np.quantile(inside, 0.98)) if samples.size > 64 else int(inside.max())
    if top >> _CAMERA_BITS[-1]:
        return
    most = int(samples.max(initial=0, where=samples < np.iinfo(np.uint16).max))
    bits = next((one for one in _CAMERA_BITS if not most >> one), 16)
    reached = f"its values reach only {most} of 65535"
    if bits == 16:
        reached = f"98% of its values are at most {top} of 65535, and the largest is {most}"
    raise UnreadableImageError(
        source,
        f"{reached}: it is dark, or has fewer bits per sample than it says",
        f"export it as 8-bit RGB, or state its depth: read.bits={bits}, or for training {bits} in "
        "the manifest's column bits (16 if it is as dark as that)",
    )


def _to_srgb(rgb: NDArray[np.uint8], profile: bytes) -> NDArray[np.uint8]:
    """Convert (H, W, 3) RGB; a profile that cannot be used leaves the pixels as they are."""
    transform = _transform(profile)
    if transform is None:
        return rgb
    return np.array(ImageCms.applyTransform(Pillow.fromarray(rgb), transform))


@lru_cache(maxsize=16)
def _transform(profile: bytes) -> Any:
    """Return the conversion from a profile; None: it is sRGB, or no profile of RGB."""
    try:
        transform = ImageCms.buildTransform(
            ImageCms.ImageCmsProfile(io.BytesIO(profile)),
            ImageCms.createProfile("sRGB"),
            "RGB",
            "RGB",
            ImageCms.Intent.RELATIVE_COLORIMETRIC,
        )
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return None
    steps = np.arange(0, 256, 51, dtype=np.uint8)
    grid = np.stack(np.meshgrid(steps, steps, steps), axis=-1).reshape(1, -1, 3)
    changed = np.array(ImageCms.applyTransform(Pillow.fromarray(grid), transform))
    difference = np.abs(changed.astype(np.int16) - grid)
    return None if difference.max() <= SAME_AS_SRGB else transform


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
    alpha, index = (
        None if layer is None else _turn(layer, orientation)
        for layer in (raster.alpha, raster.index)
    )
    samples = _turn(raster.samples, orientation)
    return replace(raster, samples=samples, alpha=alpha, index=index, orientation=orientation)


def _turn(array: Samples, orientation: int) -> Samples:
    if orientation in (5, 6, 7, 8):
        array = array.swapaxes(0, 1)
    if orientation in (2, 3, 6, 7):
        array = array[:, ::-1]
    if orientation in (3, 4, 7, 8):
        array = array[::-1]
    return np.ascontiguousarray(array)
