"""Training of U-Net for photographs on a CPU: its 11x11 kernels by transforms, and by Conv2d.

Run: ``python benchmarks/wide_conv.py``; both versions take steps in turn, from the same weights,
and the gradients of the first step are compared before anything is timed.
"""

from __future__ import annotations

import argparse
import copy
import os
import time
from statistics import median

import torch
from measure import machine, versions, write
from torch import nn

from skinray.cli import guarded
from skinray.models import build, wide_conv

BATCH = 8
SIDE = 128
VERSIONS = {"Conv2d": 1_000_000, "transforms": wide_conv.LEAST_BATCH}


def main() -> None:
    """Measure, print and write ``results/wide_conv.md``."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=8, help="steps of each version")
    options = parser.parse_args()
    write("wide_conv", lines(*measure(options.rounds)))


def measure(rounds: int, **options: object) -> tuple[dict[str, list[float]], float]:
    """Return the seconds of each version's steps, and how far their gradients lie apart."""
    torch.manual_seed(0)
    first = build("skin_unet", dropout=0.0, **options).train()
    networks = {name: copy.deepcopy(first) for name in VERSIONS}
    image = torch.rand(BATCH, 3, SIDE, SIDE).contiguous(memory_format=torch.channels_last)
    gradients = {}
    seconds: dict[str, list[float]] = {name: [] for name in VERSIONS}
    steps = {}
    for name, network in networks.items():
        network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        torch.manual_seed(1)  # the noise
        backward(name, network, image)
        gradients[name] = torch.cat([one.grad.flatten() for one in network.parameters()])
        steps[name] = torch.optim.AdamW(network.parameters())
        steps[name].step()
    plain, wide = gradients["Conv2d"], gradients["transforms"]
    for _ in range(rounds):
        for name, network in networks.items():
            begun = time.perf_counter()
            backward(name, network, image)
            steps[name].step()
            seconds[name].append(time.perf_counter() - begun)
    return seconds, float((wide - plain).norm() / plain.norm())


def backward(name: str, network: nn.Module, image: torch.Tensor) -> None:
    """Leave the gradients of one step in ``network``."""
    before, wide_conv.LEAST_BATCH = wide_conv.LEAST_BATCH, VERSIONS[name]
    try:
        network.zero_grad()
        network(image).square().mean().backward()
    finally:
        wide_conv.LEAST_BATCH = before


def lines(seconds: dict[str, list[float]], apart: float) -> list[str]:
    """Return the result as Markdown."""
    ratios = [a / b for a, b in zip(seconds["Conv2d"], seconds["transforms"], strict=True)]
    return [
        "# Wide convolutions in training on a CPU",
        "",
        f"U-Net for photographs, batches of {BATCH} in float32, {torch.get_num_threads()} threads; "
        f"{len(ratios)} steps of each in turn. GLIBC_TUNABLES: "
        f"{os.environ.get('GLIBC_TUNABLES', 'not set')}.",
        "",
        f"Machine: {machine()}; {versions('torch')}.",
        "",
        "| 11x11 kernels by | s a step, median |",
        "|---|---|",
        *[f"| {name} | {median(values):.2f} |" for name, values in seconds.items()],
        "",
        f"Conv2d's time over that of transforms, median: **{median(ratios):.2f}** "
        f"({min(ratios):.2f} to {max(ratios):.2f}). The gradients of the first step lie "
        f"{apart:.1e} of their norm apart.",
    ]


if __name__ == "__main__":
    guarded(main)
