"""The choice of configurations, and that it never saw the images which test it."""

from __future__ import annotations

from statistics import fmean
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from skinray.config.biopsies import RunSettings
from skinray.errors import TrainingError
from skinray.learning.search import (
    Chosen,
    SpecMaker,
    Split,
    Splits,
    choose,
    deciding,
    make_splits,
)
from skinray.learning.spec import TrialSpec
from tests.support.tiny import cohort_of, tiny_run, tiny_spec

FOLDS = tuple(Split(f"fold-{k}", (), ()) for k in (1, 2))
SAME = {split.name: (split,) for split in FOLDS}
POOLED = {split.name: FOLDS for split in FOLDS}
FINAL = {"all": FOLDS}


def scored(rows: dict[float, list[float | None]], stage: str = "nerve") -> Any:
    """Specs and scores: for each learning rate a list of one value a fold."""
    specs, scores = [], {}
    for rate, values in rows.items():
        for fold, value in enumerate(values, 1):
            key, split = f"{stage}-{rate}-{fold}", f"fold-{fold}"
            specs.append(
                tiny_spec(
                    key=key, stage=stage, phase="tune", params={"train.learning_rate": rate},
                    split=split, evidence={split: (0,)},
                )
            )  # fmt: skip
            scores[key] = None if value is None else {split: value}
    return specs, scores


def rates(chosen: Chosen, stage: str = "nerve") -> dict[str, float]:
    return {split: p["train.learning_rate"] for (of, _, split), p in chosen.items() if of == stage}


def test_each_split_has_the_best_of_its_own_trials() -> None:
    search = scored({0.1: [0.9, 0.1], 0.2: [0.6, 0.6], 0.3: [0.5, 0.7]})
    assert choose(*search, SAME) == {
        ("nerve", "U-Net", "fold-1"): {"train.learning_rate": 0.1},
        ("nerve", "U-Net", "fold-2"): {"train.learning_rate": 0.3},
    }


def test_the_best_mean_is_chosen_where_several_splits_have_a_say() -> None:
    search = scored({0.1: [0.9, 0.1], 0.2: [0.6, 0.6], 0.3: [0.5, 0.5]})
    assert rates(choose(*search, FINAL)) == {"all": 0.2}
    assert rates(choose(*search, POOLED)) == {"fold-1": 0.2, "fold-2": 0.2}


def test_the_inner_parts_of_a_split_have_an_equal_say() -> None:
    first, second = scored({0.1: [0.9], 0.2: [0.6]}), scored({0.1: [0.1], 0.2: [0.6]})
    parts = [spec.override({"key": f"{spec.key}-inner-2"}) for spec in second[0]]
    scores = first[1] | {f"{key}-inner-2": value for key, value in second[1].items()}
    assert rates(choose([*first[0], *parts], scores, SAME)) == {"fold-1": 0.2}


def test_a_training_is_evidence_for_each_split_that_it_left_out() -> None:
    (first, second, *_), _ = scored({0.1: [0.0], 0.2: [0.0]})
    both = [
        spec.override({"evidence": {"fold-1": (0,), "fold-2": (1,)}}) for spec in (first, second)
    ]
    scores = {first.key: {"fold-1": 0.9, "fold-2": 0.1}, second.key: {"fold-1": 0.6, "fold-2": 0.2}}
    chosen = choose(both, scores, SAME | FINAL)
    assert rates(chosen) == {"fold-1": 0.1, "fold-2": 0.2, "all": 0.1}


def test_stages_choose_by_themselves() -> None:
    nerve, dermis = scored({0.1: [0.9], 0.2: [0.6]}), scored({0.1: [0.2], 0.2: [0.3]}, "dermis")
    chosen = choose([*nerve[0], *dermis[0]], nerve[1] | dermis[1], SAME)
    assert (rates(chosen), rates(chosen, "dermis")) == ({"fold-1": 0.1}, {"fold-1": 0.2})


def test_a_configuration_that_failed_is_out_where_its_trial_has_a_say() -> None:
    search = scored({0.1: [1.0, None], 0.2: [0.3, 0.2]})
    assert rates(choose(*search, SAME | FINAL)) == {"fold-1": 0.1, "fold-2": 0.2, "all": 0.2}
    specs, scores = scored({0.1: [1.0, 1.0], 0.2: [0.3, 0.2]})
    del scores["nerve-0.1-2"]  # ended without an outcome
    assert rates(choose(specs, scores, FINAL)) == {"all": 0.2}


def test_equal_means_keep_the_order_of_the_grid() -> None:
    assert rates(choose(*scored({0.3: [0.5], 0.1: [0.5], 0.2: [0.5]}), SAME)) == {"fold-1": 0.3}


def test_nothing_to_choose_is_no_choice() -> None:
    assert choose([], {}, SAME) == {}


def test_where_all_failed_the_arm_and_the_split_are_named() -> None:
    search = scored({0.1: [0.5, None], 0.2: [0.5, None]})
    with pytest.raises(TrainingError, match=r"nerve U-Net, fold-2: every configuration .* lower"):
        choose(*search, SAME)


# who has a say


def test_the_folds_decide_for_the_networks_trained_on_everything() -> None:
    made = tiny_run()
    splits = make_splits(cohort_of([2] * 6), made)
    assert deciding(splits, made)["all"] == splits.folds
    assert "all" not in deciding(splits, tiny_run(ensemble=True))
    own = {split.name: (split,) for split in (*splits.folds, splits.components)}
    assert deciding(splits, tiny_run(ensemble=True)) == own


def search_of(made: RunSettings, cohort: Any) -> tuple[SpecMaker, Splits, list[TrialSpec]]:
    maker, splits = SpecMaker(made, cohort, "data"), make_splits(cohort, made)
    return maker, splits, maker.search(splits)


@settings(deadline=None, max_examples=25)
@given(
    st.integers(0, 10**6),
    st.sampled_from([(3, 1), (3, 2), (4, 1), (4, 2), (5, 1), (5, 2), (5, 3), (5, 4)]),
    st.sampled_from([None, 2, 5]),
    st.sampled_from(["subject", "image"]),
)
def test_no_score_that_a_held_out_image_had_part_in_has_a_say(
    seed: int, counts: tuple[int, int], components: int | None, unit: str
) -> None:
    """Whatever such scores are, the split's configuration stays as it is."""
    made = tiny_run(
        folds__count=counts[0], tune__inner_splits=counts[1], folds__unit=unit, seed=seed,
        folds__components_held_out=components,
        nerve__baselines__0__grid={"train.learning_rate": (0.1, 0.2, 0.3)},
    )  # fmt: skip
    maker, splits, search = search_of(made, cohort_of([2, 1, 3, 2, 2, 1, 2]))
    rng, by_split = np.random.default_rng(seed), deciding(splits, made)
    scores = {spec.key: {name: float(rng.random()) for name in spec.evidence} for spec in search}
    chosen = choose(search, scores, by_split)
    for split in (*splits.folds, splits.components):
        out = set(split.held_out)
        looked = {
            (spec.key, name)
            for spec in search
            for name, part in spec.evidence.items()
            if {*spec.train, *part} & out
        }
        assert looked
        others = {
            key: {n: float(rng.random()) if (key, n) in looked else v for n, v in of.items()}
            for key, of in scores.items()
        }
        again = choose(search, others, by_split)
        own = {place: point for place, point in chosen.items() if place[2] == split.name}
        assert own
        assert own == {place: again[place] for place in own}
    # Nothing is trained with a point that nobody chose.
    for spec in maker.training(splits, chosen):
        assert chosen[spec.stage, spec.arm.label, spec.split] == spec.params


# a cohort in which there is nothing to learn

MANY = {"train.learning_rate": tuple(float(at) for at in range(1, 25))}
HELD_OUT = {"tune__selection": "pooled", "tune__validation": "held_out"}


def random_run(seed: int, **changes: Any) -> tuple[list[float], list[float]]:
    """Cross-validate a trainer that cannot learn, on images whose truth is drawn at random.

    A configuration predicts noise of its own for every image, but for those that it trained on,
    which it knows by heart. A trial scores by the correlation of prediction and truth.

    Returns
    -------
    r on the held-out images of each fold, and of the component split for each nerve arm.
    """
    made = tiny_run(
        nerve__main__grid=MANY, nerve__baselines__0__grid=MANY, dermis__main__grid={},
        folds__components_held_out=8, seed=seed, **changes,
    )  # fmt: skip
    cohort = cohort_of([2] * 20)
    maker, splits, search = search_of(made, cohort)
    rng = np.random.default_rng(seed)
    truth = rng.normal(size=len(cohort.biopsies))
    noise = {
        (label, rate): rng.normal(size=len(truth))
        for label in ("U-Net", "U-Net 2")
        for rate in MANY["train.learning_rate"]
    }

    def r(spec: TrialSpec, images: tuple[int, ...]) -> float:
        predicted = noise[spec.arm.label, spec.params["train.learning_rate"]].copy()
        predicted[list(spec.train)] = truth[list(spec.train)]
        return float(np.corrcoef(predicted[list(images)], truth[list(images)])[0, 1])

    scores = {
        spec.key: {name: r(spec, part) for name, part in spec.evidence.items()} for spec in search
    }
    chosen = choose(search, scores, deciding(splits, made))
    trained = [spec for spec in maker.training(splits, chosen) if spec.stage == "nerve"]
    held_out = {split.name: split.held_out for split in (*splits.folds, splits.components)}
    found = [(spec.split, r(spec, held_out[spec.split])) for spec in trained if spec.split != "all"]
    folds = [value for split, value in found if split != "components"]
    return folds, [value for split, value in found if split == "components"]


def interval(values: list[float]) -> tuple[float, float]:
    """99 % interval of the mean; 99, as one chance in twenty comes up among twelve intervals."""
    low, high = stats.t.interval(0.99, len(values) - 1, fmean(values), stats.sem(values))
    return float(low), float(high)


def means(**changes: Any) -> tuple[list[float], list[float]]:
    """Mean r over the folds, and over the arms of the component split, of 20 random cohorts."""
    runs = [random_run(seed, **changes) for seed in range(20)]
    return [fmean(folds) for folds, _ in runs], [fmean(arms) for _, arms in runs]


@pytest.mark.parametrize("inner", [1, 2, 3, 4])
def test_the_nested_score_of_random_labels_is_zero(inner: int) -> None:
    for values in means(tune__inner_splits=inner):
        low, high = interval(values)
        assert low < 0 < high


@pytest.mark.parametrize("changes", [{"tune__selection": "pooled"}, HELD_OUT])
def test_the_pooled_score_of_random_labels_is_too_high(
    changes: dict[str, Any],
) -> None:
    """So the test of the nested score can fail: this is the same trainer on the same cohorts."""
    for values in means(**changes):
        assert interval(values)[0] > 0
