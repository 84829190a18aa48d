"""Score one listed image: read, decode, predict, count, write its files; it always gives a row.

The stages of scoring call these functions one after the other, in one process or in several; the
networks and the crossings are the bundle's own, so counts are those of :meth:`Bundle.predict`.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import PurePosixPath
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from skinray.config.kinds import Kind
from skinray.config.scoring import ScoreSettings
from skinray.crossings import Crossings
from skinray.crossings.density import to_mm
from skinray.crossings.detect import CrossingsRecord
from skinray.errors import StorageError
from skinray.images.photos.skin import Skin, SkinArea
from skinray.images.read import decode_image
from skinray.learning.bundle import Maps
from skinray.learning.bundle.info import BundleInfo
from skinray.scoring.entries import Entry
from skinray.scoring.geojson import to_geojson
from skinray.scoring.image_store import Store
from skinray.scoring.overlays import encode_jpeg, encode_png, overlay, skin_overlay
from skinray.scoring.rows import (
    Scored,
    content_key,
    identity,
    log_computed,
    reason_of,
    refuse_too_large,
    sha256_of,
)
from skinray.scoring.run_store import Output

# Whose turn it is to compute a content: this image's, another's, or nobody's any more.
Turn = Literal["mine", "same", "deadly"]
Ask = Callable[[str, str], Turn]
# Makes an image's files, by kind, where they are wanted.
Draw = Callable[[], dict[str, bytes]]
DEADLY = "its worker died each time it was tried: look at the image, or give workers more memory"


@dataclass(frozen=True)
class Opened:
    """An image on its way through the stages.

    Attributes
    ----------
    image, identity, key, sha256 : as in :class:`Scored`.
    um_per_px : its scale: given, or as the file states it.
    pixels : (H, W, 3) uint8, RGB.
    """

    image: str
    identity: str
    key: str
    sha256: str
    um_per_px: float | None
    pixels: NDArray[np.uint8]

    def failed(self, error: Exception) -> Scored:
        """Return the row of an image that a later stage failed on."""
        return Scored(self.image, self.identity, self.key, self.sha256, "failed", reason_of(error))


def open_image(
    entry: Entry,
    store: Store,
    settings: ScoreSettings,
    trained_um_per_px: float | None,
    ask: Ask,
) -> Opened | Scored:
    """Read and decode an image; a row at once if it fails, or if its content has been taken.

    Parameters
    ----------
    entry : the image.
    store : where it lies.
    settings : the limit of pixels, and a scale that overrides all.
    trained_um_per_px : scale of the networks.
    ask : asked with the content's key and the image's name, before anything is decoded.
    """
    version = identity(entry)
    try:
        data = store.read(entry.path, settings.read)
    except StorageError:
        raise  # nor is a store that is away
    except Exception as error:  # whatever it is, it is this image's row
        return Scored(entry.image, version, None, None, "failed", reason_of(error))
    given = entry.um_per_px if settings.um_per_px is None else settings.um_per_px
    sha256 = sha256_of(data)
    key = content_key(sha256, given)
    turn = ask(key, entry.image)
    if turn == "same":
        return Scored(entry.image, version, key, sha256, "same")
    if turn == "deadly":
        return Scored(entry.image, version, key, sha256, "failed", DEADLY)
    try:
        image = decode_image(data, entry.image, settings.read)
        um_per_px = image.um_per_px if given is None else given
        to_mm(0, um_per_px)
        refuse_too_large(image.pixels.shape, um_per_px, trained_um_per_px, settings.read.max_pixels)
    except Exception as error:  # whatever it is, it is this image's row
        return Scored(entry.image, version, key, sha256, "failed", reason_of(error))
    return Opened(entry.image, version, key, sha256, um_per_px, image.pixels)


def finish_image(
    opened: Opened,
    maps: Maps,
    info: BundleInfo,
    settings: ScoreSettings,
    out: Output,
) -> Scored:
    """Count the crossings, or find the skin, on the maps of an image and write its files.

    Parameters
    ----------
    opened : the image.
    maps : of each stage, (H, W) float32, probability.
    info : the bundle's.
    settings : whether files are written.
    out : the run.
    """
    try:
        told, files = (
            _biopsy(opened, maps, info) if info.kind == "biopsy" else _photo(opened, maps, info)
        )
        if settings.overlays:
            write_files(out, opened.image, info.kind, files())
    except (OSError, StorageError):
        raise  # a full disk is not the image's fault
    except Exception as error:  # whatever it is, it is this image's row
        return opened.failed(error)
    log_computed(out, opened.image)
    return Scored(opened.image, opened.identity, opened.key, opened.sha256, "ok", None, told)


def _biopsy(opened: Opened, maps: Maps, info: BundleInfo) -> tuple[CrossingsRecord, Draw]:
    found = info.find_crossings(maps["nerve"], maps["dermis"], opened.um_per_px)
    nerve = maps["nerve"] > np.float32(info.counting.nerve_threshold)
    return CrossingsRecord.of(found, opened.um_per_px), partial(
        biopsy_files, opened.pixels, nerve, found
    )


def _photo(opened: Opened, maps: Maps, info: BundleInfo) -> tuple[SkinArea, Draw]:
    found = info.find_skin(opened.pixels, maps["skin"])
    return SkinArea.of(found), partial(photo_files, opened.pixels, found)


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
