"""Tables, and how figures are written in them, in sentences and on charts."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class TableRow:
    """The cells of one row as text; ``kind`` says whose figures they are."""

    cells: tuple[str, ...]
    kind: Literal["run", "main", "paper", "missing", "summary"] = "run"


@dataclass(frozen=True)
class Table:
    """A table for a terminal or a page."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[TableRow, ...]
    notes: tuple[str, ...] = ()


def number(value: float | None, digits: int = 3, sign: bool = False) -> str:
    """Return a figure as text; empty if it is missing or not finite."""
    if value is None or not math.isfinite(value):
        return ""
    shown = round(value, digits) + 0.0  # -0.0 becomes 0.0
    return f"{shown:{'+' if sign and shown else ''}.{digits}f}"


def interval(bounds: tuple[float, float] | None, digits: int = 2) -> str:
    """Return an interval as ``[low, high]``."""
    return "" if bounds is None else f"[{number(bounds[0], digits)}, {number(bounds[1], digits)}]"


def many(count: int, noun: str) -> str:
    """Return a count with its noun: 1 image, 2 images."""
    return f"{grouped(count)} {noun}{'' if count == 1 else 's'}"


def grouped(value: int) -> str:
    """Return a whole number with a thin space between thousands."""
    return f"{value:,}".replace(",", "\u202f")
