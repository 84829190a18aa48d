"""Conversions that need another network beside: VGG16 for HED, torchvision for DeepLabV3.

HED's and the U-Nets' own layouts are held in test_hed.py and test_unet.py.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from torchvision.models import vgg
from torchvision.models.segmentation import deeplabv3_mobilenet_v3_large

from skinray.errors import WeightsError
from skinray.models import build
from skinray.models.hed import HED
from skinray.models.weights.convert import to_native
from skinray.models.weights.load import import_file, load_weights
from skinray.models.weights.published import WEIGHTS


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SKINRAY_CACHE", str(tmp_path / "cache"))


def test_hed_on_vgg16_has_the_features_of_vgg16(tmp_path: Path) -> None:
    torch.manual_seed(0)
    features = vgg.make_layers(vgg.cfgs["D"]).eval()
    for layer in features:
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight)
            nn.init.normal_(layer.bias, std=0.1)
    state = {f"features.{key}": value for key, value in features.state_dict().items()}
    state["classifier.0.weight"] = torch.full((1,), float("nan"))  # as published: not valid
    save_file(state, tmp_path / "vgg.safetensors")
    network = build("hed").eval()
    before = network.state_dict()["sides.0.weight"].clone()
    load_weights(network, str(tmp_path / "vgg.safetensors"))
    assert isinstance(network, HED)
    assert torch.equal(network.state_dict()["sides.0.weight"], before)
    rgb = torch.rand(1, 3, 80, 80)
    mean = torch.tensor([0.48235, 0.45882, 0.40784]).view(1, 3, 1, 1)
    own = network.mean.view(1, 3, 1, 1)
    ours, theirs = rgb.flip(1) * 255 - own, (rgb - mean) * 255
    with torch.inference_mode():
        ends = [4, 9, 16]  # after the ReLU of each of the first three stages
        for stage, (start, end) in enumerate(zip([0, *ends], ends, strict=False)):
            ours, theirs = network.stages[stage](ours), features[start:end](theirs)
            inner = (..., slice(6, -6), slice(6, -6))  # the padded rim differs, by the two means
            scale = theirs.std()
            assert scale > 0
            assert (ours - theirs)[inner].abs().max() < 1e-4 * scale


def test_torchvision_deeplab_keeps_the_wrapping_and_drops_the_auxiliary_head(
    tmp_path: Path,
) -> None:
    torch.manual_seed(0)
    theirs = deeplabv3_mobilenet_v3_large(weights=None, weights_backbone=None, aux_loss=True)
    state = theirs.state_dict()
    assert any(key.startswith("aux_classifier.") for key in state)
    save_file(state, tmp_path / "deeplab.safetensors")
    cached = import_file("deeplabv3_mobilenet_v3_large_coco_voc", tmp_path / "deeplab.safetensors")
    network = build("deeplabv3_mobilenet_v3_large")
    before = {k: v.clone() for k, v in network.state_dict().items()}
    load_weights(network, "deeplabv3_mobilenet_v3_large_coco_voc")
    after = network.state_dict()
    fresh = {"wrap.weight", "wrap.bias", "head.weight", "head.bias"}
    assert all(torch.equal(after[key], before[key]) for key in fresh)
    assert all(torch.equal(after[key], state[key]) for key in after if key not in fresh)
    assert cached.name == "deeplabv3_mobilenet_v3_large_coco_voc.safetensors"


def test_a_trained_deeplab_must_bring_its_wrapping(tmp_path: Path) -> None:
    """Only the published layout may lack the wrapping; our own files are whole or refused."""
    network = build("deeplabv3_mobilenet_v3_large", aspp_channels=8)
    state = network.state_dict()
    del state["head.bias"]
    save_file(state, tmp_path / "ours.safetensors")
    with pytest.raises(WeightsError, match=r"missing: head\.bias"):
        load_weights(network, str(tmp_path / "ours.safetensors"))


def test_a_published_layout_without_a_tensor_is_named() -> None:
    state = {"features.0.weight": torch.ones(1), "features.28.weight": torch.ones(1)}
    with pytest.raises(WeightsError, match=r"vgg\.pth: torchvision VGG16 weights without tensor"):
        to_native(state, "vgg.pth")


def test_our_own_names_pass_unchanged() -> None:
    for entry in WEIGHTS.values():
        with torch.device("meta"):
            state = build(entry.model, **entry.options).state_dict()
        native, layout = to_native(state, "ours")
        assert layout is None
        assert native == state
