"""DeepLabV3 for photographs of any size: what a pretrained backbone gives beside the U-Nets."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor
from torch.nn import functional as F

from skinray.errors import SettingsError
from skinray.models.deeplabv3 import Backbone, DeepLabV3


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
