"""A training step on a CPU in float32 and in bfloat16, and the Dice that both reach.

Run: ``python -m benchmarks.speed.training_step``. The networks are the paper's and those of the
recipe ``auto``. Dice is of the latter, trained from ``--seeds`` seeds for the same steps on real
tissue with drawn nerves, read from ``skin_pas_dej/`` in the folder that ``--data`` or
SKINRAY_REAL_DATA names.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean, median
from typing import Any

import torch

from benchmarks.accuracy.own_images import COHORTS, REAL_DATA
from benchmarks.measure import figure, machine, versions, write
from skinray.config.images import AugmentSettings, ReadSettings
from skinray.config.kinds import Stage
from skinray.config.recipes import NARROW_HED
from skinray.config.training import ArmSettings, ModelSettings, TrainSettings
from skinray.images.augment import Sample
from skinray.images.cohort.common_scale import LabelledReader
from skinray.images.cohort.manifest import read_manifest
from skinray.learning.auto.machine import measure
from skinray.learning.auto.plan import PAYS, TRAIN_DERMIS, TRAIN_FULL, TRAIN_NARROW
from skinray.learning.spec import TrialSpec
from skinray.learning.trial import run_trial, trained_network
from skinray.learning.validation import scores
from skinray.models.compute import computes_bfloat16
from skinray.models.predict import predict_map

NAME, COHORT = "training_step", "1024x768, real tissue"
TRAINED, TESTED = 16, 8
CPU = torch.device("cpu")
FORMATS = ("float32", "bfloat16")
ASKED = 1.8
# Stage, options, start, settings, crop, and the steps trained for Dice (0: only timed).
ARMS: dict[str, tuple[Stage, ModelSettings, TrainSettings, int, int]] = {
    "HED, full width": ("nerve", ModelSettings(name="hed"), TRAIN_FULL, 256, 0),
    "DeepLabV3-ResNet101": (
        "dermis", ModelSettings(name="deeplabv3_resnet101"), TRAIN_DERMIS, 256, 0,
    ),
    "HED, a quarter of the width": (
        "nerve",
        ModelSettings(name="hed", options=NARROW_HED, weights="starter_nerve"),
        TRAIN_NARROW, 256, 160,
    ),
    "deeplab_lite": (
        "dermis",
        ModelSettings(name="deeplab_lite", options={"scale": 0.5}, weights="starter_dermis"),
        TRAIN_DERMIS, 192, 160,
    ),
}  # fmt: skip


def arm_of(label: str, precision: str) -> ArmSettings:
    """Return an arm that trains in a number format."""
    _, model, train, _, _ = ARMS[label]
    return ArmSettings(label=label, model=model, train=train.override({"precision": precision}))


def step_times(label: str, rounds: int) -> dict[str, list[float]]:
    """Time a step in both formats, in turn, in seconds."""
    crop = ARMS[label][3]
    times: dict[str, list[float]] = {name: [] for name in FORMATS}
    for _ in range(rounds):
        for name in FORMATS:
            times[name].append(
                measure(arm_of(label, name), crop, CPU, torch.get_num_threads()).step_s
            )
    return times


def dice_of(label: str, precision: str, seed: int, samples: Sequence[Sample]) -> float:
    """Train on the first samples and return the mean Dice on the last; nerves within 3 px."""
    stage, _, _, crop, steps = ARMS[label]
    arm = arm_of(label, precision)
    draws = 2
    epochs = max(1, round(steps * arm.train.batch_size / (TRAINED * draws)))
    arm = arm.override({"train.epochs": epochs, "train.draws_per_image": draws})
    train = tuple(range(TRAINED))
    spec = TrialSpec(
        key=f"{stage}-{precision}-{seed}", phase="fit", stage=stage, arm=arm, split="step",
        train=train, names=tuple(map(str, train)), seed=seed, data="step",
        augment=AugmentSettings(crop_px=crop, translate_px=crop // 8),
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        run_trial(spec, samples, Path(folder))
        network = trained_network(spec, Path(folder))
    found = [
        scores(stage, predict_map(network, one.image), one.masks[stage])
        for one in samples[-TESTED:]
    ]
    return fmean(max(image.values()) for image in found)


def read_samples(data: Path, folder: Path) -> list[Sample]:
    """Draw nerves on real tissue and read the images with their labels."""
    COHORTS[COHORT].many(TRAINED + TESTED).write(folder, data / "skin_pas_dej")
    read = LabelledReader(ReadSettings(), None)
    return [read(biopsy) for biopsy in read_manifest(folder).biopsies]


def page(times: dict[str, dict[str, list[float]]], dice: list[dict[str, Any]]) -> list[str]:
    """Return the lines of the result."""
    lines = [
        "# A training step on CPUs, by number format", "",
        "Batches of 4 crops, all cores, the formats in turn, all in channels-last layout. The time "
        "of a round is the shorter of two steps; the table has the median of the rounds. The "
        f"recipe `auto` takes bfloat16 where a step is {PAYS:g} times as fast.", "",
        "| network | crop, px | float32, s | bfloat16, s | times as fast |",
        "|---|---|---|---|---|",
        *(
            f"| {label} | {ARMS[label][3]} | {median(of['float32']):.2f} | "
            f"{median(of['bfloat16']):.2f} | "
            f"{median(of['float32']) / median(of['bfloat16']):.2f} |"
            for label, of in times.items()
        ), "",
    ]  # fmt: skip
    if dice:
        lines += [
            f"Dice on {TESTED} other images ({COHORT}; nerves within 3 px) after the same steps "
            f"on {TRAINED}:", "",
            "| network | steps | seed | float32 | bfloat16 | minutes, both |",
            "|---|---|---|---|---|---|",
            *(
                f"| {one['label']} | {ARMS[one['label']][4]} | {one['seed']} | "
                f"{one['float32']:.4f} | {one['bfloat16']:.4f} | {one['minutes']:.1f} |"
                for one in dice
            ), "",
        ]  # fmt: skip
    return [*lines, f"`python -m benchmarks.speed.{NAME}`. {machine()}. {versions('torch')}."]


def main() -> None:
    """Measure, print and write ``results/training_step.md``."""
    parser = argparse.ArgumentParser(description=__doc__)
    home = Path(os.environ.get("SKINRAY_REAL_DATA", REAL_DATA))
    parser.add_argument("--data", type=Path, default=home, help="folder of skin_pas_dej/")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()
    if not computes_bfloat16(CPU):
        raise SystemExit("this processor has no instructions for bfloat16: not measured")
    torch.set_num_threads(os.cpu_count() or 1)
    times, dice = {}, []
    with tempfile.TemporaryDirectory(prefix="step-") as folder:
        samples = read_samples(options.data, Path(folder) / "cohort") if options.seeds else []
        for label in ARMS:
            times[label] = step_times(label, options.rounds)
            ratio = median(times[label]["float32"]) / median(times[label]["bfloat16"])
            unit = "times as fast in bfloat16 as in float32"
            figure(NAME, f"training step, {label}", ratio, unit, f">= {ASKED:g}")
        for label in (one for one in ARMS if ARMS[one][4]):
            for seed in range(options.seeds):
                began = time.monotonic()
                run: dict[str, Any] = {"label": label, "seed": seed}
                run |= {name: dice_of(label, name, seed, samples) for name in FORMATS}
                run["minutes"] = (time.monotonic() - began) / 60
                print(run, flush=True)
                dice.append(run)
    write(NAME, page(times, dice))


if __name__ == "__main__":
    main()
