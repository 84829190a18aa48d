"""Which images a page shows, and how it holds them without another file."""

from __future__ import annotations

import base64
from typing import Literal

Rank = Literal["Best", "Median", "Worst"]


def ranks(count: int) -> list[tuple[Rank, int]]:
    """Return rank and place of best, median and worst of so many in order; of fewer each once."""
    if not count:
        return []
    chosen: dict[int, Rank] = {0: "Best", (count - 1) // 2: "Median", count - 1: "Worst"}
    return [(chosen[place], place) for place in sorted(chosen)]


def jpeg_uri(data: bytes) -> str:
    """Return a JPEG's bytes as the address of a picture."""
    return "data:image/jpeg;base64," + base64.b64encode(data).decode()
