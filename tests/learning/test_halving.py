"""Successive halving: what stays in, and what each round may see."""

from __future__ import annotations

from typing import Any

import pytest

from skinray.learning.search import choose
from skinray.learning.search.halving import best_part, rounds, stays_in
from tests.learning.test_choice import FINAL, SAME, rates, scored

EVERY = SAME | FINAL


@pytest.mark.parametrize(
    ("points", "factor", "found"),
    [(1, 3, 1), (3, 3, 1), (4, 3, 2), (9, 3, 2), (10, 3, 3), (27, 3, 3), (8, 2, 3), (27, 1, 1)],
)
def test_the_last_round_has_at_most_as_many_as_one_of_which_is_kept(
    points: int, factor: int, found: int
) -> None:
    assert rounds(points, factor) == found


def left(search: Any, by_split: Any, factor: int = 3) -> dict[str, set[float]]:
    """For each split, the rates that stay in."""
    specs, scores = search
    stay = best_part(specs, scores, by_split, factor)
    rate = {f'{{"train.learning_rate": {spec.params["train.learning_rate"]}}}' for spec in specs}
    assert {mark for _, _, mark, _ in stay} <= rate
    found: dict[str, set[float]] = {}
    for _, _, mark, name in stay:
        found.setdefault(name, set()).add(float(mark.rpartition(" ")[2].rstrip("}")))
    return found


def test_each_split_keeps_the_best_part_of_its_own_trials() -> None:
    search = scored({0.1: [0.9, 0.1], 0.2: [0.6, 0.6], 0.3: [0.5, 0.7], 0.4: [0.8, 0.0]})
    assert left(search, SAME) == {"fold-1": {0.1, 0.4}, "fold-2": {0.3, 0.2}}
    assert left(search, FINAL) == {"all": {0.2, 0.3}}
    assert left(search, SAME, factor=4) == {"fold-1": {0.1}, "fold-2": {0.3}}


def test_failed_ones_leave_first_and_equal_ones_keep_their_order() -> None:
    assert left(scored({0.1: [None], 0.2: [0.1], 0.3: [0.1]}), SAME) == {"fold-1": {0.2}}


def test_the_next_round_has_the_trials_that_give_evidence_on_what_stays_in() -> None:
    specs, scores = scored({0.1: [0.9, 0.1], 0.2: [0.6, 0.6], 0.3: [0.5, 0.7]})
    stay = best_part(specs, scores, SAME, 3)
    assert [s.key for s in specs if stays_in(s, stay, SAME)] == ["nerve-0.1-1", "nerve-0.3-2"]
    # The networks trained on everything are chosen by all folds, so these go on in each.
    stay = best_part(specs, scores, EVERY, 3)
    kept = [s.key for s in specs if stays_in(s, stay, EVERY)]
    assert kept == ["nerve-0.1-1", "nerve-0.2-1", "nerve-0.2-2", "nerve-0.3-2"]


def test_a_configuration_left_in_for_another_split_is_not_chosen_on_part_of_its_trials() -> None:
    specs, scores = scored({0.1: [0.99, None], 0.2: [0.6, 0.6]})
    specs = [spec for spec in specs if spec.key != "nerve-0.1-2"]
    assert rates(choose(specs, scores, EVERY)) == {"fold-1": 0.1, "fold-2": 0.2, "all": 0.2}
