"""DeepLabV3+ (Chen et al., 2018) on half of MobileNetV2's channels, for photographs of skin.

It is small enough for a phone (0.8 million parameters) and trains without a GPU. Its published
weights were trained on photographs of people, rooms and clothes.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from skinray.errors import SettingsError
from skinray.models.layers import WholeImage

WIDTH, DIVISOR = 0.5, 4
STRIDE = 16
FIRST_DILATED = 14
"""Position of the block that would halve the map a fifth time; from there the size is kept."""
SHALLOW, SHALLOW_CHANNELS, DEEP_CHANNELS = 3, 12, 160
"""Position and channels of the last block at a quarter of the size; channels of the last block."""


class ChannelBias(nn.Module):
    """A bias per channel, in place of batch norms folded into the preceding weights."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, values: Tensor) -> Tensor:
        """Add the bias to (N, C, H, W)."""
        return values + self.bias.view(-1, 1, 1)


class SkinMobileNet(WholeImage):
    """MobileNetV2 features, their mean over the image, and edges from a shallow layer.

    Photographs are resized to a square; the map has the photograph's size.

    Parameters
    ----------
    side : pixels of the square. The published weights were trained on 257; with 16 n + 1, the
        cells of the coarse map lie on the borders as they did then.
    pyramid_channels : of the two branches after the last features, and of their merging;
        published 256.
    decoder_channels : of the decoder's convolution.
    dropout : share of the merged channels, in training.
    """

    def __init__(
        self,
        side: int = 193,
        pyramid_channels: int = 256,
        decoder_channels: int = 64,
        dropout: float = 0.3,
    ) -> None:
        from torchvision.models import mobilenet_v2  # slow to import, and rarely needed

        super().__init__()
        if side < STRIDE or min(pyramid_channels, decoder_channels) < 1 or not 0 <= dropout < 1:
            raise SettingsError(
                f"skin_mobilenet with side {side}, {pyramid_channels} and {decoder_channels} "
                f"channels and dropout {dropout}: give a side of at least {STRIDE} px, at least "
                "1 channel, and a dropout from 0 to below 1"
            )
        self.side = side
        self.features = mobilenet_v2(
            weights=None, width_mult=WIDTH, round_nearest=DIVISOR, norm_layer=ChannelBias
        ).features[:-1]
        _dilate(self.features)
        self.near = nn.Conv2d(DEEP_CHANNELS, pyramid_channels, 1)
        self.whole = nn.Conv2d(DEEP_CHANNELS, pyramid_channels, 1)
        self.merge = nn.Conv2d(2 * pyramid_channels, pyramid_channels, 1)
        self.dropout = nn.Dropout2d(dropout)
        self.shallow = nn.Conv2d(SHALLOW_CHANNELS, 2 * SHALLOW_CHANNELS, 1)
        self.decoder = nn.Conv2d(
            pyramid_channels + 2 * SHALLOW_CHANNELS, decoder_channels, 3, padding=1
        )
        self.end = nn.Conv2d(decoder_channels, 1, 1)
        for part in (self.features, self.near, self.whole, self.merge):
            _draw(part)

    def logits(self, framed: Tensor) -> Tensor:
        """Return the logits of a frame, at a quarter of its size, (N, 1, h / 4, w / 4) float32."""
        shallow, deep = self.seen(framed)
        deep = self.dropout(self.pyramid(deep))
        deep = F.interpolate(deep, shallow.shape[-2:], mode="bilinear", align_corners=False)
        both = torch.cat([deep, F.relu(self.shallow(shallow))], dim=1)
        logits: Tensor = self.end(F.relu(self.decoder(both))).float()
        return logits

    def seen(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Return the features at a quarter and at a sixteenth of the size of ``image``."""
        values = 2 * image - 1
        for place, block in enumerate(self.features):
            values = block(values)
            if place == SHALLOW:
                shallow = values
        return shallow, values

    def pyramid(self, deep: Tensor) -> Tensor:
        """Return the last features merged with their mean over the image."""
        whole = F.relu(self.whole(deep.mean((2, 3), keepdim=True)))
        near = F.relu(self.near(deep))
        return F.relu(self.merge(torch.cat([whole.expand_as(near), near], dim=1)))


def _dilate(features: nn.Sequential) -> None:
    """Dilate the last blocks instead of halving the map once more."""
    for place in range(FIRST_DILATED, len(features)):
        for layer in features[place].modules():
            if isinstance(layer, nn.Conv2d) and layer.kernel_size == (3, 3):
                if place == FIRST_DILATED:
                    layer.stride = (1, 1)
                else:
                    layer.dilation = layer.padding = (2, 2)


def _draw(part: nn.Module) -> None:
    """Initialise weights for ReLUs (He et al., 2015), by a layer's number of inputs.

    torchvision uses the number of outputs, which needs batch norms: without them, depthwise
    layers would shrink every signal to zero.
    """
    for layer in part.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
