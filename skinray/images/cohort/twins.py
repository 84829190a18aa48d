"""Two rows of one image in two cohorts: how they are recognised, and whose label is newer."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from skinray.config.images import ReadSettings
from skinray.files import sha256_of
from skinray.images.cohort.csv_table import read_table
from skinray.images.cohort.manifest import read_manifest
from skinray.images.cohort.rows import LABELS, Biopsy
from skinray.images.read import read_image

SAME_SCALE = 0.02


@dataclass
class CohortRow:
    """A row of a cohort's table: its cells as they stand there, and the biopsy they describe.

    ``relabelled``: the cells have another label by now.
    """

    root: Path
    cells: dict[str, str]
    biopsy: Biopsy
    relabelled: bool = False

    def __str__(self) -> str:
        return f"row {self.biopsy.row}, {self.biopsy.name}"

    @property
    def labels(self) -> dict[str, str]:
        """Paths of the label files below the folder, by column."""
        paths = {column: getattr(self.biopsy, column) for column in LABELS}
        return {c: p.relative_to(self.root).as_posix() for c, p in paths.items() if p is not None}

    def has_label_of(self, other: CohortRow) -> bool:
        """Whether both have the same label: equal files, classes, counts, side and source.

        Without a second count of its own, a label says nothing against the other's.
        """

        def facts(row: CohortRow) -> list[object]:
            found = row.biopsy
            files = {column: sha256_of(row.root / name) for column, name in row.labels.items()}
            classes = sorted(found.classes.items())
            return [files, found.count, classes, found.dermis_side, found.source]

        second = self.biopsy.second_count
        return facts(self) == facts(other) and second in (None, other.biopsy.second_count)

    def is_newer_than(self, other: CohortRow) -> bool:
        """Whether a person saved it later; a label without a time is older than any with one."""
        mine, theirs = (_time(row.cells.get("reviewed_at", "")) for row in (self, other))
        return mine is not None and (theirs is None or mine > theirs)


def cohort_rows(root: Path) -> tuple[list[CohortRow], str]:
    """Return the rows of a manifest and its separator; CohortError if it has problems."""
    biopsies = read_manifest(root).biopsies
    lines = read_table(root).rows
    rows = []
    for biopsy, line in zip(biopsies, lines, strict=True):
        cells = {name: cell for name, cell in line.cells.items() if name}
        # Without this column each image is a subject of its own, which must be said beside others.
        cells.setdefault("subject", biopsy.subject)
        rows.append(CohortRow(root, cells, biopsy))
    return rows, lines[0].separator


def image_marks(biopsy: Biopsy, read: ReadSettings) -> tuple[str, str]:
    """Return what tells an image from others: hashes of its file and of its pixels."""
    pixels = read_image(biopsy.image, biopsy.reading(read)).pixels
    digest = hashlib.sha256(f"{pixels.shape};".encode())
    digest.update(pixels.data)
    return f"file {sha256_of(biopsy.image)}", f"pixels {digest.hexdigest()}"


def _time(text: str) -> datetime | None:
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        return None
    return time if time.tzinfo else time.replace(tzinfo=UTC)


def one_scale(a: float | None, b: float | None) -> bool:
    """Whether two scales may be of one image; an unknown one may be any."""
    return a is None or b is None or abs(a / b - 1) <= SAME_SCALE
