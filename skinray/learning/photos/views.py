"""Results by skin tone, lighting and share of skin: whom and what a network fails.

The paper names "varied lighting conditions, skin types, backgrounds" as what makes photographs
hard, and reports none of it. Bins are fixed, not fitted to the data, so that two runs compare.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict

from skinray.learning.photos.scores import Interval, PhotoScore, mean_jaccard

# With fewer photographs a mean tells of those few, not of their kind: it is not shown.
LEAST = 10


@dataclass(frozen=True)
class Bin:
    """A range of a measure: from ``low`` on to below ``high``."""

    label: str
    low: float
    high: float


@dataclass(frozen=True)
class Measure:
    """What photographs are sorted by.

    Attributes
    ----------
    how : what it is and how it is binned, for people.
    of : the measure of one photograph; None where it has none.
    """

    name: str
    unit: str
    how: str
    bins: tuple[Bin, ...]
    of: Callable[[PhotoScore], float | None]


def _bins(labels: Sequence[str], edges: Sequence[float]) -> tuple[Bin, ...]:
    return tuple(map(Bin, labels, edges[:-1], edges[1:]))


MEASURES = (
    Measure(
        "skin tone",
        "degrees of ITA",
        "Individual typology angle of the traced skin, arctan((L* - 50) / b*) of its median "
        "colour, in the classes of Chardon et al. (1991). It is taken from the photograph as it "
        "is, so a dark exposure counts as darker skin.",
        _bins(
            ("dark", "brown", "tan", "intermediate", "light", "very light"),
            (-math.inf, -30, 10, 28, 41, 55, math.inf),
        ),
        lambda score: score.ita_deg,
    ),
    Measure(
        "lighting",
        "mean L*",
        "Mean lightness L* of the whole photograph, from 0 (black) to 100 (white), in steps of 20.",
        _bins(
            ("very dark", "dark", "medium", "bright", "very bright"),
            (0, 20, 40, 60, 80, math.inf),
        ),
        lambda score: score.lightness,
    ),
    Measure(
        "share of skin",
        "% of pixels",
        "Share of the photograph that is traced as skin, in quarters.",
        _bins(
            ("up to a quarter", "up to half", "up to three quarters", "more"),
            (0, 25, 50, 75, math.inf),
        ),
        lambda score: 100 * score.skin / score.pixels,
    ),
)


class ViewBin(BaseModel):
    """Results of the photographs of one bin; ``jaccard`` is None where they are too few.

    ``low`` and ``high`` are None where the bin is open.
    """

    model_config = ConfigDict(frozen=True)

    label: str
    low: float | None
    high: float | None
    images: int
    jaccard: Interval | None


class View(BaseModel):
    """Results by one measure, with the number of photographs that have none."""

    model_config = ConfigDict(frozen=True)

    name: str
    unit: str
    how: str
    least: int
    bins: list[ViewBin]
    unknown: int

    @property
    def known(self) -> list[ViewBin]:
        """The bins with enough photographs, the worst first."""
        enough = [one for one in self.bins if one.jaccard is not None]
        return sorted(enough, key=lambda one: one.jaccard.value if one.jaccard else 0.0)


def views(scores: Sequence[PhotoScore], resamples: int, seed: int) -> list[View]:
    """Return the mean Jaccard by each measure, with its bootstrap interval."""
    return [_view(measure, scores, resamples, seed) for measure in MEASURES]


def _view(measure: Measure, scores: Sequence[PhotoScore], resamples: int, seed: int) -> View:
    values = [measure.of(score) for score in scores]
    bins = []
    for one in measure.bins:
        within = [
            score
            for score, value in zip(scores, values, strict=True)
            if value is not None and one.low <= value < one.high
        ]
        enough = len(within) >= LEAST
        bins.append(
            ViewBin(
                label=one.label,
                low=one.low if math.isfinite(one.low) else None,
                high=one.high if math.isfinite(one.high) else None,
                images=len(within),
                jaccard=mean_jaccard(within, resamples, seed) if enough else None,
            )
        )
    return View(
        name=measure.name,
        unit=measure.unit,
        how=measure.how,
        least=LEAST,
        bins=bins,
        unknown=values.count(None),
    )
