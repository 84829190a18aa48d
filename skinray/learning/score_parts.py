"""Parts of a scoring run: some rows each, committed whole or not at all, and never twice.

A part is named by the hash of what its rows are of, so a batch that is tried again replaces its
own part and adds nothing.
"""

from __future__ import annotations

import hashlib
import os
import socket
from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from skinray.learning.scored import PART, Scored

PARTS, LOG = "parts", "computed"


def commit(out: Path, rows: Sequence[Scored]) -> Path:
    """Write rows as one part of the run in ``out``; it appears whole, after all that it tells of.

    Returns
    -------
    The part's path; the same rows give the same.
    """
    digest = hashlib.sha256()
    for row in sorted(rows, key=lambda row: row.image):
        digest.update(f"{row.image}\0{row.identity}\0{row.sha256}\n".encode())
    path = out / PARTS / f"{digest.hexdigest()[:32]}.parquet"
    partial = path.with_name(f".{path.name}.{socket.gethostname()}.{os.getpid()}")
    with partial.open("wb") as file:
        pq.write_table(pa.Table.from_pylist([row.as_row() for row in rows], PART), file)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)
    return path


def committed(out: Path) -> Iterator[tuple[str, pa.Table]]:
    """Yield name and rows of every part; one that cannot be read is as good as not there."""
    for path in sorted((out / PARTS).glob("*.parquet")):
        try:
            yield path.name, pq.read_table(path, schema=PART, partitioning=None)
        except (OSError, pa.ArrowInvalid):
            continue


def log_computed(out: Path, image: str) -> None:
    """Note that an image went through the networks; a file for each process, a line each time."""
    path = out / LOG / f"{socket.gethostname()}-{os.getpid()}.log"
    with path.open("a", encoding="utf-8") as file:
        file.write(image.encode("unicode_escape").decode() + "\n")
