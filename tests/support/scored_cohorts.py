"""Cohorts to score: images of every format and size, and bad files of every kind."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from PIL import Image as Pillow

from benchmarks.stand_in import drawn_image
from tests.images.formats.test_bad_input import bomb_jpeg, bomb_png, bomb_tiff, sound_files
from tests.images.formats.test_metadata import ASCII, CANARY, ORIENTATION, directory

SIZES = ((96, 128), (70, 50), (128, 200), (33, 47), (180, 90))


def sound_image(at: int) -> tuple[str, bytes]:
    """A drawn biopsy, its name and its file; format and size vary with the number."""
    pixels = drawn_image(at, SIZES[at % len(SIZES)], nerves=at % 4)
    writer, ending = WRITERS[at % len(WRITERS)]
    return f"{at:03d}.{ending}", writer(pixels)


def bad_files() -> dict[str, tuple[bytes, str]]:
    """Files that cannot be scored, by name, each with the reason reported."""
    png, jpeg, tiff = (sound_files()[kind] for kind in ("png", "jpeg", "tiff-zlib"))
    frames = [Pillow.fromarray(drawn_image(at)) for at in range(2)]
    animated = io.BytesIO()
    frames[0].save(animated, "PNG", save_all=True, append_images=frames[1:])
    changed = bytearray(png)
    changed[len(png) // 2] ^= 0x10
    return {
        "empty.png": (b"", "the file is empty"),
        "text.png": (b"image,subject\n", "not a PNG, JPEG or TIFF image"),
        "gif.jpg": (b"GIF89a" + bytes(100), "not a PNG, JPEG or TIFF image"),
        "pdf.tif": (b"%PDF-1.7" + bytes(100), "not a PNG, JPEG or TIFF image"),
        "truncated.png": (png[: len(png) // 2], "PNG"),
        "truncated.jpg": (jpeg[: len(jpeg) // 2], "JPEG"),
        "truncated.tif": (tiff[: len(tiff) // 2], "TIFF"),
        "padded.jpg": (jpeg[:-100] + bytes(100), "truncated JPEG"),
        "damaged.png": (bytes(changed), "PNG"),
        "header.png": (png[:8], "PNG"),
        "header.jpg": (b"\xff\xd8\xff" + bytes(100), "frame header"),
        "header.tif": (b"II*\0" + bytes(100), "without an image"),
        "bomb.png": (bomb_png(20_000), "400 megapixels"),
        "bomb.tif": (bomb_tiff(), "400 megapixels"),
        "bomb.jpg": (bomb_jpeg(), "400 megapixels"),
        "animated.png": (animated.getvalue(), "animated"),
        "zstd.tif": (_tiff(drawn_image(0), compression="zstd"), "TIFF compression ZSTD"),
        "flat.tif": (_tiff(drawn_image(0), resolution=(2e4, 4e4), resolutionunit=3), "not square"),
        "long.png": (png[:-5], "PNG"),
        "zeros.png": (bytes(1000), "not a PNG, JPEG or TIFF image"),
    }


def told_all_over(pixels: np.ndarray) -> bytes:
    """A JPEG with the canary as maker, place, comment and XMP."""
    exif = Pillow.Exif()
    exif[0x010F], exif[0x0112] = CANARY, 6
    exif.get_ifd(0x8825)[27] = CANARY
    more = {"comment": CANARY, "xmp": f"<x>{CANARY}</x>".encode(), "quality": 95}
    return bytes(_pil("JPEG", exif=exif, **more)(pixels))


def told_as_orientation(pixels: np.ndarray) -> bytes:
    """A JPEG with the canary in place of its orientation."""
    words = directory(ORIENTATION, ASCII, len(CANARY), CANARY.encode())
    return bytes(_pil("JPEG", exif=b"Exif\0\0" + words)(pixels))


def canary_logs(ray_session: Any) -> list[str]:
    """Return the files in the session's log folder that contain the canary."""
    session = ray_session.init(ignore_reinit_error=True).address_info["session_dir"]
    logs = [path for path in Path(session, "logs").rglob("*") if path.is_file()]
    assert logs
    return [path.name for path in logs if CANARY.encode() in path.read_bytes()]


def write(folder: Path, files: dict[str, bytes]) -> Path:
    """Write files into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in files.items():
        (folder / name).write_bytes(data)
    return folder


def _pil(kind: str, **options: Any) -> Any:
    def save(pixels: np.ndarray) -> bytes:
        buffer = io.BytesIO()
        Pillow.fromarray(pixels).save(buffer, kind, **options)
        return buffer.getvalue()

    return save


def _tiff(pixels: np.ndarray, **options: Any) -> bytes:
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, pixels, photometric="rgb", metadata=None, **options)
    return buffer.getvalue()


def _sixteen_bit(pixels: np.ndarray) -> bytes:
    return _tiff(pixels.astype(np.uint16) * 257)


def _grey(pixels: np.ndarray) -> bytes:
    return bytes(_pil("PNG")(pixels.max(axis=2)))


def _turned(pixels: np.ndarray) -> bytes:
    """A JPEG whose EXIF says that it is rotated."""
    exif = Pillow.Exif()
    exif[0x0112] = 6
    return bytes(_pil("JPEG", quality=95, exif=exif)(np.rot90(pixels)))


def _scaled(pixels: np.ndarray) -> bytes:
    """A TIFF with 0.25 um per pixel: 40,000 pixels per centimetre."""
    return _tiff(pixels, resolution=(4e4, 4e4), resolutionunit=3, compression="lzw")


WRITERS = (
    (_pil("PNG"), "png"), (_pil("JPEG", quality=95), "jpg"), (_tiff, "tif"),
    (_sixteen_bit, "tiff"), (_grey, "png"), (_turned, "jpeg"), (_scaled, "tif"),
)  # fmt: skip
