"""Settings of a run on clinical photographs; by default every figure of the paper."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from skinray.config.base import Settings, by_name
from skinray.config.biopsies import (
    ArmSettings,
    AugmentSettings,
    ClusterSettings,
    ModelSettings,
    PredictSettings,
    ReadSettings,
    TrainSettings,
)

TRAINING = TrainSettings(
    loss="jaccard",
    optimizer="sgd",
    momentum=0.9,
    learning_rate=0.01,
    weight_decay=0,
    epochs=500,
    batch_size=16,
    plateau_patience_epochs=10_000,  # the paper lowers no rate
    early_stop_epochs=50,
    keep="best",
    validate_every_epochs=1,
)
# A network for photographs sees all of one at once, at its own size inside: never in tiles.
WHOLE = PredictSettings(max_pixels=1_000_000_000)
# The paper names rotation, scale and crop, and no ranges.
AUGMENT = AugmentSettings(
    translate_px=0,
    rotate_deg=15,
    scale=(0.8, 1.2),
    shear_deg=0,
    orientations_deg=(0,),
    crop_px=128,
    flip_probability=0,
)


def _network(label: str, name: str) -> ArmSettings:
    return ArmSettings(label=label, model=ModelSettings(name=name), train=TRAINING)


class SkinSettings(Settings):
    """From the map of a photograph to the mask of its skin."""

    threshold: float = Field(0.5, gt=0, lt=1, description="probability from which on it is skin")
    refine: bool = Field(False, description="let the photograph's edges draw the mask's")
    refine_radius: float = Field(
        0.02, gt=0, le=0.5, description="of the filter, as a share of the longer side"
    )
    refine_eps: float = Field(
        0.001, gt=0, description="variance of brightness (0..1) below which a place is flat"
    )


# How to train on few photographs, unlike the paper: each step smaller than the one before, to the
# last; some cross-entropy; and the mean over the last many steps kept.
STEADY = {
    "optimizer": "adamw",
    "learning_rate": 1e-3,
    "weight_decay": 1e-2,
    "clip_norm": 1.0,
    "schedule": "cosine",
    "early_stop_epochs": None,
    "keep": "last",
    "average": 0.99,
    "cross_entropy": 0.3,
}
# U-Net's widest kernels are 11x11 over 96 channels. At one rate for all, many channels behind them
# fell silent (docs/decisions/0031); 576 inputs are a 3x3 kernel's over 64 channels.
STEADY_FROM_RANDOM = {**STEADY, "rate_fan_in": 576, "batch_size": 8}
# Rows beside the paper's, to be asked for by name: what a backbone pretrained on other images
# gives. Its weights are published; without them it begins at random, and the table says so. There
# is no training of the paper's to keep to, so they train steadily by every recipe.
FURTHER = (
    ArmSettings(
        label="DeepLabV3",
        model=ModelSettings(name="skin_deeplabv3", weights="deeplabv3_mobilenet_v3_large_coco_voc"),
        train=TRAINING.override(STEADY),
    ),
    ArmSettings(
        label="MobileNetV2",
        model=ModelSettings(name="skin_mobilenet", weights="deeplabv3_mobilenet_v2_voc"),
        train=TRAINING.override(STEADY),
    ),
)


class PhotoSettings(Settings):
    """Pretraining, training and fine-tuning of every network, and the test of each."""

    recipe: str = Field("paper", description="what these settings were derived from")
    seed: int = Field(0, ge=0)
    read: ReadSettings = ReadSettings()
    networks: tuple[ArmSettings, ...] = (
        _network("Dense Residual U-Net", "skin_dense_unet"),
        _network("U-Net Large", "skin_unet_large"),
        _network("U-Net", "skin_unet"),
    )
    fine_tuning_factor: float = Field(
        0.1, gt=0, description="of a network's learning rate, where its pretrained weights go on"
    )
    train_images: int = Field(100, ge=2, description="clinical photographs to train or fine-tune")
    test_images: int = Field(300, ge=1, description="clinical photographs to test on")
    validation_fraction: float = Field(
        0.2, gt=0, lt=1, description="of what trains, held out to stop early by"
    )
    pretraining_images: Annotated[int, Field(ge=2)] | Literal["all", "smallest"] = Field(
        1000,
        description="most photographs of each public set; all: every one; smallest: as many of "
        "each as the smallest set has",
    )
    pretraining_epochs: int | None = Field(
        None, ge=1, description="most epochs of pretraining; none: as the networks' training has"
    )
    skin: SkinSettings = Field(
        SkinSettings(), description="from map to mask, in the table and the bundle"
    )
    augment: AugmentSettings = AUGMENT
    paste_probability: float = Field(
        0,
        ge=0,
        le=1,
        description="of a view in which the skin is put before another photograph that trains",
    )
    members: int = Field(
        1,
        ge=1,
        description="trainings of each network in fine-tuning, each with another part of the "
        "photographs held out; above 1, a row and the bundle average their probabilities",
    )
    load_px: int = Field(
        144, ge=16, description="side that photographs are brought to for training"
    )
    resamples: int = Field(2000, ge=100, description="of the bootstrap of each interval")
    flips: bool = Field(
        False, description="add a row of each network that averages mirrored photographs"
    )
    cluster: ClusterSettings = ClusterSettings()

    @model_validator(mode="after")
    def _labels_differ(self) -> Self:
        # They name the trials' folders.
        names = [arm.slug for arm in self.networks]
        if not names or not all(names) or len(set(names)) != len(names):
            raise ValueError(
                "networks, at least one, need labels that differ in their letters (a to z) and "
                f"digits, got {[arm.label for arm in self.networks]}"
            )
        if self.augment.crop_px > self.load_px:
            raise ValueError(
                f"augment.crop_px {self.augment.crop_px} is above load_px {self.load_px}"
            )
        return self

    def only(self, names: list[str]) -> PhotoSettings:
        """Keep the networks of these names, in this order; ``FURTHER`` ones can be had too.

        Raises
        ------
        ValueError
            If one is none of them.
        """
        known = {arm.model.name: arm for arm in (*FURTHER, *self.networks)}
        unknown = [name for name in names if name not in known]
        if unknown:
            raise ValueError(f"no network {', '.join(unknown)}: there are {', '.join(known)}")
        return self.model_copy(update={"networks": tuple(known[name] for name in names)})

    def lasting(self, epochs: int) -> PhotoSettings:
        """Let each training last so many epochs at most."""
        networks = tuple(arm.override({"train.epochs": epochs}) for arm in self.networks)
        return self.model_copy(update={"networks": networks})


def varied() -> PhotoSettings:
    """Return the paper's run with skin shown in more ways, and steadier training.

    Eighty photographs show few rooms, lamps, cameras and poses. Here each is seen mirrored, turned
    and scaled further, in other colours, and before other rooms; and large enough for networks
    that take more than the paper's 128 px. With so much of that U-Net did not fit even the
    photographs it learns from, so nothing drops out. As the rate falls to 0 at the last epoch,
    nothing stops early, and fewer photographs are held out. Masks follow the photographs' edges.
    """
    paper = PhotoSettings()
    networks = tuple(
        arm.override(
            {
                "model.options": {"dropout": 0.0},
                **{f"train.{name}": value for name, value in STEADY_FROM_RANDOM.items()},
            }
        )
        for arm in paper.networks
    )
    return paper.model_copy(update={"networks": networks}).override(
        {
            "recipe": "varied",
            "fine_tuning_factor": 1,
            "validation_fraction": 0.1,
            "paste_probability": 0.5,
            "skin.refine": True,
            "load_px": 256,
            "augment.crop_px": 224,
            "augment.rotate_deg": 30,
            "augment.scale": (0.6, 1.4),
            "augment.flip_probability": 0.5,
            "augment.flip_axes": "columns",
            "augment.colour": {
                "exposure": 0.35,
                "balance": 0.12,
                "contrast": 0.35,
                "saturation": 0.35,
                "gamma": 0.3,
            },
        }
    )


# What every table that shows such a figure says of it. It is true of any photographs.
LOOKED_AT = (
    "developed while looking at these test images, if they are the torsos (abd_skin) of "
    "benchmarks/results"
)


def looked_at(settings: Mapping[str, Any], model: str) -> bool:
    """Whether a network's training was developed with an eye on test images (``LOOKED_AT``).

    It was in the recipe ``varied`` and in settings derived from it, which keep its name; and of
    the networks beyond the paper, which train steadily by every recipe.

    Parameters
    ----------
    settings : of a run, as plain values.
    model : the network's name.
    """
    return settings.get("recipe") == "varied" or model in {arm.model.name for arm in FURTHER}


PHOTO_RECIPES: dict[str, Callable[[], PhotoSettings]] = {"paper": PhotoSettings, "varied": varied}


def photo_recipe(name: str) -> PhotoSettings:
    """Return a recipe by name, or read one from a YAML file of all settings.

    Raises
    ------
    SettingsError
        If there is neither a recipe nor a file of that name.
    """
    return by_name(PhotoSettings, PHOTO_RECIPES, name)
