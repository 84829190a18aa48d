"""How a network is computed: by torch in float32, the reference, or by something faster.

A backend takes a network and returns one that can stand in its place: the same frames, nearly the
same logits. Which are allowed for a bundle is decided by :mod:`skinray.learning.bundle.gate`, on
images; how fast they are, by :func:`seconds`, on the machine.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from skinray.config.scoring import BackendName
from skinray.models import working_scale
from skinray.models.backends import openvino
from skinray.models.compute import computes_bfloat16, placed
from skinray.models.layers import WholeImage

# What every backend is compared with.
REFERENCE: BackendName = "eager"
# The side of the frames that a trial times, and how often; the fastest counts.
TRIAL_PX, TRIALS = 384, 2


@dataclass(frozen=True)
class Backend:
    """A way to compute networks.

    Attributes
    ----------
    exact : sums are in float32, so that masks differ from the reference only where a probability
        is at the threshold.
    missing : says why it cannot be used on a device; "" if it can.
    prepare : returns the stand-in of a network that is on the device; files go to the folder.
    calibrate : must come before ``prepare``, once for a folder, with frames of typical images,
        (1, 3, h, w) each; None: not needed.
    kept : returns the stand-in from what ``prepare`` left in the folder, without the network,
        which takes seconds to build; None: there is nothing.
    """

    exact: bool
    missing: Callable[[torch.device], str]
    prepare: Callable[[nn.Module, torch.device, Path], nn.Module]
    calibrate: Callable[[nn.Module, Path, Sequence[Tensor]], None] | None = None
    kept: Callable[[Path], nn.Module | None] = lambda folder: None


def _always(device: torch.device) -> str:
    return ""


def _no_bfloat16(device: torch.device) -> str:
    return "" if computes_bfloat16(device) else f"this {device.type} does not compute in bfloat16"


def _in_bfloat16(network: nn.Module, device: torch.device, folder: Path) -> nn.Module:
    return InBfloat16(placed(copy.deepcopy(network), device), device)


BACKENDS: dict[BackendName, Backend] = {
    REFERENCE: Backend(True, _always, lambda network, device, folder: network),
    "bfloat16": Backend(False, _no_bfloat16, _in_bfloat16),
    "openvino": Backend(True, openvino.missing, openvino.in_float32, kept=openvino.kept_in("f32")),
    "openvino_bfloat16": Backend(
        False,
        lambda device: openvino.missing(device) or _no_bfloat16(device),
        openvino.in_bfloat16,
        kept=openvino.kept_in("bf16"),
    ),
    "openvino_int8": Backend(
        False,
        openvino.missing_int8,
        openvino.in_int8,
        openvino.calibrate_int8,
        kept=openvino.kept_in("f32", openvino.ROUNDED),
    ),
}


class InBfloat16(nn.Module):
    """Computes a network in bfloat16 where that is safe (autocast); logits are float32."""

    def __init__(self, network: nn.Module, device: torch.device) -> None:
        super().__init__()
        self.network, self.device_type = network, device.type
        self.working_scale = working_scale(network)

    def forward(self, image: Tensor) -> Tensor:
        """Return logits, (N, 1, H, W) float32, of RGB ``image`` (N, 3, H, W) in 0..1."""
        with torch.autocast(self.device_type, dtype=torch.bfloat16):
            logits: Tensor = self.network(image)
        return logits.float()


def offered(network: nn.Module, device: torch.device) -> dict[BackendName, str]:
    """Return every backend with the reason why it cannot compute a network here; "" if it can."""
    reasons = {name: backend.missing(device) for name, backend in BACKENDS.items()}
    if not isinstance(network, WholeImage):
        foreign = f"{type(network).__name__} does not say how it frames an image"
        reasons |= {name: foreign for name in openvino.NAMES if not reasons[name]}
    return reasons


def seconds(network: nn.Module, device: torch.device) -> float:
    """Time a network on a frame of :data:`TRIAL_PX` a side; the first pass does not count."""
    frame = torch.rand(1, 3, TRIAL_PX, TRIAL_PX, device=device)
    frame = frame.contiguous(memory_format=torch.channels_last)
    taken = []
    with torch.inference_mode():
        for _ in range(TRIALS + 1):
            began = time.perf_counter()
            network(frame)
            if device.type == "cuda":
                torch.cuda.synchronize()
            taken.append(time.perf_counter() - began)
    return min(taken[1:])
