"""The picture and the GeoJSON of one scored image, below the folder of the run."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import PurePosixPath

import numpy as np
from numpy.typing import NDArray

from skinray.crossings import Crossings
from skinray.images.output import Output
from skinray.report.geojson import to_geojson
from skinray.report.overlays import encode_jpeg, overlay

KINDS = {"overlay": ("overlays", ".jpg"), "geojson": ("geojson", ".geojson")}
# Most file systems take 255 bytes a name; a partial file's ending needs some of them.
LONGEST = 230
# A folder that is called like a file of results could stand in that file's way.
_ENDINGS = tuple(ending for _, ending in KINDS.values())


def places(image: str) -> dict[str, str]:
    """Return where an image's files go: by kind, relative to the run folder, inside it always.

    The image's whole name is kept, ending and all, so that no two images share a file. A part of
    the name that cannot be a file's or folder's name here is replaced by a hash of it.
    """
    parts = PurePosixPath(image).parts or (image,)
    folders, name = [_safe(part, _ENDINGS) for part in parts[:-1]], _safe(parts[-1])
    return {
        kind: "/".join([folder, *folders, name + ending])
        for kind, (folder, ending) in KINDS.items()
    }


def _safe(part: str, not_ending: tuple[str, ...] = ()) -> str:
    """Return a name of a file or folder; ``..``, roots and overlong ones by their hash."""
    bad = part in ("", ".", "..") or "/" in part or "\0" in part
    if not bad and len(os.fsencode(part)) <= LONGEST and not part.endswith(not_ending or "\0"):
        return part
    digest = hashlib.sha256(os.fsencode(part)).hexdigest()[:16]
    kept = "".join(sign for sign in part[:40] if sign.isalnum() or sign in "-_")
    return f"{kept}~{digest}"


def write_files(
    out: Output,
    image: str,
    pixels: NDArray[np.uint8],
    nerve: NDArray[np.bool_],
    found: Crossings,
) -> None:
    """Write the picture and the GeoJSON of an image; each appears whole or not at all.

    Parameters
    ----------
    out : the run.
    image : the image's name.
    pixels : (H, W, 3) uint8, RGB.
    nerve : (H, W) bool, the nerve mask.
    found : the image's crossings.
    """
    drawn = overlay(pixels, nerve, found.boundary, found.points)
    text = json.dumps(to_geojson(found.points, found.dermis), allow_nan=False)
    files = {"overlay": encode_jpeg(drawn), "geojson": text.encode()}
    for kind, place in places(image).items():
        out.write(place, files[kind])


def copy_files(out: Output, source: str, image: str) -> None:
    """Give an image copies of the files of another with the same bytes."""
    for kind, place in places(image).items():
        out.copy(places(source)[kind], place)
