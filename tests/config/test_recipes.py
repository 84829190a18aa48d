from __future__ import annotations

from pathlib import Path

import pytest
import torch

from skinray.config.base import from_yaml, to_yaml
from skinray.config.biopsies import RunSettings
from skinray.config.recipes import RECIPES, demo, paper, recipe
from skinray.errors import SettingsError
from skinray.learning.search import SpecMaker, make_splits
from skinray.learning.spec import TrialSpec
from skinray.learning.trial import check_trials
from skinray.models import build
from skinray.models.weights.published import WEIGHTS
from tests.support.tiny import cohort_of

# Every figure of the paper that is a setting, by its place in the recipe.
PAPER = {
    "folds.count": 5,
    "folds.components_held_out": 10,
    # 2.1 augmentation, the same for both stages
    "nerve.augment.translate_px": 100,
    "nerve.augment.rotate_deg": 10,
    "nerve.augment.shear_deg": 5,
    "nerve.augment.orientations_deg": [0, 90, 180, 270],
    "nerve.augment.crop_px": 800,
    "nerve.augment.flip_probability": 0.5,
    # 2.2 nerves
    "nerve.main.model.name": "hed",
    "nerve.main.model.options": {},
    "nerve.main.model.weights": "hed_bsds500",
    "nerve.main.train.loss": "dice",
    "nerve.main.train.learning_rate": 1e-4,
    "nerve.main.train.weight_decay": 1e-3,
    "nerve.main.train.epochs": 200,
    # 2.3 dermis
    "dermis.main.model.name": "deeplabv3_resnet101",
    "dermis.main.model.options": {},
    "dermis.main.model.weights": "deeplabv3_resnet101_coco_voc",
    "dermis.main.train.loss": "bce",
    "dermis.main.train.learning_rate": 3e-4,
    "dermis.main.train.weight_decay": 1e-3,
    "dermis.main.train.epochs": 300,
    # 2.4 crossings
    "crossings.sigma_px": 10,
    "crossings.dermis_threshold": 0.6,
    "crossings.min_area_fraction": 0.2,
    "crossings.eps_px": 3,
    "crossings.min_points": 4,
    "crossings.window_px": 17,
    "crossings.min_side_pixels": 5,
}
# Where the paper is silent: our reading.
READINGS = {
    "folds.unit": "subject",
    "nerve.augment.shear_axes": "x",
    "nerve.augment.fill": "reflect",
    "nerve.main.train.side_weight": 0,
    "nerve.main.train.batch_size": 2,
    "nerve.main.train.plateau_factor": 0.1,
    "nerve.main.train.plateau_patience_epochs": 10,
    "nerve.main.train.keep": "last",
    "nerve.main.train.early_stop_epochs": None,
    "nerve.main.train.draws_per_image": 1,
    "dermis.main.train.batch_size": 2,
    "dermis.main.train.plateau_factor": 0.1,
    "dermis.main.train.plateau_patience_epochs": 10,
    "crossings.boundary_width_px": 3,
    "crossings.nerve_threshold": 0.5,
    "crossings.reference_um_per_px": 0.5,
    "fit.enabled": True,
    "tune.epochs_fraction": 1,
}


@pytest.mark.parametrize(("path", "value"), (PAPER | READINGS).items())
def test_the_paper_recipe_holds_every_figure(path: str, value: object) -> None:
    place = paper().model_dump(mode="json")
    for key in path.split("."):
        place = place[key]
    assert place == value


def test_both_stages_of_the_paper_have_the_same_augmentation() -> None:
    assert paper().nerve.augment == paper().dermis.augment


def test_the_paper_recipe_has_every_row_of_tables_1_and_2() -> None:
    def rows(stage: str) -> list[tuple[str, str | None]]:
        arms = paper().stage(stage).arms  # type: ignore[arg-type]
        return [(arm.model.name, arm.model.weights) for arm in arms]

    assert rows("nerve") == [
        ("hed", "hed_bsds500"), ("unet", "unet_brain_mri"), ("hed", None),
    ]  # fmt: skip
    assert rows("dermis") == [
        ("deeplabv3_resnet101", "deeplabv3_resnet101_coco_voc"),
        ("unet", "unet_brain_mri"),
        ("deeplabv3_resnet101", None),
    ]


def test_the_search_of_the_paper_tries_what_it_found() -> None:
    for stage in (paper().nerve, paper().dermis):
        for arm in stage.arms:
            assert arm.train.learning_rate in arm.grid["train.learning_rate"]
            assert arm.train.weight_decay in arm.grid["train.weight_decay"]


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_is_complete(name: str, tmp_path: Path) -> None:
    settings = recipe(name)
    assert settings.recipe == name
    path = tmp_path / "recipe.yaml"
    path.write_text(to_yaml(settings), encoding="utf-8")
    assert recipe(str(path)) == from_yaml(RunSettings, path) == settings


@pytest.mark.parametrize("name", RECIPES)
def test_every_network_of_a_recipe_can_be_built(name: str) -> None:
    settings, before = recipe(name), torch.get_rng_state()
    for stage in ("nerve", "dermis"):
        for arm in settings.stage(stage).arms:  # type: ignore[arg-type]
            assert arm.model.weights is None or WEIGHTS[arm.model.weights].model == arm.model.name
            unpretrained = arm.override({"model.weights": None})
            spec = TrialSpec.model_validate(
                {
                    "key": "k", "phase": "fit", "stage": stage, "arm": unpretrained,
                    "augment": settings.stage(stage).augment, "split": "s",  # type: ignore[arg-type]
                    "train": (), "names": (), "seed": 0, "data": "",
                }
            )  # fmt: skip
            check_trials([spec])
    torch.set_rng_state(before)


def test_the_demo_differs_from_the_paper_only_in_size() -> None:
    ours, theirs = demo(), paper()
    for part in ("crossings", "fit", "read", "cluster", "seed"):
        assert getattr(ours, part) == getattr(theirs, part)
    assert ours.folds.count == theirs.folds.count
    assert [a.train.loss for a in ours.nerve.arms] == ["dice"] * 3
    assert [a.train.loss for a in ours.dermis.arms] == ["bce"] * 2
    # Nothing need be downloaded for it.
    arms = (*ours.nerve.arms, *ours.dermis.arms)
    assert {arm.model.weights for arm in arms} == {None, "starter_nerve"}
    assert WEIGHTS["starter_nerve"].shipped


def test_real_tissue_is_the_demo_with_folds_of_images_and_longer_trainings() -> None:
    changes = {
        "recipe": "real-tissue", "folds.unit": "image", "tune.epochs_fraction": 0.4,
        "nerve.main.grid": demo().dermis.main.grid, "dermis.main.train.epochs": 20,
        "dermis.baselines.0.train.epochs": 20,
    }  # fmt: skip
    assert recipe("real-tissue") == demo().override(changes)


@pytest.mark.parametrize("name", ["papre", "", "paper.yml.bak", "Paper"])
def test_an_unknown_recipe_is_answered_with_the_known_ones(name: str) -> None:
    with pytest.raises(
        SettingsError, match=r"use one of demo, paper, real-tissue, or a \.yaml file"
    ):
        recipe(name)


def test_a_recipe_file_that_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"absent\.yaml: cannot be read"):
        recipe(str(tmp_path / "absent.yaml"))


# Crops of 800x800 a second of a GPU that trains DeepLabV3 at a quarter of an H200's peak (224): HED
# has a third of its arithmetic. U-Net is taken for as slow as DeepLabV3.
CROPS_PER_S = {"hed": 165.0}
DEEPLAB_CROPS_PER_S = 55.0


def test_states_of_the_papers_recipe_stay_below_200_gb() -> None:
    """Stored after each epoch, as they once were, they were tens of terabytes."""
    settings, cohort = paper(), cohort_of([4] * 22 + [3] * 2)
    splits = make_splits(cohort, settings)
    maker = SpecMaker(settings, cohort, "data")
    specs = [*maker.search(splits), *maker.training(splits, {})]
    by_time, by_epoch, states = 0.0, 0.0, dict[str, int]()
    for model in {spec.arm.model.name: spec.arm.model for spec in specs}.values():
        with torch.device("meta"):
            network = build(model.name, **model.options)
        states[model.name] = 3 * 4 * sum(p.numel() for p in network.parameters())  # Adam: 2 moments
    for spec in specs:
        state = states[spec.arm.model.name]
        crops = spec.arm.train.epochs * len(spec.train)
        seconds = crops / CROPS_PER_S.get(spec.arm.model.name, DEEPLAB_CROPS_PER_S)
        by_time += state * (seconds // settings.cluster.checkpoint_every_s)
        by_epoch += state * spec.arm.train.epochs
    assert len(specs) > 150
    assert 20e9 < by_time < 200e9
    assert by_epoch > 10e12
