"""A manifest as laboratories save it: a CSV table read into rows of named cells.

The separator may be a comma, a semicolon or a tab (the header decides); a byte order mark and
spaces around cells are ignored. So are unknown columns, unless the name looks like a misspelt
column that is missing: without its subject column, a cohort would silently mix subjects over folds.
"""

from __future__ import annotations

import csv
import difflib
import io
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath

from skinray.images.file_errors import FileProblem
from skinray.images.pixel_size import parse_um_per_px

MANIFEST = "manifest.csv"
COLUMNS = (
    "image",
    "subject",
    "group",
    "nerves",
    "dermis",
    "boundary",
    "dermis_side",
    "count",
    "second_count",
    "um_per_px",
    "source",
    "bundle",
    "reader",
    "reviewed_at",
    "original_name",
)
# Kept for people: nothing depends on them, so that a column of a similar name is no mistake.
NOTED = COLUMNS[-4:]
KEEP_INSIDE = "give a path relative to the manifest's folder, without '..'"
_NO_VALUE = ("", "na", "n/a", "nan", "none", "null")
_SAVE_AGAIN = "save the table as CSV (UTF-8)"


@dataclass(frozen=True)
class ManifestRow:
    """Cells of one row by column name; ``number`` as in a spreadsheet, where the header is 1."""

    number: int
    cells: dict[str, str]
    separator: str

    def text(self, column: str) -> str | None:
        """Return a cell; None if it is missing, empty, or says that there is no value."""
        cell = self.cells.get(column, "")
        return None if cell.lower() in _NO_VALUE else cell

    def path(self, column: str) -> str:
        """Return a cell as a path with forward slashes; empty if it has none."""
        cell = self.text(column)
        return PurePosixPath(cell.replace("\\", "/")).as_posix() if cell else ""

    def leaves_folder(self, column: str) -> bool:
        """Return whether a cell's path leads out of the manifest's folder."""
        path = PurePosixPath(self.path(column))
        drive = PureWindowsPath(self.cells[column]).anchor
        return path.is_absolute() or bool(drive) or ".." in path.parts

    @property
    def decimal_comma(self) -> bool:
        """Whether numbers may be written with a comma: it does not separate the cells."""
        return self.separator != ","

    def um_per_px(self) -> float | None:
        """Return the scale; ValueError if the cell is not that of a microscope."""
        cell = self.text("um_per_px")
        return None if cell is None else parse_um_per_px(cell, decimal_comma=self.decimal_comma)


def read_table(root: Path) -> tuple[list[ManifestRow], list[FileProblem]]:
    """Read the manifest in the folder ``root``: its rows, and the problems with its form."""
    text = _text(root)
    if isinstance(text, FileProblem):
        return [], [text]
    separator = max(",;\t", key=text.split("\n", 1)[0].count)
    try:
        table = list(csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True))
    except csv.Error as error:
        return [], [_problem(f"not a valid CSV table ({error})", _SAVE_AGAIN)]
    names = [cell.strip().lower() for cell in table[0]] if table else []
    problems = _header_problems(names)
    if problems:
        return [], problems
    rows = []
    for number, line in enumerate(table[1:], start=2):
        cells = [cell.strip() for cell in line]
        if any(cells[len(names) :]):
            reason = f"{len(cells)} cells under {len(names)} columns"
            problems.append(
                _problem(reason, "put quotes around cells that contain the separator", number)
            )
        elif any(cells):
            cells += [""] * (len(names) - len(cells))
            rows.append(ManifestRow(number, dict(zip(names, cells, strict=False)), separator))
    if not rows and not problems:
        problems.append(_problem("no rows below the header", "add one row per image"))
    return rows, problems


def _text(root: Path) -> str | FileProblem:
    path = root / MANIFEST
    try:
        if not root.is_dir():
            return FileProblem(
                None, str(root), "no such folder", "give the folder that contains the manifest"
            )
        if path.name not in os.listdir(root) or not path.is_file():
            return _absent(root)
        data = path.read_bytes()
    except (OSError, ValueError) as error:
        return _problem(f"cannot be read ({error})", "check the path and its permissions")
    wide = data.startswith((b"\xff\xfe", b"\xfe\xff"))  # spreadsheets call it "Unicode text"
    try:
        text = data.decode("utf-16" if wide else "utf-8-sig")
    except UnicodeDecodeError as error:
        return _problem(f"not UTF-8 text ({error.reason} at byte {error.start})", _SAVE_AGAIN)
    if not text.strip():
        return _problem("empty", "add a header and one row per image")
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _absent(root: Path) -> FileProblem:
    """Return the problem of a folder without a manifest; its name may be written otherwise."""
    for other in other_spellings(os.listdir(root)):
        return _problem(f"missing, but there is {other}", f"rename {other} to {MANIFEST}")
    inside = sorted(path.parent.name for path in root.glob(f"*/{MANIFEST}"))
    if inside:
        return _problem("missing", f"give the folder that holds it, for example {root / inside[0]}")
    return _problem("missing", f"add a table with this name to {root}")


def other_spellings(names: Iterable[str]) -> list[str]:
    """Return the names that a user may have meant as that of the manifest, such as Manifest.csv."""
    close = (MANIFEST, f"{MANIFEST}.csv", f"{MANIFEST}.txt")
    return sorted(name for name in names if name != MANIFEST and name.lower() in close)


def _header_problems(names: list[str]) -> list[FileProblem]:
    problems = []
    missing = [name for name in COLUMNS if name not in names and name not in NOTED]
    for name in sorted({name for name in names if name and names.count(name) > 1}):
        problems.append(_problem(f"column '{name}' appears more than once", "keep one of them", 1))
    for name in names:
        if name in COLUMNS or name == "":
            continue
        for meant in difflib.get_close_matches(name, missing, n=1, cutoff=0.8):
            problems.append(_problem(f"unknown column '{name}'", f"rename it to '{meant}'", 1))
    if "image" in missing:
        known = ", ".join(COLUMNS[1:])
        problems.append(
            _problem("column 'image' is missing", f"add it (optional columns: {known})", 1)
        )
    return problems


def _problem(reason: str, remedy: str, row: int | None = None) -> FileProblem:
    return FileProblem(row, MANIFEST, reason, remedy)
