"""All that the report of a scored cohort shows, gathered in two passes over its table of images."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from skinray.report.charts import Chart
from skinray.report.cohorts.pictures import Fetch, Nearest, Sheet, Thumbnail
from skinray.report.cohorts.run import CohortRun, read_rows
from skinray.report.cohorts.subjects import Copies
from skinray.report.cohorts.tally import ImageRow, Tally, with_result
from skinray.report.cohorts.words import ON_DRAWINGS, limits, on_training_images

MOST_NAMED = 20
# The key of a row under each rank of the contact sheet; None keeps the row off the sheet.
Ranking = Callable[[ImageRow], Sequence[float] | None]


@dataclass(frozen=True)
class Warned:
    """Images that need review before the results are used.

    Attributes
    ----------
    title, meaning : what was found, and what to do about it.
    images : how many there are; ``names`` are those of the first.
    """

    title: str
    meaning: str
    images: int
    names: Sequence[str]

    @property
    def unnamed(self) -> int:
        """Number of images beyond those named."""
        return max(0, self.images - len(self.names))


class Check:
    """Counts the images that need review for one reason, and keeps the first to name.

    Parameters
    ----------
    title, meaning : see :class:`Warned`.
    holds : whether a row is such an image.
    key : images with a lower key are named first; of equal keys, the earlier one.
    name : how the image is named.
    """

    def __init__(
        self,
        title: str,
        meaning: str,
        holds: Callable[[ImageRow], bool],
        key: Callable[[ImageRow], float] = lambda _: 0,
        name: Callable[[ImageRow], str] = lambda row: str(row["image"]),
    ) -> None:
        self.title, self.meaning = title, meaning
        self._holds, self._key, self._name = holds, key, name
        self._first, self._images = Nearest(MOST_NAMED), 0

    def add(self, row: ImageRow) -> None:
        """Take in a row with a result."""
        if self._holds(row):
            self._images += 1
            self._first.add(self._key(row), row)

    def warned(self) -> Warned:
        """Return what was found."""
        names = [self._name(row) for row in self._first.rows]
        return Warned(self.title, self.meaning, self._images, names)


@dataclass(frozen=True)
class Findings:
    """What a cohort's images of one kind add up to.

    Attributes
    ----------
    answer : what the run found, in a sentence or two.
    exact : the figures for ``report.json``; ``shown`` : what the kind's template needs.
    """

    answer: str
    charts: list[Chart]
    exact: dict[str, Any]
    shown: dict[str, Any]


@dataclass(frozen=True)
class Gathered:
    """All that a page shows, whatever the kind."""

    run: CohortRun
    tally: Tally
    findings: Findings
    warnings: list[Warned]
    caveats: list[str]
    sheet: dict[str, list[Thumbnail]]


class CohortReport(ABC):
    """What the report shows of one kind of image; the subclasses know biopsies or photographs.

    Attributes
    ----------
    template : of the page.
    measured_on : which images a bundle's accuracy was measured on, and what to do for others.
    ranks, order : of the contact sheet, see :class:`Sheet`.
    tally, copies : take in all rows in the first pass; the methods below are called after it.
    """

    template: ClassVar[str]
    measured_on: ClassVar[str]
    ranks: ClassVar[tuple[str, ...]]
    order: ClassVar[tuple[str, ...]]
    tally: Tally
    copies: Copies

    def gather(self, out: Path, run: CohortRun, fetch: Fetch | None = None) -> Gathered:
        """Read the run's table of images twice: the second pass knows the distributions."""
        with self.copies as copies:
            for rows in read_rows(out, run):
                self.tally.add(rows)
                copies.add(rows)
            checks, ranking, sheet = self.checks(), self.ranking(), Sheet(self.ranks, self.order)
            for rows in read_rows(out, run):
                if self.tally.duplicates:
                    copies.look_up(rows)
                for row in with_result(rows):
                    for check in checks:
                        check.add(row)
                    if (keys := ranking(row)) is not None:
                        sheet.add(row, keys)
            warnings = [_of_two_subjects(copies), *(check.warned() for check in checks)]
            return Gathered(
                run=run,
                tally=self.tally,
                findings=self.findings(out),
                warnings=[warned for warned in warnings if warned.images],
                caveats=[
                    *limits(run.bundle, ON_DRAWINGS if run.synthetic else self.measured_on),
                    *on_training_images(self.tally),
                ],
                sheet=sheet.thumbnails(out, self.describe, fetch),
            )

    @abstractmethod
    def checks(self) -> list[Check]:
        """Return what needs review, most important first."""

    @abstractmethod
    def ranking(self) -> Ranking:
        """Return what gives a row its keys on the contact sheet."""

    @abstractmethod
    def describe(self, row: ImageRow) -> str:
        """Say what was found in an image."""

    @abstractmethod
    def findings(self, out: Path) -> Findings:
        """Return what the images add up to, and write this kind's further files into ``out``."""


def _of_two_subjects(copies: Copies) -> Warned:
    images, first = copies.shared(MOST_NAMED)
    return Warned(
        "One image under two subjects",
        "The same file is listed for two subjects: one of the two rows names the wrong person or "
        "the wrong file. Correct the manifest and score again.",
        images,
        [f"{s.image} ({s.subject}) = {s.original} ({s.other_subject})" for s in first],
    )
