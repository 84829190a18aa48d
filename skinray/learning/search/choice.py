"""The choice of configurations from the scores of a search, and which stay in a search by halving.

Successive halving, after Jamieson and Talwalkar (AISTATS 2016): a large grid trains for few epochs,
and only its best part for more. It works in rounds, and each split ranks only its own trials, so a
nested search stays nested. (Ray Tune's asynchronous scheduler would compare trials that were scored
on different images.)
"""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from skinray.config.kinds import Stage
from skinray.errors import TrainingError
from skinray.learning.search.splits import Split
from skinray.learning.spec import TrialSpec

# The configuration chosen for an arm on a split, by stage, label and the split's name.
Chosen = dict[tuple[Stage, str, str], dict[str, Any]]
# The configurations still in for an arm on a split. No entry: the whole grid.
StillIn = Mapping[tuple[Stage, str, str], Sequence[dict[str, Any]]]
Scores = Mapping[str, Mapping[str, float] | None]


def choose(
    specs: Sequence[TrialSpec],
    scores: Scores,
    by_split: Mapping[str, Sequence[Split]],
    still_in: StillIn | None = None,
) -> Chosen:
    """Choose each arm's configuration for each split: the one with the best mean score.

    A configuration is excluded if any of its trials for the split failed. Of equal ones, the
    first in the grid wins.

    Parameters
    ----------
    specs : the trials of the search.
    scores : for each trial's key, its score as evidence for each split; None or missing: failed.
    by_split : for each split trained on, the splits whose evidence counts; see :func:`deciding`.
    still_in : what each split chooses from; None: from the whole grid.

    Raises
    ------
    TrainingError
        If every configuration of an arm failed for a split.
    """
    chosen: Chosen = {}
    for (stage, label, name), (points, sound) in _ranked(
        specs, scores, by_split, still_in or {}
    ).items():
        if not sound:
            raise TrainingError(
                f"{stage} {label}, {name}: every configuration of the grid failed; see the trials' "
                "errors; a lower train.learning_rate usually helps"
            )
        chosen[stage, label, name] = points[0]
    return chosen


def rounds(points: int, factor: int) -> int:
    """Return the number of rounds for a grid of this size; the last has all epochs.

    Each round but the last keeps one of ``factor`` configurations, and the next trains for
    ``factor`` times the epochs. The last has at most ``factor`` of them.
    """
    found = 1
    while factor > 1 and points > factor:
        points, found = math.ceil(points / factor), found + 1
    return found


def best_part(
    specs: Sequence[TrialSpec],
    scores: Scores,
    by_split: Mapping[str, Sequence[Split]],
    still_in: StillIn,
    factor: int,
) -> StillIn:
    """Return the configurations that stay in for each arm and split: the best of every ``factor``.

    Each split ranks what is still in for it, by the scores that would also choose for it: no
    image that tests a choice takes part in it. Failed ones come last.

    Parameters
    ----------
    specs, scores, by_split, still_in : of one round; see :func:`choose`.
    """
    order = _ranked(specs, scores, by_split, still_in)
    return {
        place: points[: math.ceil(len(points) / factor)] for place, (points, _) in order.items()
    }


def gives_evidence(
    spec: TrialSpec, by_split: Mapping[str, Sequence[Split]], still_in: StillIn
) -> bool:
    """Say whether a trial's score is needed by a split for which its configuration is still in."""
    return any(
        any(split.name in spec.evidence for split in deciders) and _is_in(spec, name, still_in)
        for name, deciders in by_split.items()
    )


def _is_in(spec: TrialSpec, split: str, still_in: StillIn) -> bool:
    """Say whether a trial's configuration is still in for a split."""
    points = still_in.get((spec.stage, spec.arm.label, split))
    return points is None or spec.params in points


def _ranked(
    specs: Sequence[TrialSpec],
    scores: Scores,
    by_split: Mapping[str, Sequence[Split]],
    still_in: StillIn,
) -> dict[tuple[Stage, str, str], tuple[list[dict[str, Any]], int]]:
    """Sort each arm's configurations for each split, best first; say how many did not fail."""
    found = {}
    for stage, label in dict.fromkeys((spec.stage, spec.arm.label) for spec in specs):
        own = [spec for spec in specs if (spec.stage, spec.arm.label) == (stage, label)]
        for name, deciders in by_split.items():
            points: dict[str, dict[str, Any]] = {}
            values: dict[str, list[float]] = defaultdict(list)
            for spec in own:
                for split in deciders:
                    if split.name in spec.evidence and _is_in(spec, name, still_in):
                        mark = json.dumps(spec.params, sort_keys=True)
                        score = (scores.get(spec.key) or {}).get(split.name)
                        points[mark] = spec.params
                        if score is None or math.isnan(score):
                            score = -math.inf
                        values[mark].append(score)
            means = {mark: fmean(each) for mark, each in values.items()}
            # Sorting keeps the order of equal ones, so the first in the grid stays first.
            order = sorted(means, key=lambda mark: -means[mark])
            if order:  # else the arm is not trained on this split
                sound = sum(mean > -math.inf for mean in means.values())
                found[stage, label, name] = ([points[mark] for mark in order], sound)
    return found
