"""The rows of a manifest as images to score: labels are not looked at, no row is dropped."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path, PurePosixPath, PureWindowsPath

from skinray.config.biopsies import ReadSettings
from skinray.errors import CohortError
from skinray.images.cohort.csv_table import MANIFEST, Row, read_table
from skinray.images.file_errors import Problem
from skinray.images.pixel_size import MAX_UM_PER_PX, MIN_UM_PER_PX, is_plausible
from skinray.scoring.entries import Entry
from skinray.scoring.image_store import Store

_NO_VALUE = ("", "na", "n/a", "nan", "none", "null")


def manifest_entries(store: Store, path: str) -> Iterator[Entry]:
    """Yield an entry for each row of a manifest; a row that cannot be scored says why.

    Only the columns ``image``, ``subject`` and ``um_per_px`` are read.

    Raises
    ------
    CohortError
        If the file as a whole is no such table.
    """
    rows, problems = _table(store, path)
    whole = [problem for problem in problems if problem.row in (None, 1)]
    if whole:
        raise CohortError(f"{path}: " + "; ".join(f"{p.reason}: {p.remedy}" for p in whole))
    lines: dict[int, Row | Problem] = {p.row: p for p in problems if p.row is not None}
    lines |= {row.number: row for row in rows}
    root = path.rpartition("/")[0]
    seen: dict[str, int] = {}
    for number in sorted(lines):
        line = lines[number]
        if isinstance(line, Problem):
            yield _unusable(number, f"{line.reason}: {line.remedy}")
        else:
            yield _entry(store, root, line, seen)


def _table(store: Store, path: str) -> tuple[list[Row], list[Problem]]:
    data = store.read(path, ReadSettings())
    with tempfile.TemporaryDirectory() as folder:  # tables are read from disk, by that name
        (Path(folder) / MANIFEST).write_bytes(data)
        return read_table(Path(folder))


def _entry(store: Store, root: str, row: Row, seen: dict[str, int]) -> Entry:
    cell = row.cells["image"]
    if cell.lower() in _NO_VALUE:
        return _unusable(row.number, "no image: fill in its path, or delete the row", row)
    name = PurePosixPath(cell.replace("\\", "/"))
    if name.as_posix() in seen:
        first = seen[name.as_posix()]
        return _unusable(row.number, f"'{name}' also stands in row {first}: delete one", row)
    seen[name.as_posix()] = row.number
    entry = Entry(name.as_posix(), f"{root}/{name}", 0, "", _subject(row))
    if name.is_absolute() or PureWindowsPath(cell).anchor or ".." in name.parts:
        remedy = "give a path relative to the folder of the manifest, without '..'"
        return replace(entry, problem=f"the path leaves the cohort folder: {remedy}")
    try:
        scale = _scale(row)
    except ValueError:
        return replace(
            entry,
            problem=f"um_per_px '{row.cells['um_per_px']}' is not a number of micrometres from "
            f"{MIN_UM_PER_PX:g} to {MAX_UM_PER_PX:g}: correct or empty the cell",
        )
    try:
        file = store.look(entry.path)
    except (OSError, ValueError) as error:  # a name too long, or with a NUL
        return replace(entry, problem=f"the path cannot be used ({error}): correct it")
    if file is None or file.is_folder:
        return replace(entry, problem="no such file: restore it or correct the path")
    return Entry(entry.image, file.path, file.size, file.stamp, entry.subject, scale)


def _unusable(number: int, problem: str, row: Row | None = None) -> Entry:
    subject = _subject(row) if row is not None else None
    return Entry(f"{MANIFEST} row {number}", "", 0, "", subject, None, problem)


def _subject(row: Row) -> str | None:
    cell = row.cells.get("subject", "")
    return None if cell.lower() in _NO_VALUE else cell


def _scale(row: Row) -> float | None:
    cell = row.cells.get("um_per_px", "")
    if cell.lower() in _NO_VALUE:
        return None
    value = float(cell.replace(",", ".") if row.decimal_comma else cell)
    if not is_plausible(value):
        raise ValueError
    return value
