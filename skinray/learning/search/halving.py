"""Successive halving: a large grid trains for few epochs, and only its best part for more.

After Jamieson and Talwalkar (AISTATS 2016), in rounds, separately for each split, so that a nested
search stays nested. (Ray Tune's asynchronous scheduler would rank trials against each other that
are scored on different images.)
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from skinray.learning.search.choice import Scores, StillIn, is_in, ranked
from skinray.learning.search.splits import Split
from skinray.learning.spec import TrialSpec


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
    scores: Scores,
    by_split: Mapping[str, Sequence[Split]],
    still_in: StillIn,
    factor: int,
) -> StillIn:
    """Return the configurations that stay in for each arm and split: the best of every ``factor``.

    Each split ranks what is still in for it, by the scores that would also choose for it: no
    image that tests a choice has a part in it. Failed ones come last.

    Parameters
    ----------
    specs, scores, by_split, still_in : of one round; see :func:`choose`.
    """
    order = ranked(specs, scores, by_split, still_in)
    return {
        place: points[: math.ceil(len(points) / factor)] for place, (points, _) in order.items()
    }


def gives_evidence(
    spec: TrialSpec, by_split: Mapping[str, Sequence[Split]], still_in: StillIn
) -> bool:
    """Say whether a trial's score is needed by a split for which its configuration is still in."""
    return any(
        any(split.name in spec.evidence for split in deciders) and is_in(spec, name, still_in)
        for name, deciders in by_split.items()
    )
