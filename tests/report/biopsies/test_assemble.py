from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from skinray.config.biopsies import RunSettings
from skinray.images.cohort.rows import Cohort
from skinray.learning.checkpoint import EpochEnd
from skinray.learning.held_out import HeldOut, SplitScores
from skinray.learning.search import SpecMaker, Split, make_splits
from skinray.learning.spec import TrialSpec
from skinray.learning.trial import TrialOutcome
from skinray.report.biopsies.assemble import Measured, Trial, assemble, headline
from skinray.report.biopsies.results import RunResults
from tests.support.tiny import biopsy, tiny_run

COHORT = Cohort(
    Path("cohort"),
    tuple(
        biopsy(
            f"images/{at}.png", f"S{at % 5}", "AB"[at % 5 % 2], count=at, second_count=at + 1,
            um_per_px=0.5,
        )
        for at in range(20)
    ),
)  # fmt: skip
HELD_OUT = {"tune__selection": "pooled", "tune__validation": "held_out"}
HISTORY = [EpochEnd(0, 0.5, 1e-2, None, 12, 1.5), EpochEnd(1, 0.25, 1e-2, 0.75, 12, 0.5)]


def trial(spec: TrialSpec, history: list[EpochEnd] = HISTORY) -> Trial:
    seconds = sum(end.seconds for end in history)
    outcome = TrialOutcome(
        key=spec.key, fingerprint="f", score=0.75, history=history, seconds=seconds
    )
    return spec, outcome, ""


def scored(split: Split, miscount: int = 0) -> SplitScores:
    """Held-out images whose model counts are the expert's, but for ``miscount``."""
    images = [
        HeldOut(
            position=at, expert=at, model=at + miscount, nerve_dice={0: 0.5, 1: 0.75, 3: 1.0},
            dermis_dice=0.9, boundary_px=100.0 + at, prediction=f"images__{at}.png.npz",
            chance={"nerve": 0.1, "dermis": 0.7},
        )
        for at in split.held_out
    ]  # fmt: skip
    found = tiny_run().crossings.override({"nerve_threshold": 0.3})
    return SplitScores(images, found, 0.8)


def measured(settings: RunSettings, cohort: Cohort = COHORT) -> Measured:
    splits = make_splits(cohort, settings)
    maker = SpecMaker(settings, cohort, "data")
    search, training = maker.search(splits), maker.training(splits, {})
    rows = [spec for spec in training if spec.split == splits.components.name]
    held_out = len(splits.components.held_out)
    return Measured(
        run_dir=Path("run"),
        data="/cohort",
        data_fingerprint="data",
        splits=splits,
        scores={split.name: scored(split) for split in (*splits.folds, splits.components)},
        search=[trial(spec) for spec in search],
        trained=[trial(spec) for spec in training],
        arms=[(spec, {0: [0.5] * held_out}) for spec in rows],
        um_per_px=0.5,
    )


def assembled(
    settings: RunSettings | None = None, cohort: Cohort = COHORT, **changes: Any
) -> RunResults:
    settings = settings or tiny_run()
    missing = changes.pop("missing", {})
    whole = replace(measured(settings, cohort), **changes)
    return assemble(
        whole, settings, cohort, missing,
        started="2025-01-01T08:00:00+00:00", seconds=9.0, versions={}, hardware="none",
    )  # fmt: skip


def test_every_image_is_counted_in_its_fold() -> None:
    results = assembled()
    assert sorted(int(row.image.split("/")[1][:-4]) for row in results.counts) == list(range(20))
    splits = make_splits(COHORT, tiny_run())
    for row in results.counts:
        at = int(Path(row.image).stem)
        split = splits.folds[row.fold - 1]
        assert at in split.held_out
        assert (row.expert, row.model, row.second_expert) == (at, at, at + 1)
        assert (row.subject, row.group) == (f"S{at % 5}", "AB"[at % 5 % 2])
        assert row.path == str(Path("cohort/images") / f"{at}.png")
        assert row.prediction == f"predictions/{split.name}/images__{at}.png.npz"
        assert (row.nerve_dice, row.dermis_dice) == ({0: 0.5, 1: 0.75, 3: 1.0}, 0.9)
        assert (row.boundary_px, row.um_per_px) == (100.0 + at, 0.5)


def test_the_folds_say_who_was_held_out_and_what_was_found() -> None:
    results, splits = assembled(), make_splits(COHORT, tiny_run())
    assert [row.fold for row in results.folds] == [1, 2, 3, 4, 5]
    for row, split in zip(results.folds, splits.folds, strict=True):
        assert (row.train_images, row.held_out_images) == (len(split.train), len(split.held_out))
        assert (row.train_subjects, row.held_out_subjects) == (4, 1)
        assert row.crossings["nerve_threshold"] == 0.3
        assert row.fit_consistency == 0.8


def test_the_component_split_is_counted_outside_the_folds() -> None:
    results, splits = assembled(), make_splits(COHORT, tiny_run())
    assert results.component_split == "components"
    assert {row.fold for row in results.component_counts} == {0}
    names = {COHORT.biopsies[at].name for at in splits.components.held_out}
    assert {row.image for row in results.component_counts} == names
    for arm in results.arms:
        assert set(arm.images) == names
        assert len(arm.images) == len(arm.dice[0])


def test_the_component_split_may_be_the_first_fold() -> None:
    results = assembled(tiny_run(folds__components_held_out=None))
    assert results.component_split == "fold-1"
    first = [row.image for row in results.counts if row.fold == 1]
    assert [row.image for row in results.component_counts] == first


def test_arms_keep_their_order_and_chosen_settings() -> None:
    rows = [(row.stage, row.label, row.main, row.status) for row in assembled().arms]
    assert rows == [
        ("nerve", "U-Net", True, "measured"),
        ("nerve", "U-Net 2", False, "measured"),
        ("dermis", "U-Net", True, "measured"),
    ]
    assert assembled().arms[0].chosen == {"train.learning_rate": 1e-3}
    assert assembled().arms[1].chosen == {}


def test_each_split_s_own_settings_are_kept(tmp_path: Path) -> None:
    splits = make_splits(COHORT, tiny_run())
    chosen = {
        ("nerve", "U-Net", split.name): {"train.learning_rate": 0.1 * at}
        for at, split in enumerate(splits.trained(tiny_run()), 1)
    }
    training = SpecMaker(tiny_run(), COHORT, "data").training(splits, chosen)  # type: ignore[arg-type]
    rows = [spec for spec in training if spec.split == splits.components.name]
    arms = [(spec, {0: [0.5]}) for spec in rows]
    assembled(trained=[trial(spec) for spec in training], arms=arms).save(tmp_path)
    results = RunResults.load(tmp_path)
    fits = [row for row in results.trials if (row.phase, row.stage) == ("fit", "nerve")]
    assert {row.split: row.params for row in fits if row.arm == "U-Net"} == {
        split: params for (_, _, split), params in chosen.items()
    }
    assert results.arms[0].chosen == chosen["nerve", "U-Net", "components"]


def test_an_arm_that_could_not_start_keeps_its_row_with_the_reason() -> None:
    asked = tiny_run(nerve__baselines__0__model__weights="unet_brain_mri")
    whole = measured(tiny_run())
    without = [(spec, dice) for spec, dice in whole.arms if spec.arm.label != "U-Net 2"]
    row = assembled(asked, arms=without, missing={("nerve", "U-Net 2"): "not here"}).arms[1]
    assert (row.label, row.status, row.reason) == ("U-Net 2", "not measured", "not here")
    assert (row.pretrained, row.dice, row.images) == ("unet_brain_mri", {}, [])


def test_trials_record_how_they_went() -> None:
    results = assembled()
    whole = measured(tiny_run())
    assert len(results.trials) == len(whole.search) + len(whole.trained)
    first = results.trials[0]
    assert (first.phase, first.status, first.score, first.epochs) == ("tune", "done", 0.75, 2)
    assert (first.seconds, first.images_per_s) == (2.0, 12.0)
    assert first.params == {"train.learning_rate": 1e-3}


def test_a_failed_trial_keeps_its_error() -> None:
    whole = measured(tiny_run())
    spec = whole.search[0][0]
    results = assembled(search=[(spec, None, "loss nan"), *whole.search[1:]])
    failed = results.trials[0]
    assert (failed.status, failed.error, failed.score) == ("failed", "loss nan", None)
    assert failed.trial == spec.key


def test_curves_are_of_the_final_trainings_with_epochs_from_one() -> None:
    results = assembled()
    assert len(results.curves) == len(measured(tiny_run()).trained)
    points = [(p.epoch, p.loss, p.validation) for p in results.curves[0].points]
    assert points == [(1, 0.5, None), (2, 0.25, 0.75)]


def test_the_results_survive_the_file(tmp_path: Path) -> None:
    results = assembled()
    results.save(tmp_path)
    assert RunResults.load(tmp_path) == results
    assert RunSettings.model_validate(results.settings) == tiny_run()
    assert (results.images, results.subjects, results.bundle) == (20, 5, "bundle")


# notes


def test_a_plain_run_needs_no_note() -> None:
    assert assembled().notes == []


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"folds__unit": "image"}, "Folds are of images"),
        ({"tune__selection": "pooled"}, "The figures are optimistic: each network has one"),
        (HELD_OUT, "The figures are optimistic: the grid search was scored on the held-out"),
    ],
)
def test_what_makes_figures_optimistic_is_noted(changes: dict[str, Any], said: str) -> None:
    (note,) = assembled(tiny_run(**changes)).notes
    assert said in note


def test_without_a_search_held_out_folds_are_not_optimistic() -> None:
    assert assembled(tiny_run(**HELD_OUT), search=[]).notes == []


def test_skipped_steps_are_noted() -> None:
    whole = measured(tiny_run())
    ends = [replace(HISTORY[0], skipped_steps=1), replace(HISTORY[1], skipped_steps=3)]
    trained = [trial(whole.trained[0][0], ends), *whole.trained[1:]]
    (note,) = assembled(trained=trained).notes
    assert note.startswith("3 training steps")


@pytest.mark.parametrize(("uncounted", "said"), [(1, "1 of 20 images"), (20, "20 of 20 images")])
def test_counts_taken_from_labels_are_noted(uncounted: int, said: str) -> None:
    rows = tuple(
        replace(row, count=None) if at < uncounted else row
        for at, row in enumerate(COHORT.biopsies)
    )
    (note,) = assembled(cohort=Cohort(COHORT.root, rows)).notes
    assert said in note


# what the model card quotes


def test_the_headline_is_of_held_out_images_alone() -> None:
    figures = headline(measured(tiny_run()), tiny_run())
    assert figures == {
        "images held out once each": 20,
        "dermis Dice (mean)": 0.9,
        "nerve Dice, k = 0 (mean)": 0.5,
        "nerve Dice, k = 1 (mean)": 0.75,
        "nerve Dice, k = 3 (mean)": 1.0,
        "Pearson r with the expert's counts (all images)": 1.0,
        "error of a count (mean, crossings)": 0.0,
        "limits of agreement (crossings per image)": [0.0, 0.0],
        "Pearson r with the expert's counts (mean of 5 of 5 folds)": 1.0,
    }


def test_the_headline_says_where_its_figures_are_optimistic() -> None:
    pooled = tiny_run(tune__selection="pooled")
    assert headline(measured(pooled), pooled)["note"].startswith("The figures are optimistic: ")
    assert "note" not in headline(replace(measured(pooled), search=[]), pooled)


def test_folds_whose_counts_do_not_vary_count_as_0_in_the_mean() -> None:
    whole = measured(tiny_run())
    flat = [replace(image, model=3) for image in whole.scores["fold-1"].images]
    scores = whole.scores | {"fold-1": replace(whole.scores["fold-1"], images=flat)}
    key = "Pearson r with the expert's counts (mean of 5 of 5 folds)"
    assert headline(replace(whole, scores=scores), tiny_run())[key] == 0.8
    none = {
        name: replace(split, images=[replace(image, model=3) for image in split.images])
        for name, split in whole.scores.items()
    }
    figures = headline(replace(whole, scores=none), tiny_run())
    assert figures[key] == 0
    assert "Pearson r with the expert's counts (all images)" not in figures
    assert not any(isinstance(v, float) and math.isnan(v) for v in figures.values())


def test_no_expert_has_counted_drawn_images() -> None:
    figures = headline(measured(tiny_run()), tiny_run(), synthetic=True)
    assert figures["Pearson r with the truth drawn (all images)"] == 1.0
    assert not [name for name in figures if "expert" in name]


# who made the labels


def of_sources(*sources: str | None) -> Cohort:
    rows = zip(COHORT.biopsies, [*sources, *[None] * 20], strict=False)
    return Cohort(COHORT.root, tuple(replace(row, source=source) for row, source in rows))


def test_labels_that_a_model_drew_are_counted_in_the_notes() -> None:
    cohort = of_sources("corrected", None, None, None, None, "model")
    results = assembled(cohort=cohort)
    assert results.notes[0] == (
        "2 of 20 labels were pre-drawn by a model: 1 then corrected or reviewed by a person, 1 not."
    )
    assert len(results.notes) == 3
    assert "images/5.png" not in {row.image for row in results.counts}
    assert len(results.counts) == 19
    splits = make_splits(cohort, tiny_run())
    assert results.component_train == len(splits.components.train)


@pytest.mark.parametrize(("drawn", "synthetic"), [(0, False), (19, False), (20, True)])
def test_a_run_is_synthetic_only_if_every_image_is_drawn(drawn: int, synthetic: bool) -> None:
    results = assembled(cohort=of_sources(*["phantom"] * drawn))
    assert results.synthetic is synthetic
    mixed = [note for note in results.notes if "drawn by skinray" in note]
    assert len(mixed) == (drawn == 19)
