"""Networks in the form that one thread of a CPU runs fastest: norms folded in, weights packed.

oneDNN, which runs PyTorch's convolutions on a CPU, wants weights in blocks of its own and brings
plain ones to that form anew at each call. Here it is done once, as PyTorch's own compiler does it,
and batch norms, which are linear once trained, go into the convolution before them. A network
answers as before but for rounding, whatever the size of the image.
"""

from __future__ import annotations

import itertools
from typing import Any, TypeGuard

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from skinray.errors import SettingsError

BOTTLENECK = (("conv1", "bn1"), ("conv2", "bn2"), ("conv3", "bn3"))
# A layer takes its new form if it then answers a small map alike, in parts of the largest value.
PROBE_PX, TOLERANCE = 8, 1e-4


def pack(network: nn.Module) -> nn.Module:
    """Bring a network that lies on the CPU to the form that one thread runs fastest, in place.

    It then answers only: it can no longer be trained, saved or moved. A layer that this machine
    cannot pack, or that would answer differently, is left as it is.

    Parameters
    ----------
    network : float32, in evaluation.

    Returns
    -------
    The same network.
    """
    if torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        with torch.no_grad():
            _fold_norms(network)
            _pack_convolutions(network)
    return network


class PackedConv2d(nn.Module):
    """A convolution whose weights have oneDNN's form.

    Parameters
    ----------
    plain : zero-padded, float32, on the CPU.
    """

    def __init__(self, plain: nn.Conv2d) -> None:
        super().__init__()
        self.where = [
            [int(value) for value in values]
            for values in (plain.padding, plain.stride, plain.dilation)
        ]
        self.groups, self.bias = plain.groups, plain.bias
        self.weight = torch.ops.aten.mkldnn_reorder_conv2d_weight(
            plain.weight.detach().to_mkldnn(), *self.where, self.groups
        )

    def forward(self, values: Tensor) -> Tensor:
        """Return (N, C', H', W') of (N, C, H, W)."""
        result: Tensor = torch.ops.mkldnn._convolution_pointwise(
            values, self.weight, self.bias, *self.where, self.groups, "none", [], ""
        )
        return result

    def _save_to_state_dict(self, *_: Any) -> None:
        raise SettingsError(
            "a network packed for the CPU has no weights to save: load it with packed=False"
        )


def _fold_norms(module: nn.Module) -> None:
    from torchvision.models._utils import IntermediateLayerGetter
    from torchvision.models.resnet import Bottleneck

    pairs: list[tuple[str, str]] = []
    if isinstance(module, Bottleneck):
        pairs = list(BOTTLENECK)
    elif isinstance(module, nn.Sequential | IntermediateLayerGetter):  # run child after child
        names = [name for name, _ in module.named_children()]
        pairs = list(itertools.pairwise(names))
    for first, second in pairs:
        convolution, norm = module.get_submodule(first), module.get_submodule(second)
        if not (isinstance(norm, nn.BatchNorm2d) and _can_pack(convolution)):
            continue
        if norm.training or norm.running_mean is None:
            continue
        folded = fuse_conv_bn_eval(convolution, norm)
        if _alike(nn.Sequential(convolution, norm), folded, convolution.in_channels):
            setattr(module, first, folded)
            setattr(module, second, nn.Identity())
    for child in module.children():
        _fold_norms(child)


def _pack_convolutions(module: nn.Module) -> None:
    for name, child in module.named_children():
        if not _can_pack(child):
            _pack_convolutions(child)
            continue
        try:
            new = PackedConv2d(child)
            same = _alike(child, new, child.in_channels)
        except (RuntimeError, AttributeError):  # no such operation here
            continue
        if same:
            setattr(module, name, new)


def _can_pack(layer: nn.Module) -> TypeGuard[nn.Conv2d]:
    return (
        type(layer) is nn.Conv2d
        and layer.padding_mode == "zeros"
        and not isinstance(layer.padding, str)
        and layer.weight.dtype == torch.float32
        and layer.weight.device.type == "cpu"
    )


def _alike(before: nn.Module, after: nn.Module, channels: int) -> bool:
    """Say whether two layers give the same of a small map, but for rounding."""
    random = torch.Generator().manual_seed(0)
    values = torch.randn(1, channels, PROBE_PX, PROBE_PX, generator=random)
    wanted, found = before(values), after(values)
    if wanted.shape != found.shape:
        return False
    most = TOLERANCE * max(float(wanted.abs().max()), 1e-12)
    return bool((wanted - found).abs().max() <= most)
