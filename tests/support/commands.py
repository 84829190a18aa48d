"""Run the command line in this process; see its output and the files it leaves."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Ended:
    """How a command ended: its exit code and output."""

    code: int
    out: str
    err: str


Command = Callable[..., Ended]


def everything_below(folder: Path) -> set[Path]:
    """Every file and folder: equal before and after, if nothing was written."""
    return set(folder.rglob("*"))
