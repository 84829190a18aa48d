"""Search the crossing stage's parameters for consistency of truth and model (paper 2.4).

"All parameters in this section were optimized by running the same process on the ground truth
data and the model output on the same images, and maximizing their consistency." Consistency is
Lin's concordance of the two counts over the images: 1 if they are equal on every image, lower if
they scatter or if one of them is consistently higher.

Alone, this has worthless optima, such as parameters under which nothing is ever counted. So
parameters that change the truth's own counts, summed over the images, by more than a small share
are rejected: agreement can only be gained on the model's side.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from skinray.config.biopsies import CrossingSettings, FitSettings
from skinray.crossings.detect import CrossingSteps
from skinray.errors import SkinrayError

Counts = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class FitPair:
    """The model's maps and the expert's masks of one training image.

    Attributes
    ----------
    nerve_probability, dermis_probability : (H, W) float in [0, 1], or uint8 as probability x 255.
    nerve_truth, dermis_truth : (H, W) masks; above 0 is true.
    um_per_px : scale of the image, None if unknown.
    """

    nerve_probability: NDArray[Any]
    dermis_probability: NDArray[Any]
    nerve_truth: NDArray[Any]
    dermis_truth: NDArray[Any]
    um_per_px: float | None = None


@dataclass(frozen=True)
class FitTrial:
    """One value tried for one parameter, with the others as they were.

    Attributes
    ----------
    round : sweep over the parameters, from 1.
    consistency : Lin's concordance of the two counts.
    mean_difference : mean absolute difference of the two counts per image.
    truth_shift : share by which the truth's own counts differ from those at the start.
    admissible : whether ``truth_shift`` is within the limit.
    chosen : whether this value was kept.
    """

    round: int
    parameter: str
    value: float
    consistency: float
    mean_difference: float
    truth_shift: float
    admissible: bool
    chosen: bool


@dataclass(frozen=True)
class FitResult:
    """The settings found, their consistency, the consistency at the start, and every trial."""

    settings: CrossingSettings
    consistency: float
    default_consistency: float
    table: tuple[FitTrial, ...]


def fit_crossings(
    pairs: Sequence[FitPair],
    settings: CrossingSettings,
    fit: FitSettings,
    progress: Callable[[int, int], None] | None = None,
) -> FitResult:
    """Search one parameter after the other, for at most ``fit.rounds`` sweeps.

    If the concordance is equal, the smaller mean difference wins, then the value nearest to the
    start. The settings at the start are always a candidate, so the result is never worse.

    Parameters
    ----------
    pairs : training images only; the first ``fit.max_images`` are used. Each image is fetched
        once per parameter, so a lazy sequence keeps one image in memory.
    settings : the start of the search.
    fit : the parameters and values to try.
    progress : called with the number of parameters searched, and the most there can be.

    Raises
    ------
    SkinrayError
        If there is no pair, or the maps of one do not match.
    SettingsError
        If the grid names an unknown parameter or a value out of range.
    """
    if len(pairs) == 0:
        raise SkinrayError(
            "the crossing parameters cannot be fitted without images: pass at least one pair"
        )
    candidates = {name: _candidates(settings, name, fit.grid[name]) for name in fit.grid}
    search = _Search(pairs, settings, fit)
    start = search.score(settings)
    table: list[FitTrial] = []
    best = settings
    for sweep in range(1, fit.rounds + 1):
        before = best
        for index, (name, values) in enumerate(candidates.items(), 1):
            tried = {getattr(best, name): best}
            tried |= {value: best.override({name: value}) for value in values}
            search.count(list(tried.values()))
            scores = {value: search.score(option) for value, option in tried.items()}
            value = max(scores, key=lambda v: search.rank(tried[v]))
            best = tried[value]
            table += [
                FitTrial(sweep, name, v, *score, chosen=v == value) for v, score in scores.items()
            ]
            if progress is not None:
                progress((sweep - 1) * len(candidates) + index, fit.rounds * len(candidates))
        if best == before:
            break
    return FitResult(best, search.score(best)[0], start[0], tuple(table))


def concordance(first: ArrayLike, second: ArrayLike) -> float:
    """Return Lin's concordance of two counts of the same images; 1 if both are one constant."""
    x, y = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    spread = x.var() + y.var() + (x.mean() - y.mean()) ** 2
    if spread == 0:
        return 1.0
    return float(2 * ((x - x.mean()) * (y - y.mean())).mean() / spread)


def _candidates(
    settings: CrossingSettings, name: str, values: Sequence[float]
) -> list[float | int]:
    """Return the values as the settings store them; SettingsError for a bad name or value."""
    return [getattr(settings.override({name: value}), name) for value in values]


class _Search:
    """Counts of truth and model under the settings tried; each is made once per image."""

    def __init__(
        self, pairs: Sequence[FitPair], settings: CrossingSettings, fit: FitSettings
    ) -> None:
        self._pairs = pairs
        self._images = min(len(pairs), fit.max_images)
        self._start = settings
        self._fit = fit
        self._counts: dict[tuple[str, CrossingSettings], Counts] = {}
        self.count([settings])

    def count(self, options: Sequence[CrossingSettings]) -> None:
        """Count all images under all options, image by image so that steps are shared."""
        missing = {
            (side, self._relevant(side, option))
            for option in options
            for side in ("model", "truth")
        } - self._counts.keys()
        if not missing:
            return
        ordered = sorted(missing, key=lambda key: (key[0], key[1].fingerprint()))
        rows = [_count_image(self._pairs[image], ordered) for image in range(self._images)]
        for key, counts in zip(ordered, np.array(rows, dtype=np.int64).T, strict=True):
            self._counts[key] = counts

    def score(self, option: CrossingSettings) -> tuple[float, float, float, bool]:
        """Return consistency, mean difference, the truth's shift, and whether that is small."""
        model, truth = self._get("model", option), self._get("truth", option)
        at_start = self._get("truth", self._start)
        shift = float(np.abs(truth - at_start).sum() / max(1, at_start.sum()))
        difference = float(np.abs(model - truth).mean())
        return concordance(model, truth), difference, shift, shift <= self._fit.max_truth_shift

    def rank(self, option: CrossingSettings) -> tuple[bool, float, float, float]:
        """Return what options are compared by; the best option has the highest."""
        consistency, difference, _, admissible = self.score(option)
        return admissible, round(consistency, 9), -round(difference, 9), -self._distance(option)

    def _distance(self, option: CrossingSettings) -> float:
        """Return the distance to the start, each parameter in units of its range tried."""
        total = 0.0
        for name, values in self._fit.grid.items():
            start, here = getattr(self._start, name), getattr(option, name)
            span = max(*values, start) - min(*values, start)
            total += abs(here - start) / span if span else 0.0
        return total

    def _get(self, side: str, option: CrossingSettings) -> Counts:
        return self._counts[side, self._relevant(side, option)]

    def _relevant(self, side: str, option: CrossingSettings) -> CrossingSettings:
        """Reset what a side does not depend on: the truth's nerves are a mask already."""
        if side == "model":
            return option
        return option.override({"nerve_threshold": self._start.nerve_threshold})


def _count_image(pair: FitPair, keys: Sequence[tuple[str, CrossingSettings]]) -> list[int]:
    steps = {
        "model": CrossingSteps(
            _probability(pair.nerve_probability), _probability(pair.dermis_probability)
        ),
        "truth": CrossingSteps(pair.nerve_truth > 0, pair.dermis_truth > 0),
    }
    return [len(steps[side].points(option.at_scale(pair.um_per_px))) for side, option in keys]


def _probability(values: NDArray[Any]) -> NDArray[Any]:
    if values.dtype != np.uint8:
        return values
    return values.astype(np.float32) / np.float32(255)
