"""How far the service's batched passes move probabilities, and what they gain on a CPU.

Run: ``python -m benchmarks.serve.batches``. Images of one size go through each network alone, and
stacked as a replica does with ``batch_size`` above 1. The demo's networks are first trained for a
minute, so that their maps are near 0 and 1; the paper's have random weights.
"""

from __future__ import annotations

import argparse
import copy
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from benchmarks.measure import machine, versions, write
from skinray.config.biopsies import PhantomSettings
from skinray.config.recipes import demo
from skinray.config.training import ModelSettings, TrainSettings
from skinray.images.phantoms.phantom import make_phantom
from skinray.learning.losses import stage_loss
from skinray.models import build
from skinray.models.predict import STACK_TOLERANCE, predict_maps

SIZE, THREADS = (384, 288), (1, 2)
DEMO = demo()
NETWORKS = {
    "HED, the demo's": (DEMO.nerve.main.model, DEMO.nerve.main.train),
    "DeepLabV3, the demo's": (DEMO.dermis.main.model, DEMO.dermis.main.train),
    "U-Net, the demo's": (DEMO.nerve.baselines[0].model, DEMO.nerve.baselines[0].train),
    "HED, the paper's": (ModelSettings(name="hed"), None),
    "DeepLabV3, the paper's": (ModelSettings(name="deeplabv3_resnet101"), None),
    "U-Net for photographs": (ModelSettings(name="skin_unet"), None),
}
SAMPLES = [make_phantom(PhantomSettings(), 1, number, SIZE) for number in range(8)]


@dataclass
class Apart:
    """One network with a number of threads: what batching moved, and seconds alone over batched.

    Attributes
    ----------
    most : largest difference of a probability.
    flipped : pixels on the other side of .5, of ``pixels``.
    gains : one ratio per round.
    """

    most: float = 0.0
    flipped: int = 0
    pixels: int = 0
    gains: list[float] = field(default_factory=list)


def main() -> None:
    """Measure, print and write ``results/serve_batches.md``."""
    options = arguments()
    found = {}
    for name, (model, train) in NETWORKS.items():
        network = trained(model, train, options.steps)
        for threads in THREADS:
            found[name, threads] = measured(network, threads, options)
            print(f"{name}, threads {threads}: {found[name, threads]}", flush=True)
    write("serve_batches", lines(found, options))


def arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Return the command line's options."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=4, help="stacked")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=80, help="of training the demo's networks")
    return parser.parse_args(argv)


def trained(model: ModelSettings, train: TrainSettings | None, steps: int) -> nn.Module:
    """Return the network, trained for a number of steps if there are settings for it.

    Otherwise its batch norms take the statistics of two images, so that it does not saturate.
    """
    torch.manual_seed(0)
    torch.set_num_threads(max(THREADS))
    network = build(model.name, **model.options)
    pixels = torch.from_numpy(np.stack([s.image for s in SAMPLES])).permute(0, 3, 1, 2) / 255
    if train is None:
        for layer in network.modules():
            if isinstance(layer, nn.BatchNorm2d):
                layer.reset_running_stats()
                layer.momentum = None
        with torch.no_grad():
            network.train()(pixels[:2])
        return network.eval()
    masks = [s.nerve_truth if train.loss == "dice" else s.dermis_truth for s in SAMPLES]
    truth = torch.from_numpy(np.stack(masks))[:, None].float()
    optimiser = torch.optim.Adam(network.train().parameters(), train.learning_rate)
    for step in range(steps):
        some = [(2 * step + at) % len(SAMPLES) for at in range(2)]
        optimiser.zero_grad()
        stage_loss(network(pixels[some]), truth[some], train).backward()
        optimiser.step()
    return network.eval()


def measured(network: nn.Module, threads: int, options: Any) -> Apart:
    """Compare the maps of new images alone with their maps in stacks of every size."""
    device = torch.device(options.device)
    torch.set_num_threads(threads)
    network = copy.deepcopy(network).to(device)
    apart = Apart()
    for turn in range(options.rounds):
        images = [
            make_phantom(PhantomSettings(), 2 + turn, number, SIZE).image
            for number in range(options.images)
        ]
        began = time.perf_counter()
        alone = np.concatenate([predict_maps(network, [image], device) for image in images])
        between = time.perf_counter()
        stacked = predict_maps(network, images, device)
        apart.gains.append((between - began) / (time.perf_counter() - between))
        note(apart, alone, stacked)
        for size in range(2, options.images):
            note(apart, alone[:size], predict_maps(network, images[:size], device))
    return apart


def note(apart: Apart, alone: NDArray[np.float32], stacked: NDArray[np.float32]) -> None:
    """Add one stack's difference to the rest."""
    apart.most = max(apart.most, float(np.abs(alone - stacked).max()))
    apart.flipped += int(((alone > 0.5) != (stacked > 0.5)).sum())
    apart.pixels += alone.size


def lines(found: dict[tuple[str, int], Apart], options: Any) -> list[str]:
    """Return the lines of the result."""
    most = max(apart.most for apart in found.values())
    told = [
        "# Stacked passes of the service against each image alone",
        "",
        f"Drawn images of {SIZE[0]}x{SIZE[1]} px, 2 to {options.images} in a stack, float32 on "
        f"{options.device}. The demo's networks were trained for {options.steps} steps, so that "
        "their maps are near 0 and 1; the others have random weights. *Moved*: the most that any "
        "probability differs from the one of its image alone. *Flipped*: pixels on the other "
        f"side of .5. *Gain*: seconds of {options.images} images one by one over one pass, "
        f"median of {options.rounds} rounds, lowest and highest.",
        "",
        f"Machine: {machine()}. {versions('torch')}.",
        "",
        "| network | threads | moved | flipped | gain |",
        "|---|---|---|---|---|",
    ]
    for (name, threads), apart in found.items():
        gain, low, high = statistics.median(apart.gains), min(apart.gains), max(apart.gains)
        told.append(
            f"| {name} | {threads} | {apart.most:.1e} | {apart.flipped} of {apart.pixels:,} | "
            f"{gain:.2f} ({low:.2f} - {high:.2f}) |"
        )
    verdict = "met" if most <= STACK_TOLERANCE else "NOT met"
    return [
        *told,
        "",
        f"Most of all: **{most:.1e}** (stated: at most {STACK_TOLERANCE:g}; {verdict}). "
        "`--device cuda` measures on a GPU, where nothing is stated yet.",
    ]


if __name__ == "__main__":
    main()
