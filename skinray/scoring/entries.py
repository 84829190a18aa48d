"""One image to score: what the listing says about it, in memory and as rows of a file."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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
    """An image that will have one row in the results.

    Attributes
    ----------
    image : its name, unique in the listing; printable, ``/`` between folders.
    path : of the file in its store, undecodable bytes as Python has them.
    size, stamp : bytes, and mtime or etag; with the name they show whether the file has changed.
    subject : from a manifest.
    um_per_px : the scale, from a manifest.
    problem : why it cannot be scored, if that is known without reading the file.
    """

    image: str
    path: str
    size: int
    stamp: str
    subject: str | None = None
    um_per_px: float | None = None
    problem: str | None = None

    @property
    def identity(self) -> str:
        """What tells this version of the image from any other of the same name."""
        return json.dumps([self.size, self.stamp, self.um_per_px])


def printable(name: str) -> str:
    r"""Return a name as text that can be stored; different names stay different.

    Bytes that are not UTF-8 are written as ``\xNN``, and a backslash as two.
    """
    return os.fsencode(name.replace("\\", "\\\\")).decode("utf-8", "backslashreplace")


class RowWriter:
    """Writes rows to a parquet file in batches, so that memory does not grow with their number."""

    def __init__(self, path: Path, schema: pa.Schema) -> None:
        self.schema, self.count, self.rows = schema, 0, list[dict[str, Any]]()
        self.file = pq.ParquetWriter(path, schema)

    def __enter__(self) -> RowWriter:
        return self

    def __exit__(self, *error: object) -> None:
        self._flush()
        self.file.close()

    def add(self, row: dict[str, Any]) -> None:
        """Add one row."""
        self.rows.append(row)
        self.count += 1
        if len(self.rows) == BATCH:
            self._flush()

    def _flush(self) -> None:
        self.file.write_table(pa.Table.from_pylist(self.rows, self.schema))
        self.rows = []


def write_entries(entries: Iterable[Entry], path: Path) -> int:
    """Write entries as parquet; return how many there are."""
    with whole(path) as partial, RowWriter(partial, SCHEMA) as writer:
        for entry in entries:
            writer.add({**vars(entry), "path": os.fsencode(entry.path)})
    return writer.count


def read_entries(path: Path) -> Iterator[Entry]:
    """Yield the entries of a file that :func:`write_entries` wrote."""
    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches(BATCH):
            yield from from_rows(batch.to_pylist())


def from_rows(rows: Iterable[dict[str, Any]]) -> Iterator[Entry]:
    """Yield the entries in rows of such a file."""
    for row in rows:
        yield Entry(**{**row, "path": os.fsdecode(row["path"])})
