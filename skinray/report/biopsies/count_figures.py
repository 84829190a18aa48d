"""Charts of the counts, as SVG: a scatter plot per fold, and the plot of Bland and Altman."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import MaxNLocator

from skinray.report.biopsies.agreement import Agreement
from skinray.report.biopsies.results import CountRow
from skinray.report.biopsies.scores import EXPERT, Scores, Truth
from skinray.report.charts import COLOURS, INK, MARKERS, STYLE, Chart, to_svg
from skinray.report.tables import interval, number

MOST_PANELS = 12


def scatter(rows: Sequence[CountRow], scores: Scores) -> Chart:
    """Draw the model's count against the expert's, in a panel per fold and one for all."""
    truth = scores.truth
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
            place.set(xlabel=f"{truth.label}: crossings")
        for place in places[len(panels) :]:
            place.set_visible(False)
        svg = to_svg(figure)
    each = "; ".join(f"{title}: r {_r(found)} over {found.n}" for title, found, _ in panels)
    return Chart(
        f"Counts of the model and of {truth.who}",
        f"Scatter plots of the model's count against that of {truth.who}. {each}.",
        "Each dot is a held-out image; a larger dot stands for several images with the same two "
        "counts. On the dashed line the two agree; above it the model found more.",
        svg,
    )


def bland_altman(rows: Sequence[CountRow], found: Agreement, truth: Truth = EXPERT) -> Chart:
    """Draw the difference of the two counts against their mean, with bias and limits."""
    folds = sorted({row.fold for row in rows})
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(8.2, 4.2), layout="constrained")
        place = figure.subplots()
        coloured = len(folds) <= len(COLOURS)
        for index, fold in enumerate(folds if coloured else [None]):
            held = [row for row in rows if fold is None or row.fold == fold]
            pairs = (((row.model + row.expert) / 2, row.model - row.expert) for row in held)
            look = {"color": COLOURS[index], "marker": MARKERS[index], "label": f"fold {fold}"}
            _dots(place, pairs, 30, **look)
        _limit_lines(place, found)
        place.set(
            xlabel=f"mean of model and {truth.label}: crossings per image",
            ylabel=f"model - {truth.label}",
        )
        place.yaxis.set_major_locator(MaxNLocator(8, integer=True))
        if coloured and len(folds) > 1:
            figure.legend(loc="outside upper center", ncols=len(folds))
        svg = to_svg(figure)
    limits = interval(found.limits, 1) or "not known"
    return Chart(
        "Differences of the two counts (Bland and Altman)",
        f"Bland-Altman plot of {found.n} images: bias {number(found.bias, 1) or 'not known'}, "
        f"95 % limits of agreement {limits} crossings.",
        f"Each dot is an image: the model's count minus that of {truth.who}, against "
        "their mean. About 95 of 100 images are between the dashed lines; the bars at the right "
        "edge are the 95 % CIs of the lines themselves.",
        svg,
    )


def _r(found: Agreement) -> str:
    return "not known" if found.r is None else f"= {found.r:.2f}"


def _dots(place: Axes, pairs: Iterable[tuple[float, float]], size: int, **look: Any) -> None:
    """Draw one dot for all equal pairs, its area by how many there are."""
    times = Counter(pairs)
    x, y = [pair[0] for pair in times], [pair[1] for pair in times]
    areas = [size * count for count in times.values()]
    place.scatter(x, y, s=areas, alpha=0.75, linewidths=0, **look)


def _scatter_panel(
    place: Axes, title: str, found: Agreement, rows: list[CountRow], top: float, colour: str
) -> None:
    place.plot([0, top], [0, top], color=INK, linewidth=1, linestyle=(0, (4, 3)))
    _dots(place, ((row.expert, row.model) for row in rows), 26, color=colour)
    place.set(xlim=(-0.5, top), ylim=(-0.5, top), aspect="equal")
    place.set(ylabel="model: crossings")
    place.set_title(f"{title}   r {_r(found)}   n = {found.n}")
    for axis in (place.xaxis, place.yaxis):
        axis.set_major_locator(MaxNLocator(6, integer=True))


def _limit_lines(place: Axes, found: Agreement) -> None:
    place.axhline(0, color="#8a929b", linewidth=0.8)
    limits, bands = found.limits or (None, None), found.limits_intervals or (None, None)
    lines = (
        (found.bias, found.bias_interval, "bias", "solid", 0.97),
        (limits[0], bands[0], "lower limit", "dashed", 0.98),
        (limits[1], bands[1], "upper limit", "dashed", 0.99),
    )
    at_edge = place.get_yaxis_transform()
    for value, band, name, dashes, at in lines:
        if value is None:
            continue
        place.axhline(value, color=INK, linewidth=1.2, linestyle=dashes)
        if band:
            place.plot((at, at), band, color=INK, alpha=0.45, marker="_", transform=at_edge)
        text = f"{name} {number(value, 1, sign=True)}"
        place.annotate(text, (1.01, value), xycoords=("axes fraction", "data"), va="center")
