"""Peak memory of scoring a small and a ten times larger cohort: it must not grow.

Run: ``python -m benchmarks.speed.score_memory``. Each run is ``skinray score`` in its own process,
with its own Ray, a bundle of stand-in networks and small drawn images.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import pyarrow.parquet as pq

from benchmarks.measure import machine, versions, write
from benchmarks.process_tree import Memory, tree_memory
from benchmarks.stand_in import drawn_image, stand_in_bundle

ALLOWED, POLL_S = 1.2, 0.5
SIZES = (200, 2000)


@dataclass(frozen=True)
class Run:
    """What one run held at most, and for how long it ran."""

    peak: Memory
    seconds: float


def main() -> None:
    """Measure, print and write ``results/score_memory.md``."""
    options = arguments()
    runs: dict[int, list[Run]] = {size: [] for size in options.sizes}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        bundle = stand_in_bundle(folder / "bundle")
        for size in options.sizes:
            draw(folder / str(size), size)
        for turn in range(options.rounds):
            # Every second round runs the other way round: neither size always comes first.
            for size in sorted(runs, reverse=bool(turn % 2)):
                run = measure(bundle, folder / str(size), folder / f"out-{size}-{turn}", size)
                runs[size].append(run)
                print(
                    f"round {turn + 1}, {size} images: peak PSS {mib(run.peak.pss)} MiB, "
                    f"RSS {mib(run.peak.rss)} MiB, {run.seconds:.0f} s",
                    flush=True,
                )
    write("score_memory", lines(runs))


def arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Return the command line's options."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--sizes", type=int, nargs=2, default=SIZES, help="small and large")
    return parser.parse_args(argv)


def draw(folder: Path, images: int) -> None:
    """Draw distinct images of 128x96 px; none is a copy of another."""
    folder.mkdir()
    for number in range(images):
        cv2.imwrite(str(folder / f"{number:05d}.png"), drawn_image(number)[..., ::-1])


def measure(bundle: Path, images: Path, out: Path, size: int) -> Run:
    """Score the images and watch the whole tree of processes."""
    began, peak = time.monotonic(), Memory()
    command = [sys.executable, "-c", "from skinray.cli import main; main()", "score"]
    command += ["--bundle", str(bundle), "--images", str(images), "--out", str(out)]
    with (out.with_suffix(".log")).open("w") as log:
        job = subprocess.Popen(command, stdout=log, stderr=log)
        while job.poll() is None:
            now = tree_memory(job.pid)
            peak = Memory(max(peak.rss, now.rss), max(peak.pss, now.pss))
            time.sleep(POLL_S)
    if job.returncode:
        sys.exit(f"scoring ended with {job.returncode}:\n{out.with_suffix('.log').read_text()}")
    rows = pq.read_table(out / "counts.parquet", columns=["status", "count"])
    if rows["count"].to_pylist() != [2] * size:
        sys.exit("not every image has the two crossings it was drawn with")
    return Run(peak, time.monotonic() - began)


def lines(runs: dict[int, list[Run]]) -> list[str]:
    """Return the lines of the result."""
    small, large = sorted(runs)
    rounds = len(runs[small])
    found = [
        "# Peak memory of scoring, and the size of the cohort",
        "",
        "`skinray score` with stand-in networks over distinct drawn images of 128x96 px, overlays,",
        "tables and report included: the most that the driver, Ray's own processes and the workers",
        f"held together, looked at every {POLL_S:g} s. PSS deals shared pages out among those who",
        "share them, so that no page counts twice; RSS counts them each time. Each run had all its",
        "images scored, with the crossings they were drawn with.",
        "",
        f"Machine: {machine()}. {versions('torch', 'ray', 'pyarrow')}. Rounds: {rounds}.",
        "",
        f"| Peak, MiB | {small} images | {large} images | ratio: median of rounds | lowest and "
        "highest |",
        "|---|---|---|---|---|",
    ]  # fmt: skip
    for name in ("pss", "rss"):
        few, many = ([getattr(run.peak, name) for run in runs[size]] for size in (small, large))
        ratios = [b / a for a, b in zip(few, many, strict=True)]
        ratio = statistics.median(ratios)
        verdict = "met" if ratio <= ALLOWED else "NOT met"
        found.append(
            f"| {name.upper()} | {mib(statistics.median(few))} | {mib(statistics.median(many))} "
            f"| **{ratio:.3f}** (asked: at most {ALLOWED:g}; {verdict}) "
            f"| {min(ratios):.3f} - {max(ratios):.3f} |"
        )
    took = [statistics.median(run.seconds for run in runs[size]) for size in (small, large)]
    found += ["", f"The runs took {took[0]:.0f} and {took[1]:.0f} s, Ray's start included."]
    return found


def mib(size: float) -> str:
    """Show bytes in MiB."""
    return f"{size / 2**20:.0f}"


if __name__ == "__main__":
    main()
