"""The contact sheet of a scored cohort: the first images of each rank, as small pictures."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from skinray.errors import SkinrayError
from skinray.images.read import read_image
from skinray.report.charts import jpeg_uri
from skinray.report.cohorts.tally import ImageRow
from skinray.scoring.overlays import encode_jpeg

PER_RANK, WIDTH_PX, QUALITY = 4, 400, 80
# Brings a file of the run into the folder where the report is made.
Fetch = Callable[[str], None]


@dataclass(frozen=True)
class Thumbnail:
    """An image; ``uri`` is its overlay made small, ``problem`` says why there is none.

    ``caption`` says what was found in the image.
    """

    image: str
    subject: str
    caption: str
    uri: str = ""
    problem: str = ""


class Nearest:
    """The rows with the lowest keys, at most ``most``; of equal keys the earlier one."""

    def __init__(self, most: int) -> None:
        self.most = most
        self._heap: list[tuple[float, int, ImageRow]] = []
        self._came = 0

    def add(self, key: float, row: ImageRow) -> None:
        """Keep a row if its key is among the lowest."""
        self._came += 1
        item = (-key, -self._came, row)
        if len(self._heap) < self.most:
            heapq.heappush(self._heap, item)
        elif item > self._heap[0]:
            heapq.heapreplace(self._heap, item)

    @property
    def rows(self) -> list[ImageRow]:
        """The rows, lowest key first."""
        return [row for _, _, row in sorted(self._heap, reverse=True)]


class Sheet:
    """The images with the lowest keys under each rank.

    Parameters
    ----------
    ranks : in the order in which they choose; no image is shown under two.
    order : of the ranks on the page.
    """

    def __init__(self, ranks: Sequence[str], order: Sequence[str]) -> None:
        self._order = order
        # Three times as many as shown: in a small cohort one image may be of several ranks.
        self._ranks = {rank: Nearest(3 * PER_RANK) for rank in ranks}

    def add(self, row: ImageRow, keys: Sequence[float]) -> None:
        """Add a row with its key for each rank."""
        for nearest, key in zip(self._ranks.values(), keys, strict=True):
            nearest.add(key, row)

    def thumbnails(
        self, folder: Path, describe: Callable[[ImageRow], str], fetch: Fetch | None = None
    ) -> dict[str, list[Thumbnail]]:
        """Return the pictures under each rank.

        Parameters
        ----------
        folder : where the report of the run is made.
        describe : says what was found in an image.
        """
        seen: set[str] = set()
        sheet: dict[str, list[Thumbnail]] = {}
        for rank, nearest in self._ranks.items():
            new = [row for row in nearest.rows if row["image"] not in seen][:PER_RANK]
            seen |= {row["image"] for row in new}
            for row in new:
                if fetch is not None and row["overlay"]:
                    fetch(row["overlay"])
            sheet[rank] = [_thumbnail(row, folder, describe(row)) for row in new]
        return {rank: sheet[rank] for rank in self._order if sheet[rank]}


def _thumbnail(row: ImageRow, folder: Path, caption: str) -> Thumbnail:
    uri, problem = "", ""
    try:
        uri = _uri(row["overlay"], folder)
    except (SkinrayError, OSError) as error:
        problem = " ".join(str(error).split())
    return Thumbnail(row["image"], row["subject"] or "", caption, uri, problem)


def _uri(name: str | None, folder: Path) -> str:
    if not name:
        raise SkinrayError("no overlay was drawn")
    path = (folder / name).resolve()
    if not path.is_relative_to(folder.resolve()):
        raise SkinrayError(f"{name}: not in the run folder")
    return jpeg_uri(encode_jpeg(read_image(path).pixels, WIDTH_PX, QUALITY))
