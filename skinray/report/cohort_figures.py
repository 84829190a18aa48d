"""Charts of a scored cohort, as SVG: how often each count, density or area was found."""

from __future__ import annotations

import math

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from skinray.report.area_tally import AreaTally
from skinray.report.cohort_tally import Histogram
from skinray.report.count_tally import CountTally
from skinray.report.figures import COLOURS, INK, STYLE, Chart, to_svg
from skinray.report.tables import number

MOST_BARS = 40


def count_chart(tally: CountTally) -> Chart | None:
    """Draw how many images have each count; None of no image."""
    if not tally.counts.n:
        return None
    told = _told(tally.count_bins, tally.counts.mean, 0)
    return Chart(
        "Crossings an image",
        f"Histogram of the counts of {tally.counts.n} images: {told}.",
        "Far to the right of the rest, or at 0, a count deserves a look at its overlay.",
        _draw(tally.count_bins, tally.counts.mean, "crossings in an image", COLOURS[0]),
    )


def density_chart(tally: CountTally) -> Chart | None:
    """Draw how many images have each density; None where no scale is known."""
    if not tally.densities.n:
        return None
    told = _told(tally.density_bins, tally.densities.mean, 2)
    return Chart(
        "Crossings a millimetre of boundary",
        f"Histogram of the densities of {tally.densities.n} images: {told}.",
        "Of images whose scale is known and whose boundary was found.",
        _draw(tally.density_bins, tally.densities.mean, "crossings per mm", COLOURS[2]),
    )


def fraction_chart(tally: AreaTally) -> Chart | None:
    """Draw how many photographs have each share of skin; None of no photograph."""
    if not tally.fractions.n:
        return None
    told = _told(tally.fraction_bins, tally.fractions.mean, 2)
    return Chart(
        "Share of skin in a photograph",
        f"Histogram of the shares of skin of {tally.fractions.n} photographs: {told}.",
        "At 0 or 1 the mask deserves a look: nothing was found, or nothing left out.",
        _draw(
            tally.fraction_bins, tally.fractions.mean, "share of skin", COLOURS[0], "photographs"
        ),
    )


def confidence_chart(tally: AreaTally) -> Chart | None:
    """Draw how many photographs have each mean confidence; None of no photograph."""
    if not tally.confidences.n:
        return None
    told = _told(tally.confidence_bins, tally.confidences.mean, 2)
    return Chart(
        "Mean confidence in a photograph",
        f"Histogram of the mean confidence of {tally.confidences.n} photographs: {told}.",
        "1 where every pixel is certain, 0 where skin and background are as likely. It is the "
        "network's own, and can be wrong.",
        _draw(
            tally.confidence_bins, tally.confidences.mean, "mean confidence", COLOURS[2],
            "photographs",
        ),
    )  # fmt: skip


def bars(found: Histogram) -> tuple[NDArray[np.int64], float]:
    """Return how often values fall into at most ``MOST_BARS`` bars, and the bars' width."""
    used = int(np.flatnonzero(found.times)[-1]) + 1
    together = 2 ** max(0, math.ceil(math.log2(used / MOST_BARS)))
    padded = np.zeros(math.ceil(used / together) * together, np.int64)
    padded[:used] = found.times[:used]
    return padded.reshape(-1, together).sum(axis=1), together * found.width


def _told(found: Histogram, mean: float, digits: int) -> str:
    quartiles = [number(found.quantile(share), digits) for share in (0.25, 0.5, 0.75)]
    return (
        f"mean {number(mean, max(1, digits))}, median {quartiles[1]}, "
        f"half of the images between {quartiles[0]} and {quartiles[2]}"
    )


def _draw(found: Histogram, mean: float, name: str, colour: str, things: str = "images") -> str:
    times, width = bars(found)
    # A bar of one whole number stands over that number.
    whole = found.width >= 1 and width == 1
    left = np.arange(len(times)) * width - (0.5 if whole else 0)
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(5.4, 3.3), layout="constrained")
        place = figure.subplots()
        place.bar(left, times, width * 0.92, align="edge", color=colour)
        place.axvline(mean, color=INK, linewidth=1.2, linestyle="dashed")
        place.annotate(
            f"mean {number(mean, 1)}", (mean, 1.01), xycoords=("data", "axes fraction"),
            ha="center", va="bottom",
        )  # fmt: skip
        place.set(xlabel=name, ylabel=things, xlim=(left[0] - width / 4, None))
        place.grid(visible=False, axis="x")
        place.yaxis.set_major_locator(MaxNLocator(6, integer=True))
        place.xaxis.set_major_locator(MaxNLocator(8, integer=found.width >= 1))
        return to_svg(figure)
