"""Which images are listed, which are scored, and the rows that follow; for any cohort size.

A temporary SQLite file on this machine does the sorting and joining. It is rebuilt from the listing
and the parts whenever it is needed, so nothing can be lost with it.
"""

from __future__ import annotations

import os
import sqlite3
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Self

import pyarrow as pa

from skinray.scoring.entries import Entry

_SCHEMA = """
CREATE TABLE listed (
    place INTEGER PRIMARY KEY, image TEXT, identity TEXT, path BLOB, size INTEGER, stamp TEXT,
    subject TEXT, um_per_px REAL, problem TEXT
);
CREATE TABLE scored (
    image TEXT, identity TEXT, key TEXT, sha256 TEXT, status TEXT, error TEXT, result TEXT,
    backend TEXT, PRIMARY KEY (image, identity)
);
CREATE INDEX listed_image ON listed (image, identity);
CREATE INDEX scored_key ON scored (key, status);
CREATE TABLE parts (name TEXT PRIMARY KEY);
CREATE TABLE firsts (key TEXT PRIMARY KEY, place INTEGER, image TEXT);
"""
# A row that waits for the result of another counts as scored once that result is there.
_HAS_RESULT = """
(scored.status IS NOT NULL AND (scored.status != 'same' OR EXISTS (
    SELECT 1 FROM scored AS other WHERE other.key = scored.key AND other.status != 'same')))
"""
_LISTED_SCORED = "listed LEFT JOIN scored USING (image, identity)"


class Ledger:
    """Entries of a listing and the rows committed for them; use it as a context.

    Attributes
    ----------
    folder : of the files that hold it.
    """

    def __init__(self) -> None:
        self._scratch = tempfile.TemporaryDirectory(prefix="skinray-ledger-")
        self.folder = Path(self._scratch.name)
        self._db = sqlite3.connect(self.folder / "ledger.sqlite")
        self._db.executescript("PRAGMA synchronous=OFF; PRAGMA journal_mode=OFF;" + _SCHEMA)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._db.close()
        self._scratch.cleanup()

    def add_listing(self, entries: Iterable[Entry]) -> None:
        """Add the listing; its order is the order of the results."""
        self._db.executemany(
            "INSERT INTO listed VALUES (NULL, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                (e.image, e.identity, os.fsencode(e.path), e.size, e.stamp, e.subject,
                 e.um_per_px, e.problem)
                for e in entries
            ),
        )  # fmt: skip
        self._db.commit()

    def add_parts(self, parts: Iterable[tuple[str, pa.Table]], *, retry: bool = False) -> None:
        """Add committed parts, each once, after the listing.

        Rows of images that are no longer listed, or have changed since, are left out: pictures are
        stored by image name, and another image may have that name now. A result replaces a row
        that waited for one, and a failure to read the image's bytes. A part with waiting rows is
        read again later: their results may come in a part of the same name.

        Parameters
        ----------
        retry : leave out images whose bytes could not be read, so that they are pending: the disk
            may be back, or the permission granted, although no file has changed.
        """
        for name, table in parts:
            if self._db.execute("SELECT 1 FROM parts WHERE name = ?", (name,)).fetchone():
                continue
            rows = table.to_pylist()
            if retry:
                rows = [r for r in rows if r["status"] != "failed" or r["key"] is not None]
            self._db.executemany(
                "INSERT INTO scored SELECT :image, :identity, :key, :sha256, :status, :error,"
                " :result, :backend WHERE EXISTS (SELECT 1 FROM listed WHERE image = :image"
                " AND identity = :identity)"
                " ON CONFLICT DO UPDATE SET key = excluded.key, sha256 = excluded.sha256,"
                " status = excluded.status, error = excluded.error, result = excluded.result,"
                " backend = excluded.backend"
                " WHERE scored.status = 'same' OR scored.status = 'failed' AND scored.key IS NULL",
                rows,
            )
            if len(rows) == len(table) and all(r["status"] != "same" for r in rows):
                self._db.execute("INSERT INTO parts VALUES (?)", (name,))
        self._db.commit()

    def parts(self) -> set[str]:
        """Return the names of the parts that need not be read again."""
        return {name for (name,) in self._db.execute("SELECT name FROM parts")}

    def pending(self) -> Iterator[Entry]:
        """Yield, in order, the entries that have no result yet and can have one."""
        found = self._db.execute(
            "SELECT image, path, size, stamp, subject, um_per_px, problem FROM "  # noqa: S608
            f"{_LISTED_SCORED} WHERE problem IS NULL AND NOT {_HAS_RESULT} ORDER BY place"
        )
        for image, path, *facts in found:
            yield Entry(image, os.fsdecode(path), *facts)

    def left(self) -> int:
        """Return how many entries are pending."""
        return sum(1 for _ in self.pending())

    def contents(self) -> Iterator[str]:
        """Yield the key of each content that has a result."""
        found = self._db.execute(
            "SELECT DISTINCT key FROM scored WHERE status != 'same' AND key IS NOT NULL"
        )
        yield from (key for (key,) in found)

    def rows(self) -> Iterator[dict[str, Any]]:
        """Yield a row for each entry, in order.

        Its keys: image, subject, problem; sha256, status, error, result and backend as committed,
        or None; ``duplicate_of``, the first image of the same content if that is another image;
        ``source``, the image that the result was computed on.
        """
        self._db.execute("DELETE FROM firsts")
        # SQLite gives the other columns of the row in which min() found its value.
        self._db.execute(
            "INSERT INTO firsts SELECT key, min(place), image FROM "  # noqa: S608
            f"{_LISTED_SCORED} WHERE key IS NOT NULL AND problem IS NULL GROUP BY key"
        )
        self._db.commit()
        found = self._db.execute(
            f"""
            SELECT listed.image, listed.subject, listed.problem, scored.sha256,
                found.status, found.error, found.result, found.backend, found.image AS source,
                CASE WHEN firsts.place != listed.place THEN firsts.image END AS duplicate_of
            FROM {_LISTED_SCORED}
            LEFT JOIN firsts ON firsts.key = scored.key
            LEFT JOIN scored AS found ON found.rowid = CASE
                WHEN scored.status != 'same' THEN scored.rowid
                ELSE (SELECT min(rowid) FROM scored AS other
                      WHERE other.key = scored.key AND other.status != 'same') END
            ORDER BY listed.place
            """  # noqa: S608
        )
        names = [column[0] for column in found.description]
        for values in found:
            yield dict(zip(names, values, strict=True))
