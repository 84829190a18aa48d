"""Charts of accuracy by skin tone, lighting and share of skin."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from skinray.learning.photos.views import View
from skinray.report.charts import COLOURS, INK, MARKERS, STYLE, Chart, to_svg
from skinray.report.photos.rows import PhotoRow
from skinray.report.photos.table import looked_words
from skinray.report.tables import many

# Half the width that the networks of one bin share.
SPREAD = 0.32


def view_charts(rows: Sequence[PhotoRow]) -> list[Chart]:
    """Draw a chart per measure: bins across, mean Jaccard up, a mark per network."""
    shown = [row for row in rows if row.views]
    return [_chart(shown, at) for at in range(len(shown[0].views))] if shown else []


def _chart(rows: Sequence[PhotoRow], at: int) -> Chart:
    first = rows[0].views[at]
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(8.2, 3.6), layout="constrained")
        place = figure.subplots()
        for index, row in enumerate(rows):
            _marks(place, row, row.views[at], index, len(rows))
        for bin_at, one in enumerate(first.bins):
            if one.images and one.jaccard is None:
                place.text(bin_at, 0.5, "too few", ha="center", va="center", rotation=90)
        names = [f"{one.label}\n{edges(one.low, one.high)}\nn = {one.images}" for one in first.bins]
        place.set_xticks(range(len(names)), names)
        place.set(xlim=(-0.5, len(names) - 0.5), ylim=(0, 1.02), ylabel="Jaccard, mean")
        place.grid(visible=False, axis="x")
        if len(rows) > 1:
            figure.legend(loc="outside upper center", ncols=min(3, len(rows)))
        svg = to_svg(figure)
    means = "; ".join(f"{row.label}: {_means(row.views[at])}" for row in rows)
    unknown = f" Not measured in {many(first.unknown, 'photograph')}." if first.unknown else ""
    return Chart(
        f"By {first.name} ({first.unit})",
        f"Mean Jaccard by {first.name}. {means}.",
        f"{first.how} Bars are 95 % CIs. Groups of fewer than {first.least} photographs "
        f"have no figure.{unknown}{''.join(f' {said}' for said in looked_words(rows))}",
        svg,
    )


def _marks(place: Axes, row: PhotoRow, view: View, index: int, rows: int) -> None:
    shift = 0.0 if rows == 1 else SPREAD * (2 * index / (rows - 1) - 1)
    found = [(at, one.jaccard) for at, one in enumerate(view.bins) if one.jaccard is not None]
    place.errorbar(
        [at + shift for at, _ in found],
        [figure.value for _, figure in found],
        yerr=[
            [figure.value - (figure.low or figure.value) for _, figure in found],
            [(figure.high or figure.value) - figure.value for _, figure in found],
        ],
        # After the last colour the markers shift by one, so that no two rows look the same.
        fmt=MARKERS[(index + index // len(COLOURS)) % len(MARKERS)],
        color=COLOURS[index % len(COLOURS)],
        ecolor=INK,
        elinewidth=0.9,
        capsize=3,
        label=row.label,
    )


def edges(low: float | None, high: float | None) -> str:
    """Return a range as text: ``10 to 28``, ``below -30``, ``from 55``."""
    if low is None:
        return "all" if high is None else f"below {high:g}"
    return f"from {low:g}" if high is None else f"{low:g} to {high:g}"


def _means(view: View) -> str:
    return (
        ", ".join(
            f"{one.label} {one.jaccard.value:.2f} (n = {one.images})"
            for one in view.bins
            if one.jaccard is not None
        )
        or "no group is large enough"
    )
