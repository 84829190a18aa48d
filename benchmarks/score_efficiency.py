"""Images a second of scoring, against the two networks' bare forward passes on the same cores.

Run: ``python benchmarks/score_efficiency.py``. The networks are the paper's, with random weights;
scoring reads, predicts, counts, draws and commits; the forward passes start from ready tensors.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
import pyarrow.parquet as pq
import torch
from measure import machine, versions, write
from stand_in import bundle_of

from skinray.config import CrossingSettings, ModelSettings, PhantomSettings
from skinray.images.phantom import make_phantom
from skinray.images.read import read_image
from skinray.learning.bundle import load, save
from skinray.learning.count import Count

ASKED, SIZE, UM_PER_PX = 0.95, (512, 384), 0.5
NETWORKS = {"paper": ("hed", "deeplabv3_resnet101"), "tiny": ("unet", "unet")}
TINY = {"features": 4, "depth": 3}
NICENESS = "RAY_worker_niceness"
# Processes and threads of each: all of the two cores, either way.
SHAPES = ((1, 2), (2, 1))
CHECKED = 4


@dataclass
class Rates:
    """Images a second of each round; and what scoring took before its first image."""

    score: list[float] = field(default_factory=list)
    start_s: list[float] = field(default_factory=list)
    bare: dict[tuple[int, int], list[float]] = field(default_factory=dict)

    def ratios(self) -> list[float]:
        """Return scoring over the faster bare pass, round by round."""
        best = [max(of_round) for of_round in zip(*self.bare.values(), strict=True)]
        return [mine / bare for mine, bare in zip(self.score, best, strict=True)]


def main() -> None:
    """Measure, print and write ``results/score_efficiency.md``."""
    options = arguments()
    # Ray gives its workers niceness 15, so whatever runs beside would slow down its side alone.
    os.environ[NICENESS] = "0"
    rates = Rates(bare={shape: [] for shape in SHAPES})
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        draw(folder / "images", options.images)
        bundle = counting_bundle(folder, options.networks)
        for turn in range(options.rounds):
            out = folder / f"out-{turn}"
            began = time.time()
            score(bundle, folder / "images", out)
            if turn == 0:
                check(bundle, folder / "images", out)
            rates.score.append(steady_rate(finished(out)))
            rates.start_s.append(min(t for _, t in finished(out)) - began)
            for shape, found in rates.bare.items():
                found.append(bare_rate(bundle, folder / "images", shape))
            print(f"round {turn + 1}: {rates}", flush=True)
    write("score_efficiency", lines(rates, options))


def arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Return the command line's options."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--images", type=int, default=32)
    parser.add_argument("--networks", choices=list(NETWORKS), default="paper")
    return parser.parse_args(argv)


def draw(folder: Path, images: int) -> None:
    """Draw phantoms of 512x384 px, as PNG."""
    folder.mkdir()
    for number in range(images):
        image = make_phantom(PhantomSettings(), 0, number, SIZE).image
        cv2.imwrite(str(folder / f"{number:04d}.png"), image[..., ::-1])


def counting_bundle(folder: Path, networks: str) -> Path:
    """Write a bundle of random weights that finds something.

    Batch norms take the statistics of two images, or deep random networks would saturate; the
    thresholds lie within the maps.
    """
    options = TINY if networks == "tiny" else {}
    torch.manual_seed(0)
    nerve, dermis = (ModelSettings(name=name, options=options) for name in NETWORKS[networks])
    found = load(bundle_of(folder / "bundle", nerve, dermis, UM_PER_PX), "cpu")
    images = [read_image(path).pixels for path in sorted((folder / "images").iterdir())[:2]]
    pixels = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).float() / 255
    pair = [stage.networks[0] for stage in (found.nerve, found.dermis)]
    for network in pair:
        for layer in network.modules():
            if isinstance(layer, torch.nn.BatchNorm2d):
                layer.reset_running_stats()
                layer.momentum = None
        with torch.no_grad():
            network.train()(pixels)
        network.eval()
    maps = found.nerve.map(images[0]), found.dermis.map(images[0])
    crossings = CrossingSettings(
        nerve_threshold=float(np.quantile(maps[0], 0.9)), dermis_threshold=float(np.median(maps[1]))
    )
    info = found.info.model_copy(update={"crossings": crossings, "sha256": {}})
    return save(folder / "bundle", info, *pair)


def score(bundle: Path, images: Path, out: Path) -> None:
    """Run ``skinray score``, one image a part: each image's end can then be read off its part."""
    command = [sys.executable, "-c", "from skinray.cli import main; main()", "score"]
    command += ["--bundle", str(bundle), "--images", str(images), "--out", str(out)]
    command += ["--um-per-px", str(UM_PER_PX), "--set", "images_per_part=1"]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    if found.returncode:
        sys.exit(f"scoring ended with {found.returncode}:\n{found.stdout}{found.stderr}")


def check(bundle: Path, images: Path, out: Path) -> None:
    """End if scoring and the library do not count alike."""
    rows = pq.read_table(out / "counts.parquet").to_pylist()
    if [row["status"] for row in rows] != ["ok"] * len(list(images.iterdir())):
        sys.exit("not every image was scored")
    loaded = load(bundle, "cpu")
    for row in rows[:CHECKED]:
        image = read_image(images / row["image"])
        count = Count.of(loaded.predict(image.pixels, UM_PER_PX).crossings, UM_PER_PX)
        if (count.count, count.boundary_px) != (row["count"], row["boundary_px"]):
            sys.exit(f"{row['image']}: scoring and the library differ: {row}, {count}")


def finished(out: Path) -> list[tuple[str, float]]:
    """Return for each image which process scored it and when its part was committed."""
    who = {
        image: log.stem for log in (out / "computed").glob("*.log")
        for image in log.read_text().splitlines()
    }  # fmt: skip
    ends = []
    for part in (out / "parts").glob("*.parquet"):
        (image,) = pq.read_table(part, columns=["image"])["image"].to_pylist()
        ends.append((who[image], part.stat().st_mtime))
    return ends


def steady_rate(ends: Sequence[tuple[str, float]]) -> float:
    """Return images a second while all processes are at work, the sum of their own rates.

    Each process's first image, and all after the first of them has finished, are left out.
    """
    by_process: dict[str, list[float]] = {}
    for process, end in sorted(ends, key=lambda item: item[1]):
        by_process.setdefault(process, []).append(end)
    over = min(times[-1] for times in by_process.values())
    begun = max(times[0] for times in by_process.values())
    rate = 0.0
    for times in by_process.values():
        busy = [end for end in times if begun <= end <= over]
        if len(busy) < 2:
            sys.exit("too few images for a steady rate: give more --images")
        rate += (len(busy) - 1) / (busy[-1] - busy[0])
    return rate


def bare_rate(bundle: Path, images: Path, shape: tuple[int, int]) -> float:
    """Return images a second of both networks' forward passes alone."""
    processes, threads = shape
    paths = sorted(images.iterdir())
    spawn = multiprocessing.get_context("spawn")
    barrier, ends = spawn.Barrier(processes), spawn.Queue()
    workers = [
        spawn.Process(
            target=bare_worker, args=(bundle, paths[n::processes], threads, barrier, ends)
        )
        for n in range(processes)
    ]
    for worker in workers:
        worker.start()
    found = [item for _ in workers for item in ends.get()]
    for worker in workers:
        worker.join()
    return steady_rate(found)


def bare_worker(
    bundle: Path, paths: Sequence[Path], threads: int, barrier: object, ends: object
) -> None:
    """Send both networks' forward passes over the images; put who ended each image, and when."""
    torch.set_num_threads(threads)
    loaded = load(bundle, "cpu")
    networks = (loaded.nerve.networks[0], loaded.dermis.networks[0])
    tensors = [
        torch.from_numpy(read_image(path).pixels.copy()[None]).permute(0, 3, 1, 2).float() / 255
        for path in paths
    ]
    done = []
    with torch.inference_mode():
        for network in networks:
            network(tensors[0])
        barrier.wait()  # type: ignore[attr-defined]
        for tensor in tensors:
            for network in networks:
                network(tensor)
            done.append((str(os.getpid()), time.time()))
    ends.put(done)  # type: ignore[attr-defined]


def lines(rates: Rates, options: argparse.Namespace) -> list[str]:
    """Return the lines of the result."""
    ratios = rates.ratios()
    ratio = statistics.median(ratios)
    verdict = "met" if ratio >= ASKED else "NOT met"
    names = " and ".join(NETWORKS[options.networks])
    found = [
        "# Scoring against the networks' bare forward passes",
        "",
        f"{options.images} drawn images of {SIZE[0]}x{SIZE[1]} px; {names}, random weights.",
        "Scoring reads and decodes the files, predicts, counts, draws and commits, by",
        "`skinray score` with its defaults but for one image a part. The forward passes begin with",
        "ready tensors in memory, in one process of two threads or two of one; the faster of the",
        "two is the yardstick, round by round. Images a second are of the time in which all",
        "processes are at work, without each one's first image. All processes have the same",
        f"niceness. Counts and lengths of boundary of {min(CHECKED, options.images)} images were",
        "the library's own.",
        "",
        f"Machine: {machine()}. {versions('torch', 'ray')}. {options.rounds} rounds.",
        "",
        "| images/s | median of rounds | lowest and highest |",
        "|---|---|---|",
        row("`skinray score`", rates.score),
    ]  # fmt: skip
    for (processes, threads), values in rates.bare.items():
        found.append(row(f"forward passes, {processes} x {threads} threads", values))
    return [
        *found,
        "",
        f"Ratio: **{ratio:.3f}** (asked: at least {ASKED:g}; {verdict}), "
        f"{min(ratios):.3f} - {max(ratios):.3f} over the rounds.",
        f"From the command to the first image committed: {statistics.median(rates.start_s):.0f} s.",
    ]


def row(name: str, values: Sequence[float]) -> str:
    """Return a table row."""
    middle = statistics.median(values)
    return f"| {name} | {middle:.3f} | {min(values):.3f} - {max(values):.3f} |"


if __name__ == "__main__":
    main()
