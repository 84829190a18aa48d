"""The configuration that the trials of a search choose, for each arm and split."""

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


def choose(
    specs: Sequence[TrialSpec],
    scores: Mapping[str, Mapping[str, float] | None],
    by_split: Mapping[str, Sequence[Split]],
) -> Chosen:
    """Choose each arm's configuration for each split: the one with the best mean score.

    A configuration is excluded if any of its trials for the split failed, or if it has fewer trials
    than others because halving dropped it. Of equal ones, the first in the grid wins.

    Parameters
    ----------
    specs : the trials of the search.
    scores : for each trial's key, its score as evidence for each split; None or missing: failed.
    by_split : for each split trained on, the splits whose evidence counts; see :func:`deciding`.

    Raises
    ------
    TrainingError
        If every configuration of an arm failed for a split.
    """
    chosen: Chosen = {}
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
    points: dict[str, dict[str, Any]] = {}
    values: dict[str, list[float]] = defaultdict(list)
    for point, score in tried:
        mark = json.dumps(point, sort_keys=True)
        points[mark] = point
        values[mark].append(math.nan if score is None else score)
    most = max(map(len, values.values()))
    means = {mark: fmean(found) for mark, found in values.items() if len(found) == most}
    good = {mark: mean for mark, mean in means.items() if not math.isnan(mean)}
    if not good:
        raise TrainingError(
            f"{where}: every configuration of the grid failed; see the trials' errors; a "
            "lower train.learning_rate usually helps"
        )
    return points[max(good, key=good.__getitem__)]
