"""Framing to a stride, and the batch norms."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from skinray.errors import SettingsError
from skinray.models import MODELS, build, options_of
from skinray.models.layers import LenientBatchNorm2d, pad_to_stride, set_norm_momentum


def test_padding_repeats_the_last_row_and_column() -> None:
    image = torch.tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]).view(1, 1, 2, 3)
    assert pad_to_stride(image, 4)[0, 0].tolist() == [
        [1, 2, 3, 3],
        [4, 5, 6, 6],
        [4, 5, 6, 6],
        [4, 5, 6, 6],
    ]
    assert pad_to_stride(image, 1) is image


def test_padding_may_exceed_the_image() -> None:
    assert pad_to_stride(torch.ones(1, 1, 3, 2), 16).shape == (1, 1, 16, 16)


def test_lenient_norm_is_the_plain_one_where_that_works() -> None:
    torch.manual_seed(0)
    lenient, plain = LenientBatchNorm2d(3), nn.BatchNorm2d(3)
    batch = torch.randn(2, 3, 1, 1)
    assert torch.equal(lenient(batch), plain(batch))
    assert torch.equal(lenient.running_var, plain.running_var)
    assert torch.equal(lenient.eval()(batch), plain.eval()(batch))


def test_lenient_norm_accepts_a_single_value_per_channel() -> None:
    one = torch.full((1, 3, 1, 1), 2.0)
    with pytest.raises(ValueError, match="more than 1 value"):
        nn.BatchNorm2d(3)(one)
    norm = LenientBatchNorm2d(3)
    assert torch.allclose(norm(one), one, atol=1e-4)  # its statistics are still mean 0, variance 1
    assert norm.running_mean is not None
    assert norm.running_mean.tolist() == [0, 0, 0]


def test_momentum_reaches_every_norm() -> None:
    network = build("deeplabv3_mobilenet_v3_large", bn_momentum=0.3)
    norms = [m for m in network.modules() if isinstance(m, nn.BatchNorm2d)]
    assert len(norms) > 40
    assert {norm.momentum for norm in norms} == {0.3}
    with pytest.raises(SettingsError, match="above 0"):
        set_norm_momentum(network, 1.5)


# The ResNets share DeepLabV3's code with the small backbone; some networks have no norms.
@pytest.mark.parametrize(
    "name", [n for n in sorted(MODELS) if "resnet" not in n and "group_norm" in options_of(n)]
)
def test_every_batch_norm_is_replaced_by_a_group_norm(name: str) -> None:
    small = {"hed": {"width": 0.1, "batch_norm": True}, "unet": {"features": 4, "depth": 3}}
    network = build(name, group_norm=True, **small.get(name, {}))
    norms = [m for m in network.modules() if isinstance(m, nn.modules.batchnorm._NormBase)]
    groups = [m for m in network.modules() if isinstance(m, nn.GroupNorm)]
    assert not norms
    assert groups
    assert all(m.num_channels % m.num_groups == 0 for m in groups)
    image = torch.rand(2, 3, 64, 64)
    torch.manual_seed(0)
    alone = network.eval()(image[:1])
    together = network(image)[:1]
    torch.testing.assert_close(alone, together, rtol=1e-3, atol=1e-4)
