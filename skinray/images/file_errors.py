"""What is wrong with a file of a cohort: where, why, and what to do about it."""

from __future__ import annotations

from dataclasses import dataclass

from skinray.errors import ImageError, LabelError, SkinrayError


@dataclass(frozen=True)
class Problem:
    """One thing to mend in a cohort.

    Attributes
    ----------
    row : row of the manifest as a spreadsheet numbers it (the header is row 1); None: the whole.
    file : the file meant, as the manifest writes it.
    reason : what is wrong.
    remedy : what mends it.
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
        # The three stay in args, so that the error crosses processes (pickle) whole.
        super().__init__(file, reason, remedy)
        self.file, self.reason, self.remedy = file, reason, remedy

    def __str__(self) -> str:
        return f"{self.file}: {self.reason}: {self.remedy}"


class UnreadableImageError(FileError, ImageError):
    """An image file that cannot be read safely and completely."""


class UnfitLabelError(FileError, LabelError):
    """A label file that does not fit its image."""
