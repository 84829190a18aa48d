"""What the numbers of a TIFF page mean: colour, alpha and depth, from its tags and OME-XML."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from xml.etree import ElementTree

import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import Image as Pillow

from skinray.images.file_errors import FLATTEN, UnreadableImageError
from skinray.images.formats.raster import Raster, Samples, to_8_bit
from skinray.images.pixel_size import um_per_unit

_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB, _PALETTE, _CMYK, _YCBCR = 0, 1, 2, 3, 5, 6
_COLOURS = {_WHITE_IS_ZERO: 1, _BLACK_IS_ZERO: 1, _RGB: 3, _PALETTE: 1, _CMYK: 4, _YCBCR: 3}
_ASSOCIATED, _UNASSOCIATED = 1, 2
_MAX_SAMPLE, _YCBCR_COEFFICIENTS, _SUBSAMPLING, _REFERENCE, _ICC = 281, 529, 530, 532, 34675
_JPEG = 7
EXPORT_PLAIN = "export it as 8-bit RGB, uncompressed or with LZW"


@dataclass(frozen=True)
class OmeImage:
    """What OME-XML says about the first image.

    Attributes
    ----------
    planes : channels, focal planes, time points.
    um_per_px : along x and y; empty: not stated.
    significant_bits : depth that the samples use; None: all of it.
    colours : of the channels, (red, green, blue) each; empty: not stated for all.
    pages : the page of each channel; empty: in order.
    """

    planes: tuple[int, int, int]
    um_per_px: tuple[float, ...]
    significant_bits: int | None
    colours: tuple[tuple[int, int, int], ...] = ()
    pages: tuple[int, ...] = ()

    def red_green_blue(self, source: str) -> tuple[int, ...]:
        """Return the pages of red, green and blue, of three channels.

        Raises ImageError if the channels have other colours: they are stains, not a picture.
        """
        pages = self.pages or (0, 1, 2)
        if not self.colours or set(self.colours) == {(255, 255, 255)}:
            return pages
        primary = [(255, 0, 0), (0, 255, 0), (0, 0, 255)]
        if sorted(self.colours) != sorted(primary):
            shown = ", ".join(f"#{r:02x}{g:02x}{b:02x}" for r, g, b in self.colours)
            raise UnreadableImageError(
                source, f"three channels of the colours {shown}, not one picture",
                FLATTEN,
            )  # fmt: skip
        return tuple(pages[self.colours.index(colour)] for colour in primary)


def read_ome(xml: str, source: str) -> OmeImage | None:
    """Read OME-XML; None without a Pixels element. ImageError if the XML is invalid."""
    if "<!DOCTYPE" in xml or "<!ENTITY" in xml:  # they could expand, or read other files
        raise UnreadableImageError(
            source, "OME-XML with a document type", "export it again as OME-TIFF"
        )
    try:
        root = ElementTree.fromstring(xml)  # noqa: S314  (no document type, see above)
    except ElementTree.ParseError as error:
        raise UnreadableImageError(
            source, f"invalid OME-XML ({error})", "export it again as OME-TIFF"
        ) from None
    pixels = root.find(".//{*}Pixels")
    if pixels is None:
        return None
    axes = [axis for axis in ("X", "Y") if f"PhysicalSize{axis}" in pixels.attrib]
    sizes = [_micrometres(pixels, axis) for axis in axes]
    return OmeImage(
        planes=(
            _whole(pixels, "SizeC") or 1,
            _whole(pixels, "SizeZ") or 1,
            _whole(pixels, "SizeT") or 1,
        ),
        um_per_px=() if None in sizes else tuple(size for size in sizes if size is not None),
        significant_bits=_whole(pixels, "SignificantBits"),
        colours=_channel_colours(pixels),
        pages=_channel_pages(pixels),
    )


def _channel_colours(pixels: ElementTree.Element) -> tuple[tuple[int, int, int], ...]:
    """Return the colours of all channels; () if not every one states a valid one."""
    found = []
    for channel in pixels.findall("{*}Channel"):
        try:
            rgba = int(channel.get("Color", "")) & 0xFFFFFFFF
        except ValueError:
            return ()
        found.append((rgba >> 24, rgba >> 16 & 255, rgba >> 8 & 255))
    return tuple(found)


def _channel_pages(pixels: ElementTree.Element) -> tuple[int, ...]:
    """Return the page of each of three channels; () if they are in order, or not all stated."""
    places = {}
    for data in pixels.findall("{*}TiffData"):
        channel, page = data.get("FirstC", "0"), data.get("IFD")
        if page is None or not (channel.isdigit() and page.isdigit()):
            return ()
        places[int(channel)] = int(page)
    pages = tuple(places.get(channel, -1) for channel in range(3))
    return pages if sorted(pages) == [0, 1, 2] else ()


def _whole(pixels: ElementTree.Element, name: str) -> int | None:
    """Return an attribute as a positive whole number; None if it is missing or none."""
    text = pixels.get(name, "")
    return int(text) if text.isascii() and text.isdigit() and int(text) > 0 else None


def _micrometres(pixels: ElementTree.Element, axis: str) -> float | None:
    """Return a stated pixel size; None if it is missing or no number, such as "0,5"."""
    um = um_per_unit(pixels.get(f"PhysicalSize{axis}Unit", "µm"))
    try:
        size = float(pixels.get(f"PhysicalSize{axis}", ""))
    except ValueError:
        return None
    return size * um if um is not None and math.isfinite(size) and size > 0 else None


def declared_bits(
    page: tifffile.TiffPage, ome: OmeImage | None, imagej: Mapping[str, Any], source: str
) -> int:
    """Return the depth of white: OME's significant bits, MaxSampleValue, ImageJ's, or the samples'.

    A maximum other than 2^n - 1 is a statistic of this image and is not used.
    """
    bits = int(page.bitspersample)
    if page.dtype is not None and page.dtype.kind == "u" and bits == 16:
        stated = page.tags.valueof(_MAX_SAMPLE)
        values = stated if isinstance(stated, tuple) else (stated,)
        top = max((value for value in values if isinstance(value, int)), default=0)
        if imagej.get("c0") == -32768:
            raise UnreadableImageError(
                source,
                "16-bit numbers with a sign, which ImageJ stores 32768 higher",
                "convert it to 8-bit or RGB in ImageJ, and save that",
            )
        shown = imagej.get("max")
        if not top and isinstance(shown, float) and shown.is_integer():
            top = int(shown)
        if ome is not None and ome.significant_bits is not None:
            bits = ome.significant_bits
        elif top > 255 and top & (top + 1) == 0:
            bits = top.bit_length()
        if not 8 <= bits <= 16:
            raise UnreadableImageError(source, f"a declared depth of {bits} bits", EXPORT_PLAIN)
    return bits


def to_raster(array: Samples, page: tifffile.TiffPage, bits: int, source: str) -> Raster:
    """Split the samples of a page, (H, W) or (H, W, samples) as stored, into colour and alpha."""
    photometric = int(page.photometric)
    planes = np.atleast_3d(array)
    count = _COLOURS.get(photometric, 0)
    if photometric == _BLACK_IS_ZERO and page.samplesperpixel == 1:
        count = planes.shape[-1]  # 3 if OME-XML called three grey pages channels
    if count == 0 or planes.shape[-1] < count:
        raise UnreadableImageError(
            source, f"TIFF colours of type {page.photometric!s}", EXPORT_PLAIN
        )
    lossy = int(page.compression) == _JPEG
    beyond = planes.shape[-1] - count - _has_alpha(page)
    if photometric in (_BLACK_IS_ZERO, _WHITE_IS_ZERO) and beyond > 0:
        raise UnreadableImageError(
            source, f"{count + beyond} channels without a colour",
            FLATTEN,
        )  # fmt: skip
    colour = planes[..., :count]
    if photometric == _PALETTE:
        index, palette = colour[..., 0], _colours(colour[..., 0], page, source)
        painted = np.ascontiguousarray(palette[index])
        return Raster(painted, 8, lossy=lossy, index=index, palette=palette)
    if photometric == _CMYK:
        return Raster(_ink_to_rgb(to_8_bit(colour, bits)), 8, lossy=lossy)
    if photometric == _YCBCR and not lossy:
        return Raster(_ycbcr_to_rgb(colour, page), 8)
    profile = page.tags.valueof(_ICC)
    return Raster(
        samples=colour[..., 0] if count == 1 else colour,
        bits=bits,
        alpha=planes[..., count] if _has_alpha(page) else None,
        premultiplied=page.extrasamples[:1] == (_ASSOCIATED,),
        white_is_zero=photometric == _WHITE_IS_ZERO,
        sides_unknown=_sides_unknown(page),
        lossy=lossy,
        profile=bytes(profile) if isinstance(profile, bytes) and count == 3 else None,
    )


def _sides_unknown(page: tifffile.TiffPage) -> bool:
    """Whether one bit is stored with 0 as white, by a program of which we do not know why."""
    if int(page.photometric) != _WHITE_IS_ZERO or int(page.bitspersample) != 1:
        return False
    return not str(page.software).startswith(("tifffile", "ImageJ")) and not page.is_imagej


def _has_alpha(page: tifffile.TiffPage) -> bool:
    return bool(page.extrasamples) and page.extrasamples[0] in (_ASSOCIATED, _UNASSOCIATED)


def _ink_to_rgb(ink: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Convert (H, W, 4) cyan, magenta, yellow, black to RGB."""
    return np.array(Pillow.fromarray(np.ascontiguousarray(ink), "CMYK").convert("RGB"))


def refuse_reduced_colour(page: tifffile.TiffPage, source: str) -> None:
    """Refuse luma and chroma of different sizes outside of JPEG, before they are decoded."""
    if int(page.photometric) != _YCBCR or int(page.compression) == _JPEG:
        return
    subsampling = page.tags.valueof(_SUBSAMPLING) or (2, 2)
    if page.dtype != np.uint8 or tuple(subsampling) != (1, 1):
        raise UnreadableImageError(source, "a TIFF in YCbCr with reduced colour", EXPORT_PLAIN)


def _ycbcr_to_rgb(values: Samples, page: tifffile.TiffPage) -> NDArray[np.uint8]:
    """Convert (H, W, 3) luma and chroma to RGB (TIFF 6.0, section 21)."""
    red, green, blue = _fractions(page, _YCBCR_COEFFICIENTS) or (0.299, 0.587, 0.114)
    limits = _fractions(page, _REFERENCE) or (0, 255, 128, 255, 128, 255)
    low, high = np.array(limits).reshape(3, 2).T
    scale = np.array([255, 127, 127]) / (high - low)
    y, cb, cr = np.moveaxis((values.astype(np.float64) - low) * scale, -1, 0)
    r, b = y + cr * (2 - 2 * red), y + cb * (2 - 2 * blue)
    g = (y - blue * b - red * r) / green
    rgb = np.clip(np.rint(np.stack([r, g, b], axis=-1)), 0, 255)
    return np.asarray(rgb.astype(np.uint8))


def _fractions(page: tifffile.TiffPage, tag: int) -> tuple[float, ...]:
    """Return a tag's fractions, stored as pairs of whole numbers; () if it is missing."""
    stored = page.tags.valueof(tag) or ()
    return tuple(above / below for above, below in zip(stored[::2], stored[1::2], strict=True))


def _colours(indices: Samples, page: tifffile.TiffPage, source: str) -> NDArray[np.uint8]:
    """Return a palette, (N, 3), of 16 bits as in the standard, or of 8 as some write it."""
    table = page.colormap
    if table is None or indices.max() >= table.shape[1]:
        raise UnreadableImageError(source, "a TIFF palette too short for its pixels", EXPORT_PLAIN)
    table8 = table if table.max() < 256 else table >> 8
    return np.ascontiguousarray(table8.T.astype(np.uint8))
