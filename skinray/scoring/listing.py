"""The images of a cohort to score: from a folder, a pattern, a manifest or any fsspec address.

Entries come one by one, in an order that depends on names alone, so that a cohort of any size needs
little memory and two runs agree. File names only decide which files to try; whether one is an image
is known when it is decoded.
"""

from __future__ import annotations

import glob
import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from skinray.config.images import ReadSettings
from skinray.errors import CohortError
from skinray.files import is_clutter
from skinray.images.cohort.csv_table import (
    KEEP_INSIDE,
    MANIFEST,
    ManifestRow,
    other_spellings,
    read_table,
)
from skinray.images.file_errors import FileProblem
from skinray.scoring.entries import Entry, printable
from skinray.scoring.image_store import File, LocalStore, Store, open_store
from skinray.scoring.object_store import without_password

EXTENSIONS = (".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".tif", ".tiff", ".btf")


@dataclass
class Listing:
    """The images behind one path, pattern or address; iterate over it for the entries.

    Attributes
    ----------
    images : what the user named.
    skip : a folder to skip, that of the results.
    left_out : files skipped so far because their names do not end like an image's.
    """

    images: str
    skip: str | None = None
    left_out: int = 0

    def __post_init__(self) -> None:
        """Find what was named; CohortError if there is nothing."""
        self.store, self.path = open_store(self.images)
        magic = "*[" if self.images.startswith(("http:", "https:")) else "*?["
        shown = without_password(self.images)
        try:
            self.found = self.store.look(self.path)
            if self.found is None and not any(sign in self.path for sign in magic):
                raise CohortError(f"{shown}: not found; name a folder, a pattern or a manifest.csv")
            self.manifest = self.found if self.path.lower().endswith(".csv") else None
            if self.found is not None and self.found.is_folder:
                self.manifest = self.store.look(f"{self.path.rstrip('/')}/{MANIFEST}")
                self._refuse_other_spelling(shown)
        except (OSError, ValueError) as error:
            raise CohortError(
                f"{shown}: cannot be read ({error}); check the path and its permissions"
            ) from None

    def _refuse_other_spelling(self, shown: str) -> None:
        """Refuse a folder with Manifest.csv: without it, subjects and scales would be lost."""
        if self.manifest is None and isinstance(self.store, LocalStore):
            for other in other_spellings(os.listdir(self.path)):
                raise CohortError(f"{shown}: rename {other} to {MANIFEST}, so that it is read")

    def __iter__(self) -> Iterator[Entry]:
        """Yield every entry, in the manifest's order or sorted by name."""
        self.left_out = 0
        if self.found is None:
            return self._matching()
        if self.manifest is not None and not self.manifest.is_folder:
            return manifest_entries(self.store, self.manifest.path)
        if self.found.is_folder:
            return self._below(self.path, (self._key(self.path),))
        return iter([_entry(self.found, os.path.dirname(self.path))])

    def _matching(self) -> Iterator[Entry]:
        plain: list[str] = []
        for part in self.path.split("/"):
            folder = "/".join([*plain, part])
            if any(sign in part for sign in "*?[") and not self._is_folder(folder):
                break
            plain.append(part)
        root = "/".join(plain)
        pattern = "/".join([*self._as_written(plain), *self.path.split("/")[len(plain) :]])
        for file in sorted(self.store.glob(pattern), key=lambda file: file.path):
            if not self._is_in_skipped(file) and self._looks_like_image(file):
                yield _entry(file, root)

    def _is_folder(self, path: str) -> bool:
        """Whether a folder of this machine is called so, with its brackets."""
        return isinstance(self.store, LocalStore) and os.path.isdir(path)

    def _as_written(self, parts: list[str]) -> list[str]:
        """Return folders of a pattern so that brackets in their names stand for themselves."""
        local = isinstance(self.store, LocalStore)
        return [glob.escape(part) if local else part for part in parts]

    def _below(self, folder: str, parents: tuple[str, ...]) -> Iterator[Entry]:
        try:
            children = self.store.children(folder)
        except OSError as error:
            reason = f"the folder cannot be read ({error.strerror or error})"
            entry = _entry(File(folder, 0, "", True), self.path)
            yield replace(entry, problem=f"{reason}: check its permissions")
            return
        for file in sorted(children, key=lambda f: f.path.rstrip("/") + "/" * f.is_folder):
            if not file.is_folder:
                if self._looks_like_image(file):
                    yield _entry(file, self.path)
                continue
            key = self._key(file.path)
            clutter = is_clutter(os.path.basename(file.path.rstrip("/")))
            if not clutter and key not in parents and not self._is_skipped(key):
                yield from self._below(file.path, (*parents, key))

    def _key(self, folder: str) -> str:
        """Return a folder's real path, to notice links that lead back to a parent."""
        return os.path.realpath(folder) if isinstance(self.store, LocalStore) else folder

    @cached_property
    def _skipped(self) -> str | None:
        """The folder to skip as ``_key`` writes it, without slashes around it; None for none."""
        if self.skip is None:
            return None
        # File systems write their paths without the kind of address in front.
        kind, _, path = self.skip.rpartition("://")
        if isinstance(self.store, LocalStore):
            return None if kind not in ("", "file") else os.path.realpath(path).strip("/")
        return path.strip("/") if kind else None

    def _is_skipped(self, key: str) -> bool:
        return self._skipped is not None and key.strip("/") == self._skipped

    def _is_in_skipped(self, file: File) -> bool:
        if self._skipped is None:
            return False
        folder = self._key(os.path.dirname(file.path)).strip("/")
        return f"{folder}/".startswith(f"{self._skipped}/")

    def _looks_like_image(self, file: File) -> bool:
        name = os.path.basename(file.path).lower()
        good = name.endswith(EXTENSIONS) and not is_clutter(name)
        self.left_out += not good
        return good


def _entry(file: File, root: str) -> Entry:
    name = file.path.removeprefix(root).lstrip("/") or os.path.basename(file.path)
    return Entry(printable(name), file.path, file.size, file.stamp)


def manifest_entries(store: Store, path: str) -> Iterator[Entry]:
    """Yield an entry for each row of a manifest; a row that cannot be scored says why.

    Only the columns ``image``, ``subject`` and ``um_per_px`` are read.

    Raises
    ------
    CohortError
        If the file as a whole is not such a table.
    """
    data = store.read(path, ReadSettings())
    with tempfile.TemporaryDirectory() as folder:  # tables are read from disk, by this name
        (Path(folder) / MANIFEST).write_bytes(data)
        table = read_table(Path(folder))
    rows, problems = table.rows, table.problems
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
            yield _row_entry(store, root, line, seen)


def _row_entry(store: Store, root: str, row: ManifestRow, seen: dict[str, int]) -> Entry:
    name = row.path("image")
    if not name:
        return _unusable(row.number, "no image: enter its path, or delete the row", row)
    if name in seen:
        return _unusable(row.number, f"'{name}' is also in row {seen[name]}: delete one", row)
    seen[name] = row.number
    entry = Entry(name, f"{root}/{name}", 0, "", row.name("subject"))
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
    subject = None if row is None else row.name("subject")
    return Entry(f"{MANIFEST} row {number}", "", 0, "", subject, None, problem)
