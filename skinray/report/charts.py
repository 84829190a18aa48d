"""Charts of the counts, as SVG: scatter fold by fold, and Bland and Altman's plot."""

from __future__ import annotations

import base64
import io
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import MaxNLocator

from skinray.report.biopsies.agreement import Agreement
from skinray.report.biopsies.results import CountRow
from skinray.report.biopsies.scores import Scores
from skinray.report.biopsies.tables import interval, number

# Okabe and Ito's colours, told apart with any colour vision; black stays for the lines.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#6F5BB5")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
INK = "#1b1f24"
MOST_PANELS = 12

# No mathematics in labels: a name with a dollar sign must not break a chart. The fixed salt
# makes equal figures equal files.
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
    """One chart: its title, what it shows in words, and the picture.

    Attributes
    ----------
    svg : a complete SVG document, with no reference to anything outside it.
    """

    title: str
    alt: str
    caption: str
    svg: str

    @property
    def uri(self) -> str:
        """The picture as a data URI."""
        return "data:image/svg+xml;base64," + base64.b64encode(self.svg.encode()).decode()


def to_svg(figure: Figure) -> str:
    """Render a figure as SVG: text as outlines, no date inside. Call it within STYLE."""
    stream = io.StringIO()
    figure.savefig(stream, format="svg", metadata={"Date": None}, bbox_inches="tight")
    return stream.getvalue()


def scatter(rows: Sequence[CountRow], scores: Scores) -> Chart:
    """Draw the model's count over the expert's, a panel a fold and one for all."""
    panels = [
        (f"Fold {fold.label}", fold.agreement, [r for r in rows if str(r.fold) == fold.label])
        for fold in scores.folds
    ]
    if len(panels) >= MOST_PANELS:
        panels = []
    panels.append(("All folds", scores.pooled.agreement, list(rows)))
    columns = min(3, len(panels))
    lines = math.ceil(len(panels) / columns)
    top = max([1, *(max(row.expert, row.model) for row in rows)]) * 1.06 + 0.5
    with mpl.rc_context(STYLE):
        layout = ConstrainedLayoutEngine(h_pad=0.12, w_pad=0.1)
        figure = Figure(figsize=(3.3 * columns, 3.3 * lines), layout=layout)
        places = figure.subplots(lines, columns, squeeze=False).ravel()
        for index, (place, panel) in enumerate(zip(places, panels, strict=False)):
            title, found, held = panel
            colour = INK if title == "All folds" else COLOURS[index % len(COLOURS)]
            _scatter_panel(place, title, found, held, top, colour)
        for place in places[len(panels) :]:
            place.set_visible(False)
        svg = to_svg(figure)
    told = "; ".join(f"{title}: r {_r(found)} over {found.n}" for title, found, _ in panels)
    return Chart(
        "Counts of the model and of the expert",
        f"Scatter plots of the model's count over the expert's count. {told}.",
        "A dot is a held-out image; a larger dot stands for several with the same two counts. "
        "On the dashed line model and expert agree; above it the model found more.",
        svg,
    )


def _r(found: Agreement) -> str:
    return "not known" if found.r is None else f"= {found.r:.2f}"


def _scatter_panel(
    place: Axes, title: str, found: Agreement, rows: list[CountRow], top: float, colour: str
) -> None:
    pairs = Counter((row.expert, row.model) for row in rows)
    place.plot([0, top], [0, top], color=INK, linewidth=1, linestyle=(0, (4, 3)))
    place.scatter(
        [pair[0] for pair in pairs],
        [pair[1] for pair in pairs],
        s=[26 * times for times in pairs.values()],
        color=colour,
        alpha=0.75,
        linewidths=0,
    )
    place.set(xlim=(-0.5, top), ylim=(-0.5, top), aspect="equal")
    place.set(xlabel="expert: crossings", ylabel="model: crossings")
    place.set_title(f"{title}   r {_r(found)}   n = {found.n}")
    for axis in (place.xaxis, place.yaxis):
        axis.set_major_locator(MaxNLocator(6, integer=True))


def bland_altman(rows: Sequence[CountRow], found: Agreement) -> Chart:
    """Draw the difference of the two counts over their mean, with bias and limits."""
    folds = sorted({row.fold for row in rows})
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(8.2, 4.2), layout="constrained")
        place = figure.subplots()
        coloured = len(folds) <= len(COLOURS)
        for index, fold in enumerate(folds if coloured else [None]):
            held = [row for row in rows if fold is None or row.fold == fold]
            pairs = Counter(((r.model + r.expert) / 2, r.model - r.expert) for r in held)
            place.scatter(
                [pair[0] for pair in pairs],
                [pair[1] for pair in pairs],
                s=[30 * times for times in pairs.values()],
                color=COLOURS[index],
                marker=MARKERS[index],
                alpha=0.75,
                linewidths=0,
                label=f"fold {fold}",
            )
        _limit_lines(place, found)
        place.set(xlabel="mean of model and expert: crossings an image", ylabel="model - expert")
        place.yaxis.set_major_locator(MaxNLocator(8, integer=True))
        if coloured and len(folds) > 1:
            figure.legend(loc="outside upper center", ncols=len(folds))
        svg = to_svg(figure)
    limits = interval(found.limits, 1) or "not known"
    return Chart(
        "Differences of the two counts (Bland and Altman)",
        f"Bland-Altman plot of {found.n} images: bias {number(found.bias, 1) or 'not known'}, "
        f"95 % limits of agreement {limits} crossings.",
        "A dot is an image: how far the model's count lies from the expert's, over the size of "
        "the count. About 95 of 100 images lie between the dashed lines; the bars at the right "
        "edge are the lines' own 95 % intervals.",
        svg,
    )


def _limit_lines(place: Axes, found: Agreement) -> None:
    place.axhline(0, color="#8a929b", linewidth=0.8)
    limits, bands = found.limits or (None, None), found.limits_intervals or (None, None)
    lines = (
        (found.bias, found.bias_interval, "bias", "solid", 0.97),
        (limits[0], bands[0], "lower limit", "dashed", 0.98),
        (limits[1], bands[1], "upper limit", "dashed", 0.99),
    )
    for value, band, name, dashes, at in lines:
        if value is None:
            continue
        place.axhline(value, color=INK, linewidth=1.2, linestyle=dashes)
        if band:
            along = (at, at)
            place.plot(
                along,
                band,
                color=INK,
                alpha=0.45,
                marker="_",
                transform=place.get_yaxis_transform(),
            )
        place.annotate(
            f"{name} {number(value, 1, sign=True)}",
            (1.01, value),
            xycoords=("axes fraction", "data"),
            va="center",
        )


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
