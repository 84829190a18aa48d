"""Charts of a scored cohort, as SVG: how often each count, density or area was found."""

from __future__ import annotations

import math
from typing import NamedTuple

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from skinray.report.biopsies.tables import number
from skinray.report.charts import COLOURS, INK, STYLE, Chart, to_svg
from skinray.report.cohorts.count_tally import AreaTally, CountTally
from skinray.report.cohorts.tally import Histogram, Moments

MOST_BARS = 40


def count_chart(tally: CountTally) -> Chart | None:
    """Draw how many images have each count; None of no image."""
    note = "Far to the right of the rest, or at 0, a count deserves a look at its overlay."
    of = Drawn("counts", "images", "crossings in an image", 0, COLOURS[0])
    return _chart("Crossings an image", note, tally.counts, tally.count_bins, of)


def density_chart(tally: CountTally) -> Chart | None:
    """Draw how many images have each density; None where no scale is known."""
    note = "Of images whose scale is known and whose boundary was found."
    of = Drawn("densities", "images", "crossings per mm", 2, COLOURS[2])
    title = "Crossings a millimetre of boundary"
    return _chart(title, note, tally.densities, tally.density_bins, of)


def fraction_chart(tally: AreaTally) -> Chart | None:
    """Draw how many photographs have each share of skin; None of no photograph."""
    note = "At 0 or 1 the mask deserves a look: nothing was found, or nothing left out."
    of = Drawn("shares of skin", "photographs", "share of skin", 2, COLOURS[0])
    title = "Share of skin in a photograph"
    return _chart(title, note, tally.fractions, tally.fraction_bins, of)


def confidence_chart(tally: AreaTally) -> Chart | None:
    """Draw how many photographs have each mean confidence; None of no photograph."""
    note = (
        "1 where every pixel is certain, 0 where skin and background are as likely. It is the "
        "network's own, and can be wrong."
    )
    of = Drawn("mean confidences", "photographs", "mean confidence", 2, COLOURS[2])
    title = "Mean confidence in a photograph"
    return _chart(title, note, tally.confidences, tally.confidence_bins, of)


class Drawn(NamedTuple):
    """What a histogram is of: the values, whose they are, the axis, decimals, colour."""

    values: str
    things: str
    axis: str
    digits: int
    colour: str


def _chart(title: str, note: str, found: Moments, bins: Histogram, of: Drawn) -> Chart | None:
    if not found.n:
        return None
    told = _told(bins, found.mean, of)
    alt = f"Histogram of the {of.values} of {found.n} {of.things}: {told}."
    return Chart(title, alt, note, _draw(bins, found.mean, of))


def bars(found: Histogram) -> tuple[NDArray[np.int64], float]:
    """Return how often values fall into at most ``MOST_BARS`` bars, and the bars' width."""
    used = int(np.flatnonzero(found.times)[-1]) + 1
    together = 2 ** max(0, math.ceil(math.log2(used / MOST_BARS)))
    padded = np.zeros(math.ceil(used / together) * together, np.int64)
    padded[:used] = found.times[:used]
    return padded.reshape(-1, together).sum(axis=1), together * found.width


def _told(found: Histogram, mean: float, of: Drawn) -> str:
    quartiles = [number(found.quantile(share), of.digits) for share in (0.25, 0.5, 0.75)]
    return (
        f"mean {number(mean, max(1, of.digits))}, median {quartiles[1]}, "
        f"half of the {of.things} between {quartiles[0]} and {quartiles[2]}"
    )


def _draw(found: Histogram, mean: float, of: Drawn) -> str:
    times, width = bars(found)
    # A bar of one whole number stands over that number.
    whole = found.width >= 1 and width == 1
    left = np.arange(len(times)) * width - (0.5 if whole else 0)
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(5.4, 3.3), layout="constrained")
        place = figure.subplots()
        place.bar(left, times, width * 0.92, align="edge", color=of.colour)
        place.axvline(mean, color=INK, linewidth=1.2, linestyle="dashed")
        place.annotate(
            f"mean {number(mean, max(1, of.digits))}", (mean, 1.01), ha="center", va="bottom",
            xycoords=("data", "axes fraction"),
        )  # fmt: skip
        place.set(xlabel=of.axis, ylabel=of.things, xlim=(left[0] - width / 4, None))
        place.grid(visible=False, axis="x")
        place.yaxis.set_major_locator(MaxNLocator(6, integer=True))
        place.xaxis.set_major_locator(MaxNLocator(8, integer=found.width >= 1))
        return to_svg(figure)
