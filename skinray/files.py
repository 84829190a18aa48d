"""Files that appear whole or not at all, however a run ends; their hash; cells of CSV files."""

from __future__ import annotations

import hashlib
import os
import socket
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from skinray.errors import SkinrayError

PARTIAL = ".part"
# The bundle that ships with skinray: networks trained on drawn biopsies alone.
STARTER = Path(__file__).with_name("starter")


def as_path(path: Path | str, thing: str) -> Path:
    """Return a path that a user gave; SkinrayError, which names the ``thing``, for another type."""
    if not isinstance(path, str | os.PathLike) or not os.fspath(path):
        raise SkinrayError(f"{thing}: {path!r:.80} is not a path: give a str or a pathlib.Path")
    return Path(path)


def cache_folder(name: str) -> Path:
    """Return the folder of one kind of files that skinray can make again; it may not exist yet.

    ``$SKINRAY_CACHE/NAME``, else ``$XDG_CACHE_HOME/skinray/NAME``, else ``~/.cache/skinray/NAME``.
    """
    own = os.environ.get("SKINRAY_CACHE")
    if own:
        return Path(own).expanduser() / name
    shared = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(shared).expanduser() / "skinray" / name


@contextmanager
def whole(path: Path, *, shared: bool = False) -> Iterator[Path]:
    """Give another name to write to, and put that file in place at the end of the block.

    If the block fails, the partial file is removed and ``path`` stays as it was.

    Parameters
    ----------
    path : of the file; its folder exists.
    shared : whether several processes or machines may write ``path`` at the same time. The partial
        name is then different in each. Otherwise it is always ``path`` with ``.part`` added, so
        that the next run overwrites what a killed one left.
    """
    partial = path.with_name(path.name + PARTIAL)
    if shared:
        # Short enough for any file system, however long the file's own name is.
        mark = f"{zlib.crc32(os.fsencode(path.name)):08x}.{socket.gethostname()[:60]}"
        partial = path.with_name(f".{path.name[:20]}.{mark}.{os.getpid()}")
    try:
        yield partial
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)  # on a full disk it would take the last of the room
        raise


def write_whole(path: Path, content: str | bytes) -> Path:
    """Write a file that appears whole or not at all; text as UTF-8. Return its path."""
    with whole(path) as partial:
        partial.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file's bytes, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


# With a byte order mark, by which Excel knows that a CSV file is UTF-8.
CSV_ENCODING = "utf-8-sig"
# What begins a formula in some spreadsheet; the wide signs in East Asian ones.
FORMULA = tuple("=+-@\t\r\n＝＋－＠")


def spreadsheet_cell(value: Any) -> Any:
    """Return a value for a cell of a CSV file; text that looks like a formula gets a quote."""
    if not isinstance(value, str) or not value.startswith(FORMULA):
        return value
    try:
        float(value)
    except ValueError:
        return f"'{value}"
    return value


def is_clutter(name: str) -> bool:
    """Whether a file or folder is one that systems leave behind, by its name.

    Such as ``._a.jpg`` and ``__MACOSX`` of a Mac's archives, ``.ipynb_checkpoints`` and
    ``Thumbs.db``; anything hidden counts.
    """
    return name.startswith(".") or name.lower() in ("__macosx", "thumbs.db", "desktop.ini")
