"""Training of U-Net for photographs on a CPU: its 11x11 kernels by transforms, and by Conv2d.

Run: ``python -m benchmarks.photos.wide_conv``. Both versions take steps in turn, from the same
weights, and the gradients of the first step are compared before anything is timed.
"""

from __future__ import annotations

import argparse
import copy
import os
import time
from statistics import median

import torch
from torch import nn

from benchmarks.measure import machine, versions, write
from skinray.cli import guarded
from skinray.errors import SkinrayError
from skinray.models import build, wide_conv

BATCHES = (2, 4, 8)
SIDE = 128
# From how many images each version uses transforms.
VERSIONS = {"Conv2d": 1_000_000, "transforms": 1}
MOST_APART = 1e-3


def main() -> None:
    """Measure, print and write ``results/wide_conv.md``."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=8, help="steps of each version")
    options = parser.parse_args()
    write("wide_conv", lines({batch: measure(options.rounds, batch) for batch in BATCHES}))


def measure(rounds: int, batch: int, **options: object) -> tuple[dict[str, list[float]], float]:
    """Return the seconds of each version's steps, and how far apart their gradients are.

    Raises
    ------
    SkinrayError
        If the versions' gradients differ by more than rounding.
    """
    torch.manual_seed(0)
    first = build("skin_unet", dropout=0.0, **options).train()
    networks = {name: copy.deepcopy(first) for name in VERSIONS}
    image = torch.rand(batch, 3, SIDE, SIDE).contiguous(memory_format=torch.channels_last)
    gradients = {}
    seconds: dict[str, list[float]] = {name: [] for name in VERSIONS}
    optimizers = {}
    for name, network in networks.items():
        network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        torch.manual_seed(1)  # the noise
        backward(name, network, image)
        gradients[name] = torch.cat([one.grad.flatten() for one in network.parameters()])
        optimizers[name] = torch.optim.AdamW(network.parameters())
        optimizers[name].step()
    plain, wide = gradients["Conv2d"], gradients["transforms"]
    apart = float((wide - plain).norm() / plain.norm())
    if apart > MOST_APART:
        raise SkinrayError(f"the gradients are {apart:.1e} of their norm apart: nothing was timed")
    for _ in range(rounds):
        for name, network in networks.items():
            begun = time.perf_counter()
            backward(name, network, image)
            optimizers[name].step()
            seconds[name].append(time.perf_counter() - begun)
    return seconds, apart


def backward(name: str, network: nn.Module, image: torch.Tensor) -> None:
    """Leave the gradients of one step in ``network``."""
    before, wide_conv.LEAST_BATCH = wide_conv.LEAST_BATCH, VERSIONS[name]
    try:
        network.zero_grad()
        network(image).square().mean().backward()
    finally:
        wide_conv.LEAST_BATCH = before


def lines(found: dict[int, tuple[dict[str, list[float]], float]]) -> list[str]:
    """Return the result of each batch size as Markdown."""
    told = [
        "# Wide convolutions in training on a CPU",
        "",
        "A step of U-Net for photographs in float32, its 11x11 kernels by Conv2d and by transforms "
        f"in turn; {torch.get_num_threads()} threads. GLIBC_TUNABLES: "
        f"{os.environ.get('GLIBC_TUNABLES', 'not set')}. By default batches from "
        f"{wide_conv.LEAST_BATCH} on go by transforms.",
        "",
        f"Machine: {machine()}; {versions('torch')}.",
        "",
        "| batch | Conv2d, s | transforms, s | ratio, median | lowest - highest | steps of each "
        "| gradients apart |",
        "|---|---|---|---|---|---|---|",
    ]
    for batch, (seconds, apart) in found.items():
        plain, wide = seconds["Conv2d"], seconds["transforms"]
        ratios = [a / b for a, b in zip(plain, wide, strict=True)]
        told.append(
            f"| {batch} | {median(plain):.2f} | {median(wide):.2f} | **{median(ratios):.2f}** | "
            f"{min(ratios):.2f} - {max(ratios):.2f} | {len(ratios)} | {apart:.0e} |"
        )
    return [*told, "", "Apart: the difference of the first step's gradients over their norm."]


if __name__ == "__main__":
    guarded(main)
