"""HED against a plain version of the published forward pass."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from skinray.models import build
from skinray.models.hed import HED
from skinray.models.weights.convert import to_native

CHANNELS = (64, 128, 256, 512, 512)
CONVOLUTIONS = (2, 2, 3, 3, 3)
PLACES = ("One", "Two", "Thr", "Fou", "Fiv")


def published_state(
    width: float = 1.0, prefix: str = "module", seed: int = 0
) -> dict[str, torch.Tensor]:
    """Return random weights under the names of the published file."""
    generator = torch.Generator().manual_seed(seed)
    state, inputs = {}, 3
    sizes = [round(width * count) for count in CHANNELS]

    def put(name: str, outputs: int, inputs: int, kernel: int) -> None:
        gain = (2 / (inputs * kernel**2)) ** 0.5 / (60 if inputs == 3 else 1)
        shape = (outputs, inputs, kernel, kernel)
        state[f"{prefix}{name}.weight"] = torch.randn(shape, generator=generator) * gain
        state[f"{prefix}{name}.bias"] = torch.randn(outputs, generator=generator) * 0.1

    for stage, (place, size) in enumerate(zip(PLACES, sizes, strict=True)):
        for number in range(CONVOLUTIONS[stage]):
            put(f"Vgg{place}.{2 * number + (stage > 0)}", size, inputs, 3)
            inputs = size
        put(f"Score{place}", 1, size, 1)
    put("Combine.0", 1, 5, 1)
    return state


def published_forward(
    state: dict[str, torch.Tensor], bgr: torch.Tensor, prefix: str = "module"
) -> torch.Tensor:
    """Return the fused probabilities as pytorch-hed defines them, from BGR in 0..1."""

    def layer(name: str, values: torch.Tensor, padding: int) -> torch.Tensor:
        weight, bias = state[f"{prefix}{name}.weight"], state[f"{prefix}{name}.bias"]
        return F.conv2d(values, weight, bias, padding=padding)

    mean = torch.tensor([104.00698793, 116.66876762, 122.67891434]).view(1, 3, 1, 1)
    values, scores = bgr * 255 - mean, []
    for stage, place in enumerate(PLACES):
        values = F.max_pool2d(values, 2, 2) if stage else values
        for number in range(CONVOLUTIONS[stage]):
            values = layer(f"Vgg{place}.{2 * number + (stage > 0)}", values, 1).relu()
        score = layer(f"Score{place}", values, 0)
        scores.append(
            F.interpolate(score, size=bgr.shape[2:], mode="bilinear", align_corners=False)
        )
    return layer("Combine.0", torch.cat(scores, 1), 0).sigmoid()


def hed_with(state: dict[str, torch.Tensor], **options: float) -> HED:
    network = build("hed", **options)
    network.load_state_dict(to_native(state, "test")[0])
    assert isinstance(network, HED)
    return network.eval()


@pytest.mark.parametrize(("width", "prefix"), [(1.0, "module"), (0.125, "net")])
def test_equals_the_published_forward_pass(width: float, prefix: str) -> None:
    state = published_state(width, prefix)
    rgb = torch.rand(2, 3, 64, 96, generator=torch.Generator().manual_seed(3))
    with torch.inference_mode():
        ours = hed_with(state, width=width)(rgb).sigmoid()
        theirs = published_forward(state, rgb.flip(1), prefix)
    assert theirs.std() > 0.01
    assert torch.allclose(ours, theirs, atol=1e-5)


def test_the_channel_order_matters() -> None:
    network = hed_with(published_state(0.125), width=0.125)
    rgb = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(3))
    with torch.inference_mode():
        assert not torch.allclose(network(rgb), network(rgb.flip(1)), atol=1e-3)


def test_sides_come_finest_first_and_the_fused_map_last() -> None:
    network = hed_with(published_state(0.125), width=0.125)
    rgb = torch.rand(2, 3, 40, 50, generator=torch.Generator().manual_seed(3))
    with torch.inference_mode():
        maps = network.forward_sides(rgb)
        assert [tuple(m.shape) for m in maps] == [(2, 1, 40, 50)] * 6
        assert torch.equal(maps[-1], network(rgb))
        fused = network.fuse(torch.cat(maps[:-1], dim=1))
        assert torch.allclose(fused, maps[-1], atol=1e-5)
        # Coarser maps vary less from pixel to pixel.
        steps = [m.diff(dim=-1).abs().mean() / m.std() for m in maps[:-1]]
        assert steps == sorted(steps, reverse=True)


def test_a_padded_frame_leaves_the_scene_in_place() -> None:
    """A size that is no multiple of 16 gives the map of the larger image, but for the rim."""
    network = hed_with(published_state(0.125), width=0.125)
    rgb = torch.rand(1, 3, 1, 1).expand(1, 3, 160, 160).clone()
    rgb[..., 60:64, 60:64] = 0.0
    with torch.inference_mode():
        whole, cut = network(rgb), network(rgb[..., :151, :151])
    assert torch.allclose(whole[..., :32, :32], cut[..., :32, :32], atol=1e-4)


def test_batch_norm_and_other_stages_are_options() -> None:
    network = build("hed", width=0.1, batch_norm=True, convolutions=(1, 1), channels=(20, 40))
    assert sum(isinstance(m, nn.BatchNorm2d) for m in network.modules()) == 2
    assert network(torch.rand(1, 3, 10, 11)).shape == (1, 1, 10, 11)


def test_random_weights_start_at_a_sensible_scale() -> None:
    """The input is 0-255, yet no map starts saturated, so a loss on sigmoids has a gradient."""
    torch.manual_seed(0)
    with torch.inference_mode():
        maps = build("hed", width=0.25).forward_sides(torch.rand(1, 3, 64, 64))
    assert all(m.std() > 0.02 and m.abs().max() < 12 for m in maps[:-1])
