"""Sound photographs unlike most, each with what it shows: skin on its left half, a room beside."""

from __future__ import annotations

import io
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow

from skinray.images.photos.pairs import Photo, find_photos

WARM, COOL = (220, 150, 120), (40, 60, 90)


class OddPhoto(NamedTuple):
    """A photograph as a file, and what it shows.

    Attributes
    ----------
    data : the file.
    pixels : (H, W, 3) uint8 RGB, upright.
    skin : (H, W) bool, upright.
    off : levels that the file's pixels may be off these.
    """

    data: bytes
    pixels: NDArray[np.uint8]
    skin: NDArray[np.bool_]
    off: int = 0


def halves(height: int, width: int) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Return a photograph, warm on its left half, which is skin; of one column all of it is."""
    skin = np.zeros((height, width), bool)
    skin[:, : max(1, width // 2)] = True
    return np.where(skin[..., None], WARM, COOL).astype(np.uint8), skin


def _file(image: Pillow.Image, kind: str = "PNG", **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def _grey(deep: bool) -> OddPhoto:
    pixels, skin = halves(48, 64)
    grey = np.asarray(Pillow.fromarray(pixels).convert("L"))
    stored = grey.astype(np.uint16) * 257 if deep else grey
    return OddPhoto(_file(Pillow.fromarray(stored)), np.repeat(grey[..., None], 3, 2), skin)


def _turned() -> OddPhoto:
    """On its side as stored; its skin is drawn on the upright photograph."""
    pixels, skin = halves(48, 64)
    exif = Pillow.Exif()
    exif[0x0112] = 6
    stored = Pillow.fromarray(np.rot90(pixels))
    return OddPhoto(_file(stored, "JPEG", quality=100, subsampling=0, exif=exif), pixels, skin, 4)


def _inked() -> OddPhoto:
    pixels, skin = halves(48, 64)
    inked = Pillow.fromarray(pixels).convert("CMYK")
    return OddPhoto(_file(inked, "JPEG", quality=100), pixels, skin, 4)


def _plain(height: int, width: int) -> OddPhoto:
    pixels, skin = halves(height, width)
    return OddPhoto(_file(Pillow.fromarray(pixels)), pixels, skin)


def _of_one_colour() -> OddPhoto:
    _, skin = halves(48, 64)
    pixels = np.full((48, 64, 3), WARM, np.uint8)
    return OddPhoto(_file(Pillow.fromarray(pixels)), pixels, skin)


ODD = {
    "grey": _grey(deep=False),
    "16-bit": _grey(deep=True),
    "turned by EXIF": _turned(),
    "CMYK": _inked(),
    "one pixel": _plain(1, 1),
    "very wide": _plain(3, 20_000),
    "one colour": _of_one_colour(),
}


def odd_set(folder: Path, kind: str) -> Photo:
    """Write one with its mask as a set of photographs."""
    for part, data in (
        ("images", ODD[kind].data),
        ("masks", _file(Pillow.fromarray(ODD[kind].skin.astype(np.uint8) * 255))),
    ):
        (folder / part).mkdir(parents=True)
        (folder / part / "odd.png").write_bytes(data)
    (photo,) = find_photos(folder)
    return photo
