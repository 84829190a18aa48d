"""Wide convolutions as products of Fourier transforms: the result and gradients of Conv2d."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from skinray.models import build, wide_conv
from skinray.models.wide_conv import WideConv2d, fast_side


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[Tensor]:
    """Return a list that grows by the maps of each convolution that is done by transforms."""
    made: list[Tensor] = []
    real = wide_conv._FourierConv.apply

    def counted(values: Tensor, weight: Tensor) -> Tensor:
        made.append(values)
        return real(values, weight)

    monkeypatch.setattr(wide_conv._FourierConv, "apply", counted)
    return made


def both(
    count: int, inputs: int, outputs: int, kernel: int, side: int
) -> tuple[list[Tensor], list[Tensor]]:
    """Return maps and the gradients of input, weight and bias, of Conv2d and of WideConv2d."""
    torch.manual_seed(count)
    wide = WideConv2d(inputs, outputs, kernel)
    plain = nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2).double()
    plain.load_state_dict(wide.state_dict())
    values = torch.randn(count, inputs, side, side)
    toward = torch.randn(count, outputs, side, side)
    found = []
    for layer in (plain, wide):
        x = values.to(layer.weight.dtype).requires_grad_()
        maps = layer(x)
        maps.backward(toward.to(maps.dtype))
        found.append([maps, x.grad, layer.weight.grad, layer.bias.grad])
    return found[0], found[1]


@pytest.mark.parametrize(
    ("count", "inputs", "outputs", "kernel", "side"),
    [(4, 3, 5, 11, 32), (5, 2, 1, 11, 9), (6, 1, 3, 3, 7), (4, 2, 2, 5, 1), (8, 4, 3, 11, 64)],
)
def test_maps_and_gradients_are_those_of_a_plain_convolution(
    calls: list[Tensor], count: int, inputs: int, outputs: int, kernel: int, side: int
) -> None:
    plain, wide = both(count, inputs, outputs, kernel, side)
    assert len(calls) == 1
    for expected, found in zip(plain, wide, strict=True):
        assert found.dtype == torch.float32
        scale = expected.abs().max()
        assert (found - expected).abs().max() < 1e-5 * scale


def test_transforms_are_used_only_in_float32_training_on_batches_of_square_maps(
    calls: list[Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    layer = WideConv2d(2, 3, 11)
    batch = torch.rand(4, 2, 8, 8)
    layer(batch[:3])
    layer(batch[..., :6])
    layer.eval()(batch)
    layer.train().double()(batch.double())
    layer.float()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert layer(batch).dtype == torch.bfloat16
    monkeypatch.setattr(wide_conv, "MOST_BYTES", 8 * 16 * 9 * 6 - 1)  # a map of 8 takes 16
    layer(batch)
    assert calls == []
    monkeypatch.setattr(wide_conv, "MOST_BYTES", 8 * 16 * 9 * 6)
    layer(batch)
    assert len(calls) == 1


def test_the_unet_trains_by_transforms_to_the_same_gradients(
    calls: list[Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    network = build("skin_unet", filters=(4, 6, 8), bottleneck=5, dropout=0.0, noise=0.0).train()
    plain = copy.deepcopy(network)
    image = torch.rand(4, 3, 128, 128)
    network(image).square().mean().backward()
    assert [tuple(values.shape[1:]) for values in calls] == [
        (16, 32, 32), (14, 64, 64), (10, 128, 128),
    ]  # fmt: skip
    monkeypatch.setattr(wide_conv, "LEAST_BATCH", 5)
    plain(image).square().mean().backward()
    assert len(calls) == 3
    for found, expected in zip(network.parameters(), plain.parameters(), strict=True):
        assert found.grad is not None
        assert expected.grad is not None
        assert expected.grad.any()
        assert (found.grad - expected.grad).norm() <= 1e-4 * expected.grad.norm()


def test_a_fast_side_is_even_and_has_small_factors() -> None:
    assert [fast_side(least) for least in (1, 7, 37, 69, 133, 145)] == [2, 8, 40, 72, 144, 150]
