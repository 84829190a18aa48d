"""Biopsies of a scored cohort to look at: low, median and high counts, and those far outside."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from skinray.report.cohort_pictures import MOST_NAMED, Fetch, Nearest, Picture, Sheet, note
from skinray.report.cohort_tally import Row
from skinray.report.cohort_words import many
from skinray.report.count_tally import CountTally
from skinray.report.tables import number

RANKS = ("Highest counts", "Lowest counts", "Counts in the middle")


class Choice:
    """Chooses on a second pass over the rows, when the distribution is known.

    Attributes
    ----------
    far : rows with a count far outside the rest, the highest first; ``far_images`` of them.
    without_boundary, without_scale, far_scale : names of the first such images.
    """

    def __init__(self, tally: CountTally) -> None:
        self.tally = tally
        self._middle = tally.count_bins.quantile(0.5) or 0.0
        self._sheet = Sheet(RANKS, (RANKS[1], RANKS[2], RANKS[0]))
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
            note(self.without_scale, row)
        elif trained and not 0.5 <= row["um_per_px"] / trained <= 2:
            note(self.far_scale, row)
        if not row["boundary_px"]:
            note(self.without_boundary, row)
            return
        self._sheet.add(row, (-count, count, abs(count - self._middle)))

    @property
    def far(self) -> list[Row]:
        """Rows with a count far outside the rest, the highest first."""
        return self._far.rows

    def pictures(self, folder: Path, fetch: Fetch | None = None) -> dict[str, list[Picture]]:
        """Return the contact sheet; see :meth:`Sheet.pictures`."""
        return self._sheet.pictures(folder, _told, fetch)


def _told(row: Row) -> str:
    said = many(row["count"], "crossing")
    density = row["density_per_mm"]
    return said if density is None else f"{said}, {number(density, 1)} per mm"
