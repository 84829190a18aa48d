"""How a device computes: its number format, memory layout, and what joins several of them."""

from __future__ import annotations

from typing import Literal, TypeVar

import torch
from torch import nn

from skinray.config.training import TrainSettings

M = TypeVar("M", bound=nn.Module)


def placed(network: M, device: torch.device) -> M:
    """Move a network to the device, its channels last: convolutions are faster so on both kinds."""
    moved: M = network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    return moved


def process_group(*, gpus: bool) -> Literal["nccl", "gloo"]:
    """Return torch's backend that averages gradients: NCCL joins GPUs alone."""
    return "nccl" if gpus else "gloo"


def synchronised(
    module: nn.Module, settings: TrainSettings, device: torch.device, workers: int
) -> nn.Module:
    """Let batch norm see the crops of all workers, where each sees few and the device can.

    torch synchronises it between GPUs alone. On CPUs each worker normalises by its own crops, and
    the first one's running statistics are kept.
    """
    few = settings.batch_size < settings.batch_norm_crops
    if workers == 1 or device.type != "cuda" or not few:
        return module
    converted: nn.Module = nn.SyncBatchNorm.convert_sync_batchnorm(module)  # type: ignore[no-untyped-call]
    return converted


def bfloat16_pays(settings: TrainSettings, device: torch.device) -> bool:
    """Whether to compute in bfloat16.

    By default on GPUs alone. A CPU with AVX512_BF16 trained the paper's networks about twice as
    fast with it, but the demo's narrow U-Net more slowly: on CPUs it must be asked for.
    """
    if settings.precision != "auto":
        return settings.precision == "bfloat16"
    return device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)


def emulates_bfloat16(settings: TrainSettings, device: torch.device) -> bool:
    """Whether bfloat16 was asked of a processor that has no instructions for it."""
    if device.type != "cpu" or settings.precision != "bfloat16":
        return False
    # An older torch does not tell; other architectures name theirs otherwise.
    told: dict[str, object] = getattr(torch.cpu, "get_capabilities", dict)()
    has = told.get("avx512_bf16") or told.get("amx_bf16")
    return told.get("architecture") == "x86_64" and not has
