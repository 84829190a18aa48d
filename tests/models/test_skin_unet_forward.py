"""The networks for photographs compute what the paper draws, written out here from its text.

Codella et al. (2018), figure 2 and II.A; kernels and merges as docs/decisions/0026 has them.
"""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from skinray.models import build
from skinray.models.skin_unet import SkinUNet

NAMES = ("skin_unet", "skin_unet_large", "skin_dense_unet")
# Narrower than the paper's, and no two levels alike.
FILTERS = {"skin_unet": (2, 3, 5), "skin_unet_large": (4, 5, 7), "skin_dense_unet": (2, 1, 3)}
SIDE = 128


def narrow(name: str, **options: float) -> SkinUNet:
    """The network of that name with few filters; biases count too."""
    torch.manual_seed(0)
    network = build(name, filters=FILTERS[name], bottleneck=6, **options)
    assert isinstance(network, SkinUNet)
    for key, value in network.named_parameters():
        if key.endswith(".bias"):
            nn.init.uniform_(value, -0.3, 0.5)
    return network


def photos(height: int = SIDE, width: int = SIDE) -> Tensor:
    """Two photographs of unlike brightness and contrast, (2, 3, H, W), of blurred colours."""
    rng = np.random.default_rng(0)
    first, second = (cv2.GaussianBlur(rng.random((height, width, 3)), (0, 0), 2) for _ in range(2))
    pair = np.stack([1.4 * first, 0.1 + 0.5 * second**2]).clip(0, 1)
    return torch.tensor(pair, dtype=torch.float32).permute(0, 3, 1, 2)


def standardised(image: Tensor) -> Tensor:
    """Return (N, 6, H, W): R G B H S V, each of each photograph with mean 0 and deviation 1."""
    arrays = image.permute(0, 2, 3, 1).numpy()
    hsv = np.stack([cv2.cvtColor(one, cv2.COLOR_RGB2HSV) for one in arrays])
    channels = np.concatenate([arrays, hsv], axis=3)
    channels = (channels - channels.mean((1, 2), keepdims=True)) / channels.std(
        (1, 2), keepdims=True
    )
    return torch.from_numpy(channels).permute(0, 3, 1, 2).float()


def published(
    state: dict[str, Tensor],
    image: Tensor,
    drop: Callable[[Tensor], Tensor] = lambda values: values,
) -> Tensor:
    """Return the last value before the hyperbolic tangent, of photographs of 128x128."""
    dense = "end.merge.weight" in state

    def convolve(name: str, values: Tensor) -> Tensor:
        weight = state[f"{name}.weight"]
        return F.conv2d(values, weight, state[f"{name}.bias"], padding=weight.shape[-1] // 2)

    def block(name: str, values: Tensor) -> tuple[Tensor, list[Tensor]]:
        seen = []
        for at in range(3):
            seen.append(F.relu(convolve(f"{name}.convolutions.{at}", values)))
            values = torch.cat([values, seen[-1]], 1) if dense else seen[-1]
        return values, seen

    def connect(name: str, values: Tensor) -> Tensor:
        weight, bias = state[f"global_view.{name}.weight"], state[f"global_view.{name}.bias"]
        return F.relu(values @ weight.T + bias)

    values, skips = standardised(image), []
    for level in range(3):
        values, _ = block(f"encoders.{level}", values)
        skips.append(drop(values) if level == 2 else values)
        values = F.max_pool2d(skips[-1], 2)
    values = connect("up", drop(connect("down", values.flatten(1)))).reshape(values.shape)
    for level in range(3):
        enlarged = values.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)
        values, seen = block(f"decoders.{level}", torch.cat([enlarged, skips[2 - level]], 1))
        values = drop(values)
    if not dense:
        return convolve("end", values)
    own = values[:, -sum(one.shape[1] for one in seen) :]  # dropped as the block is
    values, refined = F.relu(convolve("end.merge", own)), []
    for at in range(4):
        change = convolve(
            f"end.blocks.{at}.second", F.relu(convolve(f"end.blocks.{at}.first", values))
        )
        values = F.relu(values + change)
        refined.append(values)
    return convolve("end.head", torch.cat(refined, 1))


def assert_same(found: Tensor, expected: Tensor) -> None:
    """Maps that differ from pixel to pixel are alike to a small part of what they vary by."""
    spread = float(expected.std())
    assert min(one.std() for one in expected) > 0.1 * spread > 0
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-3 * spread)


@pytest.mark.parametrize("name", NAMES)
def test_each_network_computes_what_the_paper_draws(name: str) -> None:
    network, image = narrow(name).eval(), photos()
    with torch.inference_mode():
        assert_same(network(image), 2 * published(network.state_dict(), image))


@pytest.mark.parametrize("size", [(90, 140), (300, 200)])
def test_photographs_are_seen_at_128_px_and_answered_at_their_own(size: tuple[int, int]) -> None:
    network, image = narrow("skin_unet").eval(), photos(*size)
    square = F.interpolate(image, (SIDE, SIDE), mode="bilinear", antialias=True)
    with torch.inference_mode():
        seen = 2 * published(network.state_dict(), square)
        back = F.interpolate(seen, size, mode="bilinear", align_corners=False)
        assert_same(network(image), back)


def drop_by_turns(values: Tensor) -> Tensor:
    """Dropout without chance: every third value falls out, whatever the shape."""
    kept = torch.arange(values[0].numel()).reshape(values.shape[1:]) % 3 > 0
    return 2 * kept * values


class DropByTurns(nn.Module):
    """Stands in for dropout."""

    def forward(self, values: Tensor) -> Tensor:
        return drop_by_turns(values)


@pytest.mark.parametrize("name", NAMES)
def test_in_training_values_drop_out_where_the_paper_says(name: str) -> None:
    network, image = narrow(name, noise=0.0).train(), photos()[:1]
    network.dropout = network.global_view.dropout = DropByTurns()  # type: ignore[assignment]
    with torch.inference_mode():
        assert_same(network(image), 2 * published(network.state_dict(), image, drop_by_turns))


@pytest.mark.parametrize("name", NAMES)
def test_noise_of_deviation_025_comes_before_each_encoder_and_nowhere_else(name: str) -> None:
    network, image = narrow(name, dropout=0.0).train(), photos()
    given: list[Tensor] = []
    made: list[Tensor] = []

    def remember(_block: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        given.append(inputs[0])
        made.append(output)

    for block in (*network.encoders, network.global_view, *network.decoders, network.end):
        block.register_forward_hook(remember)
    with torch.inference_mode():
        logits = network(image)
    clean = [standardised(image), *(F.max_pool2d(one, 2) for one in made[:3])]
    for values, before in zip(given[:3], clean[:3], strict=True):
        noise = values - before
        assert_normal(noise, 0.025)
        first, second = noise.flatten(1)  # each photograph has its own
        assert abs(float((first * second).mean())) < 0.1 * 0.025**2
    assert torch.equal(given[3], clean[3])
    for at in range(3):
        below = F.interpolate(made[3 + at], scale_factor=2)
        assert torch.equal(given[4 + at], torch.cat([below, made[2 - at]], 1))
    assert torch.equal(given[7], made[6])
    assert torch.equal(logits, 2 * made[7])


def assert_normal(noise: Tensor, deviation: float) -> None:
    """Mean, deviation, and fourth moment are those of a normal distribution about 0."""
    scaled = noise.double() / deviation
    assert abs(float(scaled.mean())) < 5 / noise.numel() ** 0.5
    assert float(scaled.std()) == pytest.approx(1, abs=0.04)
    assert float(scaled.pow(4).mean()) == pytest.approx(3, abs=0.4)
