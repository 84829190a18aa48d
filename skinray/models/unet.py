"""U-Net with batch norm, the paper's baseline for nerves and dermis.

The architecture is that of Buda et al. (Computers in Biology and Medicine, 2019), who trained it
on brain MRI. Two published files fit it (see :mod:`skinray.models.weights.published`); one of them
has the same number of features on every level.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn

from skinray.errors import SettingsError
from skinray.models.layers import WholeImage, set_norm_momentum, use_group_norm


class UNet(WholeImage):
    """U-Net on RGB in 0..1.

    Parameters
    ----------
    features : channels of the first level.
    doubling : each level has twice the channels of the one above; False: all have the same.
    depth : number of levels, including the lowest; Buda has 5.
    batch_norm : a batch norm after each 3x3 convolution.
    group_norm : group norms instead of the batch norms, for training from random weights.
    standardise : first scale each channel of each image to mean 0 and deviation 1, as Buda did;
        False: leave it in 0..1.
    bn_momentum : momentum of the running statistics.
    """

    def __init__(
        self,
        features: int = 32,
        doubling: bool = True,
        depth: int = 5,
        batch_norm: bool = True,
        standardise: bool = True,
        bn_momentum: float = 0.1,
        group_norm: bool = False,
    ) -> None:
        super().__init__()
        if features < 1 or depth < 2:
            raise SettingsError(
                f"U-Net with {features} features and depth {depth}: "
                "give at least 1 feature and 2 levels"
            )
        sizes = [features * 2**level if doubling else features for level in range(depth)]
        self.standardise = standardise
        self.stride = 2 ** (depth - 1)
        self.pool = nn.MaxPool2d(2)
        self.encoders = nn.ModuleList(
            _Block(inputs, outputs, batch_norm) for inputs, outputs in pairwise([3, *sizes])
        )
        rising = list(pairwise(reversed(sizes)))
        self.ups = nn.ModuleList(nn.ConvTranspose2d(low, high, 2, 2) for low, high in rising)
        self.decoders = nn.ModuleList(_Block(2 * high, high, batch_norm) for _, high in rising)
        self.head = nn.Conv2d(features, 1, 1)
        set_norm_momentum(self, bn_momentum)
        if group_norm:
            use_group_norm(self)

    def logits(self, framed: Tensor) -> Tensor:
        """Return the logits of a frame, (N, 1, h, w) float32."""
        values = framed
        skips = []
        for level, encoder in enumerate(self.encoders):
            values = encoder(self.pool(values) if level else values)
            skips.append(values)
        skips.pop()
        for up, decoder in zip(self.ups, self.decoders, strict=True):
            values = decoder(torch.cat([up(values), skips.pop()], dim=1))
        logits: Tensor = self.head(values)
        return logits.float()


class _Block(nn.Module):
    """Twice: 3x3 convolution, batch norm, ReLU."""

    def __init__(self, inputs: int, outputs: int, batch_norm: bool) -> None:
        super().__init__()
        # A bias before a batch norm has no effect; published biases go into its running mean.
        self.conv1 = nn.Conv2d(inputs, outputs, 3, padding=1, bias=not batch_norm)
        self.norm1 = nn.BatchNorm2d(outputs) if batch_norm else nn.Identity()
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=not batch_norm)
        self.norm2 = nn.BatchNorm2d(outputs) if batch_norm else nn.Identity()

    def forward(self, values: Tensor) -> Tensor:
        values = torch.relu(self.norm1(self.conv1(values)))
        return torch.relu(self.norm2(self.conv2(values)))
