"""Images of a scored cohort to look at: the first of each rank, as small pictures."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from skinray.errors import SkinrayError
from skinray.images.read import read_image
from skinray.report.charts import jpeg_uri
from skinray.report.cohorts.tally import Row
from skinray.scoring.overlays import encode_jpeg

PER_RANK, WIDTH_PX, QUALITY = 4, 400, 80
MOST_NAMED = 20
Fetch = Callable[[str], None]


@dataclass(frozen=True)
class Picture:
    """An image and what is ``told`` of it.

    ``uri`` is the overlay made small, or ``problem`` says why there is none.
    """

    image: str
    subject: str
    told: str
    uri: str = ""
    problem: str = ""


class Nearest:
    """The rows with the lowest keys, so many of them; of equal keys the first to come."""

    def __init__(self, most: int) -> None:
        self.most = most
        self._heap: list[tuple[float, int, Row]] = []
        self._came = 0

    def add(self, key: float, row: Row) -> None:
        """Take in a row if its key is among the lowest."""
        self._came += 1
        item = (-key, -self._came, row)
        if len(self._heap) < self.most:
            heapq.heappush(self._heap, item)
        elif item > self._heap[0]:
            heapq.heapreplace(self._heap, item)

    @property
    def rows(self) -> list[Row]:
        """The rows, the lowest key first."""
        return [row for _, _, row in sorted(self._heap, reverse=True)]


class Sheet:
    """The contact sheet: under each rank the images whose keys are lowest.

    Parameters
    ----------
    ranks : in the order in which they choose; an image that one has shown, no other shows.
    order : in which they stand on the page.
    """

    def __init__(self, ranks: Sequence[str], order: Sequence[str]) -> None:
        self._order = order
        # Three times as many as shown: an image of a small cohort may be of several ranks.
        self._ranks = {rank: Nearest(3 * PER_RANK) for rank in ranks}

    def add(self, row: Row, keys: Sequence[float]) -> None:
        """Take in a row with its key for each rank."""
        for nearest, key in zip(self._ranks.values(), keys, strict=True):
            nearest.add(key, row)

    def pictures(
        self, folder: Path, tell: Callable[[Row], str], fetch: Fetch | None = None
    ) -> dict[str, list[Picture]]:
        """Return the pictures under each rank; no image is shown twice.

        Parameters
        ----------
        folder : of the run, or its desk.
        tell : says in words what was found in an image.
        fetch : brings a picture of the run into the folder, if need be.
        """
        seen: set[str] = set()
        sheet: dict[str, list[Picture]] = {}
        for rank, nearest in self._ranks.items():
            new = [row for row in nearest.rows if row["image"] not in seen][:PER_RANK]
            seen |= {row["image"] for row in new}
            if fetch is not None:
                for row in new:
                    if row["overlay"]:
                        fetch(row["overlay"])
            sheet[rank] = [_picture(row, folder, tell(row)) for row in new]
        return {rank: sheet[rank] for rank in self._order if sheet[rank]}


def note(names: list[str], row: Row) -> None:
    """Add an image to the first names of a warning."""
    if len(names) < MOST_NAMED:
        names.append(row["image"])


def _picture(row: Row, folder: Path, told: str) -> Picture:
    uri, problem = "", ""
    try:
        uri = _uri(row["overlay"], folder)
    except (SkinrayError, OSError) as error:
        problem = " ".join(str(error).split())
    return Picture(row["image"], row["subject"] or "", told, uri, problem)


def _uri(name: str | None, folder: Path) -> str:
    if not name:
        raise SkinrayError("no overlay was drawn")
    path = (folder / name).resolve()
    if not path.is_relative_to(folder.resolve()):
        raise SkinrayError(f"{name}: not in the run's folder")
    small = encode_jpeg(read_image(path).pixels, WIDTH_PX, QUALITY)
    return jpeg_uri(small)
