"""A light DeepLabV3+ (Chen et al., ECCV 2018) for coarse structures: the dermis at a small scale.

A short residual encoder, atrous pyramid pooling at stride 16, and one decoder step at stride 4.
With default options it has 0.7 million parameters, so that two cores train it in minutes from few
images. Group norms, because batches are small and weights random.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from skinray.errors import SettingsError
from skinray.models.layers import ChannelNormalise, WholeImage, upsample, use_group_norm

# Of stained sections; only the start of a training from random weights depends on it.
MEAN, STD = (0.75, 0.65, 0.7), (0.2, 0.2, 0.2)
STRIDE = 16


class DeepLabLite(WholeImage):
    """DeepLabLite on RGB in 0..1.

    Parameters
    ----------
    channels : of the encoder's four stages, at strides 2, 4, 8 and 16; at least 8 each.
    pyramid : channels of the pyramid pooling.
    atrous_rates : dilations of the pyramid.
    dropout : after the pyramid, of whole channels.
    """

    stride = STRIDE

    def __init__(
        self,
        channels: Sequence[int] = (16, 32, 64, 96),
        pyramid: int = 64,
        atrous_rates: Sequence[int] = (2, 4, 6),
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        # On processors with AVX2 alone, torch 2.14 writes beyond its memory in the gradient of a
        # strided 1x1 convolution of fewer channels.
        if len(channels) != 4 or min(channels) < 8 or pyramid < 1:
            raise SettingsError(
                f"channels {tuple(channels)}, pyramid {pyramid}: give four stages, of at least 8 "
                "channels"
            )
        if not 0 <= dropout < 1:
            raise SettingsError(f"dropout is {dropout}: give a share from 0 to below 1")
        first, near, middle, deep = channels
        self.normalise = ChannelNormalise(MEAN, STD)
        self.shallow = nn.Sequential(_conv(3, first, stride=2), Residual(first, near, stride=2))
        self.deep = nn.Sequential(
            Residual(near, middle, stride=2), Residual(middle, middle),
            Residual(middle, deep, stride=2), Residual(deep, deep),
        )  # fmt: skip
        self.pyramid = Pyramid(deep, pyramid, atrous_rates)
        self.dropout = nn.Dropout2d(dropout)
        self.near = _conv(near, pyramid // 4 or 1, size=1)
        self.decoder = _conv(pyramid + (pyramid // 4 or 1), pyramid)
        self.head = nn.Conv2d(pyramid, 1, 1)
        use_group_norm(self)

    def logits(self, framed: Tensor) -> Tensor:
        """Return the logits of a frame, (N, 1, h, w) float32."""
        near = self.shallow(self.normalise(framed))
        far = self.dropout(self.pyramid(self.deep(near)))
        both = torch.cat([upsample(far, near.shape[-2:]), self.near(near)], dim=1)
        logits = self.head(self.decoder(both))
        return upsample(logits.float(), framed.shape[-2:])


class Residual(nn.Module):
    """Two 3x3 convolutions and a shortcut (He et al., 2016)."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__()
        self.first = _conv(inputs, outputs, stride=stride)
        self.second = nn.Sequential(
            nn.Conv2d(outputs, outputs, 3, padding=1, bias=False),
            nn.BatchNorm2d(outputs),
        )
        self.shortcut: nn.Module = nn.Identity()
        if stride > 1 or inputs != outputs:
            self.shortcut = nn.Conv2d(inputs, outputs, 1, stride=stride)

    def forward(self, features: Tensor) -> Tensor:
        """Return (N, outputs, H / stride, W / stride)."""
        total: Tensor = torch.relu(self.second(self.first(features)) + self.shortcut(features))
        return total


class Pyramid(nn.Module):
    """Atrous spatial pyramid pooling: 1x1, dilated 3x3 convolutions and the mean of the image."""

    def __init__(self, inputs: int, outputs: int, rates: Sequence[int]) -> None:
        super().__init__()
        self.branches = nn.ModuleList(
            [_conv(inputs, outputs, size=1), *(_conv(inputs, outputs, rate=r) for r in rates)]
        )
        self.whole = nn.Sequential(
            nn.AdaptiveAvgPool2d(1), nn.Conv2d(inputs, outputs, 1), nn.ReLU()
        )
        self.project = _conv(outputs * (len(rates) + 2), outputs, size=1)

    def forward(self, features: Tensor) -> Tensor:
        """Return (N, outputs, H, W)."""
        parts = [branch(features) for branch in self.branches]
        whole = self.whole(features).expand(-1, -1, *features.shape[-2:])
        projected: Tensor = self.project(torch.cat([*parts, whole], dim=1))
        return projected


def _conv(
    inputs: int, outputs: int, *, size: int = 3, stride: int = 1, rate: int = 1
) -> nn.Sequential:
    padding = rate * (size // 2)
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, size, stride, padding, rate, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(),
    )
