"""A manifest as a whole: its biopsies, and problems that show only between its rows."""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

from skinray.images.cohort.csv_table import ManifestRow, read_table, spelling_key
from skinray.images.cohort.rows import LABELS, Biopsy, Cohort, RowReader
from skinray.images.file_errors import FileProblem

# O where a number may begin.
_LETTER_O = re.compile(r"(?<=[^\W\d_])o(?=[0-9])")
# Names of nobody.
_NOBODY = ("unknown", "unbekannt", "inconnu", "desconocido", "tbd", "x", "xx", "xxx")


@dataclass(frozen=True)
class Scan:
    """What a manifest holds.

    Attributes
    ----------
    sound : the rows without problems.
    stated : all rows, to check the cohort as a whole; files may be None or missing.
    problems : in the order of rows.
    """

    sound: Cohort
    stated: Cohort
    problems: tuple[FileProblem, ...]


def scan_cohort(root: Path) -> Scan:
    """Read the manifest of ``root`` and check that its files exist; nothing is raised."""
    table = read_table(root)
    rows, problems = table.rows, table.problems
    stated, sound = [], []
    for row in rows:
        reader = RowReader(root, row)
        stated.append(reader.biopsy())
        problems += reader.problems
        if not reader.problems:
            sound.append(stated[-1])
    problems += _repeated_files(rows) + _subjects_of_two_groups(stated) + _spellings(stated)
    problems.sort(key=lambda problem: problem.row or 0)
    notes = (*table.notes, *_groups_spelt_alike(stated), *_rounded(stated))
    return Scan(
        Cohort(root, tuple(sound), notes), Cohort(root, tuple(stated), notes), tuple(problems)
    )


def _spellings(biopsies: list[Biopsy]) -> list[FileProblem]:
    """Find subjects that are probably one person, since their names differ in spelling only."""
    first: dict[str, Biopsy] = {}
    seen: set[str] = set()
    problems = []
    plain = {biopsy.subject.casefold(): biopsy for biopsy in reversed(biopsies)}
    for biopsy in biopsies:
        known = first.setdefault(spelling_key(biopsy.subject), biopsy)
        # C01 and CO1 are one name only if both are there: case and control may be C1 and CO1.
        zero = _LETTER_O.sub("0", biopsy.subject.casefold())
        if zero in plain and zero != biopsy.subject.casefold():
            known = plain[zero]
        if biopsy.subject.casefold() in _NOBODY and known is not biopsy:
            reason = f"subject '{biopsy.subject}', as in row {known.row}: these may be two people"
            remedy = "give each person a name, or each image one if nothing is known"
            problems.append(FileProblem(biopsy.row, biopsy.name, reason, remedy))
            continue
        if biopsy.subject in seen or biopsy.subject == biopsy.name:
            continue
        seen.add(biopsy.subject)
        if known.subject != biopsy.subject:
            reason = (
                f"subject '{biopsy.subject}' and '{known.subject}' of row {known.row} differ in "
                "spelling only"
            )
            remedy = "write one name for one person, and clearly different names for two"
            problems.append(FileProblem(biopsy.row, biopsy.name, reason, remedy))
    return problems


def _groups_spelt_alike(biopsies: list[Biopsy]) -> list[str]:
    """Note groups whose names differ in spelling only."""
    groups: dict[str, set[str]] = defaultdict(set)
    for biopsy in biopsies:
        if biopsy.group is not None:
            groups[spelling_key(biopsy.group)].add(biopsy.group)
    return [
        f"groups {' and '.join(sorted(names))} differ in spelling only, and count as "
        f"{len(names)} groups"
        for names in groups.values()
        if len(names) > 1
    ]


def _rounded(biopsies: list[Biopsy]) -> list[str]:
    """Note numbers that a spreadsheet seems to have rounded to the 15 digits that it keeps."""
    long = dict.fromkeys(b.subject for b in biopsies if re.fullmatch(r"[0-9]{16,}", b.subject))
    if not long or any(subject[15:].strip("0") for subject in long):
        return []
    return [
        f"all subjects of more than 15 digits end in 0, such as {next(iter(long))}: a spreadsheet "
        "keeps 15 digits, so two people may have become one; set the column to text and enter "
        "the numbers again"
    ]


def _repeated_files(rows: list[ManifestRow]) -> list[FileProblem]:
    """Find images listed twice, labels shared by two images, and images named as labels."""
    problems = []
    images = {row.path("image") for row in rows}
    for column in ("image", *LABELS):
        first: dict[str, int] = {}
        for row in rows:
            path = row.path(column)
            if not path:
                continue
            if path in first:
                reason = f"{column} file '{path}' is also in row {first[path]}"
                remedy = "delete one of the rows" if column == "image" else "correct one of them"
                problems.append(FileProblem(row.number, row.cells["image"], reason, remedy))
            elif column != "image" and path in images:
                reason = f"{column} file '{path}' is an image of the cohort, not a label"
                remedy = "enter the file of the label"
                problems.append(FileProblem(row.number, row.cells["image"], reason, remedy))
            first.setdefault(path, row.number)
    for row in rows:
        both = row.path("nerves")
        classes = row.text("nerves_class"), row.text("dermis_class")
        if both and both == row.path("dermis") and classes[0] == classes[1]:
            reason = f"nerves and dermis are the same file, '{both}'"
            remedy = "enter one file each, or the class of each as nerves_class and dermis_class"
            problems.append(FileProblem(row.number, row.cells["image"], reason, remedy))
    return problems


def _subjects_of_two_groups(biopsies: list[Biopsy]) -> list[FileProblem]:
    groups: dict[str, dict[str, Biopsy]] = defaultdict(dict)
    for biopsy in biopsies:
        groups[biopsy.subject].setdefault(biopsy.group or "(none)", biopsy)
    return [
        FileProblem(
            list(seen.values())[1].row,
            list(seen.values())[1].name,
            f"subject {subject} is in several groups ({', '.join(seen)})",
            "give the subject one group",
        )
        for subject, seen in groups.items()
        if len(seen) > 1
    ]
