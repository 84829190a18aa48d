"""Drawn biopsies as files of the formats that the service takes."""

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


def from_png(data: bytes) -> NDArray[np.uint8]:
    """Return the pixels of a PNG file."""
    return np.array(Pillow.open(io.BytesIO(data)))
