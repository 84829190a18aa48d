"""The contract that every network of the table keeps."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import load, save
from torch import nn

from skinray.errors import SettingsError
from skinray.models import MODELS, NoRandomWeights, build, options_of

# A layer added, lost or resized shows here.
PARAMETERS = {
    "hed": 14_716_171,
    "deeplabv3_resnet101": 58_631_103,
    "deeplabv3_resnet50": 39_638_975,
    "deeplabv3_mobilenet_v3_large": 11_025_583,
    "unet": 7_763_041,
    "unet_lgg": 161_633,
    "deeplab_lite": 703_921,
    "skin_unet": 7_463_645,
    "skin_unet_large": 149_963_141,
    "skin_dense_unet": 149_901_470,
    "skin_deeplabv3": 11_025_583,
    "skin_mobilenet": 844_681,
    "pixel": 4,
}


# 150 million weights take seconds in each test.
LARGE = ("skin_unet_large", "skin_dense_unet")


@pytest.fixture(
    scope="module",
    params=[pytest.param(n, marks=[pytest.mark.slow] * (n in LARGE)) for n in MODELS],
)
def network(request: pytest.FixtureRequest) -> nn.Module:
    """Each network with random weights, its batch norms settled on one batch.

    Before that, evaluation mode normalises by mean 0 and variance 1, and the many layers of
    MobileNetV3 shrink every signal to nothing.
    """
    torch.manual_seed(0)
    norms = {"bn_momentum": 1.0} if "bn_momentum" in options_of(request.param) else {}
    built = build(request.param, **norms)
    with torch.no_grad():
        built.train()(image(4, 3, 48, 48))
    return built


def image(*shape: int) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(1))


def evaluate(network: nn.Module, batch: torch.Tensor) -> torch.Tensor:
    with torch.inference_mode():
        result: torch.Tensor = network.eval()(batch)
    return result


def test_every_network_has_its_number_of_parameters() -> None:
    for name, count in PARAMETERS.items():
        with torch.device("meta"):
            assert sum(p.numel() for p in build(name).parameters()) == count
    new = {
        name: sum(p.numel() for p in build(name).parameters())
        for name in MODELS.keys() - PARAMETERS.keys()
    }
    assert not new, "add these numbers to PARAMETERS if they are right"


@pytest.mark.parametrize("size", [(37, 53), (64, 48), (9, 70)])
def test_logits_have_the_shape_of_the_image(network: nn.Module, size: tuple[int, int]) -> None:
    logits = evaluate(network, image(2, 3, *size))
    assert logits.shape == (2, 1, *size)
    assert logits.dtype == torch.float32
    assert torch.isfinite(logits).all()


def test_evaluation_repeats_itself_and_knows_no_neighbours(network: nn.Module) -> None:
    batch = image(2, 3, 40, 48)
    both = evaluate(network, batch)
    assert torch.equal(both, evaluate(network, batch))
    alone = evaluate(network, batch[1:])
    assert (both[1:] - alone).abs().max() < 1e-2 * alone.std()  # it sums in another order


def test_the_logits_follow_the_image(network: nn.Module) -> None:
    batch = image(1, 3, 48, 48)
    assert not torch.allclose(evaluate(network, batch), evaluate(network, 1 - batch), atol=1e-3)


def test_the_gradient_reaches_every_parameter(network: nn.Module) -> None:
    network.train().zero_grad(set_to_none=True)
    logits = network(image(2, 3, 40, 48))
    slope = torch.randn(logits.shape, generator=torch.Generator().manual_seed(2))
    (logits * slope).sum().backward()
    unreached = [
        name for name, p in network.named_parameters() if p.grad is None or not p.grad.any()
    ]
    assert unreached == []


def test_training_accepts_a_batch_of_one(network: nn.Module) -> None:
    logits = network.train()(image(1, 3, 33, 47))
    assert logits.shape == (1, 1, 33, 47)
    logits.mean().backward()


def test_the_state_survives_safetensors(network: nn.Module) -> None:
    batch = image(1, 3, 32, 32)
    before, stored = evaluate(network, batch), load(save(network.state_dict()))
    with torch.no_grad():
        for tensor in network.state_dict().values():
            tensor.zero_()
    assert not torch.equal(evaluate(network, batch), before)
    network.load_state_dict(stored)
    assert torch.equal(evaluate(network, batch), before)


def test_seeded_weights_repeat() -> None:
    states = []
    for _ in range(2):
        torch.manual_seed(7)
        states.append(build("hed", width=0.1).state_dict())
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])


@pytest.mark.parametrize("name", ["hed", "deeplabv3_resnet50", "unet", "skin_mobilenet", "pixel"])
def test_loaded_weights_need_no_random_ones(name: str) -> None:
    torch.manual_seed(0)
    expected = build(name)
    torch.manual_seed(1)
    before = torch.random.get_rng_state()
    with NoRandomWeights():
        network = build(name)
        layer = nn.Conv2d(2, 2, 1)
        assert nn.init.ones_(layer.weight) is layer.weight
    if (
        name != "deeplabv3_resnet50"
    ):  # its first convolution takes a little noise in another way (`randn_like`)
        assert torch.equal(torch.random.get_rng_state(), before)
    network.load_state_dict(expected.state_dict())
    for part in ("named_parameters", "named_buffers"):
        found, right = (dict(getattr(one, part)()) for one in (network, expected))
        assert found.keys() == right.keys()
        assert all(torch.equal(found[key], right[key]) for key in right)
    assert torch.equal(nn.init.ones_(layer.weight), torch.ones(2, 2, 1, 1))  # as ever


def test_errors_for_unknown_names_and_options_list_the_known_ones() -> None:
    with pytest.raises(SettingsError, match="unknown model 'hedd': use one of hed, "):
        build("hedd")
    with pytest.raises(SettingsError, match="no option depth: it has width, "):
        build("hed", depth=3)
    with pytest.raises(SettingsError, match="no option backbone"):
        build("deeplabv3_resnet50", backbone="resnet101")


@pytest.mark.parametrize(
    ("name", "options", "says"),
    [
        ("hed", {"width": 0}, "width is 0"),
        ("hed", {"convolutions": (2, 2)}, "2 counts of convolutions and 5"),
        ("hed", {"bn_momentum": 0}, "bn_momentum is 0"),
        ("unet", {"depth": 1}, "2 levels"),
        ("deeplabv3_resnet101", {"width": 0.5}, "one width only"),
        ("deeplabv3_mobilenet_v3_large", {"aspp_channels": 0}, "1 channel"),
        ("deeplabv3_mobilenet_v3_large", {"wrap_init": "zero"}, "identity or random"),
        ("skin_deeplabv3", {"side": 8}, "side is 8"),
        ("unet", {"scale": 0}, "scale of 'unet' is 0"),
        ("unet", {"scale": 2}, "scale of 'unet' is 2"),
    ],
)
def test_options_that_describe_no_network_are_refused(
    name: str, options: dict[str, object], says: str
) -> None:
    with pytest.raises(SettingsError, match=says):
        build(name, **options)


def test_buffers_can_be_broadcast_one_by_one_in_channels_last(network: nn.Module) -> None:
    """Between training processes a lone buffer is flattened and copied back onto itself."""
    for buffer in network.to(memory_format=torch.channels_last).buffers():
        buffer.copy_(buffer.contiguous().view(-1).view(buffer.shape))
