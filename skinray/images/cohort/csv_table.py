"""A manifest as laboratories save it: a CSV table read into rows of named cells.

The separator may be a comma, a semicolon or a tab (the header decides, or a line ``sep=;`` above
it); a byte order mark and spaces around cells are ignored. Unknown columns are noted, or are an
error if the name looks like a misspelt column that is missing: without its subject column, a cohort
would silently mix subjects over folds.
"""

from __future__ import annotations

import csv
import difflib
import io
import os
import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath

from skinray.images.file_errors import FileProblem
from skinray.images.pixel_size import parse_um_per_px

MANIFEST = "manifest.csv"
COLUMNS = (
    "image",
    "subject",
    "group",
    "nerves",
    "dermis",
    "boundary",
    "dermis_side",
    "count",
    "second_count",
    "um_per_px",
    "bits",
    "nerves_class",
    "dermis_class",
    "boundary_class",
    "source",
    "bundle",
    "reader",
    "reviewed_at",
    "original_name",
)
# Kept for people: nothing depends on them, so that a column of a similar name is no mistake.
NOTED = COLUMNS[-4:]
KEEP_INSIDE = "give a path relative to the manifest's folder, without '..'"
_NO_VALUE = (
    "", "na", "n/a", "nan", "none", "null", "-", "?", "#n/a", "#nv", "k.a.", "k. a.",
)  # fmt: skip
_SAVE_AGAIN = "save the table as CSV (UTF-8)"
# First bytes of what is sometimes saved under the manifest's name.
_OTHER_FILES = (
    (b"PK\x03\x04", "an Excel workbook, not a CSV table"),
    (b"\xd0\xcf\x11\xe0", "an Excel workbook, not a CSV table"),
    (b"\x1f\x8b", "compressed with gzip"),
    (b"<", "a web page or XML, not a CSV table"),
    (b"{", "JSON, not a CSV table"),
    (b"version https://git-lfs", "a Git LFS pointer, not the table: run `git lfs pull`"),
)
_SEPARATORS = ",;\t"
# Rows above the header that a program or a person may have added.
_TITLE_ROWS = 6
# Letters that look the same as Latin ones: a name typed on two keyboards.
_CYRILLIC = (
    "\u0410\u0412\u0415\u041a\u041c\u041d\u041e\u0420\u0421\u0422\u0425"
    "\u0430\u0435\u043e\u0440\u0441\u0443\u0445"
)
_GREEK = (
    "\u0391\u0392\u0395\u0396\u0397\u0399\u039a\u039c\u039d\u039f\u03a1\u03a4\u03a5\u03a7\u03bf"
)
_LOOK_ALIKES = str.maketrans(_CYRILLIC + _GREEK, "ABEKMHOPCTXaeopcyxABEZHIKMNOPTYXo")
# Words that only look like our columns.
_OTHER_WORDS = ("country", "county", "mount", "amount", "account", "counter", "resource")
# What people call the columns that matter most.
_MEANT = {
    "subject": ("patient", "case", "person", "participant", "donor", "animal", "subjectid", "id",
                "patientid", "caseid", "pat", "proband", "patnr", "subjectnr"),
    "um_per_px": ("umpx", "umperpixel", "mpp", "pixelsize", "pixelsizeum", "micronsperpixel",
                  "micronperpixel", "resolution", "scale", "mppx", "pxsize"),
    "count": ("crossings", "ienf", "ienfcount", "fibres", "fibers", "nervecount"),
}  # fmt: skip


@dataclass(frozen=True)
class ManifestRow:
    """Cells of one row by column name; ``number`` as in a spreadsheet, where the header is 1."""

    number: int
    cells: dict[str, str]
    separator: str

    def text(self, column: str) -> str | None:
        """Return a cell; None if it is missing, empty, or says that there is no value."""
        cell = self.cells.get(column, "")
        return None if cell.lower() in _NO_VALUE else cell

    def name(self, column: str) -> str | None:
        """Return the name of a subject or group in its plain spelling; None if there is none."""
        return plain_name(self.text(column) or "") or None

    def path(self, column: str) -> str:
        """Return a cell as a path with forward slashes; empty if it has none."""
        cell = self.text(column)
        return PurePosixPath(cell.replace("\\", "/")).as_posix() if cell else ""

    def leaves_folder(self, column: str) -> bool:
        """Return whether a cell's path leads out of the manifest's folder."""
        path = PurePosixPath(self.path(column))
        drive = PureWindowsPath(self.cells[column]).anchor
        return path.is_absolute() or bool(drive) or ".." in path.parts

    @property
    def decimal_comma(self) -> bool:
        """Whether numbers may be written with a comma: it does not separate the cells."""
        return self.separator != ","

    def um_per_px(self) -> float | None:
        """Return the scale; ValueError if the cell is not that of a microscope."""
        cell = self.text("um_per_px")
        return None if cell is None else parse_um_per_px(cell, decimal_comma=self.decimal_comma)


def plain_name(text: str) -> str:
    """Return the name of a subject or group as one spelling of what reads the same.

    Composed and full-width letters, dashes and spaces of all kinds become the plain ones, and
    characters without a width go.
    """
    plain = unicodedata.normalize("NFKC", text)
    letters = [
        "-" if unicodedata.category(sign) == "Pd" or sign == "\u2212" else sign
        for sign in plain
        if unicodedata.category(sign) not in ("Cf", "Cc")
    ]
    return " ".join("".join(letters).split())


def spelling_key(name: str) -> str:
    """Return what two spellings of one name share.

    They may differ in case, in accents, in leading zeros, in a final dot or ".0", in what separates
    letters from a number (``S-01``, ``S 1``) or numbers (``12-3``, ``12_3``), in signs that a
    spreadsheet puts before a number (``'7``, ``="007"``, ``#7``), in O for 0 after a number, and in
    letters of other scripts that look the same.
    """
    plain = plain_name(name).translate(_LOOK_ALIKES).casefold()
    plain = re.sub(r'^=?["\'#]+|["\']+$|\.$', "", plain)
    letters = unicodedata.normalize("NFKD", plain)
    # Accents have classes from 200; the marks of other scripts make other letters.
    plain = "".join(sign for sign in letters if unicodedata.combining(sign) < 200)
    whole = re.sub(r"^([0-9]+)[.,]0+$", r"\1", plain)
    whole = re.sub(r"(?<=[0-9]),(?=[0-9]{3}$)", "", whole)
    whole = re.sub(r"(?<=[0-9])o(?![^\W\d_])", "0", whole)
    joined = re.sub(r"(?<=[^\W\d_])[-_ .]+(?=[0-9])|(?<=[0-9])[-_ .]+(?=[^\W\d_])", "", whole)
    joined = re.sub(r"(?<=[0-9])[-_ .]+(?=[0-9])", "-", joined)
    return re.sub(r"0*([0-9]+)", r"\1", joined)


@dataclass
class ManifestTable:
    """A manifest's rows, the problems with its form, and what a person should know about it."""

    rows: list[ManifestRow]
    problems: list[FileProblem]
    notes: tuple[str, ...] = ()


def read_table(root: Path) -> ManifestTable:
    """Read the manifest in the folder ``root``; nothing is raised."""
    text = _text(root)
    if isinstance(text, FileProblem):
        return ManifestTable([], [text])
    separator, text = _separator(text)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    try:
        table = list(reader)
    except csv.Error as error:
        reason, remedy = f"not a valid CSV table ({error})", "check the quotation marks"
        return ManifestTable([], [_problem(reason, remedy, reader.line_num)])
    names = [cell.strip().lower() for cell in table[0]] if table else []
    problems = _header_problems(names)
    if "image" not in names and (explained := _form_problem(text)):
        problems = [explained]
    if problems:
        return ManifestTable([], problems)
    rows = []
    for number, line in enumerate(table[1:], start=2):
        cells = [cell.strip() for cell in line]
        if any(_swallows_rows(root, cell, separator, len(names)) for cell in line):
            reason = "a quotation mark that is not closed: it joins this row to those below it"
            problems.append(_problem(reason, "delete it, or close it in the same cell", number))
        elif any(cells[len(names) :]):
            reason = f"{len(cells)} cells under {len(names)} columns"
            problems.append(
                _problem(reason, "put quotes around cells that contain the separator", number)
            )
        elif any(cells):
            cells += [""] * (len(names) - len(cells))
            rows.append(ManifestRow(number, dict(zip(names, cells, strict=False)), separator))
    if {row.cells.get("group") for row in rows} >= {"+", "-"}:
        reason = "the groups are + and -, but - means that there is none"
        problems.append(_problem(reason, "write them as words, such as positive and negative"))
    if not rows and not problems:
        problems.append(_problem("no rows below the header", "add one row per image"))
    return ManifestTable(rows, problems, tuple(_notes(names)))


def _swallows_rows(root: Path, cell: str, separator: str, columns: int) -> bool:
    """Whether a cell holds whole rows, as after a quotation mark that somebody typed.

    Such a row names a file; a comment of several lines does not.
    """
    lines = [line for line in cell.split("\n")[1:] if line.count(separator) >= columns - 1 > 0]
    names = (
        part.strip(' "').replace("\\", "/") for line in lines for part in line.split(separator)
    )
    return any(name and _is_file(root / name) for name in names)


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):  # no name for a file
        return False


def _separator(text: str) -> tuple[str, str]:
    """Return what separates the cells, and the table without a line ``sep=;``."""
    first, _, rest = text.partition("\n")
    if first.lower().startswith("sep=") and len(first.strip()) in (4, 5):
        return first[4:5] or "\t", rest
    return max(_SEPARATORS, key=first.count), text


def _form_problem(text: str) -> FileProblem | None:
    """Explain a first row without the column ``image``."""
    lines = text.split("\n")[: _TITLE_ROWS + 1]
    for number, line in enumerate(lines, start=1):
        # A name such as "Image Name" has no say while the usual separators are there.
        usual = any(sign in line for sign in _SEPARATORS)
        for separator in _SEPARATORS if usual else "|:^ ":
            names = [cell.strip(' "').lower() for cell in line.split(separator)]
            if len(names) == 1 or "image" not in names:
                continue
            if separator not in _SEPARATORS:
                remedy = "separate them by commas, semicolons or tabs"
                shown = "spaces" if separator == " " else f"'{separator}'"
                return _problem(f"cells are separated by {shown}", remedy, number)
            if number > 1:
                reason = f"row 1 is not the header; row {number} is"
                return _problem(reason, "delete the rows above it", 1)
    return None


def _notes(names: list[str]) -> list[str]:
    """Say which columns are not used, and that there are no subjects."""
    lines = []
    ignored = [name for name in names if name and name not in COLUMNS]
    for name in ignored:
        plain = "".join(sign for sign in name if sign.isalnum())
        plain = plain.replace("\u00b5", "u").replace("\u03bc", "u")
        for column, words in _MEANT.items():
            if plain in words and column not in names:
                lines.append(
                    f"column '{name}' is ignored: if it is the {column}, rename it to {column}"
                )
    hinted = " ".join(lines)
    others = [f"'{name}'" for name in ignored if f"'{name}'" not in hinted]
    if others:
        lines.append(f"ignored columns: {', '.join(others)}")
    if "subject" not in names:
        lines.append(
            "no column subject: every image counts as a subject of its own, so one person's images "
            "may be both trained on and tested with"
        )
    return lines


def _text(root: Path) -> str | FileProblem:
    path = root / MANIFEST
    try:
        if not root.is_dir():
            return FileProblem(
                None, str(root), "no such folder", "give the folder that contains the manifest"
            )
        if path.name not in os.listdir(root) or not path.is_file():
            return _absent(root)
        data = path.read_bytes()
    except (OSError, ValueError) as error:
        return _problem(f"cannot be read ({error})", "check the path and its permissions")
    for start, what in _OTHER_FILES:
        if data.startswith(start):
            return _problem(what, _SAVE_AGAIN)
    wide = data.startswith((b"\xff\xfe", b"\xfe\xff"))  # spreadsheets call it "Unicode text"
    try:
        text = data.decode("utf-16" if wide else "utf-8-sig")
    except UnicodeDecodeError as error:
        return _problem(f"not UTF-8 text ({error.reason} at byte {error.start})", _SAVE_AGAIN)
    if not text.strip():
        return _problem("empty", "add a header and one row per image")
    if "\0" in text:
        line = text[: text.index("\0")].count("\n") + 1
        reason = f"a NUL character in line {line}: the file is damaged, or not UTF-8 text"
        return _problem(reason, _SAVE_AGAIN)
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _absent(root: Path) -> FileProblem:
    """Return the problem of a folder without a manifest; its name may be written otherwise."""
    for other in other_spellings(os.listdir(root)):
        return _problem(f"missing, but there is {other}", f"rename {other} to {MANIFEST}")
    inside = sorted(path.parent.name for path in root.glob(f"*/{MANIFEST}"))
    if inside:
        return _problem("missing", f"give the folder that holds it, for example {root / inside[0]}")
    return _problem("missing", f"add a table with this name to {root}")


def other_spellings(names: Iterable[str]) -> list[str]:
    """Return the names that a user may have meant as that of the manifest, such as Manifest.csv."""
    close = (MANIFEST, f"{MANIFEST}.csv", f"{MANIFEST}.txt")
    return sorted(name for name in names if name != MANIFEST and name.lower() in close)


def _header_problems(names: list[str]) -> list[FileProblem]:
    problems = []
    missing = [name for name in COLUMNS if name not in names and name not in NOTED]
    for name in sorted({name for name in names if name and names.count(name) > 1}):
        problems.append(_problem(f"column '{name}' appears more than once", "keep one of them", 1))
    for name in names:
        if name in COLUMNS or name == "" or name in _OTHER_WORDS:
            continue
        for meant in difflib.get_close_matches(name, missing, n=1, cutoff=0.8):
            problems.append(_problem(f"unknown column '{name}'", f"rename it to '{meant}'", 1))
    if "image" in missing:
        known = ", ".join(COLUMNS[1:])
        problems.append(
            _problem("column 'image' is missing", f"add it (optional columns: {known})", 1)
        )
    return problems


def _problem(reason: str, remedy: str, row: int | None = None) -> FileProblem:
    return FileProblem(row, MANIFEST, reason, remedy)
