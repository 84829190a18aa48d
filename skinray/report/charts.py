"""What the charts and pictures of all reports share: colours, style, SVG and JPEG in a page."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass
from typing import Any, Literal

from matplotlib.figure import Figure

# Okabe and Ito's colours, distinct for any colour vision; lines are black.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#6F5BB5")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
INK = "#1b1f24"

# No mathematics in labels: a name with a dollar sign must not break a chart. With the fixed salt,
# equal figures give equal files.
STYLE: Any = {
    "font.size": 10,
    "axes.titlesize": 10.5,
    "axes.titleweight": "bold",
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "text.color": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e3e6ea",
    "axes.axisbelow": True,
    "legend.frameon": False,
    "text.parse_math": False,
    "svg.hashsalt": "skinray",
}


@dataclass(frozen=True)
class Chart:
    """One chart; ``alt`` says in words what it shows, ``svg`` is a complete document."""

    title: str
    alt: str
    caption: str
    svg: str

    @property
    def uri(self) -> str:
        """The chart as a data URI."""
        return "data:image/svg+xml;base64," + base64.b64encode(self.svg.encode()).decode()


def to_svg(figure: Figure) -> str:
    """Render a figure as SVG, text as outlines, without a date. Call it within STYLE."""
    stream = io.StringIO()
    figure.savefig(stream, format="svg", metadata={"Date": None}, bbox_inches="tight")
    return stream.getvalue()


Rank = Literal["Best", "Median", "Worst"]


def ranks(count: int) -> list[tuple[Rank, int]]:
    """Return rank and position of the best, median and worst of ``count``; of fewer, each once."""
    if not count:
        return []
    chosen: dict[int, Rank] = {0: "Best", (count - 1) // 2: "Median", count - 1: "Worst"}
    return [(chosen[place], place) for place in sorted(chosen)]


def jpeg_uri(data: bytes) -> str:
    """Return a JPEG as a data URI."""
    return "data:image/jpeg;base64," + base64.b64encode(data).decode()
