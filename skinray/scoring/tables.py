"""The tables of a scored cohort, written row by row: counts and crossings, or areas of skin."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from skinray.config.kinds import Kind
from skinray.crossings.detect import CrossingsRecord
from skinray.progress import clock
from skinray.scoring.rows import AREAS, COUNTS, CROSSINGS, Result, result_of
from skinray.scoring.run_store import Output
from skinray.scoring.score_image import copy_files, places

LOST = "no result: its worker died again and again; score it with --resume, or look at the image"
BATCH = 1024
REASONS = 10
# By what the bundle is for: the tables' name, and the columns of the table of images.
NAMES: dict[Kind, str] = {"biopsy": "counts", "photo": "areas"}
SCHEMAS: dict[Kind, pa.Schema] = {"biopsy": COUNTS, "photo": AREAS}
POINTS = "crossings.parquet"


@dataclass
class Totals:
    """What came of a cohort: images with and without a result, failures by reason."""

    table: str = "counts.csv"
    scored: int = 0
    failed: Counter[str] = field(default_factory=Counter)

    @property
    def failures(self) -> int:
        """Number of images without a result."""
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
            lines.append(f"  and {len(self.failed) - REASONS} further reasons, in {self.table}")
        return "\n".join(lines)


def tables_of(kind: Kind) -> tuple[str, ...]:
    """Return the names of a run's tables: that of images as parquet and CSV, that of crossings."""
    name = NAMES[kind]
    return (f"{name}.parquet", f"{name}.csv", *([POINTS] if kind == "biopsy" else []))


def write_tables(
    desk: Path, out: Output, rows: Iterable[dict[str, Any]], kind: Kind, *, overlays: bool
) -> Totals:
    """Write the table of images as parquet and CSV, and that of crossings; each appears whole.

    Parameters
    ----------
    desk : folder to write them in.
    out : the run, where the pictures are.
    rows : as :meth:`skinray.scoring.ledger.Ledger.rows` gives them.
    kind : what was scored; biopsies have ``counts`` and ``crossings``, photographs ``areas``.
    overlays : whether each image's own files were written.
    """
    schema, finals = SCHEMAS[kind], tables_of(kind)
    totals = Totals(f"{NAMES[kind]}.csv")
    partial = {name: desk / f".{name}.part" for name in finals}
    with ExitStack() as files:
        images = files.enter_context(_Writer(partial[finals[0]], schema))
        stream = files.enter_context(partial[finals[1]].open("w", newline="", encoding="utf-8"))
        points = (
            files.enter_context(_Writer(partial[POINTS], CROSSINGS)) if kind == "biopsy" else None
        )
        sheet = csv.writer(stream, lineterminator="\n")
        sheet.writerow(schema.names)
        for row in rows:
            record, result = _record(out, row, kind, overlays)
            images.add(record)
            sheet.writerow([spreadsheet_cell(record[name]) for name in schema.names])
            if result is None:
                totals.failed[record["error"].split(": ")[0]] += 1
                continue
            totals.scored += 1
            if points is not None and isinstance(result, CrossingsRecord):
                points.add_all(_points(record["image"], result))
    for name, path in partial.items():
        path.replace(desk / name)
    return totals


def _record(
    out: Output, row: dict[str, Any], kind: Kind, overlays: bool
) -> tuple[dict[str, Any], Result | None]:
    record = dict.fromkeys(SCHEMAS[kind].names)
    record |= {name: row[name] for name in ("image", "subject", "sha256", "duplicate_of")}
    if row["status"] != "ok":
        error = row["problem"] or row["error"] or LOST
        return record | {"status": "failed", "error": error}, None
    result = result_of(row["result"])
    told = {name: value for name, value in vars(result).items() if name in record}
    record |= {"status": "ok"} | told
    if overlays:
        if row["source"] != row["image"]:
            copy_files(out, row["source"], row["image"], kind)
        record |= places(row["image"], kind)
    return record, result


def _points(image: str, count: CrossingsRecord) -> Iterator[dict[str, Any]]:
    for number, (row, column) in enumerate(count.points, start=1):
        yield {"image": image, "crossing": number, "row": row, "column": column}


# What begins a formula in one spreadsheet or another; the wide signs in East Asian ones.
FORMULA = tuple("=+-@\t\r\n＝＋－＠")


def spreadsheet_cell(value: Any) -> Any:
    """Return what stands in a cell: no text that a spreadsheet would take for a formula."""
    if isinstance(value, str) and value.startswith(FORMULA) and not _is_number(value):
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

    def add_all(self, rows: Iterable[dict[str, Any]]) -> None:
        for row in rows:
            self.add(row)

    def _flush(self) -> None:
        self.file.write_table(pa.Table.from_pylist(self.rows, self.schema))
        self.rows = []
