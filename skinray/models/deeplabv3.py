"""DeepLabV3 (Chen et al., 2017) of torchvision, wrapped as in the paper's dermis model.

Paper 2.3: a 3x3 convolution before (3 -> 3 channels), the network with VOC's 21 classes, a
1x1 convolution after (21 -> 1), all trained end to end; no auxiliary head. The input is
normalised as torchvision's weights expect before the first convolution, which starts near
the identity, so a pretrained network begins where its training left it; both are our
reading, the paper names neither.

torchvision is imported where a network is built: it takes seconds, and most processes build none.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from skinray.errors import SettingsError
from skinray.models.layers import (
    ChannelNormalise,
    LenientBatchNorm2d,
    pad_to_stride,
    set_norm_momentum,
    upsample,
    use_group_norm,
)

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
VOC_CLASSES = 21

Backbone = Literal["resnet101", "resnet50", "mobilenet_v3_large"]
_RESNETS = ("resnet101", "resnet50")


class DeepLabV3(nn.Module):
    """DeepLabV3 between the paper's two convolutions, on RGB in 0..1.

    Parameters
    ----------
    backbone : which of torchvision's networks gives the features.
    width : factor on the backbone's channels (MobileNetV3 only; 1 for the ResNets).
    aspp_channels : channels of the pyramid pooling; the published networks have 256.
    atrous_rates : dilations of the pyramid.
    dropout : after the pyramid; torchvision's is .5.
    bn_momentum : momentum of all running statistics; .1 is the ResNets' own, while
        torchvision's MobileNetV3 comes with .01.
    group_norm : group norms instead of the batch norms, for training from random weights.
    wrap_init : the first convolution starts as the identity plus a little noise, or random.

    Raises
    ------
    SettingsError
        For options that describe no network.
    """

    def __init__(
        self,
        backbone: Backbone = "resnet101",
        width: float = 1.0,
        aspp_channels: int = 256,
        atrous_rates: Sequence[int] = (12, 24, 36),
        dropout: float = 0.5,
        bn_momentum: float = 0.1,
        group_norm: bool = False,
        wrap_init: Literal["identity", "random"] = "identity",
    ) -> None:
        super().__init__()
        self.normalise = ChannelNormalise(IMAGENET_MEAN, IMAGENET_STD)
        self.wrap = nn.Conv2d(3, 3, 3, padding=1)
        if wrap_init == "identity":
            _near_identity(self.wrap)
        elif wrap_init != "random":
            raise SettingsError(f"wrap_init is '{wrap_init}': use identity or random")
        self.backbone, features, self.stride = _backbone(backbone, width)
        self.classifier = _classifier(features, aspp_channels, atrous_rates, dropout)
        self.head = nn.Conv2d(VOC_CLASSES, 1, 1)
        set_norm_momentum(self, bn_momentum)
        if group_norm:
            use_group_norm(self)

    def forward(self, image: Tensor) -> Tensor:
        """Return logits, (N, 1, H, W) float32, of RGB ``image`` (N, 3, H, W) in 0..1.

        The paper's last convolution follows the upsampling of 21 maps. A 1x1 convolution and
        bilinear upsampling commute, so here it comes first and one map is upsampled.
        """
        height, width = image.shape[-2:]
        framed = pad_to_stride(image, self.stride)
        features = self.backbone(self.wrap(self.normalise(framed)))
        if isinstance(features, dict):
            features = features["out"]
        coarse = self.head(self.classifier(features))
        return upsample(coarse.float(), framed.shape[-2:])[..., :height, :width]


def _near_identity(layer: nn.Conv2d, noise: float = 0.01) -> None:
    with torch.no_grad():
        nn.init.dirac_(layer.weight)
        layer.weight.add_(torch.randn_like(layer.weight), alpha=noise)
        if layer.bias is not None:
            layer.bias.zero_()


def _backbone(name: str, width: float) -> tuple[nn.Module, int, int]:
    """Return the features' module, its channels and its stride, with random weights."""
    from torchvision.models import mobilenet_v3_large, segmentation

    if name == "mobilenet_v3_large":
        if not width > 0:
            raise SettingsError(f"width is {width}: give a factor above 0")
        features = mobilenet_v3_large(weights=None, dilated=True, width_mult=width).features
        return features, features[-1].out_channels, 16
    if name not in _RESNETS:
        known = ", ".join([*_RESNETS, "mobilenet_v3_large"])
        raise SettingsError(f"unknown DeepLabV3 backbone '{name}': use one of {known}")
    if width != 1:
        raise SettingsError(f"width is {width}: {name} has one width only, leave it at 1")
    build = getattr(segmentation, f"deeplabv3_{name}")
    network = build(weights=None, weights_backbone=None, aux_loss=False)
    return network.backbone, 2048, 8


def _classifier(
    features: int, channels: int, atrous_rates: Sequence[int], dropout: float
) -> nn.Sequential:
    """Torchvision's DeepLabHead, layer for layer, with the channels free."""
    from torchvision.models.segmentation.deeplabv3 import ASPP

    if channels < 1 or not 0 <= dropout < 1:
        raise SettingsError(
            f"aspp_channels is {channels} and dropout {dropout}: "
            "give at least 1 channel and a dropout from 0 to below 1"
        )
    pyramid = ASPP(features, list(atrous_rates), channels)
    pyramid.convs[-1][2] = LenientBatchNorm2d(channels)
    pyramid.project[3].p = dropout
    return nn.Sequential(
        pyramid,
        nn.Conv2d(channels, channels, 3, padding=1, bias=False),
        nn.BatchNorm2d(channels),
        nn.ReLU(),
        nn.Conv2d(channels, VOC_CLASSES, 1),
    )


class SkinDeepLabV3(DeepLabV3):
    """DeepLabV3 on the whole photograph, brought to one size inside, and the map back to its own.

    Parameters
    ----------
    side : pixels of the square that photographs are brought to. With a stride of 16, the 128 of
        the U-Nets would leave maps of 8x8.
    backbone, width, aspp_channels, atrous_rates, dropout, bn_momentum, group_norm : see
        :class:`~skinray.models.deeplabv3.DeepLabV3`, whose published weights fit.

    Raises
    ------
    SettingsError
        For options that describe no network.
    """

    def __init__(
        self,
        backbone: Backbone = "mobilenet_v3_large",
        side: int = 256,
        width: float = 1.0,
        aspp_channels: int = 256,
        atrous_rates: Sequence[int] = (12, 24, 36),
        dropout: float = 0.5,
        bn_momentum: float = 0.1,
        group_norm: bool = False,
    ) -> None:
        if side < 16:
            raise SettingsError(f"side is {side}: give at least 16 pixels")
        super().__init__(
            backbone, width, aspp_channels, atrous_rates, dropout, bn_momentum, group_norm
        )
        self.side = side

    def forward(self, image: Tensor) -> Tensor:
        """Return logits, (N, 1, H, W) float32, of RGB ``image`` (N, 3, H, W) in 0..1."""
        size = image.shape[-2:]
        square = (self.side, self.side)
        if size != square:
            image = F.interpolate(image, square, mode="bilinear", antialias=True)
        logits = super().forward(image)
        if size != square:
            logits = F.interpolate(logits, size, mode="bilinear", align_corners=False)
        return logits
