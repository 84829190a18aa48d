"""Where the results of a scoring run go: a folder that every node sees, or an object store.

Both kinds hold files under names with ``/``, relative to the run; a file appears whole or not at
all. What needs a real path (large tables, their readers) works at the ``desk``, which is the folder
itself or a temporary one, and is published from there.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import fsspec

from skinray.errors import SettingsError, StorageError
from skinray.files import whole
from skinray.scoring.image_store import is_address, without_password
from skinray.scoring.object_store import file_system, one_line, steadily


class Output(Protocol):
    """Files of a run by name."""

    @property
    def folder(self) -> Path | None:
        """The folder; None in an object store."""

    def write(self, name: str, data: bytes, *, durable: bool = False) -> None:
        """Write a file whole; ``durable``: it is on the disk when this returns."""

    def read(self, name: str) -> bytes:
        """Return a file's bytes; FileNotFoundError where there is none."""

    def copy(self, source: str, target: str) -> None:
        """Copy a file, if it is there."""

    def files(self, folder: str) -> list[str]:
        """Return the names of all that is directly below a folder, sorted; hidden ones too."""

    def remove(self, name: str) -> None:
        """Remove a file or a folder with all in it, if it is there."""

    def desk(self) -> AbstractContextManager[Path]:
        """Give a folder on this machine to work in; what is published from it stays."""

    def publish(self, desk: Path, name: str) -> None:
        """Put a file or folder of the desk into the run."""

    def fetch(self, desk: Path, name: str) -> None:
        """Put a file of the run on the desk, if it is in the run."""


def open_output(out: str | Path) -> Output:
    """Return the place of results that a path or an fsspec address names.

    Raises
    ------
    SettingsError
        If nothing can open such an address.
    """
    text = str(out)
    if not is_address(text):
        return LocalOutput(Path(text).expanduser().absolute())
    try:
        system, path = file_system(text)
    except (ValueError, ImportError, OSError) as error:
        raise SettingsError(
            f"{without_password(text)}: cannot be opened ({one_line(error)}); check the address, "
            "and install the fsspec package for its kind (gcsfs, adlfs, ...)"
        ) from None
    if isinstance(system, fsspec.get_filesystem_class("file")):
        return LocalOutput(Path(path))
    return RemoteOutput(text.rstrip("/"))


@dataclass(frozen=True)
class LocalOutput:
    """A folder on disks that every node sees."""

    root: Path

    def __str__(self) -> str:
        return str(self.root)

    @property
    def folder(self) -> Path | None:
        """The folder."""
        return self.root

    def write(self, name: str, data: bytes, *, durable: bool = False) -> None:
        """Write a file whole."""
        with self._whole(name) as partial, partial.open("wb") as file:
            file.write(data)
            if durable:
                file.flush()
                os.fsync(file.fileno())

    def read(self, name: str) -> bytes:
        """Return a file's bytes."""
        return (self.root / name).read_bytes()

    def copy(self, source: str, target: str) -> None:
        """Copy a file, if it is there."""
        if (self.root / source).exists():
            with self._whole(target) as partial:
                shutil.copyfile(self.root / source, partial)

    def files(self, folder: str) -> list[str]:
        """Return the names of all that is directly below a folder."""
        try:
            return sorted(os.listdir(self.root / folder))
        except FileNotFoundError:
            return []

    def remove(self, name: str) -> None:
        """Remove a file or a folder with all in it."""
        path = self.root / name
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)

    @contextmanager
    def desk(self) -> Iterator[Path]:
        """Work in the folder itself."""
        yield self.root

    def publish(self, desk: Path, name: str) -> None:
        """Do nothing: the desk is the folder, so it is there already."""

    def fetch(self, desk: Path, name: str) -> None:
        """Do nothing: the desk is the folder, so it is there already."""

    @contextmanager
    def _whole(self, name: str) -> Iterator[Path]:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with whole(path, shared=True) as partial:
            yield partial


@dataclass(frozen=True)
class RemoteOutput:
    """Files behind an fsspec address; an object store shows them only when they are whole.

    It travels between processes as its address alone.
    """

    address: str

    def __str__(self) -> str:
        return without_password(self.address)

    @property
    def folder(self) -> Path | None:
        """There is none."""
        return None

    def write(self, name: str, data: bytes, *, durable: bool = False) -> None:
        """Write a file whole."""
        self._steadily(lambda system, root: system.pipe_file(f"{root}/{name}", data))

    def read(self, name: str) -> bytes:
        """Return a file's bytes."""
        return bytes(self._steadily(lambda system, root: system.cat_file(f"{root}/{name}")))

    def copy(self, source: str, target: str) -> None:
        """Copy a file, if it is there."""
        try:
            data = self.read(source)
        except FileNotFoundError:
            return
        self.write(target, data)

    def files(self, folder: str) -> list[str]:
        """Return the names of all that is directly below a folder."""

        def names(system: Any, root: str) -> list[str]:
            system.invalidate_cache()
            place = f"{root}/{folder}".rstrip("/")
            found = [str(facts["name"]).rstrip("/") for facts in system.ls(place, detail=True)]
            # Some stores list a folder's own marker in it.
            return [name.rpartition("/")[2] for name in found if name != place.rstrip("/")]

        try:
            return sorted(self._steadily(names))
        except FileNotFoundError:
            return []

    def remove(self, name: str) -> None:
        """Remove a file or a folder with all in it."""
        try:
            self._steadily(lambda system, root: system.rm(f"{root}/{name}", recursive=True))
        except FileNotFoundError:
            return

    @contextmanager
    def desk(self) -> Iterator[Path]:
        """Work in a temporary folder of this machine."""
        with tempfile.TemporaryDirectory(prefix="skinray-desk-") as folder:
            yield Path(folder)

    def publish(self, desk: Path, name: str) -> None:
        """Put a file or folder of the desk into the run."""
        if (desk / name).is_dir():
            for child in sorted((desk / name).iterdir()):
                self.publish(desk, f"{name}/{child.name}")
        else:
            self._steadily(lambda fs, root: fs.put_file(str(desk / name), f"{root}/{name}"))

    def fetch(self, desk: Path, name: str) -> None:
        """Put a file of the run on the desk, if it is in the run."""
        path = desk / name
        path.parent.mkdir(parents=True, exist_ok=True)

        def copy(system: Any, root: str) -> None:
            with system.open(f"{root}/{name}", "rb") as source, path.open("wb") as target:
                shutil.copyfileobj(source, target)

        try:
            self._steadily(copy)
        except FileNotFoundError:
            path.unlink(missing_ok=True)

    def _steadily(self, call: Any) -> Any:
        system, root = file_system(self.address)
        try:
            return steadily(lambda: call(system, root), lambda: system.info(root), str(self))
        except FileNotFoundError:
            raise
        except OSError as error:
            raise StorageError(
                f"{self}: cannot be used ({one_line(error)}); check the address, the credentials "
                "and their rights"
            ) from None
