"""Settings of a run on clinical photographs; by default every figure of the paper."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from skinray.config.base import Settings, by_name
from skinray.config.images import AugmentSettings, PredictSettings, ReadSettings
from skinray.config.training import ArmSettings, ClusterSettings, ModelSettings, TrainSettings

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
# A network for photographs sees a whole one at once, resized to its own input size: no tiles.
WHOLE = PredictSettings(max_pixels=1_000_000_000)
# The paper names rotation, scale and crop, but gives no ranges.
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
    """How a photograph's map becomes the mask of its skin."""

    threshold: float = Field(
        0.5, gt=0, lt=1, description="a pixel is skin at this probability or above"
    )
    refine: bool = Field(False, description="align the mask's edges with the photograph's")
    refine_radius: float = Field(
        0.02, gt=0, le=0.5, description="radius of the filter, as a share of the longer side"
    )
    refine_eps: float = Field(
        0.001, gt=0, description="variance of brightness (0..1) below which an area is flat"
    )


# How to train on few photographs, unlike the paper: a rate that falls to 0 at the end, some
# cross-entropy, and a running mean of the weights.
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
# U-Net's widest kernels are 11x11 over 96 channels. With one rate for all weights, many channels
# behind them died (docs/decisions/0031). A 3x3 kernel over 64 channels has 576 inputs.
STEADY_FROM_RANDOM = {**STEADY, "rate_fan_in": 576, "batch_size": 8}
# Rows beyond the paper's, requested by name: networks whose backbone was pretrained on other
# images. Without the published weights they start from random ones, and the table says so. The
# paper does not train them, so every recipe trains them with STEADY.
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
        0.1, gt=0, description="multiplies the learning rate when pretrained weights are fine-tuned"
    )
    train_images: int = Field(
        100, ge=2, description="clinical photographs to train or fine-tune on"
    )
    test_images: int = Field(300, ge=1, description="clinical photographs to test on")
    validation_fraction: float = Field(
        0.2, gt=0, lt=1, description="share of the training photographs held out for early stopping"
    )
    pretraining_images: Annotated[int, Field(ge=2)] | Literal["all", "smallest"] = Field(
        1000,
        description="maximum photographs per public set; all: every one; smallest: as many as the "
        "smallest set has",
    )
    pretraining_epochs: int | None = Field(
        None, ge=1, description="maximum epochs of pretraining; none: as in each network's training"
    )
    skin: SkinSettings = Field(
        SkinSettings(), description="from map to mask, for the table and the bundle"
    )
    augment: AugmentSettings = AUGMENT
    paste_probability: float = Field(
        0,
        ge=0,
        le=1,
        description="probability that the skin is pasted onto another training photograph",
    )
    members: int = Field(
        1,
        ge=1,
        description="fine-tuned copies of each network, each with a different part of the "
        "photographs held out; above 1, a row and the bundle average their probabilities",
    )
    load_px: int = Field(
        144, ge=16, description="side to which photographs are resized for training"
    )
    resamples: int = Field(2000, ge=100, description="bootstrap resamples for each interval")
    flips: bool = Field(
        False, description="add a row for each network that averages over mirrored photographs"
    )
    cluster: ClusterSettings = ClusterSettings()

    @model_validator(mode="after")
    def _labels_differ(self) -> Self:
        # Labels become the names of the trials' folders.
        names = [arm.slug for arm in self.networks]
        if not names or not all(names) or len(set(names)) != len(names):
            raise ValueError(
                "give at least one network, and labels that differ in their letters (a to z) and "
                f"digits; got {[arm.label for arm in self.networks]}"
            )
        if self.augment.crop_px > self.load_px:
            raise ValueError(
                f"augment.crop_px {self.augment.crop_px} is larger than load_px {self.load_px}"
            )
        return self

    def only(self, names: list[str]) -> PhotoSettings:
        """Keep the networks with these names, in this order, ``FURTHER`` ones included.

        Raises ValueError if there is no network of one of the names.
        """
        known = {arm.model.name: arm for arm in (*FURTHER, *self.networks)}
        unknown = [name for name in names if name not in known]
        if unknown:
            raise ValueError(f"no network {', '.join(unknown)}: use {', '.join(known)}")
        return self.model_copy(update={"networks": tuple(known[name] for name in names)})

    def lasting(self, epochs: int) -> PhotoSettings:
        """Limit each training to this many epochs."""
        networks = tuple(arm.override({"train.epochs": epochs}) for arm in self.networks)
        return self.model_copy(update={"networks": networks})


def varied() -> PhotoSettings:
    """Return the paper's run with more augmentation and steadier training.

    Eighty photographs show few rooms, lamps, cameras and poses. So each is also mirrored, rotated
    and scaled further, recoloured, and put in front of other backgrounds, and it stays larger than
    the paper's 128 px. Under that much augmentation U-Net underfitted even its training
    photographs, so there is no dropout. The rate falls to 0 at the last epoch, so there is no
    early stopping, and fewer photographs are held out. Masks follow the photographs' edges.
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


# The note on every table that shows such a figure; it holds whatever the photographs.
LOOKED_AT = (
    "developed while looking at these test images, if they are the torsos (abd_skin) of "
    "benchmarks/results"
)


def looked_at(settings: Mapping[str, Any], model: str) -> bool:
    """Say whether a network's training was developed while looking at test images (``LOOKED_AT``).

    True for the recipe ``varied`` and settings derived from it, which keep its name, and for the
    networks in ``FURTHER``, which every recipe trains with ``STEADY``. ``settings`` are a run's, as
    plain values; ``model`` is the network's name.
    """
    return settings.get("recipe") == "varied" or model in {arm.model.name for arm in FURTHER}


PHOTO_RECIPES: dict[str, Callable[[], PhotoSettings]] = {"paper": PhotoSettings, "varied": varied}


def photo_recipe(name: str) -> PhotoSettings:
    """Return a recipe by name or from a YAML file of all settings; see :func:`by_name`."""
    return by_name(PhotoSettings, PHOTO_RECIPES, name)
