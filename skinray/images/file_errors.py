"""What is wrong with a file of a cohort: which file, the reason, and what to do about it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from skinray.errors import CohortError, ImageError, LabelError, SkinrayError


@dataclass(frozen=True)
class FileProblem:
    """One thing to fix in a cohort.

    Attributes
    ----------
    row : row of the manifest as a spreadsheet numbers it (the header is row 1); None if the
        problem is not in one row.
    file : the file, as the manifest gives it.
    reason : what is wrong.
    remedy : how to fix it.
    """

    row: int | None
    file: str
    reason: str
    remedy: str

    def __str__(self) -> str:
        place = self.file if self.row is None else f"row {self.row}, {self.file}"
        return f"{place}: {self.reason}: {self.remedy}"


class FileError(SkinrayError):
    """A file that cannot be used; the message is ``file: reason: remedy``."""

    def __init__(self, file: str, reason: str, remedy: str) -> None:
        # All three stay in args, so that the error survives pickling between processes.
        super().__init__(file, reason, remedy)
        self.file, self.reason, self.remedy = file, reason, remedy

    def __str__(self) -> str:
        return f"{self.file}: {self.reason}: {self.remedy}"


class UnreadableImageError(FileError, ImageError):
    """An image file that cannot be read safely and completely."""


class UnfitLabelError(FileError, LabelError):
    """A label file that cannot be read, or does not match its image."""


# The remedy for a stack as an image; a stack of labels must not be flattened.
FLATTEN = "flatten it to one RGB image and export that"
ONE_PAGE = "save the mask as a file of one page; with several classes, one file for each"


@contextmanager
def reading_label() -> Iterator[None]:
    """Turn the ImageError of a label file that cannot be read into a LabelError."""
    try:
        yield
    except UnreadableImageError as error:
        remedy = ONE_PAGE if error.remedy == FLATTEN else error.remedy
        raise UnfitLabelError(error.file, error.reason, remedy) from None


def counted(number: int, thing: str) -> str:
    """Return "1 image" or "3 images"."""
    return f"{number} {thing}" if number == 1 else f"{number} {thing}s"


def refuse_problems(folder: Path, problems: Sequence[FileProblem]) -> None:
    """Raise a CohortError that lists every problem; do nothing if there is none."""
    if problems:
        lines = "\n".join(f"  {problem}" for problem in problems)
        raise CohortError(f"{folder}: {counted(len(problems), 'problem')}\n{lines}")
