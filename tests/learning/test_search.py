from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skinray.errors import CohortError, SettingsError, WeightsError
from skinray.images.cohort.rows import Cohort
from skinray.learning.search import SpecMaker, Split, make_splits
from skinray.learning.spec import TrialSpec, grid_points
from skinray.learning.trial import check_trials
from tests.support.tiny import arm, biopsy, cohort_of, tiny_run, tiny_spec

COHORT = cohort_of([4, 3, 2, 2, 1, 3])
POOLED = {"tune.selection": "pooled"}
HELD_OUT = {"tune__selection": "pooled", "tune__validation": "held_out"}
BASELINE_GRID = {"nerve__baselines__0__grid": {"train.learning_rate": (0.1, 0.2)}}


def subjects(cohort: Cohort, positions: tuple[int, ...]) -> set[str]:
    return {cohort.biopsies[at].subject for at in positions}


# splits


@settings(deadline=None)
@given(
    st.lists(st.integers(1, 5), min_size=6, max_size=9),
    st.tuples(st.integers(3, 5), st.integers(1, 4)).filter(lambda pair: pair[1] < pair[0]),
    st.sampled_from(["subject", "image"]),
    st.integers(0, 5),
)
def test_splits_do_not_overlap(
    sizes: list[int], counts: tuple[int, int], unit: str, seed: int
) -> None:
    cohort, (count, inner) = cohort_of(sizes), counts
    everyone = set(range(len(cohort.biopsies)))
    changes = {"folds__count": count, "tune__inner_splits": inner, "folds__unit": unit}
    splits = make_splits(cohort, tiny_run(**changes, seed=seed))
    assert [split.name for split in splits.folds] == [f"fold-{k}" for k in range(1, count + 1)]
    for split in (*splits.folds, splits.components):
        assert set(split.train) | set(split.held_out) == everyone
        assert not set(split.train) & set(split.held_out)
        assert split.train
        assert split.held_out
        assert len(split.inner) == inner
        assert len({at for part in split.inner for at in part}) == sum(map(len, split.inner))
        for part in split.inner:
            rest = tuple(set(split.train) - set(part))
            assert part
            assert rest
            assert set(part) < set(split.train)
            if unit == "subject":
                assert not subjects(cohort, part) & subjects(cohort, rest)
        if unit == "subject":
            assert not subjects(cohort, split.train) & subjects(cohort, split.held_out)
    held_out = [at for split in splits.folds for at in split.held_out]
    assert sorted(held_out) == sorted(everyone)
    for j in range(inner):
        assert sorted(at for split in splits.folds for at in split.inner[j]) == sorted(everyone)
    assert splits.everything == Split("all", tuple(sorted(everyone)), ())


def test_the_component_split_is_of_its_own_or_the_first_fold() -> None:
    own = make_splits(COHORT, tiny_run(folds__components_held_out=3))
    assert (own.components.name, own.components_is_fold) == ("components", False)
    assert len(own.components.held_out) == 3
    first = make_splits(COHORT, tiny_run(folds__components_held_out=None))
    assert first.components == first.folds[0]
    assert first.components_is_fold


def test_the_inner_parts_of_a_fold_are_the_folds_nearest_to_it() -> None:
    folds = make_splits(COHORT, tiny_run(tune__inner_splits=4)).folds
    for k, split in enumerate(folds):
        assert split.inner == tuple(folds[(k + way) % 5].held_out for way in (1, -1, 2, -2))


def test_three_folds_have_two_inner_parts_each() -> None:
    folds = make_splits(COHORT, tiny_run(folds__count=3)).folds
    at = [(1, 2), (2, 0), (0, 1)]
    assert [s.inner for s in folds] == [tuple(folds[k].held_out for k in pair) for pair in at]


def test_two_folds_are_for_a_search_scored_on_held_out_images() -> None:
    splits = make_splits(COHORT, tiny_run(**HELD_OUT, folds__count=2))
    assert [split.inner for split in splits.folds] == [(), ()]


def test_too_few_subjects_outside_the_component_split() -> None:
    few = cohort_of([3, 3, 3])
    settings = tiny_run(folds__count=3, folds__components_held_out=6)
    with pytest.raises(CohortError, match=r"1 subject, too few for the 2 parts .*set it to null"):
        make_splits(few, settings)
    calm = settings.override({"nerve.main.grid": {}, "dermis.main.grid": {}})
    assert make_splits(few, calm).components.inner == ()
    assert make_splits(few, settings.override(POOLED)).components.inner == ()


def test_fewer_subjects_than_folds() -> None:
    with pytest.raises(CohortError, match=r"4 subjects cannot fill 5 folds"):
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


@pytest.mark.parametrize(("inner", "trainings"), [(1, 5), (2, 5), (3, 10), (4, 10)])
def test_folds_that_leave_out_each_other_share_a_training(inner: int, trainings: int) -> None:
    made = maker(tune__inner_splits=inner)
    splits = make_splits(COHORT, made.settings)
    specs = made.search(splits)
    # Of the three arms the baseline has nothing to search for.
    assert sum("fold" in spec.key for spec in specs) == 2 * 2 * trainings
    assert {spec.phase for spec in specs} == {"tune"}
    assert len({spec.key for spec in specs}) == len(specs)
    by_name = {split.name: split for split in (*splits.folds, splits.components)}
    for stage, rate in {(s.stage, s.params["train.learning_rate"]) for s in specs}:
        own = [s for s in specs if (s.stage, s.arm.train.learning_rate) == (stage, rate)]
        seen = [(name, part) for spec in own for name, part in spec.evidence.items()]
        assert sorted(seen) == sorted((n, part) for n, s in by_name.items() for part in s.inner)
    for spec in specs:
        assert spec.names == tuple(COHORT.biopsies[at].name for at in spec.train)
        assert len(set(spec.validation)) == len(spec.validation)
        assert set(spec.validation) == {at for part in spec.evidence.values() for at in part}
        for name, part in spec.evidence.items():
            assert set(spec.train) == set(by_name[name].train) - set(part)
            assert not set(spec.train + part) & set(by_name[name].held_out)


@pytest.mark.parametrize("change", [{"keep": "best"}, {"early_stop_epochs": 3}])
def test_a_training_whose_scores_choose_the_epoch_is_evidence_for_only_one_split(
    change: dict[str, Any],
) -> None:
    """Else the images that test a fold would choose the epoch that is scored for it."""
    made = maker(**{f"nerve__main__train__{name}": value for name, value in change.items()})
    specs = made.search(make_splits(COHORT, made.settings))
    assert {len(spec.evidence) for spec in specs if spec.stage == "nerve"} == {1}
    assert {len(spec.evidence) for spec in specs if spec.stage == "dermis"} == {1, 2}
    assert len({spec.key for spec in specs}) == len(specs)


def test_a_configuration_whose_scores_choose_the_epoch_shares_no_training() -> None:
    """Also where it is a point of the grid, beside others that do share."""
    made = maker(nerve__main__grid={"train.keep": ["last", "best"]})
    specs = [s for s in made.search(make_splits(COHORT, made.settings)) if s.stage == "nerve"]
    sizes = {
        keep: {len(spec.evidence) for spec in specs if spec.params == {"train.keep": keep}}
        for keep in ("last", "best")
    }
    assert sizes["best"] == {1}
    assert max(sizes["last"]) == 2


def test_each_arm_is_searched_where_it_is_trained() -> None:
    made = maker(**BASELINE_GRID)
    splits = make_splits(COHORT, made.settings)

    def places(specs: list[TrialSpec]) -> set[tuple[str, str, str]]:
        return {(spec.stage, spec.arm.label, spec.split) for spec in specs}

    trained = places(made.training(splits, {}))
    searched = {
        (spec.stage, spec.arm.label, name) for spec in made.search(splits) for name in spec.evidence
    }
    assert searched == {place for place in trained if place[2] != "all"}
    assert {place[2] for place in trained if place[1] == "U-Net 2"} == {"components"}


def test_pooled_arms_are_searched_on_every_fold() -> None:
    made = maker(**BASELINE_GRID, tune__selection="pooled")
    splits = make_splits(COHORT, made.settings)
    specs = made.search(splits)
    assert len(specs) == 3 * 2 * 5
    assert {n for spec in specs for n in spec.evidence} == {split.name for split in splits.folds}


def test_the_search_may_be_scored_on_the_held_out_fold() -> None:
    made = maker(**HELD_OUT)
    splits = make_splits(COHORT, made.settings)
    specs = made.search(splits)
    assert len(specs) == 2 * 2 * 5
    for spec in specs:
        split = next(split for split in splits.folds if split.name == spec.split)
        assert (spec.train, spec.validation) == (split.train, split.held_out)


@pytest.mark.parametrize(("share", "epochs"), [(1.0, 2), (0.5, 1), (0.01, 1)])
def test_the_search_may_train_shorter(share: float, epochs: int) -> None:
    made = maker(tune__epochs_fraction=share)
    splits = make_splits(COHORT, made.settings)
    assert {spec.arm.train.epochs for spec in made.search(splits)} == {epochs}
    assert {spec.arm.train.epochs for spec in made.training(splits, {})} == {2}


def test_each_split_is_trained_with_its_chosen_configuration() -> None:
    made = maker()
    splits = make_splits(COHORT, made.settings)
    everywhere = [f"fold-{k}" for k in range(1, 6)] + ["all", "components"]
    rates = {where: 0.1 * at for at, where in enumerate(everywhere, 1)}
    specs = made.training(
        splits, {("nerve", "U-Net", at): {"train.learning_rate": r} for at, r in rates.items()}
    )
    trained = [(s.stage, s.arm.label, s.split) for s in specs]
    assert trained == [
        *(("nerve", "U-Net", where) for where in everywhere),
        ("nerve", "U-Net 2", "components"),
        *(("dermis", "U-Net", where) for where in everywhere),
    ]
    # Not chosen: the first of the grid, or what the arm says.
    assert [spec.arm.train.learning_rate for spec in specs] == [*rates.values(), 0.01, *[1e-3] * 7]
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


def test_labels_with_the_same_slug_have_different_keys() -> None:
    made = maker(nerve__baselines=[arm("u net").model_dump(), arm("U_Net!").model_dump()])
    keys = [spec.key for spec in made.training(make_splits(COHORT, made.settings), {})]
    assert len(set(keys)) == len(keys)
    assert all(key == key.lower() and "/" not in key and " " not in key for key in keys)


def test_a_trial_is_marked_by_all_that_decides_it() -> None:
    made, split = maker(), ("fold-1", (0, 1))
    first = made.make("fit", "nerve", made.settings.nerve.main, *split, {})
    assert first == maker().make("fit", "nerve", made.settings.nerve.main, *split, {})
    prints = {
        first.fingerprint(),
        maker(seed=1).make("fit", "nerve", made.settings.nerve.main, *split, {}).fingerprint(),
        made.make("fit", "dermis", made.settings.nerve.main, *split, {}).fingerprint(),
        made.make(
            "fit", "nerve", made.settings.nerve.main, *split, {"train.epochs": 9}
        ).fingerprint(),
        SpecMaker(made.settings, COHORT, "other")
        .make("fit", "nerve", made.settings.nerve.main, *split, {})
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
            r"unet cannot be built with options \{'features': 'many'\} .*correct model\.options",
        ),
        ({"name": "unet", "weights": "absent.safetensors"}, WeightsError, "no such file"),
    ],
)
def test_a_network_that_cannot_be_built_is_an_error_before_anything_runs(
    changes: dict[str, Any], error: type[Exception], said: str
) -> None:
    with pytest.raises(error, match=said):
        check_trials([tiny_spec(arm__model=changes)])


def test_side_weight_needs_a_network_with_side_outputs() -> None:
    with pytest.raises(SettingsError, match=r"unet has no side outputs; set train\.side_weight"):
        check_trials([tiny_spec(arm__train__side_weight=0.5)])
    check_trials([tiny_spec(arm__train__side_weight=0.5, arm__model={"name": "hed"})])


def test_sound_trials_pass() -> None:
    made = maker()
    splits = make_splits(COHORT, made.settings)
    check_trials([*made.search(splits), *made.training(splits, {})])


def test_an_unknown_grid_path_is_an_error_when_trials_are_made() -> None:
    made = maker(nerve__main__grid={"train.lr": (1, 2)})
    with pytest.raises(SettingsError, match=r"unknown settings key 'train\.lr'"):
        made.search(make_splits(COHORT, made.settings))


# labels by a model alone


@pytest.mark.parametrize(
    "changes", [{}, HELD_OUT, {"folds__components_held_out": None}, {"folds__unit": "image"}]
)
def test_a_model_s_labels_are_trained_on_and_never_judge(changes: dict[str, Any]) -> None:
    run = tiny_run(**changes)
    own = tuple(
        biopsy(f"model/{who}.png", who, None if who == "S9" else "AB"[int(who[1]) % 2],
               source="model")
        for who in ("S0", "S1", "S4", "S9")
    )  # fmt: skip
    cohort = Cohort(COHORT.root, (*COHORT.biopsies, *own))
    alone = set(range(len(COHORT.biopsies), len(cohort.biopsies)))
    splits, before = make_splits(cohort, run), make_splits(COHORT, run)
    whole = (*splits.folds, splits.components)
    for split, plain in zip(whole, (*before.folds, before.components), strict=True):
        assert split.held_out == plain.held_out
        assert set(split.train) - alone == set(plain.train)
        kept = alone
        if run.folds.unit == "subject":
            out = subjects(cohort, split.held_out)
            kept = {at for at in alone if cohort.biopsies[at].subject not in out}
        assert set(split.train) & alone == kept
    assert alone <= set(splits.everything.train)
    specs = SpecMaker(run, cohort, "d").search(splits)
    assert specs
    for spec in specs:
        assert not set(spec.validation) & alone
        assert not {at for part in spec.evidence.values() for at in part} & alone
        assert max(spec.train) in alone
        if run.folds.unit == "subject":
            assert not subjects(cohort, spec.train) & subjects(cohort, spec.validation)
    plain_specs = SpecMaker(run, COHORT, "d").search(before)
    assert [spec.evidence for spec in specs] == [spec.evidence for spec in plain_specs]
