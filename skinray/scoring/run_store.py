"""Where the results of a scoring run go: a folder that every node sees, or an object store.

Both kinds hold files under names with ``/``, relative to the run; a file appears whole or not at
all. What needs a real path (writing and reading large tables) works at the ``desk``: the folder
itself, or a temporary one whose files are then published.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from skinray.errors import SettingsError, StorageError
from skinray.files import whole
from skinray.scoring.object_store import (
    file_system,
    is_address,
    one_line,
    open_address,
    steadily,
    without_password,
)


@dataclass(frozen=True)
class LocalOutput:
    """A folder on disks that every node sees. Names are relative to it."""

    root: Path

    def __str__(self) -> str:
        return str(self.root)

    @property
    def folder(self) -> Path | None:
        """The folder; None in an object store."""
        return self.root

    def write(self, name: str, data: bytes, *, durable: bool = False) -> None:
        """Write a file whole; ``durable``: it is on the disk when this returns."""
        with self._whole(name) as partial, partial.open("wb") as file:
            file.write(data)
            if durable:
                file.flush()
                os.fsync(file.fileno())

    def read(self, name: str) -> bytes:
        """Return a file's bytes; FileNotFoundError if there is none."""
        return (self.root / name).read_bytes()

    def copy(self, source: str, target: str) -> None:
        """Copy a file, if it exists."""
        if (self.root / source).exists():
            with self._whole(target) as partial:
                shutil.copyfile(self.root / source, partial)

    def files(self, folder: str) -> list[str]:
        """Return the sorted names of everything directly in a folder; hidden ones too."""
        try:
            return sorted(os.listdir(self.root / folder))
        except (FileNotFoundError, NotADirectoryError):
            return []

    def remove(self, name: str) -> None:
        """Remove a file, or a folder with everything in it, if it exists."""
        path = self.root / name
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)

    @contextmanager
    def desk(self) -> Iterator[Path]:
        """Give a folder on this machine to work in: the run's own."""
        yield self.root

    def publish(self, desk: Path, name: str) -> None:
        """Do nothing: the desk is the folder itself."""

    def fetch(self, desk: Path, name: str) -> None:
        """Do nothing: the desk is the folder itself."""

    @contextmanager
    def _whole(self, name: str) -> Iterator[Path]:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with whole(path, shared=True) as partial:
            yield partial


@dataclass(frozen=True)
class RemoteOutput:
    """The same at an fsspec address; an object store shows a file only once it is whole.

    Only the address travels between processes.
    """

    address: str

    def __str__(self) -> str:
        return without_password(self.address)

    @property
    def folder(self) -> Path | None:
        """None."""
        return None

    def write(self, name: str, data: bytes, *, durable: bool = False) -> None:
        """Write a file whole."""
        self._steadily(lambda system, root: system.pipe_file(f"{root}/{name}", data))

    def read(self, name: str) -> bytes:
        """Return a file's bytes."""
        return bytes(self._steadily(lambda system, root: system.cat_file(f"{root}/{name}")))

    def copy(self, source: str, target: str) -> None:
        """Copy a file, if it exists."""
        try:
            data = self.read(source)
        except FileNotFoundError:
            return
        self.write(target, data)

    def files(self, folder: str) -> list[str]:
        """Return the names of everything directly in a folder."""

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
        """Remove a file, or a folder with everything in it."""
        with suppress(FileNotFoundError):
            self._steadily(lambda system, root: system.rm(f"{root}/{name}", recursive=True))

    @contextmanager
    def desk(self) -> Iterator[Path]:
        """Give a temporary folder to work in; only what is published from it stays."""
        with tempfile.TemporaryDirectory(prefix="skinray-desk-") as folder:
            yield Path(folder)

    def publish(self, desk: Path, name: str) -> None:
        """Put a file of the desk into the run."""
        self._steadily(lambda system, root: system.put_file(str(desk / name), f"{root}/{name}"))

    def fetch(self, desk: Path, name: str) -> None:
        """Put a file of the run on the desk, if it exists."""
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


Output = LocalOutput | RemoteOutput


def open_output(out: str | Path) -> Output:
    """Return the place of results at a path or address; SettingsError if it cannot be opened."""
    text = str(out)
    if not is_address(text):
        return LocalOutput(Path(text).expanduser().absolute())
    system, path = open_address(text, SettingsError)
    return LocalOutput(Path(path)) if system is None else RemoteOutput(text.rstrip("/"))
