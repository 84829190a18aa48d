"""The defaults of a run on photographs are the paper's."""

from __future__ import annotations

from pathlib import Path

import pytest

from skinray.config.base import to_yaml
from skinray.config.photos import PhotoSettings, photo_recipe
from skinray.errors import SettingsError
from skinray.learning.photos.trials import key
from skinray.models import build


def test_every_figure_is_the_papers() -> None:
    settings = PhotoSettings()
    assert [arm.model.name for arm in settings.networks] == [
        "skin_dense_unet", "skin_unet_large", "skin_unet",
    ]  # fmt: skip
    for arm in settings.networks:
        train = arm.train
        assert (train.loss, train.optimizer, train.momentum) == ("jaccard", "sgd", 0.9)
        assert (train.batch_size, train.epochs, train.early_stop_epochs) == (16, 500, 50)
        assert (train.learning_rate, train.keep) == (0.01, "best")
        assert train.plateau_patience_epochs > train.epochs  # the rate stays
        assert arm.model.weights is None
        assert arm.train.learning_rate * settings.fine_tuning_factor == 0.001
        assert (train.cross_entropy, train.average, train.schedule) == (0, 0, "plateau")
        assert (train.rate_fan_in, train.weight_decay) == (None, 0)
        assert arm.model.options == {}
    assert (settings.validation_fraction, settings.paste_probability) == (0.2, 0)
    assert settings.members == 1
    assert (settings.train_images, settings.test_images) == (100, 300)
    assert settings.pretraining_images == 1000  # LVS and HGR, of fewer, are used whole
    augment = settings.augment
    assert (augment.rotate_deg, augment.scale, augment.crop_px) == (15, (0.8, 1.2), 128)
    assert settings.load_px == 144
    assert (settings.skin.threshold, settings.skin.refine) == (0.5, False)
    off = (augment.translate_px, augment.shear_deg, augment.flip_probability)
    assert (off, augment.orientations_deg) == ((0, 0, 0), (0,))


def test_networks_are_chosen_by_name() -> None:
    chosen = PhotoSettings().only(["skin_unet", "skin_dense_unet"])
    assert [arm.label for arm in chosen.networks] == ["U-Net", "Dense Residual U-Net"]
    with pytest.raises(
        ValueError, match="no network hed: use skin_deeplabv3, skin_mobilenet, skin_dense"
    ):
        PhotoSettings().only(["hed"])


def test_trainings_last_as_long_as_requested() -> None:
    assert {arm.train.epochs for arm in PhotoSettings().lasting(7).networks} == {7}


@pytest.mark.parametrize(
    "changes",
    [
        {"load_px": 100},
        {"pretraining_images": 1},
        {"pretraining_images": "few"},
        {"pretraining_images": None},
        {"networks": ()},
        {"networks.1.label": "U-Net"},
        {"networks.1.label": "u net"},
        {"networks.1.label": "U/Net"},
        {"networks.1.label": "皮膚"},
    ],
)
def test_invalid_settings_are_refused(changes: dict[str, object]) -> None:
    with pytest.raises(SettingsError):
        PhotoSettings().override(changes)


def test_varied_is_the_papers_but_for_augmentation_and_training() -> None:
    paper, varied = photo_recipe("paper"), photo_recipe("varied")
    assert paper == PhotoSettings()
    back = varied.override(
        {
            "recipe": "paper",
            "augment": paper.augment.model_dump(),
            "load_px": paper.load_px,
            "fine_tuning_factor": paper.fine_tuning_factor,
            "validation_fraction": paper.validation_fraction,
            "paste_probability": paper.paste_probability,
            "skin": paper.skin.model_dump(),
        }
    )
    assert back.model_copy(update={"networks": paper.networks}) == paper
    for arm, ours in zip(paper.networks, varied.networks, strict=True):
        assert (ours.label, ours.model.name) == (arm.label, arm.model.name)
        assert (ours.train.epochs, ours.train.keep) == (arm.train.epochs, "last")
        assert (ours.train.loss, ours.train.schedule) == ("jaccard", "cosine")
        assert ours.train.cross_entropy > 0 < ours.train.average
        assert ours.train.early_stop_epochs is None  # the rate is to fall to its end
        assert ours.train.rate_fan_in
        build(ours.model.name, **ours.model.options)
    assert varied.skin == paper.skin.override({"refine": True})
    assert min(varied.augment.colour.model_dump().values()) > 0
    assert (varied.augment.flip_probability, varied.augment.flip_axes) == (0.5, "columns")
    with pytest.raises(SettingsError, match="no recipe 'best': use one of paper, varied"):
        photo_recipe("best")


def test_the_settings_saved_by_a_run_are_a_recipe(tmp_path: Path) -> None:
    settings = photo_recipe("varied").only(["skin_unet", "skin_deeplabv3"]).lasting(7)
    (tmp_path / "settings.yaml").write_text(to_yaml(settings), encoding="utf-8")
    assert photo_recipe(str(tmp_path / "settings.yaml")) == settings


def test_every_network_trains_as_varied_says() -> None:
    names = ["skin_unet", "skin_mobilenet", "skin_deeplabv3"]
    for arm in photo_recipe("varied").only(names).networks:
        train = arm.train
        assert (train.optimizer, train.schedule, train.keep) == ("adamw", "cosine", "last")
        assert (train.learning_rate, train.early_stop_epochs) == (1e-3, None)


def test_a_label_makes_one_safe_folder_name() -> None:
    networks = [
        arm.model_copy(update={"label": label})
        for arm, label in zip(PhotoSettings().networks, ("a/b: c", "../d", "e -- f"), strict=True)
    ]
    settings = PhotoSettings(networks=tuple(networks))
    assert [arm.slug for arm in settings.networks] == ["a-b-c", "d", "e-f"]
    assert key(settings.networks[0], "fine-tuning", 1) == "fine-tuning-a-b-c--member-2"
