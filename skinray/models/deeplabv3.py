"""torchvision's DeepLabV3 (Chen et al., 2017): the paper's dermis model, and one for skin.

Paper 2.3: a 3x3 convolution before (3 -> 3 channels), the network with VOC's 21 classes, a
1x1 convolution after (21 -> 1), all trained end to end; no auxiliary head. The input is
normalised as torchvision's weights expect before the first convolution, which starts near the
identity, so that pretrained weights work from the start. The paper specifies neither.

torchvision is imported when a network is built: it takes seconds, and most processes build none.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from skinray.errors import SettingsError
from skinray.models.layers import (
    ChannelNormalise,
    LenientBatchNorm2d,
    WholeImage,
    set_norm_momentum,
    upsample,
    use_group_norm,
)

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
VOC_CLASSES = 21

Backbone = Literal["resnet101", "resnet50", "mobilenet_v3_large"]
_RESNETS = ("resnet101", "resnet50")


class DeepLabV3(WholeImage):
    """DeepLabV3 between the paper's two convolutions, on RGB in 0..1.

    Parameters
    ----------
    backbone : the torchvision network that extracts the features.
    width : factor on the backbone's channels (MobileNetV3 only; 1 for the ResNets).
    aspp_channels : channels of the pyramid pooling; the published networks have 256.
    atrous_rates : dilations of the pyramid.
    dropout : after the pyramid; torchvision has .5.
    bn_momentum : momentum of all running statistics; torchvision's ResNets have .1, its
        MobileNetV3 .01.
    group_norm : group norms instead of the batch norms, for training from random weights.
    wrap_init : the first convolution starts as the identity plus a little noise, or random.
    side : resize images to a square of this side, and the map back to the image's size; None:
        use images as they are. For photographs of skin; with a stride of 16, the U-Nets' 128
        would give maps of 8x8.
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
        side: int | None = None,
    ) -> None:
        super().__init__()
        if side is not None and side < 16:
            raise SettingsError(f"side is {side}: give at least 16 pixels")
        self.side = side
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

    def logits(self, framed: Tensor) -> Tensor:
        """Return the logits of a frame, (N, 1, h, w) float32.

        In the paper the last convolution follows the upsampling of 21 maps. A 1x1 convolution
        and bilinear upsampling commute, so here it comes first and only one map is upsampled.
        """
        features = self.backbone(self.wrap(self.normalise(framed)))
        if isinstance(features, dict):
            features = features["out"]
        coarse = self.head(self.classifier(features))
        return upsample(coarse.float(), framed.shape[-2:])


def _near_identity(layer: nn.Conv2d, noise: float = 0.01) -> None:
    with torch.no_grad():
        nn.init.dirac_(layer.weight)
        layer.weight.add_(torch.randn_like(layer.weight), alpha=noise)
        if layer.bias is not None:
            layer.bias.zero_()


def _backbone(name: str, width: float) -> tuple[nn.Module, int, int]:
    """Return the feature extractor with random weights, its channels and its stride."""
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
        raise SettingsError(f"width is {width}: {name} has one width only; leave it at 1")
    build = getattr(segmentation, f"deeplabv3_{name}")
    network = build(weights=None, weights_backbone=None, aux_loss=False)
    return network.backbone, 2048, 8


def _classifier(
    features: int, channels: int, atrous_rates: Sequence[int], dropout: float
) -> nn.Sequential:
    """Return torchvision's DeepLabHead, layer for layer, with a free number of channels."""
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
