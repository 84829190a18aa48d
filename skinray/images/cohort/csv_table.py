"""A CSV table as laboratories save it, read into rows of named cells.

Comma, semicolon or tab may separate (the header tells); a byte order mark and spaces round the
cells do no harm. Unknown columns are left alone, unless the name looks like a misspelt known one
that is missing: a lost subject column would mix subjects over folds without a sound.
"""

from __future__ import annotations

import csv
import difflib
import io
from dataclasses import dataclass
from pathlib import Path

from skinray.images.file_errors import Problem

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
)
_SAVE_AGAIN = "save the table as CSV (UTF-8)"


@dataclass(frozen=True)
class Row:
    """Cells of one row by column name; ``number`` as a spreadsheet has it, the header being 1."""

    number: int
    cells: dict[str, str]
    decimal_comma: bool


def read_table(root: Path) -> tuple[list[Row], list[Problem]]:
    """Read the manifest in the folder ``root``: its rows, and the problems of its form."""
    text = _text(root)
    if isinstance(text, Problem):
        return [], [text]
    separator = max(",;\t", key=text.split("\n", 1)[0].count)
    try:
        table = list(csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True))
    except csv.Error as error:
        return [], [_problem(f"not a table of cells ({error})", _SAVE_AGAIN)]
    names = [cell.strip().lower() for cell in table[0]] if table else []
    problems = _header_problems(names)
    if problems:
        return [], problems
    rows = []
    for number, line in enumerate(table[1:], start=2):
        cells = [cell.strip() for cell in line]
        if any(cells[len(names) :]):
            reason = f"{len(cells)} cells under {len(names)} columns"
            problems.append(_problem(reason, "quote cells that hold the separator", number))
        elif any(cells):
            cells += [""] * (len(names) - len(cells))
            rows.append(Row(number, dict(zip(names, cells, strict=False)), separator != ","))
    if not rows and not problems:
        problems.append(_problem("no row under the header", "add one row for each image"))
    return rows, problems


def _text(root: Path) -> str | Problem:
    path = root / MANIFEST
    try:
        if not root.is_dir():
            return Problem(None, str(root), "no such folder", "give the folder of the manifest")
        if not path.is_file():
            return _problem("missing", f"put a table of that name into {root}")
        data = path.read_bytes()
    except (OSError, ValueError) as error:
        return _problem(f"cannot be read ({error})", "check the path and its permissions")
    wide = data.startswith((b"\xff\xfe", b"\xfe\xff"))  # spreadsheets call it "Unicode text"
    try:
        text = data.decode("utf-16" if wide else "utf-8-sig")
    except UnicodeDecodeError as error:
        return _problem(f"not UTF-8 text ({error.reason} at byte {error.start})", _SAVE_AGAIN)
    if not text.strip():
        return _problem("empty", "add the header and one row for each image")
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _header_problems(names: list[str]) -> list[Problem]:
    problems = []
    missing = [name for name in COLUMNS if name not in names]
    for name in sorted({name for name in names if name and names.count(name) > 1}):
        problems.append(_problem(f"column '{name}' stands twice", "keep one of them", 1))
    for name in names:
        if name in COLUMNS or name == "":
            continue
        for meant in difflib.get_close_matches(name, missing, n=1, cutoff=0.8):
            problems.append(_problem(f"unknown column '{name}'", f"rename it to '{meant}'", 1))
    if "image" in missing:
        known = ", ".join(COLUMNS[1:])
        problems.append(
            _problem("column 'image' is missing", f"add it (further columns: {known})", 1)
        )
    return problems


def _problem(reason: str, remedy: str, row: int | None = None) -> Problem:
    return Problem(row, MANIFEST, reason, remedy)
