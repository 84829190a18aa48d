"""Thin lines in real images, from few labels: retinal vessels and neurites in place of nerves.

Run: ``python -m benchmarks.accuracy.thin_lines``. The images are in ``drive/`` and ``pfc_pn/`` in
the folder that ``--data`` or SKINRAY_REAL_DATA names. Working scale, crop, batch and rates are what
the recipe ``auto`` plans for them; one network trains on all cores for as many steps as fit.
``--views`` also averages over mirrored images, by the same network.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.measure import machine, record, recorded, versions, write
from skinray.config.images import AugmentSettings, PredictSettings
from skinray.config.recipes import NARROW_HED
from skinray.config.training import ArmSettings, ModelSettings
from skinray.images.augment import Sample
from skinray.images.cohort.facts import stroke_width
from skinray.images.read import read_image, read_mask
from skinray.learning.auto.machine import measure
from skinray.learning.auto.plan import (
    BATCH,
    CROPS_PER_EPOCH,
    MOST_STEPS,
    NERVE_CROP_PX,
    TRAIN_FULL,
    TRAIN_NARROW,
    nerve_scale,
)
from skinray.learning.spec import TrialSpec
from skinray.learning.trial import run_trial, trained_network
from skinray.learning.validation import scores
from skinray.models.compute import computes_bfloat16
from skinray.models.predict import predict_map
from skinray.models.weights.load import available

REAL_DATA = Path(__file__).parents[3] / "shared" / "data"
TRAIN_IMAGES = 10
CPU = torch.device("cpu")
KEY = ["data", "minutes", "start", "views"]


@dataclass(frozen=True)
class Picture:
    """An image as a sample, and where its labels hold, (H, W) bool."""

    sample: Sample
    field: NDArray[np.bool_]


def read_drive(folder: Path) -> list[Picture]:
    """Read every photograph of ``images/`` with its mask of ``manual1/`` and ``fov/``."""
    pictures = []
    for path in sorted((folder / "images").glob("*.png")):
        vessels, field = (read_mask(folder / kind / path.name) for kind in ("manual1", "fov"))
        sample = Sample(read_image(path).pixels, {"nerve": vessels.astype(np.uint8)})
        pictures.append(Picture(sample, field))
    return pictures


def read_neurites(folder: Path) -> list[Picture]:
    """Read every micrograph of ``images/`` with its mask of ``masks/``."""
    pictures = []
    for path in sorted((folder / "images").glob("*.jpg")):
        mask = read_mask(folder / "masks" / f"{path.stem}.png").astype(np.uint8)
        pictures.append(Picture(Sample(read_image(path).pixels, {"nerve": mask}), mask >= 0))
    return pictures


DATA: dict[str, tuple[str, Callable[[Path], list[Picture]]]] = {
    "DRIVE vessels": ("drive", read_drive),
    "neurites": ("pfc_pn", read_neurites),
}
STARTS = {
    "random": ArmSettings(
        label="random",
        model=ModelSettings(name="hed", options=NARROW_HED),
        train=TRAIN_NARROW.override({"learning_rate": 3e-3}),
    ),
    "starter": ArmSettings(
        label="starter",
        model=ModelSettings(name="hed", options=NARROW_HED, weights="starter_nerve"),
        train=TRAIN_NARROW,
    ),
    "BSDS500": ArmSettings(
        label="BSDS500",
        model=ModelSettings(name="hed", weights="hed_bsds500_caffe"),
        train=TRAIN_FULL,
    ),
}


def trained(
    start: str, train: Sequence[Picture], minutes: float, seed: int
) -> tuple[torch.nn.Module, int]:
    """Train for about so many minutes; return the network and its steps."""
    stroke = float(np.median([stroke_width(one.sample.masks["nerve"]) for one in train]))
    scale = nerve_scale(stroke)
    side = min(min(one.sample.image.shape[:2]) for one in train) * scale
    crop = min(NERVE_CROP_PX, int(side) // 32 * 32)
    arm = STARTS[start].override({"model.options.scale": scale, "train.precision": "float32"})
    half = arm.override({"train.precision": "bfloat16"})
    threads = torch.get_num_threads()
    step_s = measure(arm, crop, CPU, threads).step_s
    if computes_bfloat16(CPU):
        faster = measure(half, crop, CPU, threads).step_s
        if faster < step_s:
            arm, step_s = half, faster
    draws = max(1, round(CROPS_PER_EPOCH / len(train)))
    steps = min(MOST_STEPS["nerve"], int(60 * minutes / step_s))
    epochs = max(1, round(steps * BATCH / (len(train) * draws)))
    arm = arm.override({"train.epochs": epochs, "train.draws_per_image": draws})
    names = tuple(map(str, range(len(train))))
    spec = TrialSpec(
        key="lines", phase="fit", stage="nerve", arm=arm, split="lines",
        train=tuple(range(len(train))), names=names, seed=seed, data="lines",
        augment=AugmentSettings(crop_px=crop, translate_px=crop // 8),
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        run_trial(
            spec, [one.sample for one in train], Path(folder),
            on_epoch=lambda end: print(
                f"  epoch {end.epoch + 1} of {epochs}: loss {end.loss:.3f}, {end.seconds:.0f} s",
                flush=True,
            ),
        )  # fmt: skip
        return trained_network(spec, Path(folder)), epochs * len(train) * draws // BATCH


def dice(
    network: torch.nn.Module, test: Sequence[Picture], views: Literal[1, 2, 4]
) -> dict[int, float]:
    """Return the mean Dice by tolerance, in pixels, where the labels hold, at threshold .5."""
    seen = PredictSettings(mirrored=views)
    found = [
        scores(
            "nerve",
            np.where(one.field, predict_map(network, one.sample.image, settings=seen), 0),
            one.sample.masks["nerve"] * one.field,
        )
        for one in test
    ]
    return {k: fmean(image[k] for image in found) for k in found[0]}


def row(run: dict[str, Any]) -> str:
    """Return a line of the table."""
    return (
        f"| {run['data']} | {run['minutes']:g} | {run['start']} | {run['steps']} | "
        f"{run['views']} | "
        f"{' | '.join(f'{value:.3f}' for value in run['dice'].values())} | {run['took']:.1f} | "
        f"{run['machine']} |"
    )


def page(runs: Sequence[dict[str, Any]]) -> list[str]:
    """Return the lines of the result."""
    return [
        "# Thin lines in real images", "",
        f"The first {TRAIN_IMAGES} images by name train, the others are scored whole at threshold "
        ".5 (DRIVE inside its field of view; its second human observer has a Dice of .79 to .80). "
        "Working scale, crop, batch and rates are those of the recipe `auto`; one network trains "
        "on all cores for as many steps as the minutes allow, and at most "
        f"{MOST_STEPS['nerve']}.", "",
        "| images | budget, min | start | steps | views | Dice | k = 1 | k = 3 | training, min | "
        "machine |",
        "|---|---|---|---|---|---|---|---|---|---|",
        *map(row, sorted(runs, key=lambda run: [run[name] for name in KEY])), "",
        *["Not measured yet.", ""][: 2 * (not runs)],
        f"`python -m benchmarks.accuracy.thin_lines`. {versions('torch', 'opencv-python')}.",
    ]  # fmt: skip


def arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Return the command line's options."""
    parser = argparse.ArgumentParser(description=__doc__)
    home = Path(os.environ.get("SKINRAY_REAL_DATA", REAL_DATA))
    parser.add_argument("--data", type=Path, default=home, help="folder of drive/ and pfc_pn/")
    parser.add_argument("--images", action="append", choices=DATA, help="default: all")
    parser.add_argument("--start", action="append", choices=STARTS, help="default: all at hand")
    parser.add_argument("--minutes", type=float, action="append", help="default: 5, 15 and 60")
    parser.add_argument("--views", action="append", type=int, choices=(1, 2, 4), help="default: 1")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(argv)
    if not (options.data / "drive").is_dir():
        sys.exit(f"no folder drive in {options.data}: give --data or set SKINRAY_REAL_DATA")
    return options


def main() -> None:
    """Train and score, add the runs to those before, write the table."""
    options = arguments()
    torch.set_num_threads(os.cpu_count() or 1)
    runs = recorded("thin_lines")
    at_hand = [name for name, arm in STARTS.items() if available(arm.model.weights or "")]
    for name in options.images or DATA:
        folder, read = DATA[name]
        pictures = read(options.data / folder)
        for minutes in options.minutes or (5, 15, 60):
            for start in options.start or ["random", *at_hand]:
                print(f"{name}, {minutes:g} min, {start} ...", flush=True)
                began = time.monotonic()
                network, steps = trained(start, pictures[:TRAIN_IMAGES], minutes, options.seed)
                took = (time.monotonic() - began) / 60
                for views in options.views or [1]:
                    run = {
                        "data": name, "minutes": minutes, "start": start, "views": views,
                        "steps": steps, "took": took,
                        "dice": dice(network, pictures[TRAIN_IMAGES:], views),
                        "machine": machine(),
                    }  # fmt: skip
                    runs = record("thin_lines", run, KEY)
    write("thin_lines", page(runs))


if __name__ == "__main__":
    main()
