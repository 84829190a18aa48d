"""TIFF and OME-TIFF, decoded strictly by tifffile.

Each file must hold one image: one full-resolution page (reduced copies, as in pyramids, are
ignored, so level 0 is read), or three grey pages that OME-XML calls channels of one plane: red,
green, blue. Stacks are refused: the laboratory must choose the plane, or how to flatten them.

tifffile tolerates damage (it logs, and fills with zeros). So every strip or tile is checked to
lie within the file, and only compressions whose decoders stop at the size in the header are
accepted.
"""

from __future__ import annotations

import io
import itertools
import math
import struct
from dataclasses import replace

import numpy as np
import tifffile

from skinray.images import pixel_size
from skinray.images.file_errors import FLATTEN, UnreadableImageError
from skinray.images.formats.png_jpeg import jpeg_size, strict_jpeg
from skinray.images.formats.raster import Raster, Samples, check_size, orientation_of, upright
from skinray.images.formats.tiff_colour import (
    EXPORT_PLAIN,
    OmeImage,
    declared_bits,
    read_ome,
    refuse_reduced_colour,
    to_raster,
)

_NONE, _FAX3, _FAX4, _LZW, _JPEG, _DEFLATE, _OLD_DEFLATE, _PACKBITS = 1, 3, 4, 5, 7, 8, 32946, 32773
_COMPRESSIONS = (_NONE, _FAX3, _FAX4, _LZW, _JPEG, _DEFLATE, _OLD_DEFLATE, _PACKBITS)
_REDUCED_OR_MASK = 0b101
_SEPARATE = 2
_MAX_PAGES = 1000
_UM_PER_UNIT = {2: pixel_size.UM_PER_INCH, 3: pixel_size.UM_PER_CM}
_ORIENTATION, _X_RESOLUTION, _Y_RESOLUTION, _UNIT = 274, 282, 283, 296
_JPEG_TABLES = 347
# Samples of a pixel: simplejpeg's name of the colours.
_JPEG_COLOURS = {1: "GRAY", 3: "RGB", 4: "CMYK"}


def decode_tiff(data: bytes, source: str, max_pixels: int) -> Raster:
    """Decode the one image of a TIFF or OME-TIFF file; ImageError if there is not exactly one."""
    _check_chain(data, source)
    # Vendors' own ways to find pages are off; other files (multi-file OME) are only opened by
    # ``series``, which nothing here uses.
    with tifffile.TiffFile(
        io.BytesIO(data), is_lsm=False, is_ndpi=False, is_scanimage=False
    ) as tiff:
        ome = read_ome(tiff.ome_metadata, source) if tiff.ome_metadata else None
        pages = _pages_of_one_image(tiff, ome, source)
        for page in pages:
            _check_page(page, data, max_pixels, source)
        um_per_px = pixel_size.believed(_scale(tiff, pages[0], ome), source)
        orientation = orientation_of(pages[0].tags.valueof(_ORIENTATION))
        arrays = [_samples_last(page) for page in pages]
        if len(arrays) == 3 and ome is not None:
            arrays = [arrays[at] for at in ome.red_green_blue(source)]
    array = arrays[0] if len(arrays) == 1 else np.stack(arrays, axis=-1)
    bits = declared_bits(pages[0], ome, tiff.imagej_metadata or {}, source)
    raster = to_raster(array, pages[0], bits, source)
    return upright(replace(raster, um_per_px=um_per_px), orientation)


def _check_chain(data: bytes, source: str) -> None:
    """Walk the chain of pages: tifffile would follow a circular one until memory runs out."""
    order = "<" if data.startswith(b"II") else ">"
    big = data[2:4] in (b"+\0", b"\0+")
    count, entry, link = ("Q", 20, "Q") if big else ("H", 12, "I")
    seen: set[int] = set()
    at = 8 if big else 4  # where the offset of the next page is stored
    while offset := int(struct.unpack_from(order + link, data, at)[0]):
        if offset in seen or len(seen) == _MAX_PAGES:
            reason = "a circular chain of pages" if offset in seen else "over 1000 pages"
            raise UnreadableImageError(source, f"a TIFF with {reason}", EXPORT_PLAIN)
        seen.add(offset)
        entries = int(struct.unpack_from(order + count, data, offset)[0])
        at = offset + struct.calcsize(order + count) + entries * entry


def _pages_of_one_image(
    tiff: tifffile.TiffFile, ome: OmeImage | None, source: str
) -> list[tifffile.TiffPage]:
    full = [page for page in tiff.pages if isinstance(page, tifffile.TiffPage)]
    pages = [page for page in full if not page.subfiletype & _REDUCED_OR_MASK]
    imagej = tiff.imagej_metadata or {}
    if len(pages) == 1 and int(imagej.get("images", 1)) == 1:
        return pages
    if not pages:
        raise UnreadableImageError(source, "a TIFF without an image", "export it again")
    channels = ome is not None and ome.planes == (3, 1, 1) and len(pages) == 3
    if channels and {(page.shape, page.samplesperpixel) for page in pages} == {(pages[0].shape, 1)}:
        return pages
    count = max(len(pages), int(imagej.get("images", 1)))
    if tiff.is_svs:
        raise UnreadableImageError(
            source,
            f"an Aperio slide ({count} images)",
            "export the field from QuPath as TIFF or PNG",
        )
    if _is_pyramid(pages):
        first = pages[0]
        raise UnreadableImageError(
            source,
            f"a pyramid of {len(pages)} levels that does not mark the smaller ones as copies",
            f"export its first level alone ({first.imagewidth}x{first.imagelength})",
        )
    raise UnreadableImageError(
        source,
        f"contains {count} images (a stack, or several channels)",
        FLATTEN,
    )


def _is_pyramid(pages: list[tifffile.TiffPage]) -> bool:
    """Whether each page is a smaller copy of the one before, as far as their sizes say."""
    sizes = [(page.imagewidth, page.imagelength) for page in pages]
    factors = [(a / c, b / d) for (a, b), (c, d) in itertools.pairwise(sizes) if c and d]
    return len(pages) > 1 and all(
        x > 1.4 and abs(x - y) <= 0.1 * x + 2 / min(sizes[-1]) for x, y in factors
    )


def _check_page(page: tifffile.TiffPage, data: bytes, max_pixels: int, source: str) -> None:
    """Refuse a page that is too large, unsupported or incomplete, before anything is decoded."""
    check_size(page.imagewidth, page.imagelength, max_pixels, source)
    if page.is_tiled:
        check_size(page.tilewidth, page.tilelength, max_pixels, source)
    if int(page.compression) not in _COMPRESSIONS:
        name = getattr(page.compression, "name", page.compression)
        raise UnreadableImageError(source, f"TIFF compression {name}", EXPORT_PLAIN)
    if page.dtype is None or page.dtype.kind not in "buif" or page.dtype.itemsize > 8:
        raise UnreadableImageError(source, f"TIFF samples of type {page.dtype}", EXPORT_PLAIN)
    if page.imagedepth != 1 or page.samplesperpixel > 5:
        raise UnreadableImageError(
            source,
            f"TIFF with {page.samplesperpixel} channels and depth {page.imagedepth}",
            EXPORT_PLAIN,
        )
    refuse_reduced_colour(page, source)
    expected = math.prod(page.chunked)
    segments = list(zip(page.dataoffsets, page.databytecounts, strict=False))
    whole = all(size > 0 and start + size <= len(data) for start, size in segments)
    if len(segments) != expected or not whole:
        raise UnreadableImageError(
            source, "truncated TIFF, part of the pixels is missing", "copy or export it again"
        )
    if int(page.compression) == _JPEG:
        _check_jpeg_segments(page, data, segments, source)


def _check_jpeg_segments(
    page: tifffile.TiffPage, data: bytes, segments: list[tuple[int, int]], source: str
) -> None:
    """Refuse damaged JPEG tiles, and tiles larger than the page declares.

    They would be decoded at their own size, and with grey in place of what is damaged.
    """
    limit_x = page.tilewidth if page.is_tiled else page.imagewidth
    limit_y = page.tilelength if page.is_tiled else page.rowsperstrip
    tables = page.tags.valueof(_JPEG_TABLES)
    shared = bytes(tables)[:-2] if isinstance(tables, bytes) else b""
    for start, size in segments:
        stream = data[start : start + size]
        width, height = jpeg_size(stream, source)
        if width > limit_x or height > limit_y:
            raise UnreadableImageError(
                source, "a JPEG tile larger than its page declares", EXPORT_PLAIN
            )
        whole = shared + stream[2:] if shared else stream
        samples = 1 if int(page.planarconfig) == _SEPARATE else page.samplesperpixel
        strict_jpeg(whole, source, _JPEG_COLOURS.get(samples))


def _samples_last(page: tifffile.TiffPage) -> Samples:
    """Decode to (H, W) or (H, W, samples)."""
    array = page.asarray(maxworkers=1)
    if array.dtype == bool:
        array = array.astype(np.uint8)
    return np.moveaxis(array, 0, -1) if page.axes == "SYX" else array


def _scale(
    tiff: tifffile.TiffFile, page: tifffile.TiffPage, ome: OmeImage | None
) -> tuple[float, ...]:
    """Return micrometres per pixel along x and y from OME-XML, ImageJ or the resolution tags."""
    if ome is not None and ome.um_per_px:
        return ome.um_per_px
    per_unit = [_ratio(page.tags.valueof(tag)) for tag in (_X_RESOLUTION, _Y_RESOLUTION)]
    unit = page.tags.valueof(_UNIT)
    um = _UM_PER_UNIT.get(unit) if isinstance(unit, int) else None
    imagej = tiff.imagej_metadata or {}
    if "unit" in imagej:  # some programs leave "inch" in the tag; ImageJ goes by its own unit
        um = pixel_size.um_per_unit(str(imagej["unit"]))
    return pixel_size.from_resolution(per_unit[0], per_unit[1], um)


def _ratio(value: object) -> float:
    """Return a fraction; 0 if the file has none, or text in its place."""
    match value:
        case (int(above), int(below)) if below:
            return above / below
    return 0.0
