"""The images of a cohort to score: from a folder, a glob, a manifest or any fsspec address.

Entries come one by one in an order that depends on nothing but the names, so that a cohort of any
size needs little memory and two runs agree. Whether a file is an image is told by its bytes when
it is decoded; the names of folders' files only tell what to try.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property

from skinray.errors import CohortError
from skinray.images.cohort.csv_table import MANIFEST
from skinray.scoring.entries import Entry, printable
from skinray.scoring.image_store import File, LocalStore, open_store, without_password
from skinray.scoring.listed_manifest import manifest_entries

EXTENSIONS = (".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".tif", ".tiff", ".btf")


@dataclass
class Listing:
    """The images behind one path, pattern or address; iterate over it for the entries.

    Attributes
    ----------
    images : what the user named.
    skip : a folder to pass by, that of the results.
    left_out : files passed by so far, as no image's name ends like theirs.
    """

    images: str
    skip: str | None = None
    left_out: int = 0

    def __post_init__(self) -> None:
        """Look at what was named; CohortError if there is nothing."""
        self.store, self.path = open_store(self.images)
        magic = "*[" if self.images.startswith(("http:", "https:")) else "*?["
        shown = without_password(self.images)
        try:
            self.found = self.store.look(self.path)
            if self.found is None and not any(sign in self.path for sign in magic):
                raise CohortError(f"{shown}: not found; name a folder, a pattern or a manifest.csv")
            self.manifest = self._manifest()
        except (OSError, ValueError) as error:
            raise CohortError(
                f"{shown}: cannot be read ({error}); check it and its rights"
            ) from None

    def _manifest(self) -> File | None:
        if self.found is None:
            return None
        if self.found.is_folder:
            file = self.store.look(f"{self.path.rstrip('/')}/{MANIFEST}")
            return file if file is not None and not file.is_folder else None
        return self.found if self.path.lower().endswith(".csv") else None

    def __iter__(self) -> Iterator[Entry]:
        """Yield every entry, in the manifest's order or sorted by name."""
        self.left_out = 0
        if self.manifest is not None:
            return manifest_entries(self.store, self.manifest.path)
        if self.found is None:
            return self._matching()
        if self.found.is_folder:
            return self._below(self.path, (self._key(self.path),))
        return iter([_entry(self.found, os.path.dirname(self.path))])

    def _matching(self) -> Iterator[Entry]:
        plain = []
        for part in self.path.split("/"):
            if any(sign in part for sign in "*?["):
                break
            plain.append(part)
        root = "/".join(plain)
        for file in sorted(self.store.glob(self.path), key=lambda file: file.path):
            if not self._lies_in_skipped(file) and self._looks_like_image(file):
                yield _entry(file, root)

    def _below(self, folder: str, parents: tuple[str, ...]) -> Iterator[Entry]:
        try:
            children = self.store.children(folder)
        except OSError as error:
            yield replace(
                _entry(File(folder, 0, "", True), self.path),
                problem=f"the folder cannot be read ({error.strerror or error}): check its rights",
            )
            return
        for file in sorted(children, key=lambda f: f.path.rstrip("/") + "/" * f.is_folder):
            if not file.is_folder:
                if self._looks_like_image(file):
                    yield _entry(file, self.path)
                continue
            key = self._key(file.path)
            hidden = os.path.basename(file.path.rstrip("/")).startswith(".")
            if not hidden and key not in parents and not self._is_skipped(key):
                yield from self._below(file.path, (*parents, key))

    def _key(self, folder: str) -> str:
        """Return a folder's place with links followed, to notice those that lead in a circle."""
        return os.path.realpath(folder) if isinstance(self.store, LocalStore) else folder

    @cached_property
    def _skipped(self) -> str | None:
        """The folder to pass by as ``_key`` writes it, without slashes around; None for none."""
        if self.skip is None:
            return None
        # File systems write their paths without the kind of address in front.
        kind, _, path = self.skip.rpartition("://")
        if isinstance(self.store, LocalStore):
            return None if kind not in ("", "file") else os.path.realpath(path).strip("/")
        return path.strip("/") if kind else None

    def _is_skipped(self, key: str) -> bool:
        return self._skipped is not None and key.strip("/") == self._skipped

    def _lies_in_skipped(self, file: File) -> bool:
        if self._skipped is None:
            return False
        folder = self._key(os.path.dirname(file.path)).strip("/")
        return f"{folder}/".startswith(f"{self._skipped}/")

    def _looks_like_image(self, file: File) -> bool:
        name = os.path.basename(file.path).lower()
        good = name.endswith(EXTENSIONS) and not name.startswith(".")
        self.left_out += not good
        return good


def _entry(file: File, root: str) -> Entry:
    name = file.path.removeprefix(root).lstrip("/") or os.path.basename(file.path)
    return Entry(printable(name), file.path, file.size, file.stamp)
