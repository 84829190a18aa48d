"""Parts of a scoring run: some rows each, committed whole or not at all, and never twice.

A part is named by the hash of what its rows are of, so a batch that is tried again replaces its
own part and adds nothing.
"""

from __future__ import annotations

import hashlib
import io
import os
import socket
from collections.abc import Container, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import pyarrow as pa
import pyarrow.parquet as pq

from skinray.images.output import Output
from skinray.learning.scored import PART, Scored

PARTS, LOG = "parts", "computed"
# Parts read at once: an object store answers each after tens of milliseconds, whatever its size.
READERS = 16
READ_TOGETHER = 16 * READERS


def commit(out: Output, rows: Sequence[Scored]) -> str:
    """Write rows as one part of the run in ``out``; it appears whole, after all that it tells of.

    Returns
    -------
    The part's name; the same rows give the same.
    """
    digest = hashlib.sha256()
    for row in sorted(rows, key=lambda row: row.image):
        digest.update(f"{row.image}\0{row.identity}\0{row.sha256}\n".encode())
    name, file = f"{digest.hexdigest()[:32]}.parquet", io.BytesIO()
    pq.write_table(pa.Table.from_pylist([row.as_row() for row in rows], PART), file)
    out.write(f"{PARTS}/{name}", file.getvalue(), durable=True)
    return name


def committed(out: Output, known: Container[str] = ()) -> Iterator[tuple[str, pa.Table]]:
    """Yield name and rows of every part that is not known yet.

    One that cannot be read is as good as not there.
    """
    files = out.files(PARTS)
    names = [n for n in files if n.endswith(".parquet") and n[0] != "." and n not in known]
    with ThreadPoolExecutor(READERS) as pool:
        for start in range(0, len(names), READ_TOGETHER):
            some = names[start : start + READ_TOGETHER]
            for name, table in zip(some, pool.map(lambda n: _read(out, n), some), strict=True):
                if table is not None:
                    yield name, table


def _read(out: Output, name: str) -> pa.Table | None:
    try:
        data = out.read(f"{PARTS}/{name}")
        return pq.read_table(pa.BufferReader(data), schema=PART, partitioning=None)
    except (OSError, pa.ArrowInvalid):
        return None


def log_computed(out: Output, image: str) -> None:
    """Note that an image went through the networks; a file for each process, a line each time.

    An object store cannot append: no such notes are taken there.
    """
    if out.folder is None:
        return
    path = out.folder / LOG / f"{socket.gethostname()}-{os.getpid()}.log"
    with path.open("a", encoding="utf-8") as file:
        file.write(image.encode("unicode_escape").decode() + "\n")
