"""The rows of a manifest as biopsies, with every problem in every cell."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Literal, TypeVar, cast, get_args

from skinray.config.base import parse_number
from skinray.config.images import ReadSettings
from skinray.images.cohort.csv_table import KEEP_INSIDE, ManifestRow, plain_name
from skinray.images.cohort.dermis_fill import SIDES, parse_side
from skinray.images.file_errors import FileProblem
from skinray.images.pixel_size import SCALE_RANGE

_BITS = range(8, 17)
_WHOLE = "a whole number of 0 or more"
# Who made a label: a person; a model, then a person who corrected or reviewed it; a model alone;
# or skinray, which drew the image with it.
Source = Literal["drawn", "corrected", "model", "phantom"]
SOURCES: tuple[Source, ...] = get_args(Source)
LABELS = ("nerves", "dermis", "boundary")
# What a spreadsheet writes where a formula failed, in English and in German.
_FORMULA_ERROR = re.compile(
    r"#(DIV/0!|N/A|NAME\?|NULL!|NUM!|REF!|VALUE!|NV|WERT!|BEZUG!|ZAHL!|SPILL!|CALC!)", re.IGNORECASE
)
# A number that a spreadsheet shortened, or could not show: many persons would become one.
_SHORTENED = re.compile(r"[0-9]+([.,][0-9]+)?e\+[0-9]+|#{2,}", re.IGNORECASE)
T = TypeVar("T")


@dataclass(frozen=True)
class Biopsy:
    """One row of the manifest: an image and what is known about it.

    Attributes
    ----------
    name : the image's path as in the manifest, relative to the cohort folder.
    image : the image file.
    subject : the person; the image's name if the manifest has no such column.
    group : for example a diagnosis; folds spread it evenly.
    nerves : tracing of the nerves (mask image or GeoJSON).
    dermis : mask image of the dermis.
    boundary : the dermal-epidermal line (mask image or GeoJSON), used if dermis is missing.
    dermis_side : side of the boundary on which the dermis lies.
    count : crossings that the expert counted.
    second_count : crossings that a second expert counted.
    um_per_px : scale; overrides the image file's.
    row : as a spreadsheet numbers it; the header is row 1.
    source : who made the labels; None: not said, so a person drew them.
    classes : the class that a label's file means, by column, where the file has several.
    bits : depth of the image, where its file has 16 bits per sample and does not declare fewer.
    """

    name: str
    image: Path
    subject: str
    group: str | None
    nerves: Path | None
    dermis: Path | None
    boundary: Path | None
    dermis_side: str | None
    count: int | None
    second_count: int | None
    um_per_px: float | None
    row: int
    source: Source | None = None
    classes: Mapping[str, str] = field(default_factory=dict)
    bits: int | None = None

    def reading(self, settings: ReadSettings) -> ReadSettings:
        """Return the settings to read the image with: the row states the depth of its file."""
        return settings if self.bits is None else settings.override({"bits": self.bits})

    @property
    def is_scored(self) -> bool:
        """Whether a result may be compared with the labels: a model's own are no truth."""
        return self.source != "model"


@dataclass(frozen=True)
class Cohort:
    """The biopsies of one folder, in the order of the manifest.

    ``notes`` : what a person should know about the table, in sentences.
    """

    root: Path
    biopsies: tuple[Biopsy, ...]
    notes: tuple[str, ...] = ()

    def of(self, *sources: Source) -> int:
        """Return how many biopsies have labels of one of these sources."""
        return sum(biopsy.source in sources for biopsy in self.biopsies)

    @property
    def synthetic(self) -> bool:
        """Whether skinray drew every image; False if only some are drawn."""
        return self.of("phantom") == len(self.biopsies) > 0

    @property
    def scored(self) -> tuple[Biopsy, ...]:
        """The biopsies that folds hold out and score; the others are only trained on."""
        return tuple(biopsy for biopsy in self.biopsies if biopsy.is_scored)


@dataclass
class RowReader:
    """Converts the cells of one row to values and notes every problem."""

    root: Path
    row: ManifestRow
    problems: list[FileProblem] = field(default_factory=list)

    def biopsy(self) -> Biopsy:
        """Return the biopsy, which is complete only if no problem was noted."""
        name, row = self.row.path("image"), self.row
        image = self._file("image")
        if row.text("image") is None:
            self._refuse("no image", "enter the path of the image, or delete the row")
        if "subject" in row.cells and row.text("subject") is None:
            self._refuse(
                "no subject, so the image belongs to no fold",
                "enter the subject, or remove the column if every image has its own subject",
            )
        for column in ("subject", "group"):
            if _FORMULA_ERROR.fullmatch(row.text(column) or ""):
                cell = row.text(column)
                self._refuse(f"{column} '{cell}' is a failed formula", "correct it and save again")
        if _SHORTENED.fullmatch(row.text("subject") or ""):
            reason = f"subject '{row.text('subject')}' is a number that a spreadsheet shortened"
            self._refuse(reason, "set the column to text, enter the names again and save")
        dermis, boundary = self._file("dermis"), self._file("boundary")
        side = self._value("dermis_side", parse_side, SIDES)
        if boundary is not None and dermis is None and row.text("dermis_side") is None:
            self._refuse("a boundary line without dermis_side", f"enter {SIDES} in the dermis")
        return Biopsy(
            name=name,
            image=image or self.root,
            subject=row.name("subject") or name,
            group=row.name("group"),
            nerves=self._file("nerves"),
            dermis=dermis,
            boundary=boundary,
            dermis_side=None if side is None else str(side),
            count=self._value("count", self._count, _WHOLE),
            second_count=self._value("second_count", self._count, _WHOLE),
            um_per_px=self._value("um_per_px", lambda _: row.um_per_px(), SCALE_RANGE),
            row=row.number,
            bits=self._value("bits", self._bits, f"a whole number from {_BITS[0]} to {_BITS[-1]}"),
            classes={
                column: chosen
                for column in LABELS
                if (chosen := row.text(f"{column}_class")) is not None
            },
            source=self._value(
                "source",
                _source,
                f"one of {', '.join(SOURCES)}",
                "correct or empty the cell, or rename the column if it means something else",
            ),
        )

    def _count(self, cell: str) -> int:
        return _count(cell.replace(",", ".") if self.row.decimal_comma else cell)

    def _bits(self, cell: str) -> int:
        if (bits := self._count(cell)) not in _BITS:
            raise ValueError
        return bits

    def _refuse(self, reason: str, remedy: str) -> None:
        file = self.row.cells["image"] or "(no image)"
        self.problems.append(FileProblem(self.row.number, file, reason, remedy))

    def _value(
        self,
        column: str,
        read: Callable[[str], T],
        kind: str,
        remedy: str = "correct or empty the cell",
    ) -> T | None:
        cell = self.row.text(column)
        if cell is None:
            return None
        try:
            return read(cell)
        except (ValueError, OverflowError):
            self._refuse(f"{column} '{cell}' is not {kind}", remedy)
            return None

    def _file(self, column: str) -> Path | None:
        """Return the path of an existing file with content, inside the cohort folder."""
        cell = self.row.text(column)
        if cell is None:
            return None
        if self.row.leaves_folder(column):
            self._refuse(f"{column} path '{cell}' leaves the cohort folder", KEEP_INSIDE)
            return None
        path = self.root / self.row.path(column)
        try:
            written = near_name(path)
            if written is not None and plain_name(written) == plain_name(path.name):
                path = path.with_name(written)  # its accents are stored apart, as on a Mac
            if not path.is_file():
                remedy = "restore it or correct the path"
                if written is not None:
                    remedy = f"the folder has '{written}': correct the path"
                self._refuse(f"{column} file '{cell}' is missing", remedy)
            elif path.stat().st_size == 0:
                self._refuse(f"{column} file '{cell}' is empty", "copy or export it again")
        except (OSError, ValueError) as error:  # a name too long, or with a NUL
            self._refuse(f"{column} path cannot be used ({error})", "correct the path")
        return path


def near_name(path: Path) -> str | None:
    """Return the name of a file that a path probably means; None if it exists, or none is near.

    It differs in case, in how accents are stored, in invisible signs, or in its ending.
    """
    if path.is_file():
        return None
    try:
        names, stems = _names_in(path.parent, path.parent.stat().st_mtime_ns)
    except OSError:
        return None
    whole = names.get(plain_name(path.name).casefold())
    return whole or stems.get(plain_name(path.stem).casefold())


@lru_cache(maxsize=8)
def _names_in(folder: Path, _changed_ns: int) -> tuple[dict[str, str], dict[str, str]]:
    """Return the names in a folder by their plain spelling, whole and without the ending."""
    found = sorted(os.listdir(folder), reverse=True)  # of several, the first stays
    names = {plain_name(name).casefold(): name for name in found}
    return names, {plain_name(Path(name).stem).casefold(): name for name in found}


def _count(cell: str) -> int:
    value = parse_number(cell)  # spreadsheets write 12.0
    if value < 0 or value != int(value):
        raise ValueError
    return int(value)


def _source(cell: str) -> Source:
    if cell.lower() not in SOURCES:
        raise ValueError
    return cast(Source, cell.lower())
