"""The tables of a scored cohort, written row by row: counts (parquet and CSV) and crossings."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from skinray.images.output import Output
from skinray.learning.count import Count
from skinray.learning.scored import COUNTS, CROSSINGS
from skinray.progress import clock
from skinray.report.scored_files import copy_files, places

LOST = "no result: its worker died again and again; score it with --resume, or look at the image"
TABLES = ("counts.parquet", "crossings.parquet", "counts.csv")
BATCH = 1024
REASONS = 10
_OF_COUNT = (
    "count", "boundary_px", "boundary_mm", "density_per_mm", "um_per_px", "width", "height",
)  # fmt: skip


@dataclass
class Totals:
    """What came of a cohort: images with and without a count, failures by reason."""

    scored: int = 0
    failed: Counter[str] = field(default_factory=Counter)

    @property
    def failures(self) -> int:
        """Number of images without a count."""
        return sum(self.failed.values())

    def too_many_failed(self, most: int | None) -> bool:
        """Say whether more than ``most`` failed; without a limit, whether all did."""
        return not self.scored if most is None else self.failures > most

    def text(self, seconds: float) -> str:
        """Return the totals in lines: scored, failed by reason (the most frequent ones)."""
        images = self.scored + self.failures
        lines = [f"{self.scored} of {images} images scored in {clock(seconds)}"]
        if self.failures:
            lines.append(f"{self.failures} failed:")
            lines += [f"  {number} {why}" for why, number in self.failed.most_common(REASONS)]
        if len(self.failed) > REASONS:
            lines.append(f"  and {len(self.failed) - REASONS} further reasons, in counts.csv")
        return "\n".join(lines)


def write_tables(
    desk: Path, out: Output, rows: Iterable[dict[str, Any]], *, overlays: bool
) -> Totals:
    """Write ``counts.parquet``, ``counts.csv`` and ``crossings.parquet``; each appears whole.

    Parameters
    ----------
    desk : folder to write them in.
    out : the run, where the pictures are.
    rows : as :meth:`skinray.learning.score_ledger.Ledger.rows` gives them.
    overlays : whether pictures and GeoJSON were written.
    """
    totals = Totals()
    partial = {name: desk / f".{name}.part" for name in TABLES}
    with (
        _Writer(partial["counts.parquet"], COUNTS) as counts,
        _Writer(partial["crossings.parquet"], CROSSINGS) as crossings,
        partial["counts.csv"].open("w", newline="", encoding="utf-8") as stream,
    ):
        sheet = csv.writer(stream, lineterminator="\n")
        sheet.writerow(COUNTS.names)
        for row in rows:
            record, count = _record(out, row, overlays)
            counts.add(record)
            sheet.writerow([spreadsheet_cell(record[name]) for name in COUNTS.names])
            if count is not None:
                totals.scored += 1
                for number, (at_row, column) in enumerate(count.points, start=1):
                    crossings.add(
                        {"image": record["image"], "crossing": number, "row": at_row,
                         "column": column}
                    )  # fmt: skip
            else:
                totals.failed[record["error"].split(": ")[0]] += 1
    for name, path in partial.items():
        path.replace(desk / name)
    return totals


def _record(
    out: Output, row: dict[str, Any], overlays: bool
) -> tuple[dict[str, Any], Count | None]:
    record = dict.fromkeys(COUNTS.names)
    record |= {name: row[name] for name in ("image", "subject", "sha256", "duplicate_of")}
    if row["status"] != "ok":
        error = row["problem"] or row["error"] or LOST
        return record | {"status": "failed", "error": error}, None
    count = Count.model_validate_json(row["count"])
    record |= {"status": "ok"} | {name: getattr(count, name) for name in _OF_COUNT}
    if overlays:
        if row["source"] != row["image"]:
            copy_files(out, row["source"], row["image"])
        record |= places(row["image"])
    return record, count


def spreadsheet_cell(value: Any) -> Any:
    """Return what stands in a cell: no text that a spreadsheet would take for a formula."""
    if isinstance(value, str) and value[:1] in tuple("=+-@\t\r") and not _is_number(value):
        return "'" + value
    return value


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


class _Writer:
    """Writes rows as parquet, some at a time."""

    def __init__(self, path: Path, schema: pa.Schema) -> None:
        self.schema, self.rows = schema, list[dict[str, Any]]()
        self.file = pq.ParquetWriter(path, schema)

    def __enter__(self) -> _Writer:
        return self

    def __exit__(self, *error: object) -> None:
        self._flush()
        self.file.close()

    def add(self, row: dict[str, Any]) -> None:
        self.rows.append(row)
        if len(self.rows) == BATCH:
            self._flush()

    def _flush(self) -> None:
        self.file.write_table(pa.Table.from_pylist(self.rows, self.schema))
        self.rows = []
