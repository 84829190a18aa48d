"""The rows of a manifest as biopsies, with every problem of every cell collected."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import TypeVar

from skinray.images.cohort.csv_table import Row, read_table
from skinray.images.cohort.dermis_fill import parse_side
from skinray.images.file_errors import Problem
from skinray.images.pixel_size import MAX_UM_PER_PX, MIN_UM_PER_PX, is_plausible

_NO_VALUE = ("", "na", "n/a", "nan", "none", "null")
_WHOLE = "a whole number from 0"
_SCALE = f"a number of micrometres from {MIN_UM_PER_PX:g} to {MAX_UM_PER_PX:g}"
T = TypeVar("T")


@dataclass(frozen=True)
class Biopsy:
    """One row of the manifest: an image and what is known of it.

    Attributes
    ----------
    name : the image's path as the manifest gives it, relative to the cohort folder.
    image : the image file.
    subject : whose skin it is; the name where the manifest has no such column.
    group : for example a diagnosis; folds spread it evenly.
    nerves : tracing of the nerves (mask image or GeoJSON).
    dermis : mask image of the dermis.
    boundary : the dermal-epidermal line (mask image or GeoJSON), used where dermis is missing.
    dermis_side : side of the boundary on which the dermis lies.
    count : crossings the expert counted.
    second_count : crossings a second expert counted.
    um_per_px : scale; overrides what the image file states.
    row : as a spreadsheet numbers it; the header is row 1.
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


@dataclass(frozen=True)
class Cohort:
    """The biopsies of one folder, in the order of the manifest."""

    root: Path
    biopsies: tuple[Biopsy, ...]


@dataclass(frozen=True)
class Scan:
    """What a manifest holds.

    Attributes
    ----------
    sound : the rows without problems.
    stated : all rows, for what concerns the cohort as a whole; files may be None or missing.
    problems : in the order of rows.
    """

    sound: Cohort
    stated: Cohort
    problems: tuple[Problem, ...]


def scan_cohort(root: Path) -> Scan:
    """Read the manifest of ``root`` and look for its files; nothing is raised."""
    rows, problems = read_table(root)
    stated, sound = [], []
    for row in rows:
        reader = _RowReader(root, row)
        stated.append(reader.biopsy())
        problems += reader.problems
        if not reader.problems:
            sound.append(stated[-1])
    problems += _repeated_files(rows) + _subjects_of_two_groups(stated)
    problems.sort(key=lambda problem: problem.row or 0)
    return Scan(Cohort(root, tuple(sound)), Cohort(root, tuple(stated)), tuple(problems))


@dataclass
class _RowReader:
    """Turns the cells of one row into values, noting what does not fit."""

    root: Path
    row: Row
    problems: list[Problem] = field(default_factory=list)

    def biopsy(self) -> Biopsy:
        """Return the biopsy; to be used only where no problem was noted."""
        name = _as_posix(self.row.cells["image"])
        image = self._file("image")
        if self._text("image") is None:
            self._refuse("no image", "fill in the path of the image, or delete the row")
        if "subject" in self.row.cells and self._text("subject") is None:
            self._refuse(
                "no subject, so the image belongs to no fold",
                "fill in the subject, or drop the column if every image is of another subject",
            )
        dermis, boundary = self._file("dermis"), self._file("boundary")
        side = self._value("dermis_side", parse_side, "top, bottom, left, right or a point x,y")
        if boundary is not None and dermis is None and self._text("dermis_side") is None:
            self._refuse(
                "a boundary line without its dermis_side",
                "write top, bottom, left, right or a point x,y of the dermis",
            )
        return Biopsy(
            name=name,
            image=image or self.root,
            subject=self._text("subject") or name,
            group=self._text("group"),
            nerves=self._file("nerves"),
            dermis=dermis,
            boundary=boundary,
            dermis_side=None if side is None else str(side),
            count=self._value("count", _count, _WHOLE),
            second_count=self._value("second_count", _count, _WHOLE),
            um_per_px=self._value("um_per_px", self._um_per_px, _SCALE),
            row=self.row.number,
        )

    def _refuse(self, reason: str, remedy: str) -> None:
        file = self.row.cells["image"] or "(no image)"
        self.problems.append(Problem(self.row.number, file, reason, remedy))

    def _text(self, column: str) -> str | None:
        cell = self.row.cells.get(column, "")
        return None if cell.lower() in _NO_VALUE else cell

    def _value(self, column: str, read: Callable[[str], T], kind: str) -> T | None:
        cell = self._text(column)
        if cell is None:
            return None
        try:
            return read(cell)
        except (ValueError, OverflowError):
            self._refuse(f"{column} '{cell}' is not {kind}", "correct or empty the cell")
            return None

    def _um_per_px(self, cell: str) -> float:
        value = float(cell.replace(",", ".") if self.row.decimal_comma else cell)
        if not is_plausible(value):
            raise ValueError
        return value

    def _file(self, column: str) -> Path | None:
        """Return the path of an existing file with content, inside the cohort folder."""
        cell = self._text(column)
        if cell is None:
            return None
        relative = PurePosixPath(_as_posix(cell))
        if relative.is_absolute() or PureWindowsPath(cell).anchor or ".." in relative.parts:
            self._refuse(
                f"{column} path '{cell}' leaves the cohort folder",
                "give a path relative to the folder of the manifest, without '..'",
            )
            return None
        path = self.root / relative
        try:
            if not path.is_file():
                self._refuse(f"{column} file '{cell}' is missing", "restore it or correct the path")
            elif path.stat().st_size == 0:
                self._refuse(f"{column} file '{cell}' is empty", "copy or export it again")
        except (OSError, ValueError) as error:  # a name too long, or with a NUL
            self._refuse(f"{column} path cannot be used ({error})", "correct the path")
        return path


def _as_posix(cell: str) -> str:
    return PurePosixPath(cell.replace("\\", "/")).as_posix() if cell else ""


def _count(cell: str) -> int:
    value = float(cell)  # spreadsheets write 12.0
    if value < 0 or value != int(value):
        raise ValueError
    return int(value)


def _repeated_files(rows: list[Row]) -> list[Problem]:
    """Name an image listed twice, and a label that two images share."""
    problems = []
    for column in ("image", "nerves", "dermis", "boundary"):
        first: dict[str, int] = {}
        for row in rows:
            path = _as_posix(row.cells.get(column, ""))
            if path.lower() in _NO_VALUE:
                continue
            if path in first:
                reason = f"{column} file '{path}' also stands in row {first[path]}"
                remedy = "delete one of the rows" if column == "image" else "correct one of them"
                problems.append(Problem(row.number, row.cells["image"], reason, remedy))
            first.setdefault(path, row.number)
    return problems


def _subjects_of_two_groups(biopsies: list[Biopsy]) -> list[Problem]:
    groups: dict[str, dict[str, Biopsy]] = defaultdict(dict)
    for biopsy in biopsies:
        groups[biopsy.subject].setdefault(biopsy.group or "(none)", biopsy)
    return [
        Problem(
            list(seen.values())[1].row,
            list(seen.values())[1].name,
            f"subject {subject} is in several groups ({', '.join(seen)})",
            "give the subject one group",
        )
        for subject, seen in groups.items()
        if len(seen) > 1
    ]
