"""Successive halving: a large grid trains for few epochs, and only its best part for more.

After Jamieson and Talwalkar (AISTATS 2016), in rounds. Configurations are ranked within each split,
by the same trials that would choose among them, so that a nested search stays nested. (Ray Tune's
asynchronous scheduler ranks trials that are scored on different images against each other.)
"""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from statistics import fmean

from skinray.config.kinds import Stage
from skinray.learning.search.splits import Split
from skinray.learning.spec import TrialSpec

# An arm's configuration that stays in for a split: stage, label, point as JSON, split.
Stays = tuple[Stage, str, str, str]


def rounds(points: int, factor: int) -> int:
    """Return in how many rounds a grid of so many points is searched; the last has all epochs.

    Each round but the last keeps one of ``factor`` configurations, and the next trains for
    ``factor`` times the epochs. The last has at most ``factor`` of them.
    """
    found = 1
    while factor > 1 and points > factor:
        points, found = math.ceil(points / factor), found + 1
    return found


def best_part(
    specs: Sequence[TrialSpec],
    scores: Mapping[str, Mapping[str, float] | None],
    by_split: Mapping[str, Sequence[Split]],
    factor: int,
) -> set[Stays]:
    """Return which configurations stay in, for each arm and split: the best of every ``factor``.

    Parameters
    ----------
    specs, scores, by_split : of a round; see :func:`skinray.learning.search.choose`.
    """
    stay: set[Stays] = set()
    for stage, label in dict.fromkeys((spec.stage, spec.arm.label) for spec in specs):
        own = [spec for spec in specs if (spec.stage, spec.arm.label) == (stage, label)]
        for name, deciders in by_split.items():
            values: dict[str, list[float]] = defaultdict(list)
            for spec in own:
                for split in deciders:
                    if split.name in spec.evidence:
                        score = (scores.get(spec.key) or {}).get(split.name)
                        values[_mark(spec)].append(-math.inf if score is None else score)
            keep = math.ceil(len(values) / factor)
            # Sorting keeps the order of equal ones, so the first in the grid stays.
            ranked = sorted(values, key=lambda mark: -fmean(values[mark]))
            stay |= {(stage, label, mark, name) for mark in ranked[:keep]}
    return stay


def stays_in(spec: TrialSpec, stay: set[Stays], by_split: Mapping[str, Sequence[Split]]) -> bool:
    """Say whether a trial of the next round gives evidence on a configuration that stays in."""
    return any(
        (spec.stage, spec.arm.label, _mark(spec), name) in stay
        for name, deciders in by_split.items()
        if any(split.name in spec.evidence for split in deciders)
    )


def _mark(spec: TrialSpec) -> str:
    return json.dumps(spec.params, sort_keys=True)
