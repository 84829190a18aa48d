"""Results by skin tone, lighting and share of skin: where a network fails.

The paper names "varied lighting conditions, skin types, backgrounds" as the difficulties of
photographs, but does not report results by them. Bins are fixed, so that runs can be compared.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict

from skinray.learning.photos.scores import Estimate, PhotoScore, mean_jaccard

# With fewer photographs, a mean says little about their kind and is not shown.
LEAST = 10


@dataclass(frozen=True)
class Bin:
    """A range of a measure: at least ``low``, below ``high``."""

    label: str
    low: float
    high: float


@dataclass(frozen=True)
class Measure:
    """A measure by which photographs are grouped.

    Attributes
    ----------
    how : what it is and how it is binned, for readers of the report.
    of : the measure of one photograph; None if it has none.
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
        "colour, in the classes of Chardon et al. (1991). It is measured on the photograph itself, "
        "so an underexposed photograph counts as darker skin.",
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
    """Results of one bin; ``jaccard`` is None if it has too few photographs.

    ``low`` and ``high`` are None where the bin is unbounded.
    """

    model_config = ConfigDict(frozen=True)

    label: str
    low: float | None
    high: float | None
    images: int
    jaccard: Estimate | None


class View(BaseModel):
    """Results by one measure; ``unknown`` is the number of photographs without it."""

    model_config = ConfigDict(frozen=True)

    name: str
    unit: str
    how: str
    least: int
    bins: list[ViewBin]
    unknown: int

    @property
    def known(self) -> list[ViewBin]:
        """The bins with enough photographs, worst first."""
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
