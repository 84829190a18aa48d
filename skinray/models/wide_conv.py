"""Convolutions with wide kernels that train faster on CPUs, as products of Fourier transforms.

An 11x11 kernel costs 121 products for each pair of channels and each pixel. After a Fourier
transform it costs one for each pair and frequency, and a batch shares the kernels' transforms.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

# The smallest batch that is faster with transforms (benchmarks/results/wide_conv.md), and the most
# memory for the kernels' transforms; otherwise a plain convolution is used.
LEAST_BATCH = 4
MOST_BYTES = 64 * 2**20


class WideConv2d(nn.Conv2d):
    """A convolution with stride 1 that keeps the map's size, for kernels from about 11x11.

    In training on a CPU in float32, batches use Fourier transforms, with the same result and
    gradients except for rounding. Otherwise it is `torch.nn.Conv2d`: GPUs have fast kernels for
    this, and predicting one or two images is faster without transforms.
    """

    def __init__(self, inputs: int, outputs: int, kernel: int) -> None:
        super().__init__(inputs, outputs, kernel, padding=kernel // 2)

    def forward(self, values: Tensor) -> Tensor:
        """Return (N, outputs, H, W) of (N, inputs, H, W)."""
        if not self._pays(values):
            return super().forward(values)
        result: Tensor = _FourierConv.apply(values, self.weight)
        assert self.bias is not None  # noqa: S101 - this layer always has one
        return result + self.bias[:, None, None]

    def _pays(self, values: Tensor) -> bool:
        count, _, height, width = values.shape
        side = fast_side(max(height, width) + self.kernel_size[0] // 2)
        return (
            self.training
            and height == width
            and count >= LEAST_BATCH
            and values.device.type == "cpu"
            and values.dtype == torch.float32
            and not torch.is_autocast_enabled("cpu")
            and 8 * side * (side // 2 + 1) * self.in_channels * self.out_channels <= MOST_BYTES
        )


class _FourierConv(torch.autograd.Function):
    """Cross-correlation of square maps, zero outside, with odd square kernels.

    Real and imaginary parts are stacked, so that each step is one product of real matrices per
    frequency: for images along the rows, for kernels along the inputs.
    """

    @staticmethod
    def forward(ctx: Any, values: Tensor, weight: Tensor) -> Tensor:
        outputs, inputs, kernel, _ = weight.shape
        count, _, height, _ = values.shape
        side = fast_side(height + kernel // 2)
        waves, _ = _waves(side, kernel)
        flat = weight.permute(2, 3, 1, 0).reshape(kernel * kernel, inputs * outputs)
        kernels = (waves @ flat).view(-1, 2 * inputs, outputs)
        real_imaginary = _spectrum(values, side)
        turned = torch.cat([-real_imaginary[:, count:], real_imaginary[:, :count]], dim=1)
        images = torch.cat([real_imaginary, turned], dim=2)
        products = torch.bmm(images, kernels)
        ctx.save_for_backward(images, kernels)
        ctx.sizes = (outputs, inputs, kernel, count, height, side)
        return _maps(products[:, :count], products[:, count:], side, height)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor]:
        images, kernels = ctx.saved_tensors
        outputs, inputs, kernel, count, height, side = ctx.sizes
        spectrum = _spectrum(gradient, side)
        _, back = _waves(side, kernel)
        by_frequency = torch.bmm(images.transpose(1, 2), spectrum).view(-1, inputs * outputs)
        for_weight = (back @ by_frequency).view(kernel, kernel, inputs, outputs)
        parts = torch.bmm(spectrum, kernels.transpose(1, 2))
        for_values = _maps(
            parts[:, :count, :inputs] + parts[:, count:, inputs:],
            parts[:, count:, :inputs] - parts[:, :count, inputs:],
            side,
            height,
        )
        return for_values, for_weight.permute(3, 2, 0, 1)


def fast_side(least: int) -> int:
    """Return the smallest even side of at least ``least`` without prime factors above 5."""
    from scipy.fft import next_fast_len  # slow to import, and most networks do without

    half: int = next_fast_len(-(-least // 2), real=True)
    return 2 * half


def _spectrum(maps: Tensor, side: int) -> Tensor:
    """Return the transforms (frequencies, 2N, C): first the real, then the imaginary parts."""
    spectrum = torch.view_as_real(torch.fft.rfft2(maps, s=(side, side)))
    count, channels = maps.shape[:2]
    return spectrum.permute(2, 3, 4, 0, 1).reshape(-1, 2 * count, channels)


def _maps(real: Tensor, imaginary: Tensor, side: int, height: int) -> Tensor:
    """Return the maps (N, C, height, height) of transforms (frequencies, N, C)."""
    parts = torch.stack([real, imaginary], dim=-1).permute(1, 2, 0, 3).contiguous()
    spectrum = torch.view_as_complex(parts).reshape(*parts.shape[:2], side, side // 2 + 1)
    maps: Tensor = torch.fft.irfft2(spectrum, s=(side, side))[..., :height, :height]
    return maps.contiguous(memory_format=torch.channels_last)


@lru_cache(maxsize=16)
def _waves(side: int, kernel: int) -> tuple[Tensor, Tensor]:
    """Return the matrices that transform a kernel about its centre, and a spectrum back.

    The first is (2 x frequencies, kernel²), with alternating cosines and sines. The second is its
    transpose, scaled to include the mirrored frequencies that `rfft2` leaves out.
    """
    down = torch.arange(side, dtype=torch.float64)[:, None, None, None]
    across = torch.arange(side // 2 + 1, dtype=torch.float64)[:, None, None]
    at = torch.arange(kernel, dtype=torch.float64) - kernel // 2
    angle = 2 * math.pi / side * (down * at[:, None] + across * at)
    angle = angle.reshape(-1, kernel * kernel)
    waves = torch.stack([angle.cos(), angle.sin()], dim=1).reshape(-1, kernel * kernel)
    weight = torch.full((side // 2 + 1,), 2 / side**2, dtype=torch.float64)
    weight[[0, -1]] = 1 / side**2
    back = (waves * weight.repeat(side).repeat_interleave(2)[:, None]).T
    return waves.float(), back.float().contiguous()
