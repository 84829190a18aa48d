"""Thin curves from ten labelled images: the vessels of DRIVE, segmented by three networks.

Run: ``python -m benchmarks.accuracy.drive``. The data are in ``drive/`` and ``weights/`` in the
folder that ``--data`` or SKINRAY_REAL_DATA names. Networks, loop, augmentation and metrics are
those of ``skinray train-cv``; DRIVE's vessels take the place of nerves.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, pstdev

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.measure import machine, versions, write
from skinray.cli import guarded
from skinray.config.images import AugmentSettings
from skinray.config.training import ArmSettings, ModelSettings, TrainSettings
from skinray.images.augment import Sample
from skinray.images.read import read_image, read_mask
from skinray.learning.spec import TrialSpec
from skinray.learning.trial import run_trial, trained_network
from skinray.learning.validation import TOLERANCES, scores
from skinray.models.predict import predict_map

REAL_DATA = Path(__file__).parents[3] / "shared" / "data"
WEIGHTS = "unet_lgg_depth4_f32.safetensors"
AUGMENT = AugmentSettings(crop_px=256, translate_px=30)
TRAIN = TrainSettings(
    loss="dice", learning_rate=1e-3, weight_decay=1e-5, epochs=8, batch_size=2, draws_per_image=4,
    plateau_factor=0.3, plateau_patience_epochs=1, clip_norm=1.0,
)  # fmt: skip
TRAIN_IMAGES = 10


@dataclass(frozen=True)
class Photograph:
    """A retina photograph as a sample, and its field of view, (H, W) bool."""

    sample: Sample
    field: NDArray[np.bool_]


def main() -> None:
    """Train, score, print and write ``results/drive.md``."""
    options = arguments()
    torch.set_num_threads(options.threads)
    photographs = read_drive(options.data / "drive")
    train, test = photographs[:TRAIN_IMAGES], photographs[TRAIN_IMAGES:]
    steps = TRAIN.epochs * len(train) * TRAIN.draws_per_image // TRAIN.batch_size
    rows = []
    for arm in arms(options.data / "weights" / WEIGHTS, TRAIN):
        print(f"{arm.label} ...", flush=True)
        began = time.monotonic()
        rows.append(row(arm.label, measure(arm, AUGMENT, train, test, options.seed), began))
    write("drive", [
        "# Vessels of DRIVE, as a stand-in for traced nerves",
        "",
        f"{len(photographs)} retina photographs of 565x584 px with traced vessels: the first "
        f"{len(train)} by name train,",
        f"the other {len(test)} are scored whole, inside the field of view, at threshold .5. Every "
        f"row has {steps} steps of",
        f"{TRAIN.batch_size} crops of {AUGMENT.crop_px} px: the paper's augmentation with "
        f"translation up to {AUGMENT.translate_px:g} px, Dice loss, Adam, learning",
        f"rate {TRAIN.learning_rate:g} (x {TRAIN.plateau_factor:g} when the loss stalls for more "
        f"than {TRAIN.plateau_patience_epochs} epoch of {steps // TRAIN.epochs} steps), weight "
        f"decay {TRAIN.weight_decay:g}, gradient norm at most {TRAIN.clip_norm:g}.",
        "Minutes of training, on a budget far below the paper's 200 epochs: the figures order the",
        "networks at this budget and say nothing of what each reaches in the end.",
        "",
        f"Machine: {machine()}, {options.threads} threads. {versions('torch', 'opencv-python')}. "
        f"Seed {options.seed}.",
        "",
        f"| mean (sd) of {len(test)} images | Dice | k = 1 px | k = 3 px | training and scoring |",
        "|---|---|---|---|---|",
        *rows,
    ])  # fmt: skip


def arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Return the command line's options."""
    parser = argparse.ArgumentParser(description=__doc__)
    home = Path(os.environ.get("SKINRAY_REAL_DATA", REAL_DATA))
    parser.add_argument("--data", type=Path, default=home, help="folder of drive/ and weights/")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(argv)
    if not (options.data / "drive").is_dir():
        sys.exit(f"no folder drive in {options.data}: give --data or set SKINRAY_REAL_DATA")
    return options


def read_drive(folder: Path) -> list[Photograph]:
    """Read every photograph of ``images/`` with its mask of ``manual1/`` and ``fov/``."""
    photographs = []
    for path in sorted((folder / "images").glob("*.png")):
        vessels, field = (read_mask(folder / kind / path.name) for kind in ("manual1", "fov"))
        sample = Sample(read_image(path).pixels, {"nerve": vessels.astype(np.uint8)})
        photographs.append(Photograph(sample, field))
    return photographs


def arms(weights: Path, train: TrainSettings) -> list[ArmSettings]:
    """Return the rows of the table: one U-Net from two starts, and HED at half its width."""
    starts = {
        "U-Net, random weights": ModelSettings(name="unet_lgg"),
        "U-Net, brain-MRI weights": ModelSettings(name="unet_lgg", weights=str(weights)),
        "HED (half the width, group norm), random weights": ModelSettings(
            name="hed", options={"width": 0.5, "batch_norm": True, "group_norm": True}
        ),
    }
    return [ArmSettings(label=k, model=v, train=train) for k, v in starts.items()]


def measure(
    arm: ArmSettings,
    augment: AugmentSettings,
    train: Sequence[Photograph],
    test: Sequence[Photograph],
    seed: int,
) -> list[dict[int, float]]:
    """Train an arm on one part and return its Dice by tolerance on each image of the other."""
    spec = TrialSpec(
        key="drive", phase="fit", stage="nerve", arm=arm, augment=augment, split="drive",
        train=tuple(range(len(train))), names=tuple(str(i) for i in range(len(train))),
        seed=seed, data="drive",
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        run_trial(
            spec, [photograph.sample for photograph in train], Path(folder),
            on_epoch=lambda end: print(
                f"  epoch {end.epoch + 1}: loss {end.loss:.3f}, {end.seconds:.0f} s", flush=True
            ),
        )  # fmt: skip
        network = trained_network(spec, Path(folder))
    return [
        scores(
            "nerve",
            np.where(photograph.field, predict_map(network, photograph.sample.image), 0),
            photograph.sample.masks["nerve"] * photograph.field,
        )
        for photograph in test
    ]


def row(label: str, found: Sequence[dict[int, float]], began: float) -> str:
    """Return a line of the table: mean (population sd) over the images, and minutes."""
    columns = [[image[k] for image in found] for k in TOLERANCES["nerve"]]
    cells = [f"{fmean(values):.3f} ({pstdev(values):.3f})" for values in columns]
    minutes = (time.monotonic() - began) / 60
    return f"| {label} | {' | '.join(cells)} | {minutes:.1f} min |"


if __name__ == "__main__":
    guarded(main)
