"""The defaults of a run on photographs are the paper's."""

from __future__ import annotations

import pytest

from skinray.errors import SettingsError
from skinray.models import build
from skinray.photo_config import PhotoSettings, photo_recipe


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
        assert train.rate_fan_in is None
        assert arm.model.options == {}
    assert (settings.validation_fraction, settings.paste_probability) == (0.2, 0)
    assert settings.members == 1
    assert (settings.train_images, settings.test_images) == (100, 300)
    augment = settings.augment
    assert (augment.rotate_deg, augment.scale, augment.crop_px) == (15, (0.8, 1.2), 128)
    assert settings.load_px == 144
    off = (augment.translate_px, augment.shear_deg, augment.flip_probability)
    assert (off, augment.orientations_deg) == ((0, 0, 0), (0,))


def test_networks_are_chosen_by_name() -> None:
    chosen = PhotoSettings().only(["skin_unet", "skin_dense_unet"])
    assert [arm.label for arm in chosen.networks] == ["U-Net", "Dense Residual U-Net"]
    with pytest.raises(
        ValueError, match="no network hed: there are skin_deeplabv3, skin_mobilenet, skin_dense"
    ):
        PhotoSettings().only(["hed"])


def test_trainings_last_as_long_as_told() -> None:
    assert {arm.train.epochs for arm in PhotoSettings().lasting(7).networks} == {7}


@pytest.mark.parametrize(
    "changes",
    [
        {"load_px": 100},
        {"networks": ()},
        {"networks.1.label": "U-Net"},
        {"networks.1.label": "u net"},
    ],
)
def test_settings_that_make_no_run(changes: dict[str, object]) -> None:
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
