"""Every problem of a labelled cohort in one list, before any training starts."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from skinray.config.biopsies import FoldSettings
from skinray.config.images import ReadSettings
from skinray.errors import CohortError, SkinrayError
from skinray.images.cohort.csv_table import MANIFEST
from skinray.images.cohort.folds import assign_folds
from skinray.images.cohort.manifest import load_dermis, load_nerves, read_manifest
from skinray.images.cohort.plausible import (
    Count,
    Trace,
    cohort_notes,
    is_line,
    is_noise,
    trace_of,
    twins_of_two_subjects,
    understood,
)
from skinray.images.cohort.rows import Biopsy, Cohort
from skinray.images.cohort.scan import scan_cohort
from skinray.images.file_errors import FileError, FileProblem, counted, refuse_problems
from skinray.images.read import read_image

Label = Literal["nerves", "dermis"]

_MIN_DERMIS_SHARE = 0.001
# Tracings of lines cover a few percent.
_MAX_NERVE_SHARE = 0.2
# Dice of a dermis mask with the side of the boundary line in the same row.
_LEAST_AGREEMENT = 0.8


@dataclass
class CheckReport:
    """What a check understood of a cohort, for the person who started it.

    ``count``: counts the crossings of labels, to compare them with the expert's.
    """

    count: Count | None = None
    traces: list[Trace] = field(default_factory=list)

    def text(self) -> str:
        """Return a few lines to compare with what one knows of the cohort."""
        return "\n".join(f"  {line}" for line in understood(self.traces))

    def notes(self) -> list[str]:
        """Return what a person should look at."""
        return cohort_notes(self.traces)


def check_cohort(
    root: Path,
    read: ReadSettings,
    folds: FoldSettings,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
    report: CheckReport | None = None,
) -> list[FileProblem]:
    """Read the table, every image and every label of a cohort, and list every problem found.

    Parameters
    ----------
    root : folder with ``manifest.csv``.
    read, folds, seed : the settings that a training would use.
    progress : called with the images done and their total.
    report : takes what was understood of the images.

    Returns problems in the order of the rows, after those of the cohort as a whole; empty if it
    can be trained on. Nothing is raised.
    """
    scan = scan_cohort(root)
    problems = list(scan.problems)
    seen = _Seen()
    count = None if report is None else report.count
    copies = seen.copies
    absent = _absent_columns(scan.stated)
    problems += absent.values()
    for done, biopsy in enumerate(scan.sound.biopsies, start=1):
        problems += _file_problems(biopsy, root, read, seen, tuple(absent), count)
        if progress is not None:
            progress(done, len(scan.sound.biopsies))
    problems += seen.problems()
    problems += twins_of_two_subjects(
        seen.traces, {biopsy.row for same in copies.values() for biopsy in same[1:]}
    )
    if report is not None:
        report.traces = seen.traces
    problems += [problem for same in copies.values() for problem in _copy_problems(same)]
    problems += _fold_problems(scan.stated, folds, seed)
    return sorted(problems, key=lambda problem: problem.row or 0)


def checked_cohort(
    root: Path,
    read: ReadSettings,
    folds: FoldSettings,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
    report: CheckReport | None = None,
) -> Cohort:
    """Return a cohort without problems (see :func:`check_cohort`), with its scales.

    Raises CohortError with every problem: row, file, reason, remedy.
    """
    refuse_problems(root, check_cohort(root, read, folds, seed, progress, report))
    cohort = read_manifest(root)
    return replace(cohort, biopsies=tuple(_scaled(biopsy, read) for biopsy in cohort.biopsies))


def _scaled(biopsy: Biopsy, read: ReadSettings) -> Biopsy:
    """Fill in the scale from the image file if the manifest has none."""
    if biopsy.um_per_px is not None:
        return biopsy
    return replace(biopsy, um_per_px=read_image(biopsy.image, biopsy.reading(read)).um_per_px)


def remarks(cohort: Cohort, folds: FoldSettings) -> list[str]:
    """Return notes that do not prevent a training but matter for its result."""
    subjects: dict[str, set[str]] = defaultdict(set)
    for biopsy in cohort.scored:
        if biopsy.group is not None:
            subjects[biopsy.group].add(biopsy.subject)
    lines = [
        f"group {group} has {counted(len(names), 'subject')}: some of the {folds.count} folds "
        "will not contain it"
        for group, names in sorted(subjects.items())
        if len(names) < folds.count and folds.unit == "subject"
    ]
    lines += [*cohort.notes, *on_sources(cohort)]
    if cohort.synthetic:
        lines.append("skinray drew every image: no result says anything about a patient's tissue")
    without = sum(biopsy.count is None for biopsy in cohort.scored)
    if without:
        lines.append(
            f"{counted(without, 'image')} without an expert's count: the crossings of the labels "
            "are used instead"
        )
    return lines


def on_sources(cohort: Cohort) -> list[str]:
    """Say how many labels a model had a part in, and how many images skinray drew, if not all."""
    images, alone = len(cohort.biopsies), cohort.of("model")
    lines = []
    if predrawn := cohort.of("corrected", "model"):
        lines.append(
            f"{predrawn} of {counted(images, 'label')} were pre-drawn by a model: "
            f"{predrawn - alone} then corrected or reviewed by a person, {alone} not"
        )
    if predrawn > alone:
        lines.append(
            "a corrected label resembles what the model drew, so agreement with it may look better "
            "than with a label drawn from nothing"
        )
    if alone:
        lines.append(
            "labels by a model alone are trained on; they are never held out, scored or used to "
            "choose settings"
        )
    drawn = cohort.of("phantom")
    if 0 < drawn < images:
        lines.append(
            f"{drawn} of {counted(images, 'image')} were drawn by skinray; every figure mixes them "
            "with the others"
        )
    return lines


def _absent_columns(stated: Cohort) -> dict[Label, FileProblem]:
    """Return one problem, not one per row, for a label that no row has."""
    found: dict[Label, FileProblem] = {}
    if stated.biopsies and all(biopsy.nerves is None for biopsy in stated.biopsies):
        remedy = "add a column nerves with the tracing of each image"
        found["nerves"] = FileProblem(None, MANIFEST, "no image has a nerve label", remedy)
    if stated.biopsies and all(b.dermis is None and b.boundary is None for b in stated.biopsies):
        reason = "no image has a dermis mask or a boundary line"
        remedy = "add a column dermis, or columns boundary and dermis_side"
        found["dermis"] = FileProblem(None, MANIFEST, reason, remedy)
    return found


@dataclass
class _Seen:
    """What the images and labels of a cohort show only together.

    Attributes
    ----------
    copies : the biopsies of each content of an image file.
    traced : whether each readable nerve label marks anything.
    traces : what is kept of each readable image.
    """

    copies: dict[str, list[Biopsy]] = field(default_factory=lambda: defaultdict(list))
    traced: list[bool] = field(default_factory=list)
    traces: list[Trace] = field(default_factory=list)

    def problems(self) -> Iterator[FileProblem]:
        """Yield the problems of the cohort as a whole."""
        if self.traced and not any(self.traced):
            reason = "no nerve label marks a single pixel"
            yield FileProblem(None, MANIFEST, reason, "export the tracings again")


def _file_problems(
    biopsy: Biopsy,
    root: Path,
    read: ReadSettings,
    seen: _Seen,
    absent: tuple[Label, ...],
    count: Count | None,
) -> Iterator[FileProblem]:
    """Read one image and its labels."""
    try:
        image = read_image(biopsy.image, biopsy.reading(read))
    except Exception as error:  # any file must be reported, whatever it does to a decoder
        yield _problem_of(biopsy, root, error)
        return
    pixels = image.pixels
    seen.copies[hashlib.sha256(pixels.data).hexdigest()].append(biopsy)
    shape = (pixels.shape[0], pixels.shape[1])
    loaders: dict[Label, Callable[[Biopsy, tuple[int, int], ReadSettings], NDArray[np.bool_]]]
    loaders = {"nerves": load_nerves, "dermis": load_dermis}
    masks: dict[Label, NDArray[np.bool_]] = {}
    for label, load in loaders.items():
        if label in absent:
            continue
        try:
            mask = load(biopsy, shape, read)
        except Exception as error:
            yield _problem_of(biopsy, root, error)
        else:
            masks[label] = mask
            if label == "nerves":
                seen.traced.append(bool(mask.any()))
            yield from _mask_problems(biopsy, label, mask)
    nerves, dermis = masks.get("nerves"), masks.get("dermis")
    if dermis is not None:
        yield from _boundary_problems(biopsy, dermis, read)
    seen.traces.append(trace_of(biopsy, image, nerves, dermis, count))


def _boundary_problems(
    biopsy: Biopsy, dermis: NDArray[np.bool_], read: ReadSettings
) -> Iterator[FileProblem]:
    """Compare a dermis mask with the boundary line and the side in its row."""
    if biopsy.dermis is None or biopsy.boundary is None or biopsy.dermis_side is None:
        return
    try:
        other = load_dermis(replace(biopsy, dermis=None), dermis.shape, read)
    except SkinrayError as error:
        reason = f"the dermis mask is used, but the boundary line cannot be read ({error})"
        yield FileProblem(biopsy.row, biopsy.name, reason, "correct or empty the cell boundary")
        return
    agreement = 2 * float((dermis & other).sum()) / max(1.0, float(dermis.sum() + other.sum()))
    if agreement < _LEAST_AGREEMENT:
        yield FileProblem(
            biopsy.row, biopsy.name,
            f"the dermis mask and the side '{biopsy.dermis_side}' of the boundary line contradict "
            f"each other (Dice {agreement:.2f})",
            "correct the mask, the line or dermis_side, or empty the cells of one of them",
        )  # fmt: skip


def _mask_problems(biopsy: Biopsy, label: Label, mask: NDArray[np.bool_]) -> Iterator[FileProblem]:
    """Check the share of the image that a mask covers, and that lines are lines."""
    share = float(mask.mean())

    def problem(reason: str, remedy: str) -> FileProblem:
        return FileProblem(biopsy.row, biopsy.name, reason, remedy)

    if label == "nerves":
        if share == 0 and (biopsy.count or 0) > 0:
            reason = f"empty nerve label, but the expert counted {biopsy.count}"
            yield problem(reason, "export the tracing again, or correct the count")
        if share > _MAX_NERVE_SHARE:
            reason = f"nerve label covers {share:.0%} of the image; lines cover a few percent"
            yield problem(reason, "invert it, or enter the tracing: this may be another label")
        elif is_noise(mask):
            reason = "the nerve label is many specks, not lines"
            yield problem(reason, "export the tracing, not a thresholded image")
    elif share > 0 and is_line(mask):
        reason = "the dermis label is a line, not an area"
        yield problem(reason, "enter it in the column boundary with dermis_side, or fill it")
    elif not _MIN_DERMIS_SHARE <= share <= 1 - _MIN_DERMIS_SHARE:
        reason = f"dermis covers {share:.1%} of the image, so there is no boundary"
        yield problem(reason, "draw the dermis, or remove the image")


def _problem_of(biopsy: Biopsy, root: Path, error: Exception) -> FileProblem:
    if isinstance(error, FileError):
        file, reason, remedy = error.file, error.reason, error.remedy
        with suppress(ValueError):  # not a path below the cohort
            file = Path(file).relative_to(root).as_posix()
        return FileProblem(biopsy.row, file, reason, remedy)
    kind = "" if isinstance(error, SkinrayError) else f"{type(error).__name__}: "
    return FileProblem(biopsy.row, biopsy.name, f"{kind}{error}", "export the file again")


def _copy_problems(same: list[Biopsy]) -> Iterator[FileProblem]:
    """Report images with equal pixels: in training and test, they would inflate the result."""
    first = same[0]
    for copy in same[1:]:
        subjects = ", of another subject" if copy.subject != first.subject else ""
        reason = f"same pixels as row {first.row}, {first.name}{subjects}"
        remedy = "keep one of them, or replace the wrong file"
        yield FileProblem(copy.row, copy.name, reason, remedy)


def _fold_problems(stated: Cohort, folds: FoldSettings, seed: int) -> list[FileProblem]:
    """Check whether all rows, faulty ones included, can fill the folds: most will be corrected."""
    if not stated.biopsies:
        return []
    try:
        assign_folds(stated, folds, seed)
    except CohortError as error:
        reason, _, remedy = str(error).removeprefix(f"{stated.root}: ").partition(": ")
        return [FileProblem(None, MANIFEST, reason, remedy)]
    return []
