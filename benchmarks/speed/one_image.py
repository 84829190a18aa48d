"""``skinray count`` of one 1600x1200 image against the time of its imports and forward passes.

Run: ``python -m benchmarks.speed.one_image``. Both start a new Python, in turn.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import cv2

from benchmarks.measure import figure, machine, versions, write
from skinray.config.biopsies import PhantomSettings
from skinray.images.phantoms.phantom import make_phantom

NAME = "one_image"
SIZE, UM_PER_PX, ASKED_S = (1200, 1600), 0.5, 1.5
COUNT = (sys.executable, "-c", "from skinray.cli import main; main()", "count")
# The least that any program needs for the same maps: the libraries, and each network once.
BARE = """
import sys
import torch
from skinray.images.read import read_image
from skinray.learning.bundle import load
from skinray.files import STARTER
bundle, image = load(STARTER), read_image(sys.argv[1])
bundle.maps(image.pixels, 0.5)
"""


def taken(command: Sequence[str]) -> float:
    """Run a command and return its seconds; its error ends the benchmark."""
    began = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{command}: {done.stderr}")
    return time.perf_counter() - began


def main() -> None:
    """Measure, print and write ``results/one_image.md``."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        image = str(Path(folder) / "image.png")
        drawn = make_phantom(PhantomSettings(), 0, 0, (SIZE[1], SIZE[0])).image
        cv2.imwrite(image, drawn[..., ::-1])
        commands = {
            "`skinray count`": [*COUNT, image, "--um-per-px", str(UM_PER_PX)],
            "imports, file and forward passes": [sys.executable, "-c", BARE, image],
        }
        times: dict[str, list[float]] = {name: [] for name in commands}
        for _ in range(options.rounds):
            for name, command in commands.items():
                times[name].append(taken(command))
    whole, bare = (statistics.median(values) for values in times.values())
    figure(NAME, "skinray count, beyond imports and passes", whole - bare, "s", f"<= {ASKED_S:g}")
    figure(NAME, "skinray count, 1600x1200, from the command to the count", whole, "s")
    met = "met" if whole - bare <= ASKED_S else "NOT met"
    write(NAME, [
        "# One image without Ray", "",
        f"`skinray count` of a drawn biopsy of {SIZE[1]}x{SIZE[0]} px with the starter, against a "
        "script that imports the same libraries, reads the file and computes both maps. New "
        f"processes, in turn, {options.rounds} rounds. Asked: at most {ASKED_S:g} s more; it is "
        f"**{whole - bare:.2f} s** ({met}).", "",
        "| command | median s | lowest and highest |", "|---|---|---|",
        *(
            f"| {name} | {statistics.median(values):.2f} | {min(values):.2f} to {max(values):.2f} |"
            for name, values in times.items()
        ), "",
        f"Machine: {machine()}. {versions('torch', 'opencv-python')}.",
    ])  # fmt: skip


if __name__ == "__main__":
    main()
