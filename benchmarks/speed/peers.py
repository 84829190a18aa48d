"""The paper's nerve network and augmentation against what users would pick instead.

Run: ``python -m benchmarks.speed.peers``, with MONAI and nnU-Net in an environment of their own
(``pip install monai nnunetv2``); one that is missing is left out and named. All run the same
weights on the same image with two threads, in turn. Our maps and those of the peers must agree, or
nothing is recorded.
"""

from __future__ import annotations

import argparse
import importlib.util
import math
import statistics
import sys
import tempfile
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from benchmarks.measure import figure, interleaved, machine, median_row, versions, write
from benchmarks.speed.augmentation import as_tensors, torchvision_chain
from benchmarks.speed.backends import PLAIN, in_turn
from skinray.config.biopsies import PhantomSettings
from skinray.config.images import AugmentSettings
from skinray.config.scoring import BackendName
from skinray.images.augment import apply, draw, generator
from skinray.images.phantoms.phantom import make_phantom
from skinray.models import build
from skinray.models.backends import BACKENDS, offered
from skinray.models.predict import predict_map

NAME = "peers"
SIZE = (1200, 1600)
# As their documentation shows them: a tile, and how far neighbours overlap.
TILE_PX, MONAI_OVERLAP, NNUNET_STEP = 512, 0.25, 0.5
# Seams and padding change a map near the borders of tiles; a mistake would change it everywhere.
AGREES = 0.005
MONAI, NNUNET = "MONAI", "nnU-Net"
PACKAGES = {MONAI: "monai", NNUNET: "nnunetv2"}
# The faster ones first; which are there depends on processor and packages.
FASTEST: tuple[BackendName, ...] = ("openvino_bfloat16", "openvino", "bfloat16")
CPU = torch.device("cpu")
Map = NDArray[np.float32]


def installed() -> list[str]:
    """Return the peers that can be imported."""
    return [name for name, package in PACKAGES.items() if importlib.util.find_spec(package)]


def tensor(image: NDArray[np.uint8]) -> torch.Tensor:
    """Return an image as the peers take it, (1, 3, H, W) float32 in 0..1."""
    return torch.from_numpy(image.transpose(2, 0, 1).copy())[None].float() / 255


def as_map(logits: torch.Tensor) -> Map:
    """Return the probability map of logits, (1, 1, H, W)."""
    result: Map = torch.sigmoid(logits.float())[0, 0].numpy()
    return result


def computed(size: tuple[int, int], overlap: float) -> float:
    """Return how many times its own pixels an image costs in overlapping tiles."""
    step = TILE_PX * (1 - overlap)
    tiles = [max(0, math.ceil((side - TILE_PX) / step)) + 1 for side in size]
    return math.prod(tiles) * TILE_PX**2 / math.prod(size)


def by_monai(network: nn.Module) -> Callable[[NDArray[np.uint8]], Map]:
    """Return prediction by MONAI's sliding windows, blended by Gaussian weights."""
    from monai.inferers import SlidingWindowInferer

    infer = SlidingWindowInferer(
        roi_size=(TILE_PX, TILE_PX), sw_batch_size=1, overlap=MONAI_OVERLAP, mode="gaussian"
    )

    def predict(image: NDArray[np.uint8]) -> Map:
        with torch.inference_mode():
            return as_map(infer(tensor(image), network))

    return predict


def by_nnunet(network: nn.Module) -> Callable[[NDArray[np.uint8]], Map]:
    """Return prediction by nnU-Net's predictor, without its mirrored views."""
    from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

    predictor = nnUNetPredictor(
        tile_step_size=NNUNET_STEP, use_mirroring=False, device=CPU, allow_tqdm=False,
        perform_everything_on_device=False,
    )  # fmt: skip
    predictor.network = network
    predictor.allowed_mirroring_axes = None
    predictor.configuration_manager = SimpleNamespace(patch_size=(TILE_PX, TILE_PX))
    predictor.label_manager = SimpleNamespace(num_segmentation_heads=1)

    def predict(image: NDArray[np.uint8]) -> Map:
        # It takes volumes: an image is one slice.
        slices = tensor(image)[0][:, None]
        logits = predictor.predict_sliding_window_return_logits(slices)
        return as_map(logits[:, 0][None])

    return predict


def predictions(network: nn.Module, folder: Path) -> dict[str, Callable[[NDArray[np.uint8]], Map]]:
    """Return every way to predict, by name."""

    def plain(image: NDArray[np.uint8]) -> Map:
        with torch.inference_mode():
            return as_map(network(tensor(image)))

    ways: dict[str, Callable[[NDArray[np.uint8]], Map]] = {
        "skinray, eager": lambda image: predict_map(network, image),
        f"{PLAIN}, whole image": plain,
    }
    there = offered(network, CPU)
    fastest = next((name for name in FASTEST if not there[name]), None)
    if fastest is not None:
        stand_in = BACKENDS[fastest].prepare(network, CPU, folder).eval()
        ways[f"skinray, {fastest}"] = lambda image: predict_map(stand_in, image)
    if MONAI in installed():
        ways[f"{MONAI}, tiles of {TILE_PX} px"] = by_monai(network)
    if NNUNET in installed():
        ways[f"{NNUNET}, tiles of {TILE_PX} px"] = by_nnunet(network)
    return ways


def predicted(rounds: int, size: tuple[int, int]) -> list[str]:
    """Time prediction of one image; return lines of the result."""
    torch.manual_seed(0)
    network = build("hed").eval()
    image = make_phantom(PhantomSettings(), 7, 0, (size[1], size[0])).image
    with tempfile.TemporaryDirectory() as folder:
        ways = predictions(network, Path(folder))
        maps = {name: way(image) for name, way in ways.items()}
        ours = maps["skinray, eager"]
        for name, found in maps.items():
            apart = float(np.abs(found - ours).mean())
            if apart > AGREES:
                sys.exit(f"{name}: its map differs by {apart:.3f} on average: nothing measured")
        times = in_turn({name: lambda way=way: way(image) for name, way in ways.items()}, rounds)
    middle = {name: statistics.median(taken) for name, taken in times.items()}
    mine = middle["skinray, eager"]
    best = min(value for name, value in middle.items() if name.startswith("skinray"))
    for name, value in middle.items():
        if not name.startswith("skinray"):
            figure(NAME, f"prediction, {name}", value / best, "times our seconds, fastest backend")
    return [
        "| prediction | median s | lowest and highest | times skinray, eager | mean difference of "
        "a probability |",
        "|---|---|---|---|---|",
        *(
            f"| {name} | {middle[name]:.2f} | {min(taken):.2f} to {max(taken):.2f} | "
            f"{middle[name] / mine:.2f} | {np.abs(maps[name] - ours).mean():.1e} |"
            for name, taken in times.items()
        ),
    ]


def monai_chain(settings: AugmentSettings) -> Callable[[Any], Any]:
    """Return the paper's steps as MONAI has them, on a dictionary of image and masks."""
    from monai.transforms import Compose, RandAffined, RandFlipd, RandRotate90d, RandSpatialCropd

    keys = ("image", "nerve", "dermis")
    modes = ("bilinear", "nearest", "nearest")
    shear = float(np.tan(np.deg2rad(settings.shear_deg)))
    return Compose([  # type: ignore[no-any-return]
        RandAffined(
            keys, prob=1, rotate_range=np.deg2rad(settings.rotate_deg), shear_range=(shear, shear),
            translate_range=settings.translate_px, mode=modes, padding_mode="reflection",
        ),
        RandRotate90d(keys, prob=0.75, max_k=3),
        RandSpatialCropd(keys, roi_size=(settings.crop_px,) * 2, random_size=False),
        RandFlipd(keys, prob=settings.flip_probability, spatial_axis=0),
        RandFlipd(keys, prob=settings.flip_probability, spatial_axis=1),
    ])  # fmt: skip


def augmented(repeats: int) -> list[str]:
    """Time augmentation; return lines of the result."""
    sample, settings = make_phantom(PhantomSettings(), 40, 0).sample, AugmentSettings()
    tensors = as_tensors(sample)
    fused = torchvision_chain(settings, fused=True)

    def ours(repeat: int) -> object:
        return apply(draw(generator(0, repeat, "phantom"), settings), sample, settings)

    contenders: dict[str, Callable[[int], object]] = {
        "skinray": ours, "torchvision v2": lambda _: fused(*tensors),
    }  # fmt: skip
    if MONAI in installed():
        chain = monai_chain(settings)
        image, nerve, dermis = tensors
        floats = {"image": image.float(), "nerve": nerve.float(), "dermis": dermis.float()}
        shape = chain(dict(floats))["image"].shape
        if shape != (3, settings.crop_px, settings.crop_px):
            sys.exit(f"{MONAI}: its crop is {shape}: nothing measured")
        contenders[MONAI] = lambda _: chain(dict(floats))
    times = interleaved(contenders, repeats)
    mine = statistics.median(times["skinray"])
    for name, taken in times.items():
        if name != "skinray":
            what = f"augmentation, {name}"
            figure(NAME, what, statistics.median(taken) / mine, "times our CPU time")
    return [
        "| augmentation | median ms, CPU | quartiles | repeats |",
        "|---|---|---|---|",
        *(median_row(name, taken) for name, taken in times.items()),
    ]


def main() -> None:
    """Measure, print and write ``results/peers.md``."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--size", type=int, nargs=2, default=SIZE, help="height and width")
    options = parser.parse_args()
    torch.set_num_threads(2)
    prediction = predicted(options.rounds, tuple(options.size))
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    augmentation = augmented(options.repeats)
    there = ", ".join(f"{name} {version(PACKAGES[name])}" for name in installed())
    missing = ", ".join(name for name in PACKAGES if name not in installed())
    height, width = options.size
    write(NAME, [
        "# What users would pick instead", "",
        f"HED with random weights on one image of {width}x{height} px, two threads, from pixels to "
        "a probability map, all in turn. skinray and plain torch predict an image of this size "
        f"whole; {MONAI} and {NNUNET} cut tiles of {TILE_PX} px, with the overlap that their "
        f"documentation shows ({MONAI_OVERLAP:.0%} and {NNUNET_STEP:.0%}), and so compute "
        f"{computed((height, width), MONAI_OVERLAP):.1f} and "
        f"{computed((height, width), NNUNET_STEP):.1f} times the pixels. {NNUNET} runs without "
        "mirrored views.", "",
        *prediction, "",
        "The paper's steps from a phantom of 1600x1200 px with two masks to a crop of 800x800: "
        f"one thread, CPU time. {MONAI} resamples 32-bit numbers, as its transforms do.", "",
        *augmentation, "",
        *([f"Not installed here, so not measured: {missing}.", ""] if missing else []),
        "Not measured: cellpose and InstanSeg, whose networks have other sizes and find cells: a "
        "ratio of seconds would compare networks, not engines.", "",
        f"Machine: {machine()}. {there and there + ', '}{versions('torch', 'torchvision')}.",
    ])  # fmt: skip


if __name__ == "__main__":
    main()
