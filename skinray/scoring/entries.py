"""One image to score: what a listing says of it, in memory and as rows of a file."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from skinray.files import whole

BATCH = 4096
SCHEMA = pa.schema(
    [
        ("image", pa.string()), ("path", pa.binary()), ("size", pa.int64()),
        ("stamp", pa.string()), ("subject", pa.string()), ("um_per_px", pa.float64()),
        ("problem", pa.string()),
    ]
)  # fmt: skip


@dataclass(frozen=True)
class Entry:
    """An image that is to have one row in the results.

    Attributes
    ----------
    image : its name, unique in the listing; printable, ``/`` between folders.
    path : of the file within its store, undecodable bytes as Python has them.
    size, stamp : bytes, and mtime or etag; with the name they tell whether it has changed.
    subject : whose skin it is, where a manifest says so.
    um_per_px : scale that a manifest gives.
    problem : why it cannot be scored, if that is known without reading the file.
    """

    image: str
    path: str
    size: int
    stamp: str
    subject: str | None = None
    um_per_px: float | None = None
    problem: str | None = None


def printable(name: str) -> str:
    r"""Return a name as text that can be stored, different names staying different.

    Bytes that are no UTF-8 are written as ``\xNN``, and a backslash as two.
    """
    return os.fsencode(name.replace("\\", "\\\\")).decode("utf-8", "backslashreplace")


def write_entries(entries: Iterable[Entry], path: Path) -> int:
    """Write entries as parquet, a batch at a time; return how many there are."""
    count, batch = 0, []
    with whole(path) as partial, pq.ParquetWriter(partial, SCHEMA) as writer:
        for entry in entries:
            batch.append(entry)
            count += 1
            if len(batch) == BATCH:
                writer.write_table(to_table(batch))
                batch = []
        writer.write_table(to_table(batch))
    return count


def read_entries(path: Path) -> Iterator[Entry]:
    """Yield the entries of a file that :func:`write_entries` wrote."""
    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches(BATCH):
            yield from from_rows(batch.to_pylist())


def to_table(entries: Iterable[Entry]) -> pa.Table:
    """Return entries as a table of ``SCHEMA``."""
    rows = [{**vars(entry), "path": os.fsencode(entry.path)} for entry in entries]
    return pa.Table.from_pylist(rows, SCHEMA)


def from_rows(rows: Iterable[dict[str, object]]) -> Iterator[Entry]:
    """Yield the entries that rows of such a table tell of."""
    for row in rows:
        path = row["path"]
        assert isinstance(path, bytes)  # noqa: S101 - the schema says so
        yield Entry(**{**row, "path": os.fsdecode(path)})  # type: ignore[arg-type]
