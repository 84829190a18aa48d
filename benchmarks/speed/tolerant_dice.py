"""Tolerant Dice against scipy's distance transform, on masks of 1600x1200.

Run: ``python -m benchmarks.speed.tolerant_dice``. Both give the same scores, which is checked.
"""

from __future__ import annotations

import argparse
import statistics
import sys

import cv2
import numpy as np
from scipy.ndimage import distance_transform_edt

from benchmarks.measure import figure, interleaved, machine, median_row, versions, write
from skinray.config.biopsies import PhantomSettings
from skinray.images.phantoms.phantom import make_phantom
from skinray.learning.metrics import tolerant_dice

IMAGES, REPEATS, SEED, FLOOR = 6, 24, 40, 20.0
TOLERANCES = (1, 3)


def main() -> None:
    """Measure, print and write ``results/tolerant_dice.md``."""
    argparse.ArgumentParser(description=__doc__).parse_args()
    cv2.setNumThreads(1)
    pairs = [masks(index) for index in range(IMAGES)]
    lines = [
        "# Tolerant Dice against a distance transform",
        "",
        f"{IMAGES} phantoms of 1600x1200 px: traced nerves against the same moved by (2, 1) px",
        "and speckled. The other version takes `scipy.ndimage.distance_transform_edt` of what is",
        "not traced and compares it with k. One thread, CPU time, the two in turn on the same",
        "masks. The scores were equal.",
        "",
        f"Machine: {machine()}. {versions('numpy', 'opencv-python', 'scipy')}.",
    ]
    slow = False
    for k in TOLERANCES:
        text, ratio = compare(k, pairs)
        lines += text
        slow |= ratio < FLOOR
    write("tolerant_dice", lines)
    if slow:
        sys.exit(f"slower than {FLOOR:.0f} times the distance transform")


def masks(index: int) -> tuple[np.ndarray, np.ndarray]:
    """Return a prediction and a truth, (1200, 1600) bool."""
    truth = make_phantom(PhantomSettings(), SEED, index).nerve_label
    speckle = np.random.default_rng(index).random(truth.shape) < 1e-3
    return np.roll(truth, (2, 1), axis=(0, 1)) ^ speckle, truth


def by_distance(pred: np.ndarray, truth: np.ndarray, k: float) -> float:
    """Return the tolerant Dice as the paper's formula reads."""
    near = pred & (distance_transform_edt(~truth) <= k)
    return float(near.sum() / ((pred.sum() + (truth | near).sum()) / 2))


def compare(k: int, pairs: list[tuple[np.ndarray, np.ndarray]]) -> tuple[list[str], float]:
    """Check that the scores are equal, time both, and return lines and the ratio."""
    for pred, truth in pairs:
        if abs(tolerant_dice(pred, truth, k) - by_distance(pred, truth, k)) > 1e-12:
            sys.exit(f"k = {k}: the two versions disagree, so their times mean nothing")
    times = interleaved(
        {
            "scipy": lambda repeat: by_distance(*pairs[repeat % IMAGES], k),
            "skinray": lambda repeat: tolerant_dice(*pairs[repeat % IMAGES], k),
        },
        REPEATS,
    )
    ratio = statistics.median(times["scipy"]) / statistics.median(times["skinray"])
    unit = "times as fast as a distance transform"
    figure("tolerant_dice", f"tolerant Dice, k = {k}", ratio, unit, f">= {FLOOR:g}")
    lines = [
        "",
        f"## k = {k}",
        "",
        "| version | median ms | quartiles | repeats |",
        "|---|---|---|---|",
        *(median_row(name, values) for name, values in times.items()),
        "",
        f"skinray is {ratio:.0f} times as fast (asked for: {FLOOR:.0f}).",
    ]
    return lines, ratio


if __name__ == "__main__":
    main()
