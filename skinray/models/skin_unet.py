"""U-Net, U-Net Large and Dense Residual U-Net for skin in photographs (Codella et al., 2018).

The paper gives the numbers of parameters (7.5, 150 and 149.9 million), the filters and bottleneck
of U-Net Large (45, 90, 180; 1450), and the noise and dropout. The kernel sizes are the only ones
that give U-Net Large's number of parameters; U-Net's 12, 24, 48 and 256 and the Dense Residual
U-Net's bottleneck of 1057 are chosen to give the other two numbers.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from skinray.errors import SettingsError
from skinray.models.layers import WholeImage, rgb_to_hsv, standardise
from skinray.models.wide_conv import WideConv2d

SIDE = 128
CHANNELS = 6
CONVOLUTIONS = 3
KERNEL, FIRST_OF_DECODER = 5, 11


class SkinUNet(WholeImage):
    """U-Net with a fully connected layer over its lowest map, which covers the whole image.

    Photographs are resized to 128x128; the map has the photograph's size.

    Parameters
    ----------
    filters : of each level's convolutions, top level first.
    bottleneck : neurons of the fully connected layer.
    dense : densely connected convolutions (Huang et al., 2017) instead of plain ones, and
        ``residual_blocks`` at the end.
    residual_blocks : residual blocks (He et al., 2016) after the last decoder of a dense network.
    dropout : in the lowest encoder, the fully connected layer and all decoders, in training.
    noise : standard deviation of the noise before each encoder, in training.
    """

    side = SIDE

    def __init__(
        self,
        filters: Sequence[int] = (12, 24, 48),
        bottleneck: int = 256,
        dense: bool = False,
        residual_blocks: int = 4,
        dropout: float = 0.5,
        noise: float = 0.025,
    ) -> None:
        super().__init__()
        lowest = SIDE // 2 ** len(filters)
        if not filters or min(filters) < 1 or bottleneck < 1 or lowest < 1:
            raise SettingsError(
                f"skin U-Net with filters {tuple(filters)} and bottleneck {bottleneck}: give 1 to "
                "7 levels of at least 1 filter, and at least 1 neuron"
            )
        if not 0 <= dropout < 1 or noise < 0 or residual_blocks < 1:
            raise SettingsError(
                f"skin U-Net with dropout {dropout}, noise {noise} and {residual_blocks} residual "
                "blocks: give 0 <= dropout < 1, noise of at least 0, at least 1 block"
            )
        self.noise = noise
        self.pool = nn.MaxPool2d(2)
        self.encoders, width, skips = nn.ModuleList(), CHANNELS, []
        for count in filters:
            encoder = Block(width, count, KERNEL, dense)
            self.encoders.append(encoder)
            width = encoder.width
            skips.append(width)
        self.dropout = nn.Dropout(dropout)
        self.global_view = GlobalView(width, lowest, bottleneck, dropout)
        self.decoders = nn.ModuleList()
        for count, skip in zip(reversed(filters), reversed(skips), strict=True):
            decoder = Block(width + skip, count, FIRST_OF_DECODER, dense)
            self.decoders.append(decoder)
            width = decoder.width
        self.end: nn.Module = nn.Conv2d(width, 1, 1)
        if dense:
            self.end = ResidualEnd(CONVOLUTIONS * filters[0], filters[0], residual_blocks)
        _initialise(self)

    def logits(self, framed: Tensor) -> Tensor:
        """Return the logits of a frame, (N, 1, h, w) float32.

        The paper's confidence is (tanh(z) + 1) / 2 of the output z: the sigmoid of 2 z.
        """
        values = standardise(torch.cat([framed, rgb_to_hsv(framed.clamp(0, 1))], dim=1))
        skips = []
        for encoder in self.encoders:
            if self.training and self.noise:
                values = values + self.noise * torch.randn_like(values)
            values = encoder(values)
            if encoder is self.encoders[-1]:
                values = self.dropout(values)
            skips.append(values)
            values = self.pool(values)
        values = self.global_view(values)
        for decoder in self.decoders:
            values = F.interpolate(values, scale_factor=2.0, mode="nearest")
            values = self.dropout(decoder(torch.cat([values, skips.pop()], dim=1)))
        logits: Tensor = 2 * self.end(values).float()
        return logits


class Block(nn.Module):
    """Three convolutions, each with a ReLU.

    Plain: in a row. Dense: each has the block's input and all earlier convolutions as input, and
    the output is the block's input followed by the convolutions in order.

    Attributes
    ----------
    width : number of output channels.
    """

    def __init__(self, inputs: int, filters: int, first_kernel: int, dense: bool) -> None:
        super().__init__()
        self.dense = dense
        self.width = inputs
        self.convolutions = nn.ModuleList()
        for kernel in [first_kernel] + [KERNEL] * (CONVOLUTIONS - 1):
            self.convolutions.append(_convolution(self.width, filters, kernel))
            self.width = self.width + filters if dense else filters

    def forward(self, values: Tensor) -> Tensor:
        """Return (N, width, H, W) of (N, inputs, H, W)."""
        for convolution in self.convolutions:
            found = F.relu(convolution(values))
            values = torch.cat([values, found], dim=1) if self.dense else found
        return values


class GlobalView(nn.Module):
    """A fully connected layer over the whole lowest map, and another back to its shape."""

    def __init__(self, channels: int, side: int, bottleneck: int, dropout: float) -> None:
        super().__init__()
        self.shape = (channels, side, side)
        self.down = nn.Linear(channels * side * side, bottleneck)
        self.dropout = nn.Dropout(dropout)
        self.up = nn.Linear(bottleneck, channels * side * side)

    def forward(self, values: Tensor) -> Tensor:
        """Return a map of the same shape, (N, channels, side, side)."""
        seen = self.dropout(F.relu(self.down(values.flatten(1))))
        return F.relu(self.up(seen)).reshape(-1, *self.shape)


class ResidualEnd(nn.Module):
    """Merges the last dense block's convolutions, applies residual blocks, and merges these."""

    def __init__(self, inputs: int, filters: int, blocks: int) -> None:
        super().__init__()
        self.inputs = inputs
        self.merge = nn.Conv2d(inputs, filters, 1)
        self.blocks = nn.ModuleList(ResidualBlock(filters) for _ in range(blocks))
        self.head = nn.Conv2d(blocks * filters, 1, 1)

    def forward(self, values: Tensor) -> Tensor:
        """Return (N, 1, H, W) of the last ``inputs`` channels, the dense block's convolutions."""
        values = F.relu(self.merge(values[:, -self.inputs :]))
        seen = []
        for block in self.blocks:
            values = block(values)
            seen.append(values)
        result: Tensor = self.head(torch.cat(seen, dim=1))
        return result


class ResidualBlock(nn.Module):
    """Two convolutions, whose result is added to the input."""

    def __init__(self, filters: int) -> None:
        super().__init__()
        self.first = _convolution(filters, filters, KERNEL)
        self.second = _convolution(filters, filters, KERNEL)

    def forward(self, values: Tensor) -> Tensor:
        """Return a map of the same shape."""
        return F.relu(values + self.second(F.relu(self.first(values))))


def _convolution(inputs: int, outputs: int, kernel: int) -> nn.Conv2d:
    if kernel >= FIRST_OF_DECODER:
        return WideConv2d(inputs, outputs, kernel)
    return nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2)


def _initialise(network: nn.Module) -> None:
    """Initialise weights for ReLUs (He et al., 2015)."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            assert module.bias is not None  # noqa: S101 - every layer here has one
            nn.init.zeros_(module.bias)
