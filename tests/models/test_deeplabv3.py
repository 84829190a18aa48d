"""DeepLabV3 against torchvision's own, wrapped word for word as the paper says."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torchvision.models import segmentation
from torchvision.transforms.functional import normalize

from skinray.models import build

MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]


def torchvision_network(name: str) -> Any:
    torch.manual_seed(0)
    network = getattr(segmentation, name)(weights=None, weights_backbone=None, aux_loss=False)
    return network.eval()


def settle(network: nn.Module) -> None:
    """Give the batch norms the statistics of one batch, so that signals reach the output."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0
    with torch.no_grad():
        network.train()(torch.rand(4, 3, 32, 48))
    network.eval()


def image() -> torch.Tensor:
    return torch.rand(1, 3, 32, 48, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("name", ["deeplabv3_resnet50", "deeplabv3_mobilenet_v3_large"])
def test_equals_the_papers_wrapping(name: str) -> None:
    """Conv2d(3, 3, 3) before, 21 classes upsampled, Conv2d(21, 1, 1) after."""
    theirs, ours = torchvision_network(name), build(name).eval()
    settle(theirs)
    ours.load_state_dict(theirs.state_dict(), strict=False)
    assert isinstance(ours.wrap, nn.Conv2d)
    assert isinstance(ours.head, nn.Conv2d)
    with torch.inference_mode():
        classes = theirs(ours.wrap(normalize(image(), MEAN, STD)))["out"]
        assert classes.shape == (1, 21, 32, 48)
        expected = ours.head(classes)
        assert (ours(image()) - expected).abs().max() < 1e-5 * expected.std()
        assert expected.std() > 1e-3


def test_every_torchvision_tensor_has_its_place() -> None:
    for name in ("deeplabv3_resnet101", "deeplabv3_resnet50", "deeplabv3_mobilenet_v3_large"):
        with torch.device("meta"):
            theirs = torchvision_network(name).state_dict()
            ours = build(name).state_dict()
        wrapping = {"wrap.weight", "wrap.bias", "head.weight", "head.bias"}
        assert {k: v.shape for k, v in theirs.items()} == {
            k: v.shape for k, v in ours.items() if k not in wrapping
        }


def test_the_first_convolution_starts_near_the_identity() -> None:
    torch.manual_seed(0)
    near = build("deeplabv3_mobilenet_v3_large").wrap
    far = build("deeplabv3_mobilenet_v3_large", wrap_init="random").wrap
    values = image()
    assert isinstance(near, nn.Conv2d)
    assert isinstance(far, nn.Conv2d)
    inner = (..., slice(1, -1), slice(1, -1))
    assert (near(values) - values)[inner].abs().mean() < 0.05
    assert (far(values) - values)[inner].abs().mean() > 0.2
    assert near.weight.unique().numel() > 9  # not the very identity: filters must be free to part


def test_small_options() -> None:
    name = "deeplabv3_mobilenet_v3_large"
    small = build(name, width=0.5, aspp_channels=32, atrous_rates=(2, 4), dropout=0.1)
    count = sum(p.numel() for p in small.parameters())
    assert count < sum(p.numel() for p in build(name).parameters()) / 5
    assert [m.p for m in small.modules() if isinstance(m, nn.Dropout)] == [0.1]
    assert small(image()).shape == (1, 1, 32, 48)
