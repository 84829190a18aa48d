"""Drawn biopsies as files in the formats that the service accepts."""

from __future__ import annotations

import io

import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import Image as Pillow

FORMATS = ("png", "grey png", "png with scale", "jpeg", "tiff", "16-bit tiff", "ome-tiff")


def as_file(pixels: NDArray[np.uint8], kind: str = "png") -> bytes:
    """Return (H, W, 3) uint8 RGB as a file."""
    stream = io.BytesIO()
    if kind == "16-bit tiff":
        tifffile.imwrite(stream, pixels.astype(np.uint16) * 257, photometric="rgb")
    elif kind == "ome-tiff":
        scale = {"PhysicalSizeX": 0.25, "PhysicalSizeY": 0.25, "axes": "YXS"}
        tifffile.imwrite(stream, pixels, photometric="rgb", ome=True, metadata=scale)
    elif kind == "tiff":
        tifffile.imwrite(stream, pixels, photometric="rgb", compression="zlib")
    elif kind == "jpeg":
        Pillow.fromarray(pixels).save(stream, "JPEG", quality=95)
    elif kind == "grey png":
        Pillow.fromarray(pixels).convert("L").save(stream, "PNG")
    elif kind == "png with scale":
        Pillow.fromarray(pixels).save(stream, "PNG", dpi=(25_400, 25_400))
    else:
        Pillow.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


def with_place(pixels: NDArray[np.uint8], kind: str = "JPEG") -> bytes:
    """Return a photograph with every kind of metadata: camera, time, place, a comment and XMP."""
    told = Pillow.Exif()
    told[0x010F], told[0x0110], told[0x0112] = "CanaryMaker", "CanaryCamera", 6
    told[0x0132] = "2031:07:09 12:13:14"
    place = told.get_ifd(0x8825)
    place[1], place[2] = "N", (48.1328125, 8.0, 13.2578125)
    place[3], place[4] = "E", (11.0078125, 34.0, 31.5234375)
    place[29] = "2031:07:09"
    told.get_ifd(0x8769)[0x9003] = "2031:07:09 12:13:14"
    more = {"comment": b"CanaryComment", "xmp": b"<x>CanaryXmp</x>", "quality": 95}
    stream = io.BytesIO()
    Pillow.fromarray(pixels).save(stream, kind, exif=told, **(more if kind == "JPEG" else {}))
    return stream.getvalue()


# Sums of powers of two, so that they are logged as written; long, so that no duration has them.
PLACES = (b"48.1328125", b"13.2578125", b"11.0078125", b"31.5234375")
CANARIES = (b"canary", b"2031:07:09", b"exif", b"gps", *PLACES)


def from_png(data: bytes) -> NDArray[np.uint8]:
    """Return the pixels of a PNG file."""
    return np.array(Pillow.open(io.BytesIO(data)))
