from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import arm, cohort_of, tiny_run, tiny_spec

from skinray.errors import CohortError, SettingsError, TrainingError, WeightsError
from skinray.images.cohort import Cohort
from skinray.learning.crossval import (
    SpecMaker,
    Split,
    check_trials,
    choose,
    grid_points,
    make_splits,
)

COHORT = cohort_of([4, 3, 2, 2, 1, 3])


def subjects(cohort: Cohort, positions: tuple[int, ...]) -> set[str]:
    return {cohort.biopsies[at].subject for at in positions}


# splits


@settings(deadline=None)
@given(
    st.lists(st.integers(1, 5), min_size=5, max_size=9),
    st.integers(3, 5),
    st.sampled_from(["subject", "image"]),
    st.integers(0, 5),
)
def test_splits_keep_apart_what_must_be(sizes: list[int], count: int, unit: str, seed: int) -> None:
    cohort = cohort_of(sizes)
    everyone = set(range(len(cohort.biopsies)))
    splits = make_splits(cohort, tiny_run(folds__count=count, folds__unit=unit, seed=seed))
    assert [split.name for split in splits.folds] == [f"fold-{k}" for k in range(1, count + 1)]
    for split in (*splits.folds, splits.components):
        assert set(split.train) | set(split.held_out) == everyone
        assert not set(split.train) & set(split.held_out)
        assert not set(split.inner) & set(split.held_out)
        assert split.train
        assert split.held_out
        if unit == "subject":
            assert not subjects(cohort, split.train) & subjects(cohort, split.held_out)
            rest = tuple(set(split.train) - set(split.inner))
            assert not subjects(cohort, split.inner) & subjects(cohort, rest)
    held_out = [at for split in splits.folds for at in split.held_out]
    assert sorted(held_out) == sorted(everyone)
    inner = [at for split in splits.folds for at in split.inner]
    assert sorted(inner) == sorted(everyone)
    assert splits.everything == Split("all", tuple(sorted(everyone)), ())


def test_the_component_split_is_of_its_own_or_the_first_fold() -> None:
    own = make_splits(COHORT, tiny_run(folds__components_held_out=3))
    assert (own.components.name, own.components_is_fold) == ("components", False)
    assert len(own.components.held_out) == 3
    first = make_splits(COHORT, tiny_run(folds__components_held_out=None))
    assert first.components == first.folds[0]
    assert first.components_is_fold


def test_two_folds_leave_no_inner_part() -> None:
    with pytest.raises(SettingsError, match=r"use 3 or more folds, or tune\.validation 'held_out'"):
        make_splits(COHORT, tiny_run(folds__count=2))
    splits = make_splits(COHORT, tiny_run(folds__count=2, tune__validation="held_out"))
    assert len(splits.folds) == 2


def test_fewer_subjects_than_folds() -> None:
    with pytest.raises(CohortError, match=r"4 subject\(s\) cannot fill 5 folds"):
        make_splits(cohort_of([5, 5, 5, 5]), tiny_run())
    assert len(make_splits(cohort_of([5, 5, 5, 5]), tiny_run(folds__unit="image")).folds) == 5


# trials


def maker(**changes: Any) -> SpecMaker:
    return SpecMaker(tiny_run(**changes), COHORT, "data")


def test_the_grid_is_every_combination_in_order() -> None:
    grid = {"train.learning_rate": (1, 2), "train.weight_decay": (3, 4)}
    assert grid_points(arm(grid=grid)) == [
        {"train.learning_rate": 1, "train.weight_decay": 3},
        {"train.learning_rate": 1, "train.weight_decay": 4},
        {"train.learning_rate": 2, "train.weight_decay": 3},
        {"train.learning_rate": 2, "train.weight_decay": 4},
    ]
    assert grid_points(arm()) == [{}]


def test_the_search_is_arm_by_point_by_fold() -> None:
    made = maker()
    splits = make_splits(COHORT, made.settings)
    specs = made.search(splits)
    # Of the three arms the baseline has nothing to search for.
    assert len(specs) == 2 * 2 * 5
    assert {spec.phase for spec in specs} == {"tune"}
    assert len({spec.key for spec in specs}) == len(specs)
    by_name = {split.name: split for split in splits.folds}
    for spec in specs:
        split = by_name[spec.split]
        assert spec.arm.train.learning_rate == spec.params["train.learning_rate"]
        assert spec.validation == split.inner
        assert set(spec.train) == set(split.train) - set(split.inner)
        assert not set(spec.train + spec.validation) & set(split.held_out)
        assert spec.names == tuple(COHORT.biopsies[at].name for at in spec.train)


def test_the_search_may_be_scored_on_the_held_out_fold() -> None:
    made = maker(tune__validation="held_out")
    splits = make_splits(COHORT, made.settings)
    for spec in made.search(splits):
        split = next(split for split in splits.folds if split.name == spec.split)
        assert (spec.train, spec.validation) == (split.train, split.held_out)


@pytest.mark.parametrize(("share", "epochs"), [(1.0, 2), (0.5, 1), (0.01, 1)])
def test_the_search_may_train_shorter(share: float, epochs: int) -> None:
    made = maker(tune__epochs_fraction=share)
    splits = make_splits(COHORT, made.settings)
    assert {spec.arm.train.epochs for spec in made.search(splits)} == {epochs}
    assert {spec.arm.train.epochs for spec in made.training(splits, {})} == {2}


def test_the_chosen_configuration_is_trained_everywhere() -> None:
    made = maker()
    splits = make_splits(COHORT, made.settings)
    specs = made.training(splits, {("nerve", "U-Net"): {"train.learning_rate": 0.5}})
    trained = [(s.stage, s.arm.label, s.split) for s in specs]
    everywhere = [f"fold-{k}" for k in range(1, 6)] + ["all", "components"]
    assert trained == [
        *(("nerve", "U-Net", where) for where in everywhere),
        ("nerve", "U-Net 2", "components"),
        *(("dermis", "U-Net", where) for where in everywhere),
    ]
    rates = {(s.stage, s.arm.label): s.arm.train.learning_rate for s in specs}
    # Not chosen: the first of the grid, or what the arm says.
    assert rates == {("nerve", "U-Net"): 0.5, ("nerve", "U-Net 2"): 0.01, ("dermis", "U-Net"): 1e-3}
    assert all(spec.validation == () and spec.phase == "fit" for spec in specs)
    everything = next(spec for spec in specs if spec.split == "all")
    assert everything.train == tuple(range(len(COHORT.biopsies)))


def test_an_ensemble_trains_the_folds_and_no_pair_on_everything() -> None:
    made = maker(ensemble=True)
    splits = make_splits(COHORT, made.settings)
    trained = [s.split for s in made.training(splits, {}) if s.stage == "dermis"]
    assert trained == [*(f"fold-{k}" for k in range(1, 6)), "components"]


def test_the_components_may_be_a_fold_already_trained() -> None:
    made = maker(folds__components_held_out=None)
    splits = make_splits(COHORT, made.settings)
    trained = [(s.arm.label, s.split) for s in made.training(splits, {}) if s.stage == "nerve"]
    assert trained[5:] == [("U-Net", "all"), ("U-Net 2", "fold-1")]


def test_labels_that_look_alike_in_a_file_name_are_told_apart() -> None:
    made = maker(nerve__baselines=[arm("u net").model_dump(), arm("U_Net!").model_dump()])
    keys = [spec.key for spec in made.training(make_splits(COHORT, made.settings), {})]
    assert len(set(keys)) == len(keys)
    assert all(key == key.lower() and "/" not in key and " " not in key for key in keys)


def test_a_trial_is_marked_by_all_that_decides_it() -> None:
    made, split = maker(), Split("fold-1", (0, 1), (2,))
    first = made.make("fit", "nerve", made.settings.nerve.main, split, {})
    assert first == maker().make("fit", "nerve", made.settings.nerve.main, split, {})
    prints = {
        first.fingerprint(),
        maker(seed=1).make("fit", "nerve", made.settings.nerve.main, split, {}).fingerprint(),
        made.make("fit", "dermis", made.settings.nerve.main, split, {}).fingerprint(),
        made.make(
            "fit", "nerve", made.settings.nerve.main, split, {"train.epochs": 9}
        ).fingerprint(),
        SpecMaker(made.settings, COHORT, "other")
        .make("fit", "nerve", made.settings.nerve.main, split, {})
        .fingerprint(),
    }
    assert len(prints) == 5


# what would fail later


@pytest.mark.parametrize(
    ("changes", "error", "said"),
    [
        ({"name": "unheard_of"}, SettingsError, "nerve U-Net: unknown model 'unheard_of'"),
        ({"name": "unet", "options": {"colour": 1}}, SettingsError, "no option colour"),
        ({"name": "unet", "options": {"depth": 1}}, SettingsError, "at least 1 feature"),
        (
            {"name": "unet", "options": {"features": "many"}},
            SettingsError,
            r"options \{'features': 'many'\} do not describe a unet .*correct model\.options",
        ),
        ({"name": "unet", "weights": "absent.safetensors"}, WeightsError, "no such file"),
    ],
)
def test_a_network_that_cannot_be_built_is_told_before_anything_runs(
    changes: dict[str, Any], error: type[Exception], said: str
) -> None:
    with pytest.raises(error, match=said):
        check_trials([tiny_spec(arm__model=changes)])


def test_side_outputs_are_asked_for_where_there_are_some() -> None:
    with pytest.raises(SettingsError, match=r"unet has no side outputs; set train\.side_weight"):
        check_trials([tiny_spec(arm__train__side_weight=0.5)])
    check_trials([tiny_spec(arm__train__side_weight=0.5, arm__model={"name": "hed"})])


def test_sound_trials_pass() -> None:
    made = maker()
    splits = make_splits(COHORT, made.settings)
    check_trials([*made.search(splits), *made.training(splits, {})])


def test_a_grid_that_points_nowhere_is_told_as_the_trials_are_made() -> None:
    made = maker(nerve__main__grid={"train.lr": (1, 2)})
    with pytest.raises(SettingsError, match=r"unknown settings key 'train\.lr'"):
        made.search(make_splits(COHORT, made.settings))


# choice


def scored(rows: dict[float, list[float | None]], stage: str = "nerve") -> Any:
    """Specs and scores: a list of one value a fold for each learning rate."""
    specs, scores = [], {}
    for rate, values in rows.items():
        for fold, value in enumerate(values):
            key = f"{stage}-{rate}-{fold}"
            specs.append(
                tiny_spec(key=key, stage=stage, phase="tune", params={"train.learning_rate": rate})
            )
            scores[key] = value
    return specs, scores


def test_the_best_mean_is_chosen() -> None:
    chosen = choose(*scored({0.1: [0.9, 0.1], 0.2: [0.6, 0.6], 0.3: [0.5, 0.5]}))
    assert chosen == {("nerve", "U-Net"): {"train.learning_rate": 0.2}}


def test_stages_choose_by_themselves() -> None:
    nerve, dermis = scored({0.1: [0.9], 0.2: [0.6]}), scored({0.1: [0.2], 0.2: [0.3]}, "dermis")
    chosen = choose([*nerve[0], *dermis[0]], nerve[1] | dermis[1])
    assert [point["train.learning_rate"] for point in chosen.values()] == [0.1, 0.2]


def test_a_configuration_that_failed_anywhere_is_out() -> None:
    chosen = choose(*scored({0.1: [1.0, None], 0.2: [0.3, 0.2]}))
    assert chosen["nerve", "U-Net"] == {"train.learning_rate": 0.2}
    specs, scores = scored({0.1: [1.0, 1.0], 0.2: [0.3, 0.2]})
    del scores["nerve-0.1-1"]  # ended without an outcome
    assert choose(specs, scores)["nerve", "U-Net"] == {"train.learning_rate": 0.2}


def test_equal_means_keep_the_order_of_the_grid() -> None:
    chosen = choose(*scored({0.3: [0.5], 0.1: [0.5], 0.2: [0.5]}))
    assert chosen["nerve", "U-Net"] == {"train.learning_rate": 0.3}


def test_nothing_to_choose_is_no_choice() -> None:
    assert choose([], {}) == {}


def test_where_all_failed_the_arm_is_named() -> None:
    with pytest.raises(TrainingError, match=r"nerve U-Net: every configuration .* lower"):
        choose(*scored({0.1: [None, 0.5], 0.2: [0.5, None]}))
