"""What scoring one image gives: a row, committed with others as one part of the run."""

from __future__ import annotations

import hashlib
import io
import os
import socket
from collections.abc import Container, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import TypeAdapter

from skinray.crossings.detect import CrossingsRecord
from skinray.errors import SkinrayError
from skinray.images.file_errors import FileError
from skinray.images.photos.skin import SkinArea
from skinray.scoring.run_store import Output

Status = Literal["ok", "failed", "same"]
# A biopsy's, or a photograph's.
Result = CrossingsRecord | SkinArea

_PART = ("image", "identity", "key", "sha256", "status", "error", "result", "backend")
PART = pa.schema([(name, pa.string()) for name in _PART])
PARTS, LOG = "parts", "computed"
LONGEST_REASON = 500
# Parts read at once: an object store takes tens of milliseconds for each, whatever its size.
READERS = 16
READ_TOGETHER = 16 * READERS
_RESULT: TypeAdapter[Result] = TypeAdapter(Result)


@dataclass(frozen=True)
class Scored:
    """One image, scored.

    Attributes
    ----------
    image, identity : which image, and which version of it; see :class:`Entry`.
    key : what its result depends on, see :func:`content_key`; None: its bytes could not be read.
    sha256 : of its bytes.
    status : ``same``: another image of the same key has the result, or will have it.
    error : reason and remedy of a failure.
    result : what was found.
    backend : what computed the networks.
    """

    image: str
    identity: str
    key: str | None
    sha256: str | None
    status: Status
    error: str | None = None
    result: Result | None = None
    backend: str | None = None

    def as_row(self) -> dict[str, Any]:
        """Return the row of a part, as ``PART`` has it; the result as exact JSON."""
        result = None if self.result is None else self.result.model_dump_json()
        return {**vars(self), "result": result}


def result_of(text: str) -> Result:
    """Read the result in a part's row."""
    return _RESULT.validate_json(text)


def content_key(sha256: str, um_per_px: float | None) -> str:
    """Return what a result depends on: the bytes, and the scale if one is given beside them."""
    return f"{sha256} {um_per_px!r}"


def reason_of(error: Exception) -> str:
    """Return why an image failed, without the image's name: reason and remedy in one line."""
    if isinstance(error, FileError):
        text = f"{error.reason}: {error.remedy}"
    elif isinstance(error, SkinrayError):
        text = str(error)
    elif isinstance(error, MemoryError):
        text = "does not fit in memory: crop or tile it, or score it on a larger machine"
    else:
        text = f"scoring failed ({type(error).__name__}: {error}): report it, with the image"
    line = " ".join(text.encode("utf-8", "backslashreplace").decode().split())
    return line if len(line) <= LONGEST_REASON else line[: LONGEST_REASON - 3] + "..."


def commit(out: Output, rows: Sequence[Scored]) -> str:
    """Write rows as one part of the run, after the files that they name; it appears whole.

    Returns
    -------
    The part's name; the same rows give the same name.
    """
    digest = hashlib.sha256()
    for row in sorted(rows, key=lambda row: row.image):
        digest.update(f"{row.image}\0{row.identity}\0{row.sha256}\n".encode())
    name, file = f"{digest.hexdigest()[:32]}.parquet", io.BytesIO()
    pq.write_table(pa.Table.from_pylist([row.as_row() for row in rows], PART), file)
    out.write(f"{PARTS}/{name}", file.getvalue(), durable=True)
    return name


def committed(out: Output, known: Container[str] = ()) -> Iterator[tuple[str, pa.Table]]:
    """Yield name and rows of every part that is not known yet; unreadable parts are skipped."""
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
    """Note that an image went through the networks: a line in a file of this process.

    An object store cannot append, so nothing is noted there.
    """
    if out.folder is None:
        return
    path = out.folder / LOG / f"{socket.gethostname()}-{os.getpid()}.log"
    with path.open("a", encoding="utf-8") as file:
        file.write(image.encode("unicode_escape").decode() + "\n")
