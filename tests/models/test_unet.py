"""U-Net against plain versions of the two published forward passes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from skinray.models import build
from skinray.models.unet import UNet
from skinray.models.weights.convert import to_native
from skinray.models.weights.load import load_weights

State = dict[str, torch.Tensor]


class Weights:
    """Random tensors by name, drawn as they are asked for."""

    def __init__(self) -> None:
        self.state: State = {}
        self.generator = torch.Generator().manual_seed(0)

    def get(self, name: str, *shape: int) -> torch.Tensor:
        if name not in self.state:
            scale = (2 / np.prod(shape[1:])) ** 0.5 if len(shape) > 1 else 0.3
            drawn = torch.randn(*shape, generator=self.generator) * scale
            positive = name.endswith("running_var") or (".weight" in name and len(shape) == 1)
            self.state[name] = drawn.abs() + 0.5 if positive else drawn
        return self.state[name]

    def norm(self, name: str, values: torch.Tensor) -> torch.Tensor:
        size = values.shape[1]
        parts = [
            self.get(f"{name}.{p}", size) for p in ("running_mean", "running_var", "weight", "bias")
        ]
        return F.batch_norm(values, *parts)


def buda_forward(weights: Weights, x: torch.Tensor, features: int) -> torch.Tensor:
    """mateuszbuda/brain-segmentation-pytorch: four poolings, doubling features."""

    def block(values: torch.Tensor, outputs: int, place: str, name: str) -> torch.Tensor:
        for number in (1, 2):
            key = f"{place}.{name}conv{number}.weight"
            kernel = weights.get(key, outputs, values.shape[1], 3, 3)
            values = F.conv2d(values, kernel, padding=1)
            values = weights.norm(f"{place}.{name}norm{number}", values).relu()
        return values

    skips = []
    for level in range(1, 5):
        x = block(x, features * 2 ** (level - 1), f"encoder{level}", f"enc{level}")
        skips.append(x)
        x = F.max_pool2d(x, 2)
    x = block(x, features * 16, "bottleneck", "bottleneck")
    for level in range(4, 0, -1):
        size = features * 2 ** (level - 1)
        kernel = weights.get(f"upconv{level}.weight", 2 * size, size, 2, 2)
        x = F.conv_transpose2d(x, kernel, weights.get(f"upconv{level}.bias", size), stride=2)
        x = block(torch.cat([x, skips.pop()], 1), size, f"decoder{level}", f"dec{level}")
    return F.conv2d(x, weights.get("conv.weight", 1, features, 1, 1), weights.get("conv.bias", 1))


def lgg_forward(weights: Weights, x: torch.Tensor, features: int, depth: int) -> torch.Tensor:
    """giacomodeodato/Brain-MRI-segmentation: the same features on every level."""

    def block(values: torch.Tensor, index: int) -> torch.Tensor:
        for number in (1, 2):
            name = f"layers.{index}.conv{number}"
            kernel = weights.get(f"{name}.weight", features, values.shape[1], 3, 3)
            values = F.conv2d(values, kernel, weights.get(f"{name}.bias", features), padding=1)
            values = weights.norm(f"layers.{index}.bn{number}", values).relu()
        return values

    skips = []
    for level in range(depth - 1):
        x = block(x, 2 * level)
        skips.append(x)
        x = F.max_pool2d(x, 2)
    index = 2 * (depth - 1)
    x = block(x, index)
    while skips:
        kernel = weights.get(f"layers.{index + 1}.weight", features, features, 2, 2)
        x = torch.cat([F.conv_transpose2d(x, kernel, stride=2), skips.pop()], 1)
        x, index = block(x, index + 2), index + 2
    name = f"layers.{index + 1}"
    kernel = weights.get(f"{name}.weight", 1, features, 1, 1)
    return F.conv2d(x, kernel, weights.get(f"{name}.bias", 1))


def agree(
    network: torch.nn.Module, weights: Weights, x: torch.Tensor, theirs: torch.Tensor
) -> None:
    state, layout = to_native(weights.state, "test")
    assert layout is not None
    missing, unexpected = network.load_state_dict(state, strict=False)
    assert all(key.endswith("num_batches_tracked") for key in missing)
    assert unexpected == []
    with torch.inference_mode():
        ours = network.eval()(x)
    assert theirs.std() > 0.01
    assert torch.allclose(ours, theirs, atol=1e-4)


def test_equals_the_published_forward_pass_of_buda() -> None:
    weights = Weights()
    x = torch.rand(2, 3, 48, 64, generator=torch.Generator().manual_seed(1))
    agree(build("unet", features=4, standardise=False), weights, x, buda_forward(weights, x, 4))


@pytest.mark.parametrize("depth", [3, 4])
def test_equals_the_published_forward_pass_of_deodato(depth: int) -> None:
    weights = Weights()
    x = torch.rand(2, 3, 48, 64, generator=torch.Generator().manual_seed(1))
    theirs = lgg_forward(weights, x, 8, depth)
    agree(build("unet_lgg", features=8, depth=depth), weights, x, theirs)


def test_standardising_forgets_brightness_and_contrast_of_each_channel() -> None:
    torch.manual_seed(0)
    network = build("unet", features=4, depth=3).eval()
    x = torch.rand(2, 3, 32, 32)
    gain, offset = torch.tensor([0.3, 0.5, 0.7]), torch.tensor([0.1, 0.3, 0.0])
    with torch.inference_mode():
        expected, seen = network(x), network(x * gain.view(3, 1, 1) + offset.view(3, 1, 1))
        constant = network(torch.full((1, 3, 32, 32), 0.4))
    assert torch.allclose(seen, expected, atol=1e-4)
    assert torch.isfinite(constant).all()


def test_without_batch_norm_the_convolutions_have_a_bias() -> None:
    network = build("unet", features=4, depth=3, batch_norm=False)
    assert isinstance(network, UNet)
    assert "encoders.0.conv1.bias" in network.state_dict()
    assert not any("norm" in key for key in network.state_dict())
    assert network(torch.rand(1, 3, 20, 21)).shape == (1, 1, 20, 21)


@pytest.mark.real_data
def test_the_real_brain_mri_weights_give_the_reference_output(real_data: Path) -> None:
    folder = real_data / "weights"
    fixture = np.load(folder / "fixture_unet_lgg_TCGA_CS_4944.npz")
    network = build("unet_lgg").eval()
    load_weights(network, str(folder / "unet_lgg_depth4_f32.safetensors"))
    with torch.inference_mode():
        logits = network(torch.from_numpy(fixture["x"]).permute(2, 0, 1)[None])
    assert np.abs(logits.sigmoid()[0, 0].numpy() - fixture["prob"]).max() < 1e-4
    assert fixture["prob"].max() > 0.9
