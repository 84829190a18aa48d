"""Histograms of a scored cohort, as SVG: how often each count, density or share was found."""

from __future__ import annotations

import math
from dataclasses import dataclass

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from skinray.report.charts import INK, STYLE, Chart, to_svg
from skinray.report.cohorts.tally import Histogram, Moments
from skinray.report.tables import number

MOST_BARS = 40


@dataclass(frozen=True)
class HistogramLabels:
    """The texts of a histogram, its decimals and its colour.

    Attributes
    ----------
    values, things : what is counted and what has it, for the description in words.
    axis : label of the x axis.
    """

    title: str
    caption: str
    values: str
    things: str
    axis: str
    digits: int
    colour: str


def histogram(labels: HistogramLabels, moments: Moments, bins: Histogram) -> list[Chart]:
    """Draw the values as one chart; no chart without values."""
    if not moments.n:
        return []
    quartiles = [number(bins.quantile(share), labels.digits) for share in (0.25, 0.5, 0.75)]
    mean = number(moments.mean, max(1, labels.digits))
    alt = (
        f"Histogram of the {labels.values} of {moments.n} {labels.things}: mean {mean}, median "
        f"{quartiles[1]}, half of the {labels.things} between {quartiles[0]} and {quartiles[2]}."
    )
    return [Chart(labels.title, alt, labels.caption, _draw(labels, bins, moments.mean, mean))]


def bars(bins: Histogram) -> tuple[NDArray[np.int64], float]:
    """Return the heights of at most ``MOST_BARS`` bars, and their width."""
    used = int(np.flatnonzero(bins.times)[-1]) + 1
    together = 2 ** max(0, math.ceil(math.log2(used / MOST_BARS)))
    padded = np.zeros(math.ceil(used / together) * together, np.int64)
    padded[:used] = bins.times[:used]
    return padded.reshape(-1, together).sum(axis=1), together * bins.width


def _draw(labels: HistogramLabels, bins: Histogram, mean: float, shown: str) -> str:
    times, width = bars(bins)
    # The bar of one whole number is centred on it.
    whole = bins.width >= 1 and width == 1
    left = np.arange(len(times)) * width - (0.5 if whole else 0)
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(5.4, 3.3), layout="constrained")
        place = figure.subplots()
        place.bar(left, times, width * 0.92, align="edge", color=labels.colour)
        place.axvline(mean, color=INK, linewidth=1.2, linestyle="dashed")
        at = ("data", "axes fraction")
        place.annotate(f"mean {shown}", (mean, 1.01), xycoords=at, ha="center", va="bottom")
        place.set(xlabel=labels.axis, ylabel=labels.things, xlim=(left[0] - width / 4, None))
        place.grid(visible=False, axis="x")
        place.yaxis.set_major_locator(MaxNLocator(6, integer=True))
        place.xaxis.set_major_locator(MaxNLocator(8, integer=bins.width >= 1))
        return to_svg(figure)
