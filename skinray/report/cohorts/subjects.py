"""Figures per subject of a scored cohort, kept on disk: there may be as many as images."""

from __future__ import annotations

import csv
import sqlite3
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Self

from skinray.files import CSV_ENCODING, spreadsheet_cell, whole
from skinray.report.cohorts.tally import ImageRow

CACHE_KIB = 8192
# Mean and pooled density differ: one weighs every image the same, the other every mm.
_SUMS = """
    CREATE TABLE subjects (
        subject TEXT PRIMARY KEY, images INT, scored INT, failed INT, duplicates INT, counted INT,
        crossings INT, scaled INT, density REAL, scaled_crossings INT, boundary_mm REAL)
"""
_ADD = """
    INSERT INTO subjects VALUES (?, 1, ?, ?, ?, ?, ?, ?, ?, ?, ?)
    ON CONFLICT (subject) DO UPDATE SET
        images = images + 1, scored = scored + excluded.scored, failed = failed + excluded.failed,
        duplicates = duplicates + excluded.duplicates, counted = counted + excluded.counted,
        crossings = crossings + excluded.crossings, scaled = scaled + excluded.scaled,
        density = density + excluded.density,
        scaled_crossings = scaled_crossings + excluded.scaled_crossings,
        boundary_mm = boundary_mm + excluded.boundary_mm
"""
_READ = """
    SELECT subject, images, scored, failed, duplicates, crossings,
        1.0 * crossings / nullif(counted, 0), nullif(boundary_mm, 0.0),
        density / nullif(scaled, 0), scaled_crossings / nullif(boundary_mm, 0.0)
    FROM subjects ORDER BY subject
"""
_SHARED = """
    SELECT copies.image, copies.subject, copies.original, originals.subject
    FROM copies JOIN originals ON copies.original = originals.image
    WHERE copies.subject <> originals.subject ORDER BY copies.rowid
"""


@dataclass(frozen=True)
class SubjectRow:
    """A row of ``subjects.csv``; its figures leave out duplicates and images without a boundary.

    Attributes
    ----------
    crossings, mean_count : over scored images.
    boundary_mm : length of boundary in images with a known pixel size.
    mean_density, pooled_density : crossings per mm: the mean over images, and all crossings per
        mm of all boundary. None: no image has a pixel size and a boundary.
    """

    subject: str
    images: int
    scored: int
    failed: int
    duplicates: int
    crossings: int
    mean_count: float | None
    boundary_mm: float | None
    mean_density: float | None
    pooled_density: float | None


@dataclass(frozen=True)
class SharedImage:
    """Two images with the same bytes under two subjects: one of the two names is wrong."""

    image: str
    subject: str
    original: str
    other_subject: str


class Copies:
    """The subjects of images with the same bytes, in a temporary database with a fixed cache."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="skinray-report-")
        self._base = sqlite3.connect(Path(self._folder.name) / "subjects.sqlite")
        self._base.execute(f"PRAGMA cache_size = -{CACHE_KIB}")
        self._base.execute("PRAGMA synchronous = OFF")
        self._base.execute("CREATE TABLE copies (image TEXT, subject TEXT, original TEXT)")
        self._base.execute("CREATE INDEX by_original ON copies (original)")
        self._base.execute("CREATE TABLE originals (image TEXT PRIMARY KEY, subject TEXT)")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._base.close()
        self._folder.cleanup()

    def add(self, rows: Sequence[ImageRow]) -> None:
        """Add a batch of rows of the table of images; those without a subject are left out."""
        self._base.executemany(
            "INSERT INTO copies VALUES (?, ?, ?)",
            [
                (row["image"], row["subject"], row["duplicate_of"])
                for row in rows
                if row["subject"] and row["duplicate_of"]
            ],
        )

    def look_up(self, rows: Iterable[ImageRow]) -> None:
        """Note the subjects of the originals of duplicates; for a second pass over the rows."""
        self._base.executemany(
            "INSERT OR IGNORE INTO originals "
            "SELECT ?1, ?2 WHERE EXISTS (SELECT 1 FROM copies WHERE original = ?1)",
            [(row["image"], row["subject"]) for row in rows if row["subject"]],
        )

    def shared(self, most: int) -> tuple[int, list[SharedImage]]:
        """Return how many duplicates have an original of another subject, and the first of them."""
        (times,) = self._base.execute(f"SELECT count(*) FROM ({_SHARED})").fetchone()  # noqa: S608
        first = self._base.execute(f"{_SHARED} LIMIT ?", (most,))
        return int(times), [SharedImage(*row) for row in first]


class Subjects(Copies):
    """Sums of biopsies per subject."""

    def __init__(self) -> None:
        super().__init__()
        self._base.execute(_SUMS)

    def add(self, rows: Sequence[ImageRow]) -> None:
        """Add a batch of rows of ``counts.parquet``; those without a subject are left out."""
        super().add(rows)
        self._base.executemany(_ADD, [_sums(row) for row in rows if row["subject"]])

    def __iter__(self) -> Iterator[SubjectRow]:
        """Yield the subjects in the order of their names."""
        for row in self._base.execute(_READ):
            yield SubjectRow(*row)

    def __len__(self) -> int:
        """Return the number of subjects."""
        return int(self._base.execute("SELECT count(*) FROM subjects").fetchone()[0])

    def write_csv(self, path: Path) -> None:
        """Write a row per subject; what is not known is empty. The file appears whole."""
        with whole(path) as partial, partial.open("w", encoding=CSV_ENCODING, newline="") as file:
            table = csv.writer(file)
            table.writerow(field.name for field in fields(SubjectRow))
            for subject in self:
                name, *figures = asdict(subject).values()
                shown = (round(one, 3) if isinstance(one, float) else one for one in figures)
                table.writerow([spreadsheet_cell(name), *shown])


def _sums(row: ImageRow) -> tuple[str | int | float, ...]:
    ok, copy = row["status"] == "ok", bool(row["duplicate_of"])
    counted = ok and not copy and row["boundary_px"] > 0
    scaled = counted and row["density_per_mm"] is not None
    count = int(row["count"]) if counted else 0
    density, length = (row["density_per_mm"], row["boundary_mm"]) if scaled else (0.0, 0.0)
    return (
        row["subject"], ok, not ok, copy, counted, count,
        scaled, density, count if scaled else 0, length,
    )  # fmt: skip
