"""Images of a scored cohort to look at: low, median and high counts, and those far outside."""

from __future__ import annotations

import base64
import heapq
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from skinray.errors import SkinrayError
from skinray.images.read import read_image
from skinray.report.cohort_tally import Row, Tally
from skinray.report.overlays import encode_jpeg

PER_RANK, WIDTH_PX, QUALITY = 4, 400, 80
MOST_NAMED = 20
Fetch = Callable[[str], None]
RANKS = ("Highest counts", "Lowest counts", "Counts in the middle")


@dataclass(frozen=True)
class Picture:
    """An image with its count; ``uri`` is the overlay made small, or ``problem`` says why not."""

    image: str
    subject: str
    count: int
    density_per_mm: float | None
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


class Choice:
    """Chooses on a second pass over the rows, when the distribution is known.

    Attributes
    ----------
    far : rows with a count far outside the rest, the highest first; ``far_images`` of them.
    without_boundary, without_scale, far_scale : names of the first such images.
    """

    def __init__(self, tally: Tally) -> None:
        self.tally = tally
        self._middle = tally.count_bins.quantile(0.5) or 0.0
        # Three times as many as shown: an image of a small cohort may be of two kinds.
        self._kinds = {rank: Nearest(3 * PER_RANK) for rank in RANKS}
        self._far = Nearest(MOST_NAMED)
        self.far_images = 0
        self.without_boundary: list[str] = []
        self.without_scale: list[str] = []
        self.far_scale: list[str] = []

    def add(self, rows: Iterable[Row]) -> None:
        """Take in a batch of rows of ``counts.parquet``."""
        for row in rows:
            if row["status"] == "ok" and not row["duplicate_of"]:
                self._add_counted(row)

    def _add_counted(self, row: Row) -> None:
        count, trained = row["count"], self.tally.bundle_um_per_px
        if self.tally.far_count is not None and count > self.tally.far_count:
            self.far_images += 1
            self._far.add(-count, row)
        if row["um_per_px"] is None:
            _note(self.without_scale, row)
        elif trained and not 0.5 <= row["um_per_px"] / trained <= 2:
            _note(self.far_scale, row)
        if not row["boundary_px"]:
            _note(self.without_boundary, row)
            return
        for rank, key in zip(RANKS, (-count, count, abs(count - self._middle)), strict=True):
            self._kinds[rank].add(key, row)

    @property
    def far(self) -> list[Row]:
        """Rows with a count far outside the rest, the highest first."""
        return self._far.rows

    def pictures(self, folder: Path, fetch: Fetch | None = None) -> dict[str, list[Picture]]:
        """Return the contact sheet; no image is shown twice, ``fetch`` brings them if need be."""
        seen: set[str] = set()
        sheet: dict[str, list[Picture]] = {}
        for rank in RANKS:
            new = [row for row in self._kinds[rank].rows if row["image"] not in seen][:PER_RANK]
            seen |= {row["image"] for row in new}
            if fetch is not None:
                for row in new:
                    if row["overlay"]:
                        fetch(row["overlay"])
            sheet[rank] = [_picture(row, folder) for row in new]
        order = (RANKS[1], RANKS[2], RANKS[0])
        return {rank: sheet[rank] for rank in order if sheet[rank]}


def _note(names: list[str], row: Row) -> None:
    if len(names) < MOST_NAMED:
        names.append(row["image"])


def _picture(row: Row, folder: Path) -> Picture:
    uri, problem = "", ""
    try:
        uri = _uri(row["overlay"], folder)
    except (SkinrayError, OSError) as error:
        problem = " ".join(str(error).split())
    return Picture(
        row["image"], row["subject"] or "", row["count"], row["density_per_mm"], uri, problem
    )


def _uri(name: str | None, folder: Path) -> str:
    if not name:
        raise SkinrayError("no overlay was drawn")
    path = (folder / name).resolve()
    if not path.is_relative_to(folder.resolve()):
        raise SkinrayError(f"{name}: not in the run's folder")
    small = encode_jpeg(read_image(path).pixels, WIDTH_PX, QUALITY)
    return "data:image/jpeg;base64," + base64.b64encode(small).decode()
