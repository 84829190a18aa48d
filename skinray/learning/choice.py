"""The grid search's winner: which configuration each split is trained with."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean
from typing import Any

from skinray.errors import TrainingError
from skinray.learning.search import Choice, Split
from skinray.learning.spec import TrialSpec


def choose(
    specs: Sequence[TrialSpec],
    scores: Mapping[str, Mapping[str, float] | None],
    by_split: Mapping[str, Sequence[Split]],
) -> Choice:
    """Choose each arm's configuration for each split: that of the best mean score.

    A configuration that failed in any of these trials is excluded; ties keep the grid's order.

    Parameters
    ----------
    specs, scores : the search's trials, and by their keys what each scored as evidence for which
        split; None or missing: it failed.
    by_split : for each split trained on, the splits whose evidence chooses; see
        :func:`~skinray.learning.search.deciding`.

    Raises
    ------
    TrainingError
        If every configuration of an arm failed for a split.
    """
    chosen: Choice = {}
    for stage, label in dict.fromkeys((spec.stage, spec.arm.label) for spec in specs):
        for name, deciders in by_split.items():
            own = [
                (spec.params, (scores.get(spec.key) or {}).get(split.name))
                for spec in specs
                if (spec.stage, spec.arm.label) == (stage, label)
                for split in deciders
                if split.name in spec.evidence
            ]
            if own:  # else the arm is not trained on this split
                chosen[stage, label, name] = _best(own, f"{stage} {label}, {name}")
    return chosen


def _best(tried: Sequence[tuple[dict[str, Any], float | None]], where: str) -> dict[str, Any]:
    means = []
    for point in _distinct(params for params, _ in tried):
        values = [score for params, score in tried if params == point]
        good = [value for value in values if value is not None]
        if len(good) == len(values):
            means.append((fmean(good), point))
    if not means:
        raise TrainingError(
            f"{where}: every configuration of the grid failed; the trials' errors say why, a "
            "lower train.learning_rate is the usual remedy"
        )
    return max(means, key=lambda pair: pair[0])[1]


def _distinct(points: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for point in points:
        if point not in found:
            found.append(point)
    return found
