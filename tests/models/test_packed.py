"""Networks packed for the CPU answer as before, layer by layer and as a whole."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from skinray.errors import SettingsError
from skinray.learning.bundle.packed import PackedConv2d, pack
from skinray.models import MODELS, build

needs_onednn = pytest.mark.skipif(
    not torch.backends.mkldnn.is_available(), reason="this PyTorch has no oneDNN"
)


def settled(name: str) -> nn.Module:
    """Return a network of random weights whose norms have seen a batch."""
    torch.manual_seed(0)
    norms = {"bn_momentum": 1.0} if "bn_momentum" in MODELS[name].options else {}
    built = build(name, **norms)
    with torch.no_grad():
        built.train()(noise(4, 3, 48, 48))
    return built.eval()


def noise(*shape: int) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(1))


def of_type(network: nn.Module, kind: type[nn.Module]) -> int:
    return sum(type(module) is kind for module in network.modules())


# The two large networks for photographs have the layers of the small one.
@needs_onednn
@pytest.mark.parametrize("name", sorted(set(MODELS) - {"skin_unet_large", "skin_dense_unet"}))
def test_every_network_answers_as_before_at_any_size(name: str) -> None:
    plain = settled(name)
    fast = pack(copy.deepcopy(plain))
    assert of_type(plain, nn.Conv2d) > 0
    assert of_type(fast, PackedConv2d) == of_type(plain, nn.Conv2d)
    for shape in ((1, 3, 48, 64), (1, 3, 1, 1), (2, 3, 33, 17)):
        with torch.inference_mode():
            wanted, found = plain(noise(*shape)), fast(noise(*shape))
        # A hundred layers of random weights make much of a rounding: 1.6e-4 was seen.
        assert (found - wanted).abs().max() <= 1e-3 * wanted.abs().max(), shape


@needs_onednn
def test_the_norms_of_a_resnet_go_into_its_convolutions() -> None:
    plain = settled("deeplabv3_resnet50")
    norms = sum(isinstance(module, nn.BatchNorm2d) for module in plain.modules())
    assert norms > 50
    fast = pack(copy.deepcopy(plain))
    assert not any(isinstance(module, nn.BatchNorm2d) for module in fast.modules())


@needs_onednn
def test_a_packed_network_gives_the_same_twice() -> None:
    fast = pack(settled("unet"))
    with torch.inference_mode():
        assert torch.equal(fast(noise(1, 3, 40, 40)), fast(noise(1, 3, 40, 40)))


def test_layers_that_cannot_be_packed_stay() -> None:
    layers = nn.Sequential(
        nn.Conv2d(3, 4, 3, padding="same"),
        nn.Conv2d(4, 4, 3, padding=1, padding_mode="reflect"),
        nn.Conv2d(4, 4, 3, padding=1).double(),
        nn.ConvTranspose2d(4, 4, 2),
    ).eval()
    before = list(layers)
    assert list(pack(layers)) == before


def test_a_norm_that_still_learns_is_not_folded() -> None:
    layers = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    assert isinstance(pack(layers)[1], nn.BatchNorm2d)  # type: ignore[index]


def test_a_layer_that_would_answer_differently_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = nn.Sequential(nn.Conv2d(3, 4, 3)).eval()
    monkeypatch.setattr(PackedConv2d, "forward", lambda self, values: plain[0](values) + 1)
    assert type(pack(copy.deepcopy(plain))[0]) is nn.Conv2d  # type: ignore[index]


def test_a_machine_without_the_operation_keeps_its_layers(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*_: object) -> None:
        raise RuntimeError("no such operation")

    monkeypatch.setattr(PackedConv2d, "forward", missing)
    assert type(pack(nn.Sequential(nn.Conv2d(3, 4, 3)).eval())[0]) is nn.Conv2d  # type: ignore[index]


@needs_onednn
def test_packed_networks_are_not_saved_without_their_weights() -> None:
    with pytest.raises(SettingsError, match="packed=False"):
        pack(nn.Sequential(nn.Conv2d(3, 4, 3)).eval()).state_dict()
