"""Named complete runs. Each is derived from another; the paper's is the root."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from skinray.config.base import by_name
from skinray.config.biopsies import RunSettings, StageSettings
from skinray.config.images import AugmentSettings
from skinray.config.training import ArmSettings, ModelSettings, TrainSettings

SEARCH = {
    "train.learning_rate": (3e-5, 1e-4, 3e-4, 1e-3),
    "train.weight_decay": (1e-4, 1e-3, 1e-2),
}
# HED at a quarter of its width, as it ships with skinray.
NARROW_HED: dict[str, Any] = {"width": 0.25, "batch_norm": True, "group_norm": True}
DEMO_GRID = {"train.learning_rate": (1e-3, 3e-3)}


def paper() -> RunSettings:
    """Return the paper's run: HED and DeepLabV3, fine-tuned on crops of 800 px."""
    nerve = TrainSettings(loss="dice", learning_rate=1e-4, weight_decay=1e-3, epochs=200)
    dermis = TrainSettings(loss="bce", learning_rate=3e-4, weight_decay=1e-3, epochs=300)
    return RunSettings(
        recipe="paper",
        nerve=StageSettings(
            main=_arm("HED transfer learning", "hed", nerve, weights="hed_bsds500"),
            baselines=(
                _arm("U-Net", "unet", nerve, weights="unet_brain_mri"),
                _arm("HED not pretrained", "hed", nerve),
            ),
        ),
        dermis=StageSettings(
            main=_arm(
                "DeepLabV3 transfer learning",
                "deeplabv3_resnet101",
                dermis,
                weights="deeplabv3_resnet101_coco_voc",
            ),
            baselines=(
                _arm("U-Net", "unet", dermis, weights="unet_brain_mri"),
                _arm("DeepLabV3 not pretrained", "deeplabv3_resnet101", dermis),
            ),
        ),
    )


def demo() -> RunSettings:
    """Return a run of minutes on two cores: all stages, narrow networks, nothing to download."""
    nerve = TrainSettings(
        loss="dice", learning_rate=3e-3, weight_decay=1e-4, epochs=12, batch_size=4,
        plateau_factor=0.5, plateau_patience_epochs=2, clip_norm=1.0, validate_every_epochs=100,
    )  # fmt: skip
    started = nerve.override({"learning_rate": 1e-3})
    # After 12 epochs from random weights, one fold in five had learned too little to count.
    longer = nerve.override({"epochs": 18})
    dermis = nerve.override({"loss": "bce", "epochs": 16})
    deeplab = {
        "width": 0.5,
        "aspp_channels": 64,
        "atrous_rates": [2, 4, 6],
        "dropout": 0.1,
        "group_norm": True,
    }
    unet = {"features": 8, "depth": 4, "group_norm": True}
    augment = AugmentSettings(crop_px=192, translate_px=20)
    return paper().override(
        {
            "recipe": "demo",
            "folds.components_held_out": None,
            "nerve": StageSettings(
                main=_arm(
                    "HED from the starter",
                    "hed",
                    started,
                    options=NARROW_HED,
                    grid={},
                    weights="starter_nerve",
                ),
                baselines=(
                    _arm("U-Net", "unet", nerve, options=unet, grid={}),
                    _arm("HED not pretrained", "hed", longer, options=NARROW_HED, grid={}),
                ),
                augment=augment,
            ).model_dump(),
            "dermis": StageSettings(
                main=_arm(
                    "DeepLabV3 not pretrained",
                    "deeplabv3_mobilenet_v3_large",
                    dermis,
                    options=deeplab,
                    grid=DEMO_GRID,
                ),
                baselines=(_arm("U-Net", "unet", dermis, options=unet, grid={}),),
                augment=augment,
            ).model_dump(),
            "tune.epochs_fraction": 0.25,
        }
    )


def real_tissue() -> RunSettings:
    """Return the demo for real PAS-stained tissue: a longer search, and more epochs for the dermis.

    Folds are of images, because there are few sections.
    """
    return demo().override(
        {
            "recipe": "real-tissue",
            "folds.unit": "image",
            "nerve.main.grid": DEMO_GRID,
            "dermis.main.train.epochs": 20,
            "dermis.baselines.0.train.epochs": 20,
            "tune.epochs_fraction": 0.4,
        }
    )


RECIPES: dict[str, Callable[[], RunSettings]] = {
    "demo": demo,
    "paper": paper,
    "real-tissue": real_tissue,
}


def recipe(name: str) -> RunSettings:
    """Return a recipe by name or from a YAML file of all settings; see :func:`by_name`."""
    return by_name(RunSettings, RECIPES, name)


def _arm(
    label: str,
    model: str,
    train: TrainSettings,
    weights: str | None = None,
    options: dict[str, Any] | None = None,
    grid: dict[str, Any] | None = None,
) -> ArmSettings:
    return ArmSettings(
        label=label,
        model=ModelSettings(name=model, options=options or {}, weights=weights),
        train=train,
        grid=SEARCH if grid is None else grid,
    )
