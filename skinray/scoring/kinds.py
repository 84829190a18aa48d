"""What scoring finds in each kind of image, and what it leaves: tables, columns and files.

``SCORED_KINDS`` has one object per kind; everything else in scoring asks that object.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from skinray.config.kinds import Kind
from skinray.crossings.detect import CrossingsRecord
from skinray.images.doubts import black_end, doubts, shows_tissue
from skinray.images.photos.skin import SkinArea
from skinray.learning.bundle.info import BundleInfo
from skinray.scoring.geojson import to_geojson
from skinray.scoring.overlays import encode_jpeg, encode_png, overlay, skin_overlay
from skinray.scoring.rows import Result
from skinray.scoring.run_store import Output

if TYPE_CHECKING:
    from skinray.learning.bundle import Maps

_TEXT, _WHOLE, _REAL = pa.string(), pa.int64(), pa.float64()
_FIRST = [(name, _TEXT) for name in ("image", "subject", "sha256", "status", "error", "note")]
_SIZE = [("width", _WHOLE), ("height", _WHOLE)]
_LAST = [("duplicate_of", _TEXT), ("backend", _TEXT), ("overlay", _TEXT)]
_LENGTHS = [(n, _REAL) for n in ("boundary_px", "boundary_mm", "density_per_mm", "um_per_px")]
COUNTS = pa.schema([*_FIRST, ("count", _WHOLE), *_LENGTHS, *_SIZE, *_LAST, ("geojson", _TEXT)])
_SKIN = [("skin_px", _WHOLE), ("skin_fraction", _REAL), ("confidence", _REAL)]
AREAS = pa.schema([*_FIRST, *_SKIN, *_SIZE, *_LAST, ("mask", _TEXT)])
CROSSINGS = pa.schema([("image", _TEXT), ("crossing", _WHOLE), ("row", _REAL), ("column", _REAL)])
POINTS = "crossings.parquet"
# Most file systems allow 255 bytes in a name; a partial file's ending needs some of them.
LONGEST = 230
Pixels = NDArray[np.uint8]
# Makes an image's files, by column of the table, if they are wanted.
Draw = Callable[[], dict[str, bytes]]


@dataclass(frozen=True)
class ScoredKind:
    """One kind of image, as scoring sees it.

    Attributes
    ----------
    table : name of the table of images, without ending.
    columns : of that table.
    files : of each image, by column: the folder and the ending.
    find : the bundle's last stage: from its info, maps by stage ((H, W) float32), pixels
        ((H, W, 3) uint8, RGB) and um_per_px to the result, and what draws the files.
    has_crossings : whether there is a table of crossings too.
    """

    table: str
    columns: pa.Schema
    files: dict[str, tuple[str, str]]
    find: Callable[[BundleInfo, Maps, Pixels, float | None], tuple[Result, Draw]]
    has_crossings: bool

    @property
    def tables(self) -> tuple[str, ...]:
        """The run's tables: of images as parquet and CSV, and of crossings."""
        return (f"{self.table}.parquet", f"{self.table}.csv", *[POINTS] * self.has_crossings)

    def places(self, image: str) -> dict[str, str]:
        """Return where an image's files go, by column, relative to the run; always inside it.

        The image's whole name is kept, ending included, so that no two images share a file. A part
        of the name that cannot name a file or folder here is replaced by a hash of it.
        """
        parts = PurePosixPath(image).parts or (image,)
        folders, name = [_safe(part, _ENDINGS) for part in parts[:-1]], _safe(parts[-1])
        return {
            column: "/".join([folder, *folders, name + ending])
            for column, (folder, ending) in self.files.items()
        }

    def write_files(self, out: Output, image: str, files: dict[str, bytes]) -> None:
        """Write the files of an image; each appears whole or not at all."""
        for column, place in self.places(image).items():
            out.write(place, files[column])

    def copy_files(self, out: Output, source: str, image: str) -> None:
        """Give an image copies of the files of another image with the same bytes."""
        origins = self.places(source)
        for column, place in self.places(image).items():
            out.copy(origins[column], place)


def _safe(part: str, not_ending: tuple[str, ...] = ()) -> str:
    """Return a name of a file or folder; a hash instead of ``..``, roots and overlong names."""
    bad = part in ("", ".", "..") or "/" in part or "\0" in part
    if not bad and len(os.fsencode(part)) <= LONGEST and not part.endswith(not_ending or "\0"):
        return part
    digest = hashlib.sha256(os.fsencode(part)).hexdigest()[:16]
    kept = "".join(sign for sign in part[:40] if sign.isalnum() or sign in "-_")
    return f"{kept}~{digest}"


def _count(
    info: BundleInfo, maps: Maps, pixels: Pixels, um_per_px: float | None
) -> tuple[Result, Draw]:
    found = info.find_crossings(maps["nerve"], maps["dermis"], um_per_px)

    def draw() -> dict[str, bytes]:
        nerve = maps["nerve"] > np.float32(info.counting.nerve_threshold)
        picture = encode_jpeg(overlay(pixels, nerve, found.boundary, found.points))
        text = json.dumps(to_geojson(found.points, found.dermis), allow_nan=False)
        return {"overlay": picture, "geojson": text.encode()}

    tissue = shows_tissue(pixels)
    said = doubts(tissue, um_per_px, info.um_per_px, black_end(pixels))
    return CrossingsRecord.of(found, um_per_px, tissue, said), draw


def _skin(
    info: BundleInfo, maps: Maps, pixels: Pixels, um_per_px: float | None
) -> tuple[Result, Draw]:
    found = info.find_skin(pixels, maps["skin"])

    def draw() -> dict[str, bytes]:
        picture = encode_jpeg(skin_overlay(pixels, found.mask))
        return {"overlay": picture, "mask": encode_png(found.mask.view(np.uint8) * 255)}

    return SkinArea.of(found), draw


_OVERLAY = {"overlay": ("overlays", ".jpg")}
SCORED_KINDS: dict[Kind, ScoredKind] = {
    "biopsy": ScoredKind(
        "counts", COUNTS, _OVERLAY | {"geojson": ("geojson", ".geojson")}, _count, True
    ),
    "photo": ScoredKind("areas", AREAS, _OVERLAY | {"mask": ("masks", ".png")}, _skin, False),
}
# A folder named like a file of results could be in that file's way.
_ENDINGS = tuple(end for kind in SCORED_KINDS.values() for _, end in kind.files.values())
