"""Real tissue for phantoms: tiles with coded masks, stitched together.

The folder contains ``manifest.csv`` (name, section, x, y of each tile on its slide, in pixels),
``images/NAME.jpg`` or ``.png`` and ``masks/NAME.png`` coded 0 background, 1 keratin,
2 epidermis, 3 dermis, 4 band of the junction.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from skinray.errors import CohortError
from skinray.images.phantoms.junction import Bool

KERATIN, EPIDERMIS, DERMIS, BAND = 1, 2, 3, 4
THUMB = 8
"""Windows are searched on masks reduced by this factor."""

Codes = NDArray[np.uint8]
_COLUMNS = {"name", "section", "x", "y"}
_LAYOUT = (
    "give a folder with manifest.csv (name, section, x, y), images/NAME.jpg and "
    "masks/NAME.png coded 0 to 4"
)


@dataclass(frozen=True)
class Slide:
    """One section, and where each of its square tiles lies.

    Attributes
    ----------
    tiles : top left corner (x, y) in pixels -> name of the tile.
    tile_px : side of a tile.
    """

    folder: Path
    section: str
    tiles: dict[tuple[int, int], str]
    tile_px: int

    def cut(self, x: int, y: int, width: int, height: int) -> tuple[NDArray[np.uint8], Codes]:
        """Stitch a window without missing tiles: RGB (H, W, 3) and codes (H, W), uint8."""
        pixels = np.zeros((height, width, 3), np.uint8)
        codes = np.zeros((height, width), np.uint8)
        side = self.tile_px
        for (left, top), name in self.tiles.items():
            if left >= x + width or top >= y + height or left + side <= x or top + side <= y:
                continue
            image, mask = _read_tile(self.folder, name, side)
            rows = slice(max(top - y, 0), min(top + side - y, height))
            columns = slice(max(left - x, 0), min(left + side - x, width))
            source = (
                slice(rows.start + y - top, rows.stop + y - top),
                slice(columns.start + x - left, columns.stop + x - left),
            )
            pixels[rows, columns], codes[rows, columns] = image[source], mask[source]
        return pixels, codes

    def overview(self) -> tuple[Codes, Bool, tuple[int, int]]:
        """Return codes reduced by THUMB, where they are known, and x, y of the first on the slide.

        Every THUMB-th pixel is taken, so that codes are not mixed.
        """
        left = min(x for x, _ in self.tiles)
        top = min(y for _, y in self.tiles)
        small = self.tile_px // THUMB
        width = max(x for x, _ in self.tiles) - left + self.tile_px
        height = max(y for _, y in self.tiles) - top + self.tile_px
        codes = np.zeros((height // THUMB + 1, width // THUMB + 1), np.uint8)
        known = np.zeros(codes.shape, bool)
        for (x, y), name in self.tiles.items():
            mask = _read_tile(self.folder, name, self.tile_px)[1]
            row, column = (y - top) // THUMB, (x - left) // THUMB
            thumb = mask[THUMB // 2 :: THUMB, THUMB // 2 :: THUMB]
            codes[row : row + small, column : column + small] = thumb[:small, :small]
            known[row : row + small, column : column + small] = True
        return codes, known, (left, top)


def read_slides(folder: Path) -> list[Slide]:
    """Read the table of tiles, one slide per section.

    Raises CohortError if the folder does not contain tiles with coded masks in this layout.
    """
    table = folder / "manifest.csv"
    try:
        with table.open(newline="", encoding="utf-8-sig") as stream:
            rows = list(csv.DictReader(stream))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise CohortError(f"{table}: not a table of tiles ({error}): {_LAYOUT}") from None
    if not rows or not set(rows[0]) >= _COLUMNS:
        missing = ", ".join(sorted(_COLUMNS - set(rows[0] if rows else ())))
        raise CohortError(f"{table}: no tiles, or no column {missing}: {_LAYOUT}")
    sections: dict[str, dict[tuple[int, int], str]] = {}
    for number, row in enumerate(rows, start=2):
        sections.setdefault(row["section"], {})[_corner(row, table, number)] = row["name"]
    side = _read_tile(folder, rows[0]["name"], None)[1].shape[0]
    return [Slide(folder, section, tiles, side) for section, tiles in sorted(sections.items())]


def _corner(row: dict[str, Any], table: Path, number: int) -> tuple[int, int]:
    try:
        return int(row["x"]), int(row["y"])
    except (TypeError, ValueError):
        reason = f"x '{row['x']}', y '{row['y']}' are not whole pixels"
        raise CohortError(f"{table}: row {number}: {reason}: {_LAYOUT}") from None


@lru_cache(maxsize=24)
def _read_tile(folder: Path, name: str, side: int | None) -> tuple[NDArray[np.uint8], Codes]:
    """Read one tile: RGB and codes; CohortError if either is unusable."""
    jpg, png = (folder / "images" / f"{name}{ending}" for ending in (".jpg", ".png"))
    mask_path = folder / "masks" / f"{name}.png"
    mask = _read_square(mask_path, cv2.IMREAD_GRAYSCALE, side)
    if int(mask.max()) > BAND:
        raise CohortError(f"{mask_path}: codes above {BAND}: {_LAYOUT}")
    image_path = png if png.is_file() else jpg
    image = _read_square(image_path, cv2.IMREAD_COLOR, mask.shape[0])
    return np.ascontiguousarray(image[..., ::-1]), mask


def _read_square(path: Path, flag: int, side: int | None) -> NDArray[np.uint8]:
    """Read an image of ``side`` by ``side`` pixels (None: any square)."""
    image = cv2.imread(str(path), flag) if path.is_file() else None
    if image is None:
        raise CohortError(f"{path}: missing or not an image: {_LAYOUT}")
    height, width = image.shape[:2]
    if height != width or side not in (None, height):
        raise CohortError(f"{path}: {width}x{height}, not a square of the common size: {_LAYOUT}")
    return np.asarray(image, np.uint8)
