"""The networks for photographs: their parts, input, output and noise, as the paper draws them."""

from __future__ import annotations

import colorsys

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from skinray.errors import SettingsError
from skinray.models import build
from skinray.models.layers import rgb_to_hsv, standardise
from skinray.models.skin_unet import Block, ResidualBlock, SkinUNet

SMALL = {"filters": (2, 3, 4), "bottleneck": 5}


def photo(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def test_hsv_is_that_of_the_standard_library() -> None:
    rng = np.random.default_rng(0)
    colours = [*rng.random((200, 3)), (0, 0, 0), (1, 1, 1), (0.3, 0.3, 0.3), (1, 0, 0), (0, 1, 1)]
    found = rgb_to_hsv(torch.tensor(np.array(colours)).T[None, :, None].float())
    expected = [colorsys.rgb_to_hsv(*colour) for colour in colours]
    assert np.allclose(found[0, :, 0].T, expected, atol=1e-5)


def test_each_channel_of_each_image_is_standardised_and_a_constant_one_is_0() -> None:
    values = photo(2, 3, 8, 9) * torch.tensor([1.0, 50.0, 0.01])[:, None, None] + 7
    values[1, 1] = 0.3
    found = standardise(values)
    assert torch.equal(found[1, 1], torch.zeros(8, 9))
    found[1, 1] = found[0, 1]
    assert found.mean((2, 3)).abs().max() < 1e-3
    assert torch.allclose(found.std((2, 3), correction=0), torch.ones(2, 3), atol=1e-3)


@pytest.mark.parametrize("name", ["skin_unet", "skin_unet_large", "skin_dense_unet"])
def test_six_input_channels_and_a_layer_over_the_whole_lowest_map(
    name: str,
) -> None:
    with torch.device("meta"):
        network = build(name)
    assert isinstance(network, SkinUNet)
    first = network.encoders[0].convolutions[0]
    assert (first.in_channels, first.kernel_size) == (6, (5, 5))
    assert [block.convolutions[0].kernel_size for block in network.decoders] == [(11, 11)] * 3
    channels, side, _ = network.global_view.shape
    assert side == 16
    assert network.global_view.down.in_features == channels * 16 * 16


def test_only_the_dense_network_has_dense_and_residual_blocks() -> None:
    with torch.device("meta"):
        plain, dense = build("skin_unet_large"), build("skin_dense_unet")
    residual = [
        sum(isinstance(part, ResidualBlock) for part in network.modules())
        for network in (plain, dense)
    ]
    assert residual == [0, 4]
    for network in (plain, dense):
        blocks = [part for part in network.modules() if isinstance(part, Block)]
        assert [block.dense for block in blocks] == [network is dense] * 6
    # The merge before the residual blocks has only the last block's three convolutions as input.
    assert dense.end.merge.in_channels == 36
    assert dense.end.head.in_channels == 48


def test_a_dense_block_hands_on_its_input_and_all_its_convolutions() -> None:
    block = Block(4, 3, 5, dense=True)
    values = photo(1, 4, 6, 6)
    found = block(values)
    assert found.shape[1] == 4 + 3 * 3 == block.width
    assert torch.equal(found[:, :4], values)
    assert [one.in_channels for one in block.convolutions] == [4, 7, 10]


def test_the_output_is_the_papers_rescaled_tanh() -> None:
    torch.manual_seed(0)
    network = SkinUNet(**SMALL).eval()
    last: list[Tensor] = []
    network.end.register_forward_hook(lambda *seen: last.append(seen[2]))
    with torch.inference_mode():
        confidence = network(photo(2, 3, 128, 128)).sigmoid()
    assert torch.allclose(confidence, (last[0].tanh() + 1) / 2, atol=1e-6)
    assert 0 < confidence.min() < confidence.max() < 1


@pytest.mark.parametrize("size", [(1, 1), (1, 300), (227, 227), (40, 500)])
@pytest.mark.parametrize("dense", [False, True])
def test_photographs_of_any_size_and_constant_colour_give_numbers(
    size: tuple[int, int], dense: bool
) -> None:
    network = SkinUNet(**SMALL, dense=dense).eval()
    for image in (photo(1, 3, *size), torch.full((1, 3, *size), 0.4), torch.zeros(1, 3, *size)):
        with torch.inference_mode():
            logits = network(image)
        assert logits.shape == (1, 1, *size)
        assert torch.isfinite(logits).all()


def test_noise_and_dropout_are_for_training_only() -> None:
    torch.manual_seed(0)
    image = photo(1, 3, 128, 128)
    network = SkinUNet(**SMALL, dropout=0.0)
    with torch.inference_mode():
        assert torch.equal(network.eval()(image), network(image))
        assert not torch.equal(network.train()(image), network(image))
        still = SkinUNet(**SMALL, dropout=0.0, noise=0.0).train()
        assert torch.equal(still(image), still(image))
    # Dropout: the lowest encoder, the fully connected layer, and each of the decoders.
    seen: list[str] = []
    network = SkinUNet(**SMALL)
    for name, part in network.named_modules():
        if isinstance(part, nn.Dropout):
            assert part.p == 0.5
            part.register_forward_hook(lambda *_, name=name: seen.append(name))
    network(image)
    assert seen == ["dropout", "global_view.dropout", "dropout", "dropout", "dropout"]


@pytest.mark.parametrize(
    "options", [{"filters": ()}, {"bottleneck": 0}, {"dropout": 1.0}, {"residual_blocks": 0}]
)
def test_invalid_options_are_refused(options: dict[str, object]) -> None:
    with pytest.raises(SettingsError, match="skin U-Net with"):
        SkinUNet(**options)  # type: ignore[arg-type]
