"""Device-dependent choices: number format, memory layout and communication."""

from __future__ import annotations

from typing import Literal, TypeVar

import torch
from torch import nn

from skinray.config.training import TrainSettings

M = TypeVar("M", bound=nn.Module)


def placed(network: M, device: torch.device) -> M:
    """Move a network to the device in channels-last layout, which is faster on CPUs and GPUs."""
    moved: M = network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    return moved


def process_group(*, gpus: bool) -> Literal["nccl", "gloo"]:
    """Return torch's backend for averaging gradients; NCCL is for GPUs only."""
    return "nccl" if gpus else "gloo"


def synchronised(
    module: nn.Module, settings: TrainSettings, device: torch.device, workers: int
) -> nn.Module:
    """Synchronise batch norm over the workers, if each has few crops and the device allows it.

    torch can do this on GPUs only. On CPUs each worker normalises by its own crops, and the
    first worker's running statistics are kept.
    """
    few = settings.batch_size < settings.batch_norm_crops
    if workers == 1 or device.type != "cuda" or not few:
        return module
    converted: nn.Module = nn.SyncBatchNorm.convert_sync_batchnorm(module)  # type: ignore[no-untyped-call]
    return converted


def bfloat16_pays(settings: TrainSettings, device: torch.device) -> bool:
    """Whether to compute in bfloat16.

    By default on GPUs only. A CPU with AVX512_BF16 trained the paper's networks about twice as
    fast with it, but the demo's narrow U-Net more slowly, so on CPUs it must be requested.
    """
    if settings.precision != "auto":
        return settings.precision == "bfloat16"
    return device.type == "cuda" and computes_bfloat16(device)


def emulates_bfloat16(settings: TrainSettings, device: torch.device) -> bool:
    """Whether bfloat16 was requested on a processor that has no instructions for it."""
    if device.type != "cpu" or settings.precision != "bfloat16":
        return False
    # Other architectures have other names.
    return _capabilities().get("architecture") == "x86_64" and not computes_bfloat16(device)


def computes_bfloat16(device: torch.device) -> bool:
    """Whether a GPU or an x86 processor has instructions for bfloat16."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return bool(_capabilities().get("avx512_bf16") or _capabilities().get("amx_bf16"))


def instructions() -> list[str]:
    """Return the processor's instruction sets that torch knows: they decide speed and rounding."""
    known = sorted(name for name, has in _capabilities().items() if has is True)
    return known or [torch.backends.cpu.get_cpu_capability()]


def _capabilities() -> dict[str, object]:
    # Older versions of torch lack this function.
    found: dict[str, object] = getattr(torch.cpu, "get_capabilities", dict)()
    return found
