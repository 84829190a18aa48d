"""Labels from another folder, merged into a cohort: files are added, never overwritten.

Images are matched by their file or their pixels, subjects by name. All problems are found before
anything is written, the new table appears whole, and the former one is kept beside it.
"""

from __future__ import annotations

import csv
import io
import shutil
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath

from skinray.config.images import ReadSettings
from skinray.errors import CohortError
from skinray.files import sha256_of, whole, write_whole
from skinray.images.cohort.csv_table import COLUMNS, MANIFEST, spelling_key
from skinray.images.cohort.rows import LABELS, Biopsy
from skinray.images.cohort.twins import (
    CohortRow,
    cohort_rows,
    image_marks,
    one_scale,
)
from skinray.images.file_errors import FileProblem, counted, refuse_problems

# What a newer label brings along; the image itself, its subject and its group stay.
OF_LABEL = (*LABELS, *(f"{label}_class" for label in LABELS), "dermis_side", *COLUMNS[-5:])
COUNTS = ("count", "second_count")


@dataclass
class Merged:
    """What a merge did, in images.

    Attributes
    ----------
    folder : of the merged cohort.
    added : the subject of each new image; ``new`` are subjects that the cohort did not have.
    replaced, unchanged : images that now have a newer label, or that had the same label already.
    refused : names of images that keep the cohort's label, since the other is not newer.
    former : the table as it was; None: the cohort itself was not changed.
    """

    folder: Path
    added: list[str] = field(default_factory=list)
    new: set[str] = field(default_factory=set)
    replaced: int = 0
    unchanged: int = 0
    refused: list[str] = field(default_factory=list)
    former: Path | None = None

    def text(self) -> str:
        """Return the summary in lines."""
        lines = [
            f"{self.folder}:",
            f"  added: {counted(len(self.added), 'image')} of "
            f"{counted(len(set(self.added)), 'subject')}, {len(self.new)} of them new",
            f"  replaced: {counted(self.replaced, 'label')}",
            f"  refused: {counted(len(self.refused), 'label')}"
            + ", not newer than the cohort's" * bool(self.refused),
            *(f"    {name}" for name in self.refused),
        ]
        if self.unchanged:
            lines.append(f"  already there: {counted(self.unchanged, 'image')} with the same label")
        if self.former is not None:
            lines.append(f"The former table is kept as {self.former}.")
        return "\n".join(lines)


def merge_labels(
    labels: Path,
    into: Path,
    out: Path | None = None,
    *,
    take_newer: bool = False,
    read: ReadSettings | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Merged:
    """Merge a folder of labels into a cohort, or with ``out`` into a copy of it.

    Parameters
    ----------
    labels : a cohort folder, for example one that the service's ``--labels`` wrote.
    into : the cohort.
    out : new or empty folder for the merged cohort; None: ``into`` itself grows.
    take_newer : where both have the same image, take the newer label; else that is a problem.
    progress : called with the images read and their total.

    Raises
    ------
    SkinrayError
        With every problem: the same image with another label, a subject in two groups or two
        spellings, an image under two subjects or at two scales. Nothing is written then.
    """
    if labels.resolve() == into.resolve():
        raise CohortError(f"{labels}: is the cohort itself: give another folder of labels")
    if out is not None and out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise CohortError(f"{out}: is not empty: choose a new folder for the merged cohort")
    merge = _Merge(labels, into, out or into, take_newer)
    merge.plan(read or ReadSettings(), progress)
    refuse_problems(labels, merge.problems)
    done = merge.done
    if out is not None:
        _copy((into / name, out / name) for name in merge.kept_files())
    _copy((labels / name, done.folder / new) for new, name in merge.files.items())
    if out is None and (done.added or done.replaced):
        done.former = _keep_former(into)
    if out is not None or done.former is not None:
        write_whole(done.folder / MANIFEST, merge.table())
    return done


class _Merge:
    """Takes in the labels row by row; notes what is to be copied, and writes nothing."""

    def __init__(self, labels: Path, into: Path, folder: Path, take_newer: bool) -> None:
        (self.own, self.separator), (self.others, _) = cohort_rows(into), cohort_rows(labels)
        self.into, self.take_newer = into, take_newer
        self.before = list(self.own)
        first_last = reversed(self.own)  # so that messages name a subject's first row
        self.subjects = {spelling_key(row.biopsy.subject): row.biopsy for row in first_last}
        self.taken = {name for row in self.own for name in (row.biopsy.name, *row.labels.values())}
        self.files: dict[str, str] = {}  # of the labels, by their new names
        self.problems: list[FileProblem] = []
        self.done = Merged(folder)

    def plan(self, read: ReadSettings, progress: Callable[[int, int], None] | None) -> None:
        """Take in every row of the labels."""
        here: dict[str, CohortRow] = {}
        there: dict[str, CohortRow] = {}
        rows = [*self.own, *self.others]
        for done, row in enumerate(rows, 1):
            marks = image_marks(row.biopsy, read)
            if done <= len(self.before):
                here |= dict.fromkeys(marks, row)
            elif again := next((there[mark] for mark in marks if mark in there), None):
                self._refuse(row, f"the same image as {again}", "keep one of the two rows")
            elif twin := next((here[mark] for mark in marks if mark in here), None):
                self._meet(row, twin)
            else:
                self._add(row)
            if done > len(self.before):
                there |= dict.fromkeys(marks, row)
            if progress is not None:
                progress(done, len(rows))

    def kept_files(self) -> Iterator[str]:
        """Yield the cohort's own files that the merged table still names."""
        for row in self.before:
            yield row.biopsy.name
            yield from () if row.relabelled else row.labels.values()

    def table(self) -> bytes:
        """Return the merged table in the form of the cohort's own."""
        columns = list(dict.fromkeys(name for row in self.before for name in row.cells))
        more = dict.fromkeys(n for row in self.own for n, cell in row.cells.items() if cell)
        columns += [name for name in more if name not in columns]
        text = io.StringIO(newline="")
        writer = csv.writer(text, delimiter=self.separator, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows([row.cells.get(name, "") for name in columns] for row in self.own)
        former = (self.into / MANIFEST).read_bytes()
        marked = former.startswith((b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff"))
        return text.getvalue().encode("utf-8-sig" if marked else "utf-8")

    def _refuse(self, row: CohortRow, reason: str, remedy: str) -> None:
        self.problems.append(FileProblem(row.biopsy.row, row.biopsy.name, reason, remedy))

    def _add(self, row: CohortRow) -> None:
        """Take in a new image with its subject and group."""
        image = self._placed(row, row.biopsy.name)
        alone = row.biopsy.subject == row.biopsy.name
        subject = image if alone else self._subject(row)
        known = self.subjects.get(spelling_key(subject))
        group = row.biopsy.group or (known.group if known else None)
        if known is not None and group != known.group:
            self._refuse(
                row,
                f"subject {subject} is in group {group}, but in {known.group or 'none'} in the "
                f"cohort (row {known.row}, {known.name})",
                "give the subject one group",
            )
        if known is None:
            self.subjects[spelling_key(subject)] = replace(row.biopsy, subject=subject, group=group)
            self.done.new.add(subject)
        cells = row.cells | {"image": image, "subject": subject, "group": group or ""}
        cells |= {"um_per_px": self._scale(row.biopsy)}
        cells |= {column: self._placed(row, name) for column, name in row.labels.items()}
        self.own.append(CohortRow(row.root, cells, row.biopsy))
        self.done.added.append(subject)

    def _meet(self, row: CohortRow, twin: CohortRow) -> None:
        """Take in an image that the cohort has already."""
        mine, theirs = row.biopsy, twin.biopsy
        if row.has_label_of(twin):
            self.done.unchanged += 1
        elif not self.take_newer:
            self._refuse(
                row,
                f"the cohort has the same image with another label ({twin})",
                "add --replace to take the newer label, or delete one of the rows",
            )
        elif mine.subject not in (mine.name, theirs.subject):
            reason = f"of subject {mine.subject}, but of {theirs.subject} in the cohort ({twin})"
            self._refuse(row, reason, "correct one of them")
        elif not one_scale(mine.um_per_px, theirs.um_per_px):
            reason = f"{mine.um_per_px} um per pixel, but {theirs.um_per_px} in the cohort ({twin})"
            self._refuse(row, reason, "correct one of them")
        elif not row.is_newer_than(twin):
            self.done.refused.append(f"{mine.name} (in the cohort: {theirs.name})")
        else:
            cells = {name: row.cells.get(name, "") for name in OF_LABEL}
            cells |= {column: self._placed(row, name) for column, name in row.labels.items()}
            # A label without a count says nothing against the count of an expert.
            cells |= {name: row.cells[name] for name in COUNTS if row.cells.get(name)}
            if theirs.um_per_px is None:
                cells["um_per_px"] = self._scale(mine)
            twin.cells |= cells
            twin.relabelled = True
            self.done.replaced += 1

    def _subject(self, row: CohortRow) -> str:
        """Return the subject as the cohort spells it."""
        name = row.biopsy.subject
        known = self.subjects.get(spelling_key(name))
        if known is None:
            return name
        if name != known.subject:
            self._refuse(
                row,
                f"subject '{name}' differs from '{known.subject}' (row {known.row}, {known.name}) "
                "in spelling only",
                "write both the same way if they are one person; otherwise rename one",
            )
        return known.subject

    def _placed(self, row: CohortRow, name: str) -> str:
        """Plan to copy a file under a name that no row and no other file has; return that name."""
        path, free, number = PurePosixPath(name), name, 1
        while free in self.taken or not _fits(row.root / name, self.into / free):
            number += 1
            free = path.with_name(f"{path.stem}-{number}{path.suffix}").as_posix()
        self.taken.add(free)
        self.files[free] = name
        return free

    def _scale(self, biopsy: Biopsy) -> str:
        """Return the scale as the cohort's table writes numbers."""
        text = "" if biopsy.um_per_px is None else repr(biopsy.um_per_px)
        return text if self.separator == "," else text.replace(".", ",")


def _fits(source: Path, target: Path) -> bool:
    """Whether a file can have that name: it is free, or an interrupted merge left the same file."""
    if not target.exists():
        return True
    return target.is_file() and sha256_of(target) == sha256_of(source)


def _keep_former(root: Path) -> Path:
    """Copy the table to a free name: ``manifest.csv.before``, then ``manifest.csv.before-2`` …."""
    path, number = root / f"{MANIFEST}.before", 1
    while path.exists():
        number += 1
        path = root / f"{MANIFEST}.before-{number}"
    _copy([(root / MANIFEST, path)])
    return path


def _copy(files: Iterable[tuple[Path, Path]]) -> None:
    """Copy files that are not there yet; each appears whole."""
    for source, target in files:
        target.parent.mkdir(parents=True, exist_ok=True)
        if not target.exists():
            with whole(target) as part:
                shutil.copyfile(source, part)
