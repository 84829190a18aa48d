"""Crossing stage against a plain scipy and scikit-learn version, on phantoms of 1600x1200.

Run: ``python -m benchmarks.speed.crossing_stage``. Both give the same points, which is checked.
"""

from __future__ import annotations

import argparse
import statistics
import sys

import cv2
import numpy as np
from threadpoolctl import threadpool_limits

from benchmarks.measure import figure, interleaved, machine, median_row, versions, write
from skinray.config.biopsies import PhantomSettings
from skinray.crossings import find_crossings
from skinray.images.phantoms.phantom import make_phantom
from tests.support.plain_crossings import plain_crossings
from tests.support.scenes import blurred

IMAGES, REPEATS, SEED, FLOOR = 6, 18, 40, 3.0


def main() -> None:
    """Measure, print and write ``results/crossing_stage.md``."""
    argparse.ArgumentParser(description=__doc__).parse_args()
    cv2.setNumThreads(1)
    phantoms = [make_phantom(PhantomSettings(), SEED, index) for index in range(IMAGES)]
    inputs = {
        "masks": [(p.nerve_label, p.dermis_label) for p in phantoms],
        "probabilities": [
            (blurred(p.nerve_label, seed, 0.15), blurred(p.dermis_label, seed, 0.2))
            for seed, p in enumerate(phantoms)
        ],
    }
    lines = [
        "# Crossing stage against the plain version",
        "",
        f"{IMAGES} phantoms of 1600x1200 px, from nerve and dermis maps to crossings. The plain",
        "version is `tests/support/plain_crossings.py` (scipy, scikit-learn). One thread, CPU",
        "time, the two in turn on the same image.",
        "",
        f"Machine: {machine()}. {versions('numpy', 'opencv-python', 'scipy', 'scikit-learn')}.",
    ]
    with threadpool_limits(limits=1):
        for kind, maps in inputs.items():
            lines += compare(kind, maps)
    write("crossing_stage", lines)


def compare(kind: str, maps: list[tuple[np.ndarray, np.ndarray]]) -> list[str]:
    """Check that both versions find the same points, then time them."""
    crossings = 0
    for nerve, dermis in maps:
        found = find_crossings(nerve, dermis).points
        if not np.array_equal(found, plain_crossings(nerve, dermis)):
            sys.exit(f"{kind}: the two versions disagree, so their times mean nothing")
        crossings += len(found)
    times = interleaved(
        {
            "plain": lambda i: plain_crossings(*maps[i % IMAGES]),
            "skinray": lambda i: find_crossings(*maps[i % IMAGES]),
        },
        REPEATS,
    )
    ratio = statistics.median(times["plain"]) / statistics.median(times["skinray"])
    unit = "times as fast as scipy and scikit-learn"
    figure("crossing_stage", f"crossings, {kind}", ratio, unit, f">= {FLOOR:g}")
    return [
        "",
        f"## {kind.capitalize()}",
        "",
        "| version | median ms | quartiles | repeats |",
        "|---|---|---|---|",
        median_row("plain: points", times["plain"]),
        median_row("skinray: points, boundary and its length", times["skinray"]),
        "",
        f"Ratio of medians: **{ratio:.1f}** (asked: {FLOOR:.0f}; "
        f"{'met' if ratio >= FLOOR else 'NOT met'}). "
        f"{crossings} crossings, identical in all {IMAGES} images.",
    ]


if __name__ == "__main__":
    main()
