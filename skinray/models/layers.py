"""What the networks share: framing an input to their stride, and batch norms that fit them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from skinray.errors import SettingsError

MOST_GROUPS = 8


def pad_to_stride(image: Tensor, stride: int) -> Tensor:
    """Repeat the last row and column until both sides are multiples of ``stride``.

    Parameters
    ----------
    image : (N, C, H, W) tensor.
    stride : pixels of the input under one cell of the network's coarsest map.

    Returns
    -------
    (N, C, H', W') tensor with H <= H' < H + stride; the image keeps its top left corner, so
    ``result[..., :H, :W]`` undoes it. Coarse maps then lie exactly on the pixel grid, while
    rounding them down would shift them by up to ``stride - 1`` pixels at the far edge.
    """
    height, width = image.shape[-2:]
    below, right = -height % stride, -width % stride
    if below == 0 and right == 0:
        return image
    return F.pad(image, (0, right, 0, below), mode="replicate")


def upsample(maps: Tensor, size: Sequence[int]) -> Tensor:
    """Bilinear, without aligned corners, to ``size`` (height, width)."""
    return F.interpolate(maps, size=tuple(size), mode="bilinear", align_corners=False)


def set_norm_momentum(network: nn.Module, momentum: float) -> None:
    """Give every batch norm below ``network`` this momentum of its running statistics.

    A higher momentum makes the statistics of evaluation mode follow sooner in a short
    training; torchvision's MobileNet has .01, which lags for hundreds of steps.
    """
    if not 0 < momentum <= 1:
        raise SettingsError(f"bn_momentum is {momentum}: give a number above 0, at most 1")
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = momentum


def use_group_norm(network: nn.Module) -> None:
    """Put a group norm (Wu and He, 2018) in the place of every batch norm below ``network``.

    It uses each image's own statistics, in training as in evaluation. With a few images a
    batch and stains that differ between subjects, a batch norm's running statistics miss
    what single images need, and the scores of evaluation mode jump from epoch to epoch.
    """
    for name, module in network.named_children():
        if isinstance(module, nn.BatchNorm2d):
            channels = module.num_features
            groups = max(n for n in range(1, MOST_GROUPS + 1) if channels % n == 0)
            setattr(network, name, nn.GroupNorm(groups, channels))
        else:
            use_group_norm(module)


class LenientBatchNorm2d(nn.BatchNorm2d):
    """Batch norm that uses its running statistics where a batch holds one value a channel.

    Global pooling leaves one value of each image, so a batch of one image has no variance and
    torch raises in training. The last batch of an epoch must not end a run.
    """

    def forward(self, values: Tensor) -> Tensor:
        """Normalise ``values``, (N, C, H, W)."""
        if self.training and values.numel() == values.shape[1]:
            return F.batch_norm(
                values, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps
            )
        return super().forward(values)


class ChannelNormalise(nn.Module):
    """``(image - mean) / std`` for each channel, with constants that are not in the state."""

    mean: Tensor
    std: Tensor

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        # One axis: with four, channels_last gives a lone buffer strides that the broadcast of
        # buffers between training processes refuses.
        self.register_buffer("mean", torch.tensor(mean), persistent=False)
        self.register_buffer("std", torch.tensor(std), persistent=False)

    def forward(self, image: Tensor) -> Tensor:
        """Normalise ``image``, (N, C, H, W)."""
        return (image - self.mean.view(1, -1, 1, 1)) / self.std.view(1, -1, 1, 1)


# Below this deviation a channel is constant, and what is left of it is rounding.
CONSTANT = 1e-6


def rgb_to_hsv(image: Tensor) -> Tensor:
    """Return hue, saturation and value, (N, 3, H, W) in 0..1, of RGB (N, 3, H, W) in 0..1.

    Hue is the hexagon's (Smith, 1978), 0 for red, 1/3 for green; grey has hue and saturation 0.
    """
    red, green, blue = image.unbind(1)
    high, low = image.amax(1), image.amin(1)
    span = high - low
    safe = torch.where(span > 0, span, 1.0)
    sixth = torch.where(
        high == red,
        (green - blue) / safe,
        torch.where(high == green, (blue - red) / safe + 2, (red - green) / safe + 4),
    )
    hue = torch.where(span > 0, (sixth / 6) % 1, 0.0)
    saturation = torch.where(high > 0, span / torch.where(high > 0, high, 1.0), 0.0)
    return torch.stack([hue, saturation, high], dim=1)


def standardise(values: Tensor) -> Tensor:
    """Bring each channel of each image to mean 0 and deviation 1; a constant one to 0.

    Parameters
    ----------
    values : (N, C, H, W) float32.
    """
    mean = values.mean((2, 3), keepdim=True)
    deviation = values.std((2, 3), keepdim=True, correction=0)
    constant = deviation < CONSTANT
    return torch.where(constant, 0.0, (values - mean) / torch.where(constant, 1.0, deviation))


class PixelClassifier(nn.Module):
    """A weighted sum of a pixel's red, green and blue as logit.

    The floor that a network must beat, and a stand-in that answers at once where the road to
    and from a network is what matters.

    Parameters
    ----------
    weights : start values for red, green and blue, on RGB in 0..1; by default dark is positive.
    bias : start value of the bias.

    Raises
    ------
    SettingsError
        If ``weights`` are not three.
    """

    def __init__(self, weights: Sequence[float] = (-4.0, -4.0, -4.0), bias: float = 6.0) -> None:
        super().__init__()
        if len(weights) != 3:
            raise SettingsError(f"weights are {len(weights)}: give one each for red, green, blue")
        self.sum = nn.Conv2d(3, 1, 1)
        with torch.no_grad():
            self.sum.weight.copy_(torch.tensor(weights).view(1, 3, 1, 1))
            self.sum.bias.fill_(bias)  # type: ignore[union-attr]

    def forward(self, image: Tensor) -> Tensor:
        """Return logits, (N, 1, H, W) float32, of RGB ``image`` (N, 3, H, W) in 0..1."""
        logits: Tensor = self.sum(image).float()
        return logits
