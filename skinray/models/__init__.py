"""The networks, in one table: to add one, write one file and one line in ``MODELS``.

Every network takes RGB (N, 3, H, W) float32 in 0..1, of any height and width, normalises it
itself, and returns logits (N, 1, H, W) float32, whose sigmoid is the probability. It sees images
at its working scale: training shrinks the crops, and :mod:`skinray.models.predict` shrinks images
and enlarges the maps. Weights are random until :mod:`skinray.models.weights.load` loads others;
nothing is downloaded. Invalid options raise SettingsError.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import partial
from typing import Any

from torch import Tensor, nn
from torch.nn import init
from torch.overrides import TorchFunctionMode

from skinray.errors import SettingsError
from skinray.models.deeplab_lite import DeepLabLite
from skinray.models.deeplabv3 import DeepLabV3
from skinray.models.hed import HED
from skinray.models.layers import PixelClassifier
from skinray.models.skin_mobilenet import SkinMobileNet
from skinray.models.skin_unet import SkinUNet
from skinray.models.unet import UNet

MODELS: dict[str, Callable[..., nn.Module]] = {
    "hed": HED,  # the paper's nerve model
    "deeplabv3_resnet101": partial(DeepLabV3, backbone="resnet101"),  # the paper's dermis model
    "deeplabv3_resnet50": partial(DeepLabV3, backbone="resnet50"),
    "deeplabv3_mobilenet_v3_large": partial(DeepLabV3, backbone="mobilenet_v3_large"),
    "deeplab_lite": DeepLabLite,  # light, for the dermis at a small working scale
    "unet": UNet,  # the paper's baseline
    # As published for brain MRI.
    "unet_lgg": partial(UNet, doubling=False, depth=4, standardise=False),
    # Photographs of skin: U-Net, U-Net Large and Dense Residual U-Net of the paper.
    "skin_unet": SkinUNet,
    "skin_unet_large": partial(SkinUNet, filters=(45, 90, 180), bottleneck=1450),
    "skin_dense_unet": partial(SkinUNet, bottleneck=1057, dense=True),
    # Photographs of skin, with published weights to start from.
    "skin_deeplabv3": partial(DeepLabV3, backbone="mobilenet_v3_large", side=256),
    "skin_mobilenet": SkinMobileNet,
    "pixel": PixelClassifier,  # a minimal baseline, fast in tests
}


def options_of(name: str) -> tuple[str, ...]:
    """Return the names of the options of network ``name``."""
    # The backbone is part of the network's name.
    own = (key for key in inspect.signature(MODELS[name]).parameters if key != "backbone")
    return (*own, "scale")


def build(name: str, **options: Any) -> nn.Module:
    """Return network ``name`` with random weights.

    Parameters
    ----------
    name : a key of ``MODELS``.
    options : see the network's class; :func:`options_of` lists their names. Every network has
        ``scale``, the share of an image's sides at which it sees the image: above 0, at most 1.

    Raises
    ------
    SettingsError
        For an unknown name or option, or an invalid value.
    """
    if name not in MODELS:
        raise SettingsError(f"unknown model '{name}': use one of {', '.join(MODELS)}")
    known = options_of(name)
    unknown = sorted(set(options) - set(known))
    if unknown:
        raise SettingsError(
            f"model '{name}' has no option {', '.join(unknown)}: it has {', '.join(known)}"
        )
    scale = options.pop("scale", 1.0)
    if not 0 < scale <= 1:
        raise SettingsError(f"scale of '{name}' is {scale}: give a share above 0, at most 1")
    network = MODELS[name](**options)
    network.working_scale = float(scale)  # type: ignore[assignment]
    return network


class NoRandomWeights(TorchFunctionMode):
    """A context in which new networks get no random weights, because others are loaded into them.

    Random numbers for the paper's sixty million weights take more than a second.
    """

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Call a function of torch, unless it is to fill a tensor with random numbers."""
        kwargs = kwargs or {}
        if func in _RANDOM:
            return kwargs["tensor"] if "tensor" in kwargs else args[0]
        return func(*args, **kwargs)


# `nn.init` passes some of its own functions on as themselves, and the rest as those of tensors.
_RANDOM = {
    Tensor.uniform_, Tensor.normal_, init.uniform_, init.normal_, init.kaiming_uniform_,
}  # fmt: skip


def working_scale(network: nn.Module) -> float:
    """Return the share of an image's sides at which a network sees it; 1 for foreign networks."""
    return float(getattr(network, "working_scale", 1.0))
