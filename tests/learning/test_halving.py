"""Successive halving: what stays in, what each round trains, and what it may see."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skinray.learning.search import Chosen, choose, deciding
from skinray.learning.search.choice import StillIn, best_part, gives_evidence, rounds
from skinray.learning.spec import TrialSpec
from tests.learning.test_choice import FINAL, SAME, rates, scored, search_of
from tests.support.tiny import cohort_of, tiny_run

EVERY = SAME | FINAL


@pytest.mark.parametrize(
    ("points", "factor", "found"),
    [(1, 3, 1), (3, 3, 1), (4, 3, 2), (9, 3, 2), (10, 3, 3), (27, 3, 3), (8, 2, 3), (27, 1, 1)],
)
def test_the_last_round_has_at_most_as_many_as_one_of_which_is_kept(
    points: int, factor: int, found: int
) -> None:
    assert rounds(points, factor) == found


def left(search: Any, by_split: Any, factor: int = 3, still_in: StillIn | None = None) -> Any:
    """For each split, the rates that stay in, best first."""
    part = best_part(*search, by_split, still_in or {}, factor)
    return {
        name: [point["train.learning_rate"] for point in points]
        for (_, _, name), points in part.items()
    }


def test_each_split_keeps_the_best_part_of_its_own_trials() -> None:
    search = scored({0.1: [0.9, 0.1], 0.2: [0.6, 0.6], 0.3: [0.5, 0.7], 0.4: [0.8, 0.0]})
    assert left(search, SAME) == {"fold-1": [0.1, 0.4], "fold-2": [0.3, 0.2]}
    assert left(search, FINAL) == {"all": [0.2, 0.3]}
    assert left(search, SAME, factor=4) == {"fold-1": [0.1], "fold-2": [0.3]}


def test_failed_ones_leave_first_and_equal_ones_keep_their_order() -> None:
    assert left(scored({0.1: [None], 0.2: [0.1], 0.3: [0.1]}), SAME) == {"fold-1": [0.2]}


def test_a_split_does_not_take_back_what_stayed_in_for_another() -> None:
    first = scored({0.1: [0.9, 0.1], 0.2: [0.6, 0.6], 0.3: [0.5, 0.7]})
    still_in = best_part(*first, EVERY, {}, 3)
    second = scored({0.1: [0.1, 0.9], 0.2: [0.8, 0.9], 0.3: [0.9, 0.1]})
    assert left(second, EVERY, 1, still_in) == {"fold-1": [0.1], "fold-2": [0.3], "all": [0.2]}
    chosen = choose(*second, EVERY, still_in)
    assert rates(chosen) == {"fold-1": 0.1, "fold-2": 0.3, "all": 0.2}


def test_the_next_round_has_the_trials_that_give_evidence_on_what_stays_in() -> None:
    specs, scores = scored({0.1: [0.9, 0.1], 0.2: [0.6, 0.6], 0.3: [0.5, 0.7]})
    still_in = best_part(specs, scores, SAME, {}, 3)
    kept = [spec.key for spec in specs if gives_evidence(spec, SAME, still_in)]
    assert kept == ["nerve-0.1-1", "nerve-0.3-2"]
    # The networks trained on everything are chosen by all folds, so these go on in each.
    still_in = best_part(specs, scores, EVERY, {}, 3)
    kept = [spec.key for spec in specs if gives_evidence(spec, EVERY, still_in)]
    assert kept == ["nerve-0.1-1", "nerve-0.2-1", "nerve-0.2-2", "nerve-0.3-2"]


MANY = {"train.learning_rate": tuple(float(at) for at in range(1, 10))}
Values = dict[tuple[str, str, int], float]


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 10**6), st.sampled_from([None, 5]), st.sampled_from([2, 3]))
def test_no_score_that_a_held_out_image_had_part_in_has_a_say_in_any_round(
    seed: int, components: int | None, factor: int
) -> None:
    """Whatever such scores are, the split goes on with and chooses the same."""
    made = tiny_run(
        folds__count=4, folds__components_held_out=components, seed=seed, nerve__main__grid=MANY
    )
    _, splits, search = search_of(made, cohort_of([2, 1, 3, 2, 2, 1, 2]))
    search = [spec for spec in search if len(spec.params) == 1 and spec.arm.label == "U-Net"]
    by_split, many = deciding(splits, made), rounds(9, factor)

    def halved(values: Values) -> tuple[Chosen, int]:
        still_in: StillIn = {}
        trained = 0
        for round_ in range(many):
            specs = [spec for spec in search if gives_evidence(spec, by_split, still_in)]
            trained += len(specs)
            scores = {s.key: {n: values[s.key, n, round_] for n in s.evidence} for s in specs}
            if round_ < many - 1:
                still_in = best_part(specs, scores, by_split, still_in, factor)
        return choose(specs, scores, by_split, still_in), trained

    rng = np.random.default_rng(seed)
    places = [(s.key, name, at) for s in search for name in s.evidence for at in range(many)]
    values = {place: float(rng.random()) for place in places}
    chosen, trained = halved(values)
    assert trained < many * len(search)
    by_key: dict[str, TrialSpec] = {spec.key: spec for spec in search}
    for split in (*splits.folds, splits.components):
        out = set(split.held_out)
        others = {
            (key, name, at): float(rng.random())
            if {*by_key[key].train, *by_key[key].evidence[name]} & out
            else value
            for (key, name, at), value in values.items()
        }
        assert others != values
        again, _ = halved(others)
        own = {place: point for place, point in chosen.items() if place[2] == split.name}
        assert own
        assert own == {place: again[place] for place in own}
