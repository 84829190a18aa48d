"""The tables of a scored cohort, written row by row: counts and crossings, or areas of skin."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from skinray.crossings.detect import CrossingsRecord
from skinray.files import CSV_ENCODING, spreadsheet_cell
from skinray.progress import clock
from skinray.scoring.entries import RowWriter
from skinray.scoring.kinds import CROSSINGS, POINTS, ScoredKind
from skinray.scoring.rows import Result, result_of
from skinray.scoring.run_store import Output

LOST = "no result: its worker died repeatedly; score it again with --resume, or check the image"
REASONS = 10
NAMES = 3
# Decimals in the CSV file; the parquet file has every digit.
DECIMALS = {
    "boundary_px": 1,
    "boundary_mm": 4,
    "density_per_mm": 2,
    "um_per_px": 5,
    "skin_fraction": 4,
    "confidence": 4,
}


@dataclass
class Totals:
    """The outcome of a cohort: images with and without a result, failures by reason."""

    table: str = "counts.csv"
    scored: int = 0
    failed: Counter[str] = field(default_factory=Counter)
    names: dict[str, list[str]] = field(default_factory=dict)
    backends: Counter[str] = field(default_factory=Counter)

    def fail(self, image: str, error: str) -> None:
        """Count a failed image by the reason, which is the error without its remedy."""
        reason = error.split(": ")[0]
        self.failed[reason] += 1
        first = self.names.setdefault(reason, [])
        if len(first) < NAMES:
            first.append(image)

    @property
    def failures(self) -> int:
        """Number of images without a result."""
        return sum(self.failed.values())

    def too_many_failed(self, most: int | None) -> bool:
        """Return whether more than ``most`` failed; without a limit, whether all did."""
        return not self.scored if most is None else self.failures > most

    def text(self, seconds: float) -> str:
        """Return the totals in lines: scored, failed by reason, with the first images of each."""
        images = self.scored + self.failures
        lines = [f"{self.scored} of {images} images scored in {clock(seconds)}"]
        if set(self.backends) - {"eager"}:
            used = ", ".join(f"{name} ({number})" for name, number in self.backends.most_common())
            lines.append(f"computed by {used}; --exact computes as in training")
        if self.failures:
            lines.append(f"{self.failures} failed:")
            lines += [self._reason(*one) for one in self.failed.most_common(REASONS)]
        if len(self.failed) > REASONS:
            lines.append(f"  and {len(self.failed) - REASONS} more reasons, see {self.table}")
        return "\n".join(lines)

    def _reason(self, why: str, number: int) -> str:
        first = self.names[why]
        more = ", ..." if number > len(first) else ""
        return f"  {number} {why}: {', '.join(first)}{more}"

    def why_too_many(self, most: int | None) -> str:
        """Return why the run counts as failed, and what to do."""
        images = self.scored + self.failures
        reason = (
            f"{self.failures} of {images} images failed, more than --max-failures {most}"
            if most is not None
            else f"all {images} images failed"
        )
        return (
            f"{reason}: the column error of {self.table} says why and what to do; then repeat the "
            "command with --resume"
        )


def write_tables(
    desk: Path,
    out: Output,
    rows: Iterable[dict[str, Any]],
    kind: ScoredKind,
    *,
    overlays: bool,
    note: Callable[[str | None], str] = lambda _: "",
) -> Totals:
    """Write the table of images as parquet and CSV, and that of crossings; each appears whole.

    Parameters
    ----------
    desk : folder to write them in.
    out : the run, where the pictures are.
    rows : from :meth:`skinray.scoring.ledger.Ledger.rows`.
    kind : what was scored.
    overlays : whether each image's own files were written.
    note : on the bundle and an image, from the SHA-256 of the image's file.
    """
    finals, names = kind.tables, kind.columns.names
    totals = Totals(finals[1])
    partial = {name: desk / f".{name}.part" for name in finals}
    with ExitStack() as files:
        images = files.enter_context(RowWriter(partial[finals[0]], kind.columns))
        text = partial[finals[1]].open("w", newline="", encoding=CSV_ENCODING)
        sheet = csv.writer(files.enter_context(text), lineterminator="\n")
        points = None
        if kind.has_crossings:
            points = files.enter_context(RowWriter(partial[POINTS], CROSSINGS))
        sheet.writerow(names)
        for row in rows:
            record, result = _record(out, row, kind, overlays)
            said = result.warnings if isinstance(result, CrossingsRecord) else []
            record["note"] = "; ".join(filter(None, [note(record["sha256"]), *said])) or None
            images.add(record)
            sheet.writerow([_cell(name, record[name]) for name in names])
            if result is None:
                totals.fail(record["image"], record["error"])
                continue
            totals.scored += 1
            totals.backends[record["backend"] or "eager"] += 1
            if points is not None and isinstance(result, CrossingsRecord):
                for crossing in _crossings(record["image"], result):
                    points.add(crossing)
    for name, path in partial.items():
        path.replace(desk / name)
    return totals


def _cell(name: str, value: Any) -> Any:
    """Return a value for the CSV file, with as many digits as it is worth."""
    if isinstance(value, float):
        return round(value, DECIMALS[name])
    return spreadsheet_cell(value)


def _record(
    out: Output, row: dict[str, Any], kind: ScoredKind, overlays: bool
) -> tuple[dict[str, Any], Result | None]:
    record = dict.fromkeys(kind.columns.names)
    record |= {name: row[name] for name in ("image", "subject", "sha256", "duplicate_of")}
    if row["status"] != "ok":
        error = row["problem"] or row["error"] or LOST
        return record | {"status": "failed", "error": error}, None
    result = result_of(row["result"])
    found = {name: value for name, value in vars(result).items() if name in record}
    record |= {"status": "ok", "backend": row["backend"]} | found
    if overlays:
        if row["source"] != row["image"]:
            kind.copy_files(out, row["source"], row["image"])
        record |= kind.places(row["image"])
    return record, result


def _crossings(image: str, count: CrossingsRecord) -> Iterator[dict[str, Any]]:
    for number, (row, column) in enumerate(count.points, start=1):
        yield {"image": image, "crossing": number, "row": row, "column": column}
