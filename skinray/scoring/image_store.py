"""Where image files lie: on this machine's disks, or anywhere that fsspec can address.

Both kinds of store list, look and read by path; whoever scores a cohort need not know which it is.
"""

from __future__ import annotations

import glob
import os
import re
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import fsspec

from skinray.config.images import ReadSettings
from skinray.errors import CohortError, StorageError
from skinray.images.file_errors import UnreadableImageError
from skinray.images.read import read_bytes
from skinray.scoring.object_store import file_system, one_line, steadily

# As for files on disk: 16-bit RGBA stored plainly, and as much again for levels and metadata.
MAX_BYTES_PER_PIXEL = 16
# What tells one version of a remote file from another, best first, as the file systems name it.
_STAMPS = ("ETag", "etag", "md5Hash", "mtime", "LastModified", "last_modified", "updated")


@dataclass(frozen=True)
class File:
    """A file or folder; ``stamp`` changes whenever its content does (mtime or etag)."""

    path: str
    size: int
    stamp: str
    is_folder: bool


class Store(Protocol):
    """Lists, looks and reads."""

    def look(self, path: str) -> File | None:
        """Return what is at a path; None if there is nothing, OSError if it cannot be told."""

    def children(self, folder: str) -> list[File]:
        """Return what is directly below a folder, in no order; OSError if it cannot be told."""

    def glob(self, pattern: str) -> list[File]:
        """Return the files that match a pattern, in no order."""

    def read(self, path: str, settings: ReadSettings) -> bytes:
        """Return the bytes of a file; ImageError where it cannot be read or is far too large."""


def is_address(images: str) -> bool:
    """Say whether a text is an fsspec address and not a path."""
    return "://" in images or "::" in images


def open_store(images: str) -> tuple[Store, str]:
    """Return the store that a path or address lies in, and its path within it.

    Raises
    ------
    CohortError
        If nothing can open such an address.
    """
    if not is_address(images):
        return LocalStore(), os.path.abspath(os.path.expanduser(images))
    try:
        system, path = file_system(images)
    except (ValueError, ImportError, OSError) as error:
        raise CohortError(
            f"{without_password(images)}: cannot be opened ({one_line(error)}); check the "
            "address, and install the fsspec package for its kind (gcsfs, adlfs, ...)"
        ) from None
    if isinstance(system, fsspec.get_filesystem_class("file")):
        return LocalStore(), os.path.abspath(path)
    return RemoteStore(system, path), path


def without_password(images: str) -> str:
    """Return an address without the password that it may carry."""
    return re.sub(r"://([^/@:]*):[^/@]*@", r"://\1@", images)


class LocalStore:
    """Files on this machine's disks; paths are absolute, undecodable bytes as Python has them."""

    def look(self, path: str) -> File | None:
        """Return what is at a path; links are followed."""
        try:
            state = os.stat(path)
        except (FileNotFoundError, NotADirectoryError):
            return None
        return _local(path, state)

    def children(self, folder: str) -> list[File]:
        """Return what is directly below a folder; links that lead nowhere as empty files."""
        found = []
        with os.scandir(folder) as places:
            for place in places:
                try:
                    found.append(_local(place.path, place.stat()))
                except OSError:
                    found.append(_local(place.path, place.stat(follow_symlinks=False)))
        return found

    def glob(self, pattern: str) -> list[File]:
        """Return the files that match; ``**`` stands for any depth."""
        found = (self._look_or_link(path) for path in glob.iglob(pattern, recursive=True))
        return [file for file in found if file is not None and not file.is_folder]

    def _look_or_link(self, path: str) -> File | None:
        try:
            return self.look(path)
        except OSError:  # a link that leads in a circle: a row that says so, as in a folder
            return _local(path, os.lstat(path))

    def read(self, path: str, settings: ReadSettings) -> bytes:
        """Return the bytes of a file."""
        return read_bytes(Path(path), settings)


@dataclass(frozen=True)
class RemoteStore:
    """Files behind an fsspec file system; paths are as that file system writes them.

    ``root`` is what tells whether the store answers at all, be it there or not.
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
        """Return what is directly below a folder."""
        found = self._steadily(lambda: self.system.ls(folder, detail=True))
        marker = str(folder).rstrip("/")  # object stores list a folder's own marker in it
        return [self._whole(f) for f in found if str(f["name"]).rstrip("/") != marker]

    def glob(self, pattern: str) -> list[File]:
        """Return the files that match."""
        found = self._steadily(lambda: self.system.glob(pattern, detail=True))
        return [self._whole(facts) for facts in found.values() if facts["type"] != "directory"]

    def read(self, path: str, settings: ReadSettings) -> bytes:
        """Return the bytes of a file; StorageError where the store as a whole is away."""
        try:
            size = self._steadily(lambda: self.system.info(path)).get("size") or 0
            if size > settings.max_pixels * MAX_BYTES_PER_PIXEL + (1 << 20):
                raise UnreadableImageError(
                    path,
                    f"{size / 1e9:.1f} GB, more than images within the limit take",
                    "crop or tile it, or raise read.max_pixels",
                )
            return bytes(self._steadily(lambda: self._all_of(path, size)))
        except (UnreadableImageError, StorageError):
            raise
        except Exception as error:  # every kind of file system has errors of its own
            raise UnreadableImageError(
                path,
                f"cannot be read ({one_line(error)})",
                "check the address and its permissions",
            ) from None

    def _all_of(self, path: str, size: int) -> bytes:
        data = bytes(self.system.cat_file(path))
        if len(data) < size:  # the connection broke, and not every client notices
            raise OSError(f"{len(data)} of {size} bytes came")
        return data

    def _whole(self, facts: dict[str, Any]) -> File:
        if facts.get("size") is None and facts["type"] != "directory":
            facts = {**facts, **self._steadily(lambda: self.system.info(facts["name"]))}
        return _remote(facts)

    def _steadily(self, call: Any) -> Any:
        return steadily(call, lambda: self.system.info(self.root), without_password(self.root))


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
