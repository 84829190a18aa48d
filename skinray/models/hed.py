"""Holistically-nested edge detection (Xie and Tu, ICCV 2015), the paper's nerve model.

VGG16's five stages, a 1x1 side output after each, bilinear upsampling and a 1x1 fusion
(paper 2.2, figure 1). With default options, the layers and the normalisation are those of
pytorch-hed, whose weights the paper starts from.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from skinray.errors import SettingsError
from skinray.models.layers import WholeImage, set_norm_momentum, upsample, use_group_norm

BGR_MEAN = (104.00698793, 116.66876762, 122.67891434)
"""Mean of the training images as pytorch-hed subtracts it: blue, green, red, 0-255."""

TYPICAL_DEVIATION = 60.0
"""Rough deviation of 0-255 pixels from the mean; only random initial weights depend on it."""


class HED(WholeImage):
    """HED on RGB in 0..1.

    Parameters
    ----------
    width : factor on every stage's channels; 1 is VGG16 (14.7 million parameters).
    batch_norm : a batch norm after each convolution; the published network has none.
    group_norm : group norms instead of the batch norms, for training from random weights.
    convolutions : number of 3x3 convolutions in each stage; between stages is a 2x2 max pooling.
    channels : channels of each stage at width 1.
    bn_momentum : momentum of the running statistics of batch norms.
    """

    mean: Tensor

    def __init__(
        self,
        width: float = 1.0,
        batch_norm: bool = False,
        convolutions: Sequence[int] = (2, 2, 3, 3, 3),
        channels: Sequence[int] = (64, 128, 256, 512, 512),
        bn_momentum: float = 0.1,
        group_norm: bool = False,
    ) -> None:
        super().__init__()
        _check(width, convolutions, channels)
        sizes = [3, *(max(1, round(count * width)) for count in channels)]
        self.stages = nn.ModuleList(
            _stage(*sizes[i : i + 2], convolutions=count, pool=i > 0, batch_norm=batch_norm)
            for i, count in enumerate(convolutions)
        )
        self.sides = nn.ModuleList(nn.Conv2d(size, 1, 1) for size in sizes[1:])
        self.fuse = nn.Conv2d(len(convolutions), 1, 1)
        self.stride = 2 ** (len(convolutions) - 1)
        self.register_buffer("mean", torch.tensor(BGR_MEAN), persistent=False)
        set_norm_momentum(self, bn_momentum)
        if group_norm:
            use_group_norm(self)
        self._initialise()

    def logits(self, framed: Tensor) -> Tensor:
        """Return the fused logits of a frame, (N, 1, h, w) float32."""
        return self._sides(framed)[-1]

    def forward_sides(self, image: Tensor) -> list[Tensor]:
        """Return the logits of every side output, finest first, then of the fusion.

        Each is (N, 1, H, W) float32. Images whose sides are not multiples of 16 are padded by
        repetition, and the maps cropped; at multiples the result equals the published network's.
        """
        maps = self._sides(self.framed(image))
        return [self.fitted(logits, image.shape[-2:]) for logits in maps]

    def _sides(self, framed: Tensor) -> list[Tensor]:
        features = framed.flip(1) * 255 - self.mean.view(1, 3, 1, 1)
        size = features.shape[-2:]
        maps = []
        for stage, side in zip(self.stages, self.sides, strict=True):
            features = stage(features)
            maps.append(upsample(side(features).float(), size))
        maps.append(self.fuse(torch.cat(maps, dim=1)))
        return [logits.float() for logits in maps]

    def _initialise(self) -> None:
        """Apply He initialisation; the fusion starts as the mean of the side outputs, as in HED."""
        convolutions = [layer for layer in self.stages.modules() if isinstance(layer, nn.Conv2d)]
        for layer in convolutions:
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
        with torch.no_grad():  # the input is 0-255: scale the first features to unit size
            convolutions[0].weight.div_(TYPICAL_DEVIATION)
        for side in self.sides:
            assert isinstance(side, nn.Conv2d)  # noqa: S101 - for the type checker
            nn.init.normal_(side.weight, std=1 / math.sqrt(side.in_channels))
        nn.init.constant_(self.fuse.weight, 1 / self.fuse.in_channels)
        for module in self.modules():
            if isinstance(module, nn.Conv2d) and module.bias is not None:
                nn.init.zeros_(module.bias)


def _check(width: float, convolutions: Sequence[int], channels: Sequence[int]) -> None:
    if not width > 0:
        raise SettingsError(f"HED width is {width}: give a factor above 0")
    if len(convolutions) != len(channels) or not convolutions or min(convolutions) < 1:
        raise SettingsError(
            f"HED has {len(convolutions)} counts of convolutions and {len(channels)} of "
            "channels; give one of each per stage, all at least 1"
        )


def _stage(
    inputs: int, outputs: int, *, convolutions: int, pool: bool, batch_norm: bool
) -> nn.Sequential:
    layers: list[nn.Module] = [nn.MaxPool2d(2)] if pool else []
    for index in range(convolutions):
        layers.append(nn.Conv2d(inputs if index == 0 else outputs, outputs, 3, padding=1))
        if batch_norm:
            layers.append(nn.BatchNorm2d(outputs))
        layers.append(nn.ReLU())
    return nn.Sequential(*layers)
