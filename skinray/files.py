"""Files that appear whole or not at all, however a run ends, and their hash."""

from __future__ import annotations

import hashlib
import os
import socket
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PARTIAL = ".part"


@contextmanager
def whole(path: Path, *, shared: bool = False) -> Iterator[Path]:
    """Yield a temporary path to write to; at the end of the block the file moves to ``path``.

    If the block fails, the temporary file is removed and ``path`` stays as it was.

    Parameters
    ----------
    path : the file; its folder must exist.
    shared : whether several processes or machines may write ``path`` at the same time. Each then
        uses its own temporary name. Otherwise that name is ``path`` plus ``.part``, so that the
        next run overwrites what a killed one left.
    """
    partial = path.with_name(path.name + PARTIAL)
    if shared:
        # Short enough for any file system, however long the name of the file.
        mark = f"{zlib.crc32(os.fsencode(path.name)):08x}.{socket.gethostname()[:60]}"
        partial = path.with_name(f".{path.name[:20]}.{mark}.{os.getpid()}")
    try:
        yield partial
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)  # it would fill a full disk
        raise


def write_whole(path: Path, content: str | bytes) -> Path:
    """Write a file that appears whole or not at all, text as UTF-8, and return its path."""
    with whole(path) as partial:
        partial.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file's bytes, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
