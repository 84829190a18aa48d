"""Figures of a scored cohort, gathered batch by batch in accumulators of fixed size."""

from __future__ import annotations

import math
import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

Row = Mapping[str, Any]
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
        """Take in further values, (N,)."""
        if not values.size:
            return
        mean, n = float(values.mean()), self.n + values.size
        apart = mean - self.mean
        self.squares += float(((values - mean) ** 2).sum()) + apart**2 * self.n * values.size / n
        self.mean += apart * values.size / n
        self.n = n
        self.low, self.high = (
            min(self.low, values.min().item()),
            max(self.high, values.max().item()),
        )

    @property
    def sd(self) -> float | None:
        """Standard deviation over the sample; None of fewer than two values."""
        return math.sqrt(self.squares / (self.n - 1)) if self.n > 1 else None


class Histogram:
    """How often values at or above 0 fall into equal bins, as many bins for any range.

    Where a value lies beyond the last bin, bins are joined in pairs until it does not: the
    order in which values come changes nothing.

    Attributes
    ----------
    width : of a bin. Bin i holds i * width <= value < (i + 1) * width.
    """

    def __init__(self, width: float, bins: int = BINS) -> None:
        self.width = width
        self.times = np.zeros(bins, np.int64)

    def add(self, values: NDArray[np.float64]) -> None:
        """Take in further values, (N,), finite and at or above 0."""
        if not values.size:
            return
        while values.max() >= self.width * len(self.times):
            pairs = self.times.reshape(-1, 2).sum(axis=1)
            self.times = np.concatenate([pairs, np.zeros_like(pairs)])
            self.width *= 2
        self.times += np.bincount((values / self.width).astype(np.int64), minlength=len(self.times))

    @property
    def n(self) -> int:
        """Number of values."""
        return int(self.times.sum())

    def quantile(self, share: float) -> float | None:
        """Return the lower edge of the bin that holds the value at ``share``; None of no values.

        It is the value itself where values are whole numbers and bins are 1 wide.
        """
        if not self.n:
            return None
        rank = min(self.n, max(1, math.ceil(share * self.n)))
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
    """Failed images by reason; beyond a number of reasons, further ones share a line."""

    table: str = "counts"
    by_reason: dict[str, Reason] = field(default_factory=dict)

    def add(self, image: str, error: str) -> None:
        """Take in a failed image and its message, ``file: reason: remedy``."""
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
        """The reasons, the most frequent first."""
        return sorted(self.by_reason.values(), key=lambda reason: -reason.images)


@dataclass
class Tally(ABC):
    """What a cohort adds up to, whatever was looked for.

    An image whose bytes came before under another name is a duplicate: it is scored or failed
    as that one, and left out of every figure of results.

    Attributes
    ----------
    images : rows; ``scored`` and ``failed`` add up to it. ``duplicates`` are among them.
    """

    table: str = "counts"
    images: int = 0
    scored: int = 0
    failed: int = 0
    duplicates: int = 0
    failures: Failures = field(init=False)

    def __post_init__(self) -> None:
        self.failures = Failures(self.table)

    def add(self, rows: Iterable[Row]) -> None:
        """Take in a batch of rows of the table of images."""
        scored = []
        for row in rows:
            self.images += 1
            self.duplicates += bool(row["duplicate_of"])
            if row["status"] != "ok":
                self.failed += 1
                self.failures.add(row["image"], row["error"] or "no reason was noted")
                continue
            self.scored += 1
            if not row["duplicate_of"]:
                scored.append(row)
        self._add_results(scored)

    @abstractmethod
    def _add_results(self, rows: list[Row]) -> None:
        """Take in scored images that are no duplicates."""


def split_error(image: str, error: str) -> tuple[str, str]:
    """Take ``file: reason: remedy`` apart; a message of another form is all reason."""
    text = " ".join(error.split())
    name = image.replace("\\", "/").rpartition("/")[2]
    _, found, rest = text.partition(f"{name}: ")
    text = rest if found else text
    reason, colon, remedy = text.rpartition(": ")
    return (reason, remedy) if colon else (text, "")
