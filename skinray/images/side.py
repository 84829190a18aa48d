"""On which side of the boundary line the dermis lies, as the manifest writes it."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Literal, cast, get_args

Edge = Literal["top", "bottom", "left", "right"]
_EDGES = get_args(Edge)
_POINT = re.compile(r"\(?\s*(-?[\d.]+)\s*[,; ]\s*(-?[\d.]+)\s*\)?")


@dataclass(frozen=True)
class Side:
    """An edge of the frame, or a point of the dermis: x, y in pixels."""

    edge: Edge | None
    point: tuple[float, float] | None

    def __str__(self) -> str:
        if self.point is None:
            return str(self.edge)
        return f"{self.point[0]:g},{self.point[1]:g}"


def parse_side(text: str) -> Side:
    """Read ``top``, ``bottom``, ``left``, ``right`` or a point ``x,y``; ValueError otherwise."""
    word = text.strip().lower()
    if word in _EDGES:
        return Side(cast(Edge, word), None)
    match = _POINT.fullmatch(word)
    if match is None:
        raise ValueError(f"'{text}' is no side")
    x, y = float(match[1]), float(match[2])
    if not (math.isfinite(x) and math.isfinite(y)):
        raise ValueError(f"'{text}' is no point")
    return Side(None, (x, y))
