"""Where image files are: on this machine's disks, or anywhere that fsspec can reach.

Both kinds of store list and read files by path, so that scoring need not know which one it has.
"""

from __future__ import annotations

import glob
import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from skinray.config.images import ReadSettings
from skinray.errors import CohortError, StorageError
from skinray.images.file_errors import UnreadableImageError
from skinray.images.read import read_bytes
from skinray.scoring.object_store import (
    is_address,
    one_line,
    open_address,
    steadily,
    without_password,
)

# As for files on disk: uncompressed 16-bit RGBA, and as much again for levels and metadata.
MAX_BYTES_PER_PIXEL = 16
# What tells one version of a remote file from another, best first, as the file systems name it.
_STAMPS = ("ETag", "etag", "md5Hash", "mtime", "LastModified", "last_modified", "updated")


@dataclass(frozen=True)
class File:
    """A file or folder; ``stamp`` (mtime or etag) changes whenever its content does."""

    path: str
    size: int
    stamp: str
    is_folder: bool


class LocalStore:
    """Files on this machine's disks; paths are absolute, undecodable bytes as Python has them."""

    def look(self, path: str) -> File | None:
        """Return what is at a path, None if nothing is; links are followed."""
        try:
            return _local(path, os.stat(path))
        except (FileNotFoundError, NotADirectoryError):
            return None

    def children(self, folder: str) -> list[File]:
        """Return what is directly in a folder, in no order; a link to nowhere counts as a file."""
        with os.scandir(folder) as places:
            paths = [place.path for place in places]
        return [self._look_or_link(path) or _local(path, os.lstat(path)) for path in paths]

    def glob(self, pattern: str) -> list[File]:
        """Return the files that match a pattern, in no order; ``**`` stands for any depth."""
        found = (self._look_or_link(path) for path in glob.iglob(pattern, recursive=True))
        return [file for file in found if file is not None and not file.is_folder]

    def _look_or_link(self, path: str) -> File | None:
        try:
            return self.look(path)
        except OSError:  # a link to itself gets a row that says so, as in a folder
            return _local(path, os.lstat(path))

    def read(self, path: str, settings: ReadSettings) -> bytes:
        """Return a file's bytes; ImageError if it cannot be read or is far too large."""
        return read_bytes(Path(path), settings)


@dataclass(frozen=True)
class RemoteStore:
    """Files in an fsspec file system; paths are as that file system writes them.

    Asking for ``root``, whether it exists or not, shows if the store answers at all.
    """

    system: Any
    root: str = ""

    def look(self, path: str) -> File | None:
        """Return what is at a path."""
        try:
            return _remote(self._steadily(lambda: self.system.info(path)))
        except FileNotFoundError:
            return None

    def children(self, folder: str) -> list[File]:
        """Return what is directly in a folder."""
        found = self._steadily(lambda: self.system.ls(folder, detail=True))
        marker = str(folder).rstrip("/")  # object stores list a folder's own marker in it
        return [self._whole(f) for f in found if str(f["name"]).rstrip("/") != marker]

    def glob(self, pattern: str) -> list[File]:
        """Return the files that match."""
        found = self._steadily(lambda: self.system.glob(pattern, detail=True))
        return [self._whole(facts) for facts in found.values() if facts["type"] != "directory"]

    def read(self, path: str, settings: ReadSettings) -> bytes:
        """Return a file's bytes; StorageError if the whole store is away."""
        try:
            size = self._steadily(lambda: self.system.info(path)).get("size") or 0
            if size > settings.max_pixels * MAX_BYTES_PER_PIXEL + (1 << 20):
                raise UnreadableImageError(
                    path,
                    f"{size / 1e9:.1f} GB, too large for an image within the limit",
                    "crop or tile it, or raise read.max_pixels",
                )
            return bytes(self._steadily(lambda: self._all_of(path, size)))
        except (UnreadableImageError, StorageError):
            raise
        except Exception as error:  # every kind of file system has its own errors
            raise UnreadableImageError(
                path,
                f"cannot be read ({one_line(error)})",
                "check the address and its permissions",
            ) from None

    def _all_of(self, path: str, size: int) -> bytes:
        data = bytes(self.system.cat_file(path))
        if len(data) < size:  # the connection broke, which not every client notices
            raise OSError(f"only {len(data)} of {size} bytes arrived")
        return data

    def _whole(self, facts: dict[str, Any]) -> File:
        if facts.get("size") is None and facts["type"] != "directory":
            facts = {**facts, **self._steadily(lambda: self.system.info(facts["name"]))}
        return _remote(facts)

    def _steadily(self, call: Any) -> Any:
        return steadily(call, lambda: self.system.info(self.root), without_password(self.root))


Store = LocalStore | RemoteStore


def open_store(images: str) -> tuple[Store, str]:
    """Return the store of a path or address, and the path in it; CohortError if it has none."""
    system, path = None, os.path.expanduser(images)
    if is_address(images):
        system, path = open_address(images, CohortError)
    if system is None:
        return LocalStore(), os.path.abspath(path)
    return RemoteStore(system, path), path


def _local(path: str, state: os.stat_result) -> File:
    return File(path, state.st_size, str(state.st_mtime_ns), stat.S_ISDIR(state.st_mode))


def _remote(facts: dict[str, Any]) -> File:
    stamps = (str(facts[key]) for key in _STAMPS if facts.get(key))
    return File(
        str(facts["name"]),
        int(facts.get("size") or 0),
        next(stamps, ""),
        facts.get("type") == "directory",
    )
