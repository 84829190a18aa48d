"""The rows of a manifest as images to score: labels are ignored, and no row is dropped."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from skinray.config.images import ReadSettings
from skinray.errors import CohortError
from skinray.images.cohort.csv_table import KEEP_INSIDE, MANIFEST, ManifestRow, read_table
from skinray.images.file_errors import FileProblem
from skinray.scoring.entries import Entry
from skinray.scoring.image_store import Store


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
    lines: dict[int, ManifestRow | FileProblem] = {p.row: p for p in problems if p.row is not None}
    lines |= {row.number: row for row in rows}
    root = path.rpartition("/")[0]
    seen: dict[str, int] = {}
    for number in sorted(lines):
        line = lines[number]
        if isinstance(line, FileProblem):
            yield _unusable(number, f"{line.reason}: {line.remedy}")
        else:
            yield _entry(store, root, line, seen)


def _table(store: Store, path: str) -> tuple[list[ManifestRow], list[FileProblem]]:
    data = store.read(path, ReadSettings())
    with tempfile.TemporaryDirectory() as folder:  # tables are read from disk, by that name
        (Path(folder) / MANIFEST).write_bytes(data)
        return read_table(Path(folder))


def _entry(store: Store, root: str, row: ManifestRow, seen: dict[str, int]) -> Entry:
    name = row.path("image")
    if not name:
        return _unusable(row.number, "no image: enter its path, or delete the row", row)
    if name in seen:
        return _unusable(row.number, f"'{name}' is also in row {seen[name]}: delete one", row)
    seen[name] = row.number
    entry = Entry(name, f"{root}/{name}", 0, "", row.text("subject"))
    if row.leaves_folder("image"):
        return replace(entry, problem=f"the path leaves the cohort folder: {KEEP_INSIDE}")
    try:
        scale = row.um_per_px()
    except ValueError as error:
        return replace(entry, problem=f"um_per_px {error}: correct or empty the cell")
    try:
        file = store.look(entry.path)
    except (OSError, ValueError) as error:  # a name too long, or with a NUL
        return replace(entry, problem=f"the path cannot be used ({error}): correct it")
    if file is None or file.is_folder:
        return replace(entry, problem="no such file: restore it or correct the path")
    return Entry(entry.image, file.path, file.size, file.stamp, entry.subject, scale)


def _unusable(number: int, problem: str, row: ManifestRow | None = None) -> Entry:
    subject = None if row is None else row.text("subject")
    return Entry(f"{MANIFEST} row {number}", "", 0, "", subject, None, problem)
