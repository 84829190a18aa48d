"""The networks, in one table: a new one is one file and one line in ``MODELS``.

Every network takes RGB (N, 3, H, W) float32 in 0..1, of any height and width, applies its own
input convention, and returns logits (N, 1, H, W) float32; the probability is their sigmoid.
Nothing is downloaded: weights are random until :mod:`skinray.models.weights.load` fills them.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from torch import nn

from skinray.errors import SettingsError
from skinray.models.deeplabv3 import IMAGENET_MEAN, IMAGENET_STD, Backbone, DeepLabV3, SkinDeepLabV3
from skinray.models.hed import BGR_MEAN, HED
from skinray.models.layers import PixelClassifier
from skinray.models.skin_mobilenet import SkinMobileNet
from skinray.models.skin_unet import SkinUNet
from skinray.models.unet import UNet


@dataclass(frozen=True)
class ModelSpec:
    """One network of the table.

    Attributes
    ----------
    name : key in ``MODELS``.
    build : called with the options, returns the network with random weights.
    description : one line for people.
    normalise : what the network does to its input, in words.
    mean, std : the constants of that, in the network's own channel order; None: of the image.
    """

    name: str
    build: Callable[..., nn.Module]
    description: str
    normalise: str
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None

    @property
    def options(self) -> tuple[str, ...]:
        """Names of the options that :attr:`build` takes."""
        fixed = {"backbone"} if isinstance(self.build, partial) else set()
        return tuple(key for key in inspect.signature(self.build).parameters if key not in fixed)


def _deeplab(backbone: Backbone, description: str) -> ModelSpec:
    return ModelSpec(
        name=f"deeplabv3_{backbone}",
        build=partial(DeepLabV3, backbone=backbone),
        description=description,
        normalise="RGB 0-1, minus ImageNet's mean, over its deviation",
        mean=IMAGENET_MEAN,
        std=IMAGENET_STD,
    )


def _skin(name: str, description: str, **options: Any) -> ModelSpec:
    return ModelSpec(
        name=name,
        build=partial(SkinUNet, **options),
        description=description,
        normalise="RGB and HSV at 128x128, each channel of each image to mean 0 and deviation 1",
    )


_SPECS = (
    ModelSpec(
        "hed",
        HED,
        "holistically-nested edge detection on VGG16 (the paper's nerve model)",
        normalise="BGR 0-255, minus the mean",
        mean=BGR_MEAN,
        std=(1.0, 1.0, 1.0),
    ),
    _deeplab("resnet101", "DeepLabV3 on ResNet-101, wrapped (the paper's dermis model)"),
    _deeplab("resnet50", "DeepLabV3 on ResNet-50, wrapped"),
    _deeplab("mobilenet_v3_large", "DeepLabV3 on MobileNetV3, wrapped: small and quick"),
    ModelSpec(
        "unet",
        UNet,
        "U-Net of Buda et al. (the paper's baseline)",
        normalise="each channel of each image to mean 0 and deviation 1",
    ),
    ModelSpec(
        "unet_lgg",
        partial(UNet, doubling=False, depth=4, standardise=False),
        "U-Net with 32 features on each of four levels, as published for brain MRI",
        normalise="RGB 0-1",
        mean=(0.0, 0.0, 0.0),
        std=(1.0, 1.0, 1.0),
    ),
    _skin("skin_unet", "U-Net for photographs of skin: 7.5 million parameters"),
    _skin(
        "skin_unet_large",
        "U-Net Large for photographs of skin: 150 million parameters",
        filters=(45, 90, 180),
        bottleneck=1450,
    ),
    _skin(
        "skin_dense_unet",
        "Dense Residual U-Net for photographs of skin: 149.9 million parameters",
        bottleneck=1057,
        dense=True,
    ),
    ModelSpec(
        "skin_deeplabv3",
        partial(SkinDeepLabV3, backbone="mobilenet_v3_large"),
        "DeepLabV3 on MobileNetV3 for photographs of skin, to begin from published weights",
        normalise="RGB 0-1 at 256x256, minus ImageNet's mean, over its deviation",
        mean=IMAGENET_MEAN,
        std=IMAGENET_STD,
    ),
    ModelSpec(
        "skin_mobilenet",
        SkinMobileNet,
        "DeepLabV3+ on MobileNetV2 for photographs of skin, to begin from published weights: "
        "0.8 million parameters",
        normalise="RGB at 193x193, -1 to 1",
        mean=(0.5, 0.5, 0.5),
        std=(0.5, 0.5, 0.5),
    ),
    ModelSpec(
        "pixel",
        PixelClassifier,
        "logistic regression on single pixels' colours: the floor, and a quick stand-in",
        normalise="RGB 0-1",
        mean=(0.0, 0.0, 0.0),
        std=(1.0, 1.0, 1.0),
    ),
)

MODELS: dict[str, ModelSpec] = {spec.name: spec for spec in _SPECS}


def build(name: str, **options: Any) -> nn.Module:
    """Return network ``name`` with random weights.

    Parameters
    ----------
    name : a key of ``MODELS``.
    options : see the network's class; ``MODELS[name].options`` lists them.

    Raises
    ------
    SettingsError
        For an unknown name or option, or a value that describes no network.
    """
    if name not in MODELS:
        raise SettingsError(f"unknown model '{name}': use one of {', '.join(MODELS)}")
    spec = MODELS[name]
    unknown = sorted(set(options) - set(spec.options))
    if unknown:
        raise SettingsError(
            f"model '{name}' has no option {', '.join(unknown)}: it has {', '.join(spec.options)}"
        )
    return spec.build(**options)


__all__ = ["MODELS", "ModelSpec", "build"]
