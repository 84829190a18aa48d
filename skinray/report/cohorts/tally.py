"""Figures of a scored cohort, added up batch by batch in memory of a fixed size."""

from __future__ import annotations

import math
import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skinray.learning.bundle.info import IN_TRAINING

# A row of the run's table of images.
ImageRow = Mapping[str, Any]
BINS = 4096
MOST_REASONS, EXAMPLES = 200, 3
ELSE = "other reasons"


@dataclass
class Moments:
    """Number, mean, spread and range of values that are seen once (Chan's merging)."""

    n: int = 0
    mean: float = 0.0
    squares: float = 0.0
    low: float = math.inf
    high: float = -math.inf

    def add(self, values: NDArray[np.float64]) -> None:
        """Add values, (N,)."""
        if not values.size:
            return
        mean, n = float(values.mean()), self.n + values.size
        apart = mean - self.mean
        self.squares += float(((values - mean) ** 2).sum()) + apart**2 * self.n * values.size / n
        self.mean += apart * values.size / n
        self.n = n
        self.low = min(self.low, values.min().item())
        self.high = max(self.high, values.max().item())

    @property
    def sd(self) -> float | None:
        """Sample standard deviation; None with fewer than two values."""
        return math.sqrt(self.squares / (self.n - 1)) if self.n > 1 else None

    def summary(self) -> dict[str, float | int | None]:
        """Return the figures for ``report.json``; None where there are no values."""
        if not self.n:
            return {"n": 0, "mean": None, "sd": None, "lowest": None, "highest": None}
        ends = {"lowest": self.low, "highest": self.high}
        return {"n": self.n, "mean": self.mean, "sd": self.sd, **ends}


class Histogram:
    """How often values of 0 or more fall into equal bins; the number of bins is fixed.

    When a value is beyond the last bin, bins are joined in pairs until it fits. The order of the
    values makes no difference.

    Attributes
    ----------
    width : of a bin. Bin i holds i * width <= value < (i + 1) * width.
    """

    def __init__(self, width: float, bins: int = BINS) -> None:
        self.width = width
        self.times = np.zeros(bins, np.int64)

    def add(self, values: NDArray[np.float64]) -> None:
        """Add values, (N,), finite and 0 or more."""
        if not values.size:
            return
        while values.max() >= self.width * len(self.times):
            pairs = self.times.reshape(-1, 2).sum(axis=1)
            self.times = np.concatenate([pairs, np.zeros_like(pairs)])
            self.width *= 2
        self.times += np.bincount((values / self.width).astype(np.int64), minlength=len(self.times))

    def quantile(self, share: float) -> float | None:
        """Return the lower edge of the bin that holds the value at ``share``; None if empty.

        This is the value itself for whole numbers in bins of width 1.
        """
        values = int(self.times.sum())
        if not values:
            return None
        rank = min(values, max(1, math.ceil(share * values)))
        return float(np.searchsorted(np.cumsum(self.times), rank)) * self.width


@dataclass
class Reason:
    """Images that failed for one reason: how many, the first few, and what to do."""

    reason: str
    remedy: str
    images: int = 0
    examples: list[str] = field(default_factory=list)


@dataclass
class Failures:
    """Failed images by reason; after ``MOST_REASONS``, new reasons share one entry."""

    table: str = "counts"
    by_reason: dict[str, Reason] = field(default_factory=dict)

    def add(self, image: str, error: str) -> None:
        """Add a failed image and its message, ``file: reason: remedy``."""
        reason, remedy = split_error(image, error)
        key = re.sub(r"\d+", "#", reason)
        if key not in self.by_reason and len(self.by_reason) >= MOST_REASONS:
            key, reason, remedy = ELSE, ELSE, f"see the column error of {self.table}.csv"
        found = self.by_reason.setdefault(key, Reason(reason, remedy))
        found.images += 1
        if len(found.examples) < EXAMPLES:
            found.examples.append(image)

    @property
    def most_first(self) -> list[Reason]:
        """The reasons, most frequent first."""
        return sorted(self.by_reason.values(), key=lambda reason: -reason.images)


@dataclass
class Tally(ABC):
    """What a cohort adds up to; a subclass adds the figures of its kind.

    A duplicate has the same bytes as an earlier image. It has that image's result or failure and
    is left out of every figure of results.

    Attributes
    ----------
    images : rows, ``scored`` plus ``failed``; ``duplicates`` are among them.
    trained_on : scored images that were in the bundle's training set; duplicates are among them.
    """

    table: str = "counts"
    images: int = 0
    scored: int = 0
    failed: int = 0
    duplicates: int = 0
    trained_on: int = 0
    failures: Failures = field(init=False)

    def __post_init__(self) -> None:
        self.failures = Failures(self.table)

    def add(self, rows: Iterable[ImageRow]) -> None:
        """Add a batch of rows of the table of images."""
        rows = list(rows)
        self.images += len(rows)
        self.duplicates += sum(bool(row["duplicate_of"]) for row in rows)
        for row in rows:
            self.trained_on += row["status"] == "ok" and IN_TRAINING in (row["note"] or "")
            if row["status"] != "ok":
                self.failed += 1
                self.failures.add(row["image"], row["error"] or "no reason was noted")
        self.scored = self.images - self.failed
        self._add_results(list(with_result(rows)))

    @abstractmethod
    def _add_results(self, rows: list[ImageRow]) -> None:
        """Add scored images that are not duplicates."""


def with_result(rows: Iterable[ImageRow]) -> Iterator[ImageRow]:
    """Yield the rows of scored images, without duplicates."""
    return (row for row in rows if row["status"] == "ok" and not row["duplicate_of"])


def column(rows: Iterable[ImageRow], name: str) -> NDArray[np.float64]:
    """Return the values of a column that are known, (N,)."""
    return np.array([row[name] for row in rows if row[name] is not None], np.float64)


def split_error(image: str, error: str) -> tuple[str, str]:
    """Split ``file: reason: remedy``; a message of another form is all reason."""
    text = " ".join(error.split())
    name = image.replace("\\", "/").rpartition("/")[2]
    _, found, rest = text.partition(f"{name}: ")
    text = rest if found else text
    reason, colon, remedy = text.rpartition(": ")
    return (reason, remedy) if colon else (text, "")
