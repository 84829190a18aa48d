"""Shared parts of the networks: input normalisation, resizing, norms; and the pixel baseline."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from skinray.errors import SettingsError

MOST_GROUPS = 8
# Below this deviation a channel is constant except for rounding.
CONSTANT = 1e-6


class WholeImage(nn.Module, ABC):
    """A network in three steps: frame the image, compute logits, fit them to the image.

    A frame has a size that the network can compute, whatever the image's. Nearly all the work is
    in the second step, which :mod:`skinray.models.backends` can compute otherwise.

    Attributes
    ----------
    stride : input pixels per cell of the coarsest map; frames are padded to a multiple of it.
    side : frames are squares of this side instead; None: as above.
    standardise : each channel of an image is scaled to mean 0 and deviation 1 before.
    """

    stride: int = 1
    side: int | None = None
    standardise: bool = False

    def framed(self, image: Tensor) -> Tensor:
        """Return the frame, (N, 3, h, w), of RGB ``image`` (N, 3, H, W) in 0..1."""
        if self.standardise:
            image = standardise(image)
        if self.side is not None:
            return to_square(image, self.side)
        return pad_to_stride(image, self.stride)

    @abstractmethod
    def logits(self, framed: Tensor) -> Tensor:
        """Return the logits of a frame, (N, 1, h, w) float32; of a square, perhaps coarser."""

    def forward(self, image: Tensor) -> Tensor:
        """Return logits, (N, 1, H, W) float32, of RGB ``image`` (N, 3, H, W) in 0..1."""
        return self.fitted(self.logits(self.framed(image)), image.shape[-2:])

    def fitted(self, logits: Tensor, size: Sequence[int]) -> Tensor:
        """Return logits of a frame at the size of the image, (height, width)."""
        if self.side is None:
            return logits[..., : size[0], : size[1]]
        return logits if logits.shape[-2:] == torch.Size(size) else upsample(logits, size)


class FramesOnly(WholeImage):
    """Frames images for a network whose logits are computed elsewhere."""

    def __init__(
        self, stride: int, side: int | None, standardise: bool, working_scale: float
    ) -> None:
        super().__init__()
        self.stride, self.side, self.standardise = stride, side, standardise
        self.working_scale = working_scale

    @staticmethod
    def options(network: WholeImage) -> dict[str, int | float | None]:
        """Return the options with which this class frames images as a network does."""
        return {
            "stride": network.stride,
            "side": network.side,
            "standardise": network.standardise,
            "working_scale": float(getattr(network, "working_scale", 1.0)),
        }

    def logits(self, framed: Tensor) -> Tensor:
        """Raise TypeError: there is no network here."""
        raise TypeError("these frames come without a network: its logits are computed elsewhere")


class ChannelNormalise(nn.Module):
    """``(image - mean) / std`` for each channel, with constants that are not in the state dict."""

    mean: Tensor
    std: Tensor

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        # One axis: with four, channels_last would give strides that the broadcast of buffers
        # between training processes rejects.
        self.register_buffer("mean", torch.tensor(mean), persistent=False)
        self.register_buffer("std", torch.tensor(std), persistent=False)

    def forward(self, image: Tensor) -> Tensor:
        """Normalise ``image``, (N, C, H, W)."""
        return (image - self.mean.view(1, -1, 1, 1)) / self.std.view(1, -1, 1, 1)


def rgb_to_hsv(image: Tensor) -> Tensor:
    """Return hue, saturation and value, (N, 3, H, W) in 0..1, of RGB (N, 3, H, W) in 0..1.

    Hue is that of the hexagon model (Smith, 1978): red 0, green 1/3; grey has hue and saturation
    0.
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
    """Scale each channel of each image to mean 0 and deviation 1; a constant channel to 0.

    Parameters
    ----------
    values : (N, C, H, W) float32.
    """
    mean = values.mean((2, 3), keepdim=True)
    deviation = values.std((2, 3), keepdim=True, correction=0)
    constant = deviation < CONSTANT
    return torch.where(constant, 0.0, (values - mean) / torch.where(constant, 1.0, deviation))


def pad_to_stride(image: Tensor, stride: int) -> Tensor:
    """Repeat the last row and column until both sides are multiples of ``stride``.

    Parameters
    ----------
    image : (N, C, H, W) tensor.
    stride : input pixels per cell of the network's coarsest map.

    Returns
    -------
    (N, C, H', W') tensor with H <= H' < H + stride. ``result[..., :H, :W]`` is the image. Coarse
    maps are then aligned with the pixel grid; without padding they would be shifted by up to
    ``stride - 1`` pixels at the far edge.
    """
    height, width = image.shape[-2:]
    below, right = -height % stride, -width % stride
    if below == 0 and right == 0:
        return image
    return F.pad(image, (0, right, 0, below), mode="replicate")


def upsample(maps: Tensor, size: Sequence[int]) -> Tensor:
    """Resize maps to ``size`` (height, width), bilinearly and without aligned corners."""
    return F.interpolate(maps, size=tuple(size), mode="bilinear", align_corners=False)


def to_square(image: Tensor, side: int) -> Tensor:
    """Resize ``image``, (N, C, H, W), to (N, C, side, side); smoothed where it shrinks."""
    square = (side, side)
    if image.shape[-2:] == square:
        return image
    return F.interpolate(image, square, mode="bilinear", antialias=True)


def set_norm_momentum(network: nn.Module, momentum: float) -> None:
    """Set the momentum of the running statistics of every batch norm in ``network``.

    With a higher momentum, the statistics of evaluation mode follow sooner in a short training.
    torchvision's MobileNet has .01, which lags by hundreds of steps.
    """
    if not 0 < momentum <= 1:
        raise SettingsError(f"bn_momentum is {momentum}: give a number above 0, at most 1")
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = momentum


def use_group_norm(network: nn.Module) -> None:
    """Replace every batch norm in ``network`` by a group norm (Wu and He, 2018).

    A group norm uses each image's own statistics, in training and evaluation. With few images
    per batch and stains that differ between subjects, a batch norm's running statistics do not
    fit single images, and scores in evaluation mode jump from epoch to epoch.
    """
    for name, module in network.named_children():
        if isinstance(module, nn.BatchNorm2d):
            channels = module.num_features
            groups = max(n for n in range(1, MOST_GROUPS + 1) if channels % n == 0)
            setattr(network, name, nn.GroupNorm(groups, channels))
        else:
            use_group_norm(module)


class LenientBatchNorm2d(nn.BatchNorm2d):
    """Batch norm that uses its running statistics if there is only one value per channel.

    After global pooling, a batch of one image has no variance, and torch raises an error in
    training. The last batch of an epoch must not stop a run.
    """

    def forward(self, values: Tensor) -> Tensor:
        """Normalise ``values``, (N, C, H, W)."""
        if self.training and values.numel() == values.shape[1]:
            return F.batch_norm(
                values, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps
            )
        return super().forward(values)


class PixelClassifier(WholeImage):
    """Logistic regression on a pixel's red, green and blue.

    A baseline that every network must beat, and a fast substitute for one in tests.

    Parameters
    ----------
    weights : initial weights of red, green and blue, in 0..1; by default dark is positive.
    bias : initial bias.
    """

    def __init__(self, weights: Sequence[float] = (-4.0, -4.0, -4.0), bias: float = 6.0) -> None:
        super().__init__()
        if len(weights) != 3:
            raise SettingsError(f"{len(weights)} weights: give one each for red, green and blue")
        self.sum = nn.Conv2d(3, 1, 1)
        with torch.no_grad():
            self.sum.weight.copy_(torch.tensor(weights).view(1, 3, 1, 1))
            self.sum.bias.fill_(bias)  # type: ignore[union-attr]

    def logits(self, framed: Tensor) -> Tensor:
        """Return the logits of a frame, (N, 1, h, w) float32."""
        logits: Tensor = self.sum(framed).float()
        return logits
