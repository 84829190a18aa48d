"""Strict decoding of image files: complete and as written, or an error that says what to do.

PNG, JPEG, TIFF and OME-TIFF are recognised by their first bytes, never by the file's name. The
size is checked in the header before pixels are decoded. A truncated or damaged file is refused,
because a picture with a blank tail would give a wrong count without anyone noticing.

``formats/raster`` decides on colours and depth, ``formats/mask`` on labels, ``pixel_size`` on
um/px, ``formats/tiff`` on stacks and pyramids. EXIF and TIFF orientation is applied: arrays are
upright. Nothing else in a file about camera, place or person is kept, shown in an error, or logged
at any level.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from skinray.config.images import ReadSettings
from skinray.errors import SkinrayError
from skinray.files import as_path
from skinray.images.file_errors import UnreadableImageError, reading_label
from skinray.images.formats.decoder_noise import meaning_of, quiet_decoders
from skinray.images.formats.mask import to_mask
from skinray.images.formats.png_jpeg import decode_jpeg, decode_png
from skinray.images.formats.raster import Raster, to_rgb
from skinray.images.formats.tiff import decode_tiff

_REGIONS = "ImageJ regions of interest"
_AS_MASK = (
    "open them on the image (several: ROI Manager > More > OR (Combine)), then Edit > Selection > "
    "Create Mask, and save that"
)
_EXPORT = "export it as PNG, JPEG or TIFF"
# Format, first bytes, decoder.
_Decode = Callable[[bytes, str, int], Raster]
_DECODERS: tuple[tuple[str, bytes, _Decode], ...] = (
    ("PNG", b"\x89PNG\r\n\x1a\n", decode_png),
    ("JPEG", b"\xff\xd8\xff", decode_jpeg),
    ("TIFF", b"II*\0", decode_tiff),
    ("TIFF", b"MM\0*", decode_tiff),
    ("BigTIFF", b"II+\0", decode_tiff),
    ("BigTIFF", b"MM\0+", decode_tiff),
)
# What people hand in instead: what it is, the remedy, first bytes (or brand, of the HEIC family).
_OTHER_FILES: tuple[tuple[str, str, tuple[bytes, ...]], ...] = (
    (
        "a HEIC photograph of a phone",
        "export it as JPEG, or set the camera to 'most compatible'",
        (b"heic", b"heix", b"mif1", b"msf1", b"hevc", b"heim", b"heis"),
    ),
    ("an AVIF image", _EXPORT, (b"avif", b"avis")),
    ("a WebP image or another RIFF file", _EXPORT, (b"RIFF",)),
    ("a GIF image", _EXPORT, (b"GIF8",)),
    ("a BMP image", _EXPORT, (b"BM",)),
    ("a JPEG 2000 image", _EXPORT, (b"\0\0\0\x0cjP  ", b"\xff\x4f\xff\x51")),
    ("a JPEG XL image", _EXPORT, (b"\xff\x0a", b"\0\0\0\x0cJXL ")),
    ("a PDF document", _EXPORT, (b"%PDF",)),
    ("a Photoshop document", _EXPORT, (b"8BPS",)),
    (
        "a Git LFS pointer",
        "fetch the file itself with `git lfs pull`",
        (b"version https://git-lfs",),
    ),
    (
        "a web page",
        "download the file again; the server answered with a page, perhaps to log in",
        (b"<!DOCTYPE", b"<!doctype", b"<html", b"<HTML"),
    ),
    ("a DICOM file", "export the image from the viewer as PNG or TIFF", (b"DICM",)),
    ("a Zeiss CZI slide", "export the field as TIFF or PNG from ZEN or QuPath", (b"ZISRAWFILE",)),
    ("a Nikon ND2 image", _EXPORT, (b"\xda\xce\xbe\x0a",)),
    (_REGIONS, _AS_MASK, (b"Iout",)),
    ("compressed with gzip", "unpack it first", (b"\x1f\x8b",)),
    (
        "GeoJSON or other JSON",
        "give a mask image; only the columns nerves and boundary take GeoJSON",
        (b"{", b"["),
    ),
    (
        "a ZIP archive or an Office document",
        "unpack it, or export it as an image",
        (b"PK\x03\x04",),
    ),
)
# Uncompressed 16-bit RGBA, and as much again for pyramid levels and metadata.
_MAX_BYTES_PER_PIXEL = 16
_DEFAULT = ReadSettings()


@dataclass(frozen=True)
class Image:
    """A decoded image.

    Attributes
    ----------
    pixels : (H, W, 3) uint8, RGB, upright.
    um_per_px : micrometres per pixel as stated in the file; None: not stated.
    source : where the image came from, for messages.
    sha256 : of the file's bytes.
    orientation : of the pixels in the file (EXIF and TIFF tag 274); 1: upright.
    """

    pixels: NDArray[np.uint8]
    um_per_px: float | None
    source: str
    sha256: str
    orientation: int = 1

    def __repr__(self) -> str:
        height, width = self.pixels.shape[:2]
        scale = "scale unknown" if self.um_per_px is None else f"{self.um_per_px:g} um/px"
        return f"<Image: {width}x{height} px, {scale}>"


def read_image(path: Path | str, settings: ReadSettings = _DEFAULT) -> Image:
    """Read an image file; see :func:`decode_image`."""
    path = as_path(path, "image")
    return decode_image(read_bytes(path, settings), str(path), settings)


def decode_image(data: bytes, source: str, settings: ReadSettings = _DEFAULT) -> Image:
    """Decode an image file held in memory.

    Parameters
    ----------
    data : the bytes of a PNG, JPEG, TIFF or OME-TIFF file.
    source : what to call the image in messages.
    settings : the limit on pixels.

    Raises ImageError if the bytes are not a complete image in one of these formats, or it has too
    many pixels; the message gives the source, the reason and the remedy.
    """
    raster = decode_raster(data, source, settings)
    digest = hashlib.sha256(data).hexdigest()
    pixels = to_rgb(raster, source, settings.bits)
    return Image(pixels, raster.um_per_px, source, digest, raster.orientation)


def read_mask(
    path: Path | str, settings: ReadSettings = _DEFAULT, chosen: str | None = None
) -> NDArray[np.bool_]:
    """Read a mask image as (H, W) bool, by the rule of :mod:`skinray.images.formats.mask`.

    ``chosen`` names the class that is meant, where the file has several.

    Raises LabelError if the file cannot be read, or its values are not those of a mask.
    """
    path = as_path(path, "mask")
    with reading_label():
        raster = decode_raster(read_bytes(path, settings), str(path), settings)
    return to_mask(raster, str(path), chosen)


def read_bytes(path: Path, settings: ReadSettings) -> bytes:
    """Read a whole file; ImageError if it is missing, not a file, or far too large."""
    try:
        if not path.exists():
            raise UnreadableImageError(
                str(path), "no such file", "correct the path or restore the file"
            )
        if not path.is_file():
            raise UnreadableImageError(str(path), "not a file", "give the path of an image file")
        limit = settings.max_pixels * _MAX_BYTES_PER_PIXEL + (1 << 20)
        if path.stat().st_size > limit:
            raise UnreadableImageError(
                str(path),
                f"{path.stat().st_size / 1e9:.1f} GB, too large for an image within the limit",
                "crop or tile it, or raise read.max_pixels",
            )
        return path.read_bytes()
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        reason = getattr(error, "strerror", None) or str(error)
        raise UnreadableImageError(
            str(path), f"cannot be read ({reason})", "check the path and its permissions"
        ) from None


def decode_raster(data: bytes, source: str, settings: ReadSettings) -> Raster:
    """Decode to the samples as the file stores them; see :func:`decode_image`."""
    if not data:
        raise UnreadableImageError(source, "the file is empty", "copy or export it again")
    name, decoder = _recognised(data, source)
    try:
        with quiet_decoders():
            return decoder(data, source, settings.max_pixels)
    except SkinrayError:
        raise
    except MemoryError:
        raise UnreadableImageError(
            source, "does not fit in memory", "crop or tile it, or lower read.max_pixels"
        ) from None
    except Exception as error:  # damaged files make decoders raise almost any exception
        raise UnreadableImageError(
            source, f"damaged {name} ({meaning_of(error)})", "copy or export it again"
        ) from None  # no traceback either: the decoder's own words may quote the file


def _recognised(data: bytes, source: str) -> tuple[str, _Decode]:
    for name, magic, decoder in _DECODERS:
        if data.startswith(magic):
            return name, decoder
    for what, remedy, starts in _OTHER_FILES:
        inside = data[8:12] if data[4:8] == b"ftyp" else data[128:132]
        if data.startswith(starts) or inside in starts:
            if data.startswith(b"PK") and b".roi" in data[30:300].lower():
                what, remedy = _REGIONS, _AS_MASK  # RoiSet.zip; the first name follows the header
            raise UnreadableImageError(source, f"{what}, not a PNG, JPEG or TIFF image", remedy)
    raise UnreadableImageError(source, "not a PNG, JPEG or TIFF image", _EXPORT)
