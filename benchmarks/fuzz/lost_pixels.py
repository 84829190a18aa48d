"""Files that lost a part of their pixels: what is read must be equal, or it must be refused.

Disks and copies lose whole sectors, while sizes, headers and ends stay sound. PNG and deflate have
checksums; in a JPEG, the pixels then no longer fill the picture. (A few bytes of a JPEG, or any of
an uncompressed TIFF, may change without a trace: no reader can know.)
"""

from __future__ import annotations

import hashlib
import io
from functools import cache
from pathlib import Path
from random import Random

import cv2
import numpy as np
import tifffile

from benchmarks.fuzz.mutations import KINDS
from benchmarks.fuzz.targets import READ, TARGETS, GarbageError, Target, saved
from skinray.images.read import decode_image

# Headers are shorter; what follows is pixels, in all files of this module.
HEADER = 1000
SECTOR, MOST_SECTORS = 512, 8


@cache
def picture() -> np.ndarray:
    """Return a picture with fine detail, (120, 160, 3) uint8, so that its pixels fill kilobytes."""
    noise = np.random.default_rng(1).integers(0, 256, (120, 160, 3), np.uint8)
    return cv2.GaussianBlur(noise, (0, 0), 0.7)


def baseline() -> list[bytes]:
    """Return baseline JPEGs."""
    return [saved(picture(), "JPEG", quality=q, subsampling=s) for q, s in ((75, 2), (95, 0))]


def progressive() -> list[bytes]:
    """Return progressive JPEGs."""
    return [saved(picture(), "JPEG", quality=q, progressive=True) for q in (75, 95)]


def png() -> list[bytes]:
    """Return a PNG."""
    return [saved(picture(), "PNG")]


def tiff() -> list[bytes]:
    """Return TIFFs with compressed pixels."""
    found = []
    for compression in ("zlib", "jpeg"):
        stream = io.BytesIO()
        # Tags first, pixels after them, as in the other formats.
        tifffile.imwrite(
            stream, picture(), photometric="rgb", compression=compression, rowsperstrip=60
        )
        found.append(stream.getvalue())
    return found


@cache
def sound() -> frozenset[str]:
    """Return the hashes of what the sound files show."""
    files = [*baseline(), *progressive(), *png(), *tiff()]
    return frozenset(_shown(data) for data in files)


def _shown(data: bytes) -> str:
    return hashlib.sha256(decode_image(data, "case", READ).pixels.tobytes()).hexdigest()


def run(data: bytes, folder: Path) -> None:
    """Decode; other pixels than those of a sound file are a finding."""
    if _shown(data) not in sound():
        raise GarbageError("other pixels, in silence")


def zero(rng: Random, data: bytes, others: object) -> bytes:
    """Overwrite a piece with zeros."""
    start, end = _piece(rng, data)
    return data[:start] + bytes(end - start) + data[end:]


def lose(rng: Random, data: bytes, others: object) -> bytes:
    """Take a piece out."""
    start, end = _piece(rng, data)
    return data[:start] + data[end:]


def break_off(rng: Random, data: bytes, others: object) -> bytes:
    """Break off, and fill up to the old length, or end as the file did."""
    start, _ = _piece(rng, data)
    filled = data[:start] + bytes(len(data) - start)
    return rng.choice((data[:start], data[:start] + data[-2:], filled, filled[:-2] + data[-2:]))


def _piece(rng: Random, data: bytes) -> tuple[int, int]:
    last = max(len(data) - 2, 0)
    start = min(last, rng.randrange(HEADER, max(HEADER + 1, last - SECTOR)))
    return start, min(last, start + SECTOR * rng.randint(1, MOST_SECTORS))


KINDS["loss"] = (zero, lose, break_off)
TARGETS["lost JPEG"] = Target("loss", baseline, run)
TARGETS["lost progressive JPEG"] = Target("loss", progressive, run)
TARGETS["lost PNG"] = Target("loss", png, run)
TARGETS["lost TIFF"] = Target("loss", tiff, run)
