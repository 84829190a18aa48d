"""What the numbers of a TIFF page mean: colour, alpha and depth, from its tags and OME-XML."""

from __future__ import annotations

from dataclasses import dataclass
from xml.etree import ElementTree

import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import Image as Pillow

from skinray.images.file_errors import UnreadableImageError
from skinray.images.formats.raster import Raster, Samples, to_8_bit
from skinray.images.pixel_size import um_per_unit

_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB, _PALETTE, _CMYK, _YCBCR = 0, 1, 2, 3, 5, 6
_COLOURS = {_WHITE_IS_ZERO: 1, _BLACK_IS_ZERO: 1, _RGB: 3, _PALETTE: 1, _CMYK: 4, _YCBCR: 3}
_ASSOCIATED, _UNASSOCIATED = 1, 2
_MAX_SAMPLE = 281
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
    """

    planes: tuple[int, int, int]
    um_per_px: tuple[float, ...]
    significant_bits: int | None


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
    number = pixels.get
    planes = (int(number("SizeC", 1)), int(number("SizeZ", 1)), int(number("SizeT", 1)))
    sizes = [_micrometres(pixels, axis) for axis in ("X", "Y")]
    bits = number("SignificantBits")
    return OmeImage(
        planes=planes,
        um_per_px=tuple(size for size in sizes if size is not None),
        significant_bits=None if bits is None else int(bits),
    )


def _micrometres(pixels: ElementTree.Element, axis: str) -> float | None:
    size = pixels.get(f"PhysicalSize{axis}")
    um = um_per_unit(pixels.get(f"PhysicalSize{axis}Unit", "µm"))
    return None if size is None or um is None else float(size) * um


def declared_bits(page: tifffile.TiffPage, ome: OmeImage | None, source: str) -> int:
    """Return the depth of white: OME's significant bits, MaxSampleValue, or the sample size.

    A MaxSampleValue other than 2^n - 1 is a statistic of this image and is not used.
    """
    bits = int(page.bitspersample)
    if bits > 8:
        stated = page.tags.valueof(_MAX_SAMPLE)
        values = stated if isinstance(stated, tuple) else (stated,)
        top = max((value for value in values if isinstance(value, int)), default=0)
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
    colour = planes[..., :count]
    if photometric == _PALETTE:
        return Raster(_paint(colour[..., 0], page, source), 8, lossy=lossy)
    if photometric == _CMYK:
        return Raster(_ink_to_rgb(to_8_bit(colour, bits)), 8, lossy=lossy)
    return Raster(
        samples=colour[..., 0] if count == 1 else colour,
        bits=bits,
        alpha=planes[..., count] if _has_alpha(page) else None,
        premultiplied=page.extrasamples[:1] == (_ASSOCIATED,),
        white_is_zero=photometric == _WHITE_IS_ZERO,
        lossy=lossy,
    )


def _has_alpha(page: tifffile.TiffPage) -> bool:
    return bool(page.extrasamples) and page.extrasamples[0] in (_ASSOCIATED, _UNASSOCIATED)


def _ink_to_rgb(ink: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Convert (H, W, 4) cyan, magenta, yellow, black to RGB."""
    return np.array(Pillow.fromarray(np.ascontiguousarray(ink), "CMYK").convert("RGB"))


def _paint(indices: Samples, page: tifffile.TiffPage, source: str) -> NDArray[np.uint8]:
    """Look up a palette of 16 bits, as in the standard, or of 8, as some programs write it."""
    table = page.colormap
    if table is None or indices.max() >= table.shape[1]:
        raise UnreadableImageError(source, "a TIFF palette too short for its pixels", EXPORT_PLAIN)
    table8 = table if table.max() < 256 else table >> 8
    return np.ascontiguousarray(table8.T.astype(np.uint8)[indices])
