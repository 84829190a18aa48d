"""PNG and JPEG, decoded strictly.

Pillow decodes PNG. It does not check the size in the header (before anything is decompressed) or
the checksum of every chunk, so both are checked here first. simplejpeg decodes JPEG: with its
``strict``, whatever libjpeg only warns of is an error, and libjpeg fills what is damaged with grey.
What follows a whole picture (the film of a motion photo, a gain map) is ignored.
"""

from __future__ import annotations

import io
import re
import struct
import zlib
from collections.abc import Iterator

import cv2
import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import Image as Pillow

from skinray.images import pixel_size
from skinray.images.file_errors import UnreadableImageError
from skinray.images.formats.raster import Raster, Samples, check_size, orientation_of, upright

_COPY_AGAIN = "copy or export it again"
_ORIENTATION_TAG = 0x0112
# Pillow's names of colours, and simplejpeg's.
_JPEG_COLOURS = {"L": "GRAY", "RGB": "RGB", "CMYK": "CMYK"}
# Between the pixels of a scan, FF is followed by 0 or by a restart marker.
_BLANK = re.compile(rb"\x00{64,}")
_MARKER = re.compile(rb"\xff+[^\x00\xff\xd0-\xd7]")


def decode_png(data: bytes, source: str, max_pixels: int) -> Raster:
    """Decode a PNG of any bit depth and colour type; ImageError if any byte is damaged."""
    um_per_px: float | None = None
    deep = False
    for kind, body in _png_chunks(data, source):
        if kind == b"IHDR":
            width, height, depth, colours = struct.unpack_from(">IIBB", body)
            deep = depth == 16 and colours != 0
            check_size(width, height, max_pixels, source)
        elif kind == b"pHYs":
            x, y, unit = struct.unpack(">IIB", body)
            found = pixel_size.from_resolution(x, y, pixel_size.UM_PER_M if unit == 1 else None)
            um_per_px = pixel_size.believed(found, source)
        elif kind == b"acTL":
            raise UnreadableImageError(source, "an animated PNG", "export one still image")
    with Pillow.open(io.BytesIO(data), formats=["PNG"]) as image:
        if deep:
            return _sixteen_bits(data, image, um_per_px)
        return _from_pillow(image, source, lossy=False, um_per_px=um_per_px)


def _sixteen_bits(data: bytes, image: Pillow.Image, um_per_px: float | None) -> Raster:
    """Decode 16 bits of colour or of grey with alpha, of which Pillow keeps eight."""
    array = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if array is None or array.dtype != np.uint16 or array.ndim != 3:
        raise ValueError("not 16 bits of colour")
    alpha = array[..., 3] if array.shape[2] == 4 else None
    samples = np.ascontiguousarray(array[..., 2::-1])
    raster = Raster(samples, 16, alpha, um_per_px=um_per_px, profile=_profile(image))
    return upright(raster, _orientation(image))


def decode_jpeg(data: bytes, source: str, max_pixels: int) -> Raster:
    """Decode a JPEG (grey, YCbCr, CMYK), turned upright; ImageError if it is damaged."""
    check_size(*jpeg_size(data, source), max_pixels, source)
    with Pillow.open(io.BytesIO(data), formats=["JPEG"]) as image:
        found: tuple[float, ...] = ()
        unit = {1: pixel_size.UM_PER_INCH, 2: pixel_size.UM_PER_CM}.get(
            image.info.get("jfif_unit", 0)
        )
        if unit is not None:
            x, y = image.info["jfif_density"]
            found = pixel_size.from_resolution(x, y, unit)
        um_per_px = pixel_size.believed(found, source)
        pixels = strict_jpeg(data, source, _JPEG_COLOURS.get(image.mode))
        if pixels is None or image.mode == "CMYK":
            return _from_pillow(image, source, lossy=True, um_per_px=um_per_px)
        raster = Raster(
            samples=pixels[..., 0] if pixels.shape[2] == 1 else pixels,
            bits=8,
            lossy=True,
            um_per_px=um_per_px,
            profile=_profile(image),
        )
        return upright(raster, _orientation(image))


def strict_jpeg(data: bytes, source: str, colours: str | None) -> NDArray[np.uint8] | None:
    """Decode a JPEG stream to (H, W, channels), as it is stored; ImageError if it is damaged.

    Parameters
    ----------
    colours : simplejpeg's name of the colours wanted; None: unknown.

    Returns None where the stream is whole, but of a kind that only Pillow decodes.
    """
    try:
        pixels = np.asarray(simplejpeg.decode_jpeg(data, colours or "RGB", strict=True))
    except ValueError as error:
        said = str(error).lower()
    else:
        _refuse_lost_piece(data, source)
        return pixels
    if "premature end" in said:
        raise UnreadableImageError(source, "truncated JPEG, part of it is missing", _COPY_AGAIN)
    if "corrupt" in said or "inconsistent progression" in said:
        raise UnreadableImageError(source, "damaged JPEG, its pixels are corrupt", _COPY_AGAIN)
    _check_end(data, source)
    return None


def _refuse_lost_piece(data: bytes, source: str) -> None:
    """Refuse what libjpeg takes for a picture although a piece of it is lost.

    Disks and copies leave zeros in its place. They cannot be pixels unless the file's tables give
    the shortest code, all zeros, to the end of a block, as those of flat pictures do. A progressive
    picture may also break off between two scans, and then lacks its finer steps.
    """
    first, progressive = _first_scan(data)
    blanks = [found.start() for found in _BLANK.finditer(data, first)]
    if not blanks and not progressive:
        return
    at, zero_codes = 2, dict[int, int]()
    scan = len(data)  # where pixels begin that cannot be zeros
    steps: dict[int, dict[int, int]] = {}  # by component and coefficient: bits still missing
    while found := _MARKER.search(data, at):
        if any(scan <= blank < found.start() for blank in blanks):
            raise UnreadableImageError(source, "damaged JPEG, a piece of it is blank", _COPY_AGAIN)
        at, marker = found.end(), found.group()[-1]
        if marker == 0xD9:
            break
        length = struct.unpack_from(">H", data, at)[0]
        body = data[at + 2 : at + length]
        at, scan = at + length, len(data)
        if marker == 0xC4:
            zero_codes |= _zero_codes(body)
        elif marker == 0xDA:
            if not _may_be_zeros(body, zero_codes, progressive=progressive):
                scan = at
            low, high, bits = body[1 + 2 * body[0] :][:3]
            for part in range(body[0]):
                own = steps.setdefault(body[1 + 2 * part], {})
                own |= dict.fromkeys(range(low, high + 1), bits & 15)
    if progressive and any(set(own.values()) != {0} or len(own) < 64 for own in steps.values()):
        raise UnreadableImageError(source, "truncated JPEG, part of it is missing", _COPY_AGAIN)


def _first_scan(data: bytes) -> tuple[int, bool]:
    """Return where the first scan begins, and whether the picture is progressive.

    Headers are passed over whole: the EXIF has a picture of its own.
    """
    at, progressive = 2, False
    while at + 4 <= len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if marker == 0xDA:
            return at, progressive
        if marker == 0xFF or marker == 0x01 or 0xD0 <= marker <= 0xD7:
            at += 1 if marker == 0xFF else 2  # fill byte, or a marker without a body
            continue
        progressive |= marker == 0xC2
        at += 2 + struct.unpack_from(">H", data, at + 2)[0]
    return len(data), progressive


def _zero_codes(tables: bytes) -> dict[int, int]:
    """Return what the code of only zeros means, by number of the table of coefficients."""
    found = {}
    while len(tables) > 17:
        if tables[0] >> 4:
            found[tables[0] & 15] = tables[17]
        tables = tables[17 + sum(tables[1:17]) :]
    return found


def _may_be_zeros(scan: bytes, zero_codes: dict[int, int], *, progressive: bool) -> bool:
    """Whether a scan, by its header, may hold long runs of zeros."""
    parts = scan[0]
    if progressive:  # brightness may be flat; elsewhere, one code stands for all flat blocks
        return scan[1 + 2 * parts] == 0
    return all(zero_codes.get(scan[2 + 2 * part] & 15, 0) == 0 for part in range(parts))


def _check_end(data: bytes, source: str) -> None:
    """Walk to the picture's own end marker; ImageError if it is missing."""
    at = 2
    while at + 4 <= len(data):
        found = _MARKER.search(data, at)
        if found is None:
            break
        at, marker = found.end(), found.group()[-1]
        if marker == 0xD9:
            return
        if marker != 0x01:
            at += struct.unpack_from(">H", data, at)[0]
    raise UnreadableImageError(source, "truncated JPEG, its end marker is missing", _COPY_AGAIN)


def _profile(image: Pillow.Image) -> bytes | None:
    """Return the ICC profile of RGB colours, if there is one."""
    profile = image.info.get("icc_profile")
    return profile if isinstance(profile, bytes) and image.mode in ("RGB", "RGBA") else None


def jpeg_size(data: bytes, source: str) -> tuple[int, int]:
    """Read the width and height from the first frame header of a JPEG stream."""
    at = 2
    while at + 9 <= len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if marker == 0xFF or marker == 0x01 or 0xD0 <= marker <= 0xD7:
            at += 1 if marker == 0xFF else 2  # fill byte, or a marker without a body
            continue
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            if data[at + 4] != 8:
                raise UnreadableImageError(
                    source, f"a JPEG of {data[at + 4]} bits a sample", "export it with 8 bits"
                )
            height, width = struct.unpack_from(">HH", data, at + 5)
            return width, height
        if marker == 0xDA:
            break
        at += 2 + struct.unpack_from(">H", data, at + 2)[0]
    raise UnreadableImageError(source, "a JPEG without a frame header", _COPY_AGAIN)


def _png_chunks(data: bytes, source: str) -> Iterator[tuple[bytes, memoryview]]:
    """Yield (kind, body) of every chunk up to IEND, each with its checksum verified."""
    view, at = memoryview(data), 8
    while at + 12 <= len(data):
        length = struct.unpack_from(">I", data, at)[0]
        end = at + 8 + length
        kind = data[at + 4 : at + 8]
        if end + 4 > len(data):
            break
        if zlib.crc32(view[at + 4 : end]) != struct.unpack_from(">I", data, end)[0]:
            raise UnreadableImageError(
                source, "damaged PNG, a checksum does not match", _COPY_AGAIN
            )
        yield kind, view[at + 8 : end]
        if kind == b"IEND":
            return
        at = end + 4
    raise UnreadableImageError(source, "truncated PNG, its end is missing", _COPY_AGAIN)


def _from_pillow(
    image: Pillow.Image, source: str, *, lossy: bool, um_per_px: float | None
) -> Raster:
    """Decode, split into samples and alpha, and turn upright."""
    image.load()
    orientation = _orientation(image)
    bits = 8
    alpha: Samples | None = None
    if image.mode in ("I;16", "I"):
        bits, samples = 16, np.array(image).astype(np.uint16)
        if isinstance(clear := image.info.get("transparency"), int):
            alpha = np.where(samples == clear, 0, 0xFFFF).astype(np.uint16)
    else:
        array = np.array(_plain_mode(image, source))
        if array.ndim == 3 and array.shape[2] in (2, 4):
            array, alpha = array[..., :-1], array[..., -1]
        samples = array[..., 0] if array.ndim == 3 and array.shape[2] == 1 else array
    index, palette = _palette(image)
    raster = Raster(
        samples, bits, alpha, lossy=lossy, um_per_px=um_per_px, index=index, palette=palette,
        profile=_profile(image),
    )  # fmt: skip
    return upright(raster, orientation)


def _palette(image: Pillow.Image) -> tuple[Samples | None, NDArray[np.uint8] | None]:
    """Return the indices and the colours of a palette file."""
    if image.mode not in ("P", "PA"):
        return None, None
    index = np.array(image if image.mode == "P" else image.getchannel("P"))
    colours = np.array(image.getpalette("RGB") or [], np.uint8).reshape(-1, 3)
    missing = int(index.max()) + 1 - len(colours)
    return index, np.pad(colours, ((0, max(0, missing)), (0, 0)))


def _orientation(image: Pillow.Image) -> int:
    """Return the orientation in EXIF; 1 (upright) if the EXIF is damaged."""
    try:
        return orientation_of(image.getexif().get(_ORIENTATION_TAG))
    except Exception:  # almost any type; the pixels are decoded by now
        return 1


def _plain_mode(image: Pillow.Image, source: str) -> Pillow.Image:
    """Convert to L, LA, RGB or RGBA."""
    if image.mode in ("1", "L", "P", "RGB") and "transparency" in image.info:
        return image.convert("RGBA")
    if image.mode in ("L", "LA", "RGB", "RGBA"):
        return image
    target = {"1": "L", "P": "RGB", "CMYK": "RGB", "YCbCr": "RGB", "PA": "RGBA", "La": "LA"}
    if image.mode not in target:
        raise UnreadableImageError(
            source, f"pixels of type {image.mode}", "export it as 8-bit RGB or grey"
        )
    return image.convert(target[image.mode])
