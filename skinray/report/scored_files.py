"""The files of one scored image, below the folder of the run: picture, and GeoJSON or mask."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import PurePosixPath

import numpy as np
from numpy.typing import NDArray

from skinray.crossings import Crossings
from skinray.images.output import Output
from skinray.learning.bundle_info import Kind
from skinray.learning.skin import Skin
from skinray.report.geojson import to_geojson
from skinray.report.overlays import encode_jpeg, encode_png, overlay, skin_overlay

# By what the bundle is for: each file's folder and ending.
FILES: dict[Kind, dict[str, tuple[str, str]]] = {
    "biopsy": {"overlay": ("overlays", ".jpg"), "geojson": ("geojson", ".geojson")},
    "photo": {"overlay": ("overlays", ".jpg"), "mask": ("masks", ".png")},
}
# Most file systems take 255 bytes a name; a partial file's ending needs some of them.
LONGEST = 230
# A folder that is called like a file of results could stand in that file's way.
_ENDINGS = tuple(ending for files in FILES.values() for _, ending in files.values())


def places(image: str, kind: Kind) -> dict[str, str]:
    """Return where an image's files go: by what they are, relative to the run folder.

    They lie inside it always.
    The image's whole name is kept, ending and all, so that no two images share a file. A part of
    the name that cannot be a file's or folder's name here is replaced by a hash of it.
    """
    parts = PurePosixPath(image).parts or (image,)
    folders, name = [_safe(part, _ENDINGS) for part in parts[:-1]], _safe(parts[-1])
    return {
        what: "/".join([folder, *folders, name + ending])
        for what, (folder, ending) in FILES[kind].items()
    }


def _safe(part: str, not_ending: tuple[str, ...] = ()) -> str:
    """Return a name of a file or folder; ``..``, roots and overlong ones by their hash."""
    bad = part in ("", ".", "..") or "/" in part or "\0" in part
    if not bad and len(os.fsencode(part)) <= LONGEST and not part.endswith(not_ending or "\0"):
        return part
    digest = hashlib.sha256(os.fsencode(part)).hexdigest()[:16]
    kept = "".join(sign for sign in part[:40] if sign.isalnum() or sign in "-_")
    return f"{kept}~{digest}"


def biopsy_files(
    pixels: NDArray[np.uint8], nerve: NDArray[np.bool_], found: Crossings
) -> dict[str, bytes]:
    """Return the picture and the GeoJSON of a biopsy.

    Parameters
    ----------
    pixels : (H, W, 3) uint8, RGB.
    nerve : (H, W) bool, the nerve mask.
    found : the image's crossings.
    """
    drawn = overlay(pixels, nerve, found.boundary, found.points)
    text = json.dumps(to_geojson(found.points, found.dermis), allow_nan=False)
    return {"overlay": encode_jpeg(drawn), "geojson": text.encode()}


def photo_files(pixels: NDArray[np.uint8], found: Skin) -> dict[str, bytes]:
    """Return the picture and the mask (255 is skin) of a photograph, (H, W, 3) uint8, RGB."""
    drawn = skin_overlay(pixels, found.mask)
    return {"overlay": encode_jpeg(drawn), "mask": encode_png(found.mask.view(np.uint8) * 255)}


def write_files(out: Output, image: str, kind: Kind, files: dict[str, bytes]) -> None:
    """Write the files of an image of the run; each appears whole or not at all."""
    for what, place in places(image, kind).items():
        out.write(place, files[what])


def copy_files(out: Output, source: str, image: str, kind: Kind) -> None:
    """Give an image copies of the files of another with the same bytes."""
    origins = places(source, kind)
    for what, place in places(image, kind).items():
        out.copy(origins[what], place)
