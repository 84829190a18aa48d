"""Images per second of scoring, against the two networks' bare forward passes on the same cores.

Run: ``python -m benchmarks.speed.score_efficiency``. The networks are the paper's, with random
weights. Scoring reads, predicts, counts, draws and commits. The forward passes start from ready
tensors. Both compute by ``--backend``; a second scoring computes in float32, for comparison.
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

from benchmarks.measure import figure, machine, versions, write
from benchmarks.process_tree import tree_cpu_seconds
from benchmarks.stand_in import bundle_of
from skinray.cluster.malloc import keep_freed_memory
from skinray.config.biopsies import CrossingSettings, PhantomSettings
from skinray.config.scoring import BackendName
from skinray.config.training import ModelSettings
from skinray.crossings.detect import CrossingsRecord
from skinray.images.phantoms.phantom import make_phantom
from skinray.images.read import read_image
from skinray.learning.bundle import load, save
from skinray.models.backends import BACKENDS, REFERENCE
from skinray.models.compute import computes_bfloat16

ASKED, GAIN, SIZE, UM_PER_PX = 0.95, 3.0, (512, 384), 0.5
NETWORKS = {"paper": ("hed", "deeplabv3_resnet101"), "tiny": ("unet", "unet")}
TINY = {"features": 4, "depth": 3}
NICENESS = "RAY_worker_niceness"
# Processes and threads of each: all of the two cores, either way.
SHAPES = ((1, 2), (2, 1))
MOST_PROCESSES = max(processes for processes, _ in SHAPES)
CHECKED, POLL_S = 4, 1.0  # looking more often would take a part of the cores itself


@dataclass(frozen=True)
class Pace:
    """Images per second, and CPU seconds per image, after the start."""

    images_per_s: float
    cpu_s: float


@dataclass
class Rounds:
    """What each round gave; and what scoring took before its first image."""

    score: list[Pace] = field(default_factory=list)
    start_s: list[float] = field(default_factory=list)
    bare: dict[tuple[int, int], list[Pace]] = field(default_factory=dict)
    reference: list[Pace] = field(default_factory=list)

    def gain(self) -> float:
        """Return the images/s of scoring over those in float32; median of the rounds."""
        pairs = zip(self.score, self.reference, strict=True)
        return statistics.median(mine.images_per_s / slow.images_per_s for mine, slow in pairs)

    def ratios(self) -> list[tuple[float, float]]:
        """Return scoring over the faster of the passes, round by round: images/s, and 1 / CPU."""
        best = [
            max(two, key=lambda p: p.images_per_s) for two in zip(*self.bare.values(), strict=True)
        ]
        return [
            (mine.images_per_s / bare.images_per_s, bare.cpu_s / mine.cpu_s)
            for mine, bare in zip(self.score, best, strict=True)
        ]


def main() -> None:
    """Measure, print and write ``results/score_efficiency.md``."""
    options = arguments()
    # Ray gives its workers niceness 15, so other processes would slow down its side only.
    os.environ[NICENESS] = "0"
    rounds = Rounds(bare={shape: [] for shape in SHAPES})
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        draw(folder / "images", options.images)
        bundle = counting_bundle(folder, options.networks)
        for turn in range(options.rounds):
            out = folder / f"out-{turn}"
            began = time.time()
            cpu = score(bundle, folder / "images", out, options.backend)
            if turn == 0:
                check(bundle, folder / "images", out, options.backend)
            ends = finished(out)
            rounds.score.append(Pace(steady_rate(ends), cpu_an_image(cpu)))
            rounds.start_s.append(min(end for _, end in ends) - began)
            for shape, found in rounds.bare.items():
                found.append(bare_pace(bundle, folder / "images", shape, options.backend))
            if options.backend != REFERENCE:
                out = folder / f"reference-{turn}"
                cpu = score(bundle, folder / "images", out, REFERENCE)
                rounds.reference.append(Pace(steady_rate(finished(out)), cpu_an_image(cpu)))
            print(f"round {turn + 1}: {rounds}", flush=True)
    if options.networks == "paper":
        keep_figures(rounds, options.backend)
    write("score_efficiency", lines(rounds, options))


def keep_figures(rounds: Rounds, backend: BackendName) -> None:
    """Record what the page of speeds shows."""
    speed = statistics.median(ratio for ratio, _ in rounds.ratios())
    unit = "of the images/s of bare forward passes"
    figure("score_efficiency", "skinray score", speed, unit, f">= {ASKED:g}")
    first = statistics.median(rounds.start_s)
    figure("score_efficiency", "skinray score, to the first image", first, "s")
    if rounds.reference:
        unit = f"times the images/s of float32, by {backend}"
        figure("score_efficiency", "skinray score, backend", rounds.gain(), unit, f">= {GAIN:g}")


def arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Return the command line's options."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--images", type=int, default=32)
    parser.add_argument("--networks", choices=list(NETWORKS), default="paper")
    usual = "openvino_bfloat16" if computes_bfloat16(torch.device("cpu")) else "openvino"
    parser.add_argument("--backend", choices=list(BACKENDS), default=usual)
    return parser.parse_args(argv)


def draw(folder: Path, images: int) -> None:
    """Draw phantoms of 512x384 px, as PNG."""
    folder.mkdir()
    for number in range(images):
        image = make_phantom(PhantomSettings(), 0, number, SIZE).image
        cv2.imwrite(str(folder / f"{number:04d}.png"), image[..., ::-1])


def counting_bundle(folder: Path, networks: str) -> Path:
    """Write a bundle of random weights that finds something.

    Batch norms take the statistics of two images: deep random networks would saturate. The
    thresholds are within the maps' range.
    """
    options = TINY if networks == "tiny" else {}
    torch.manual_seed(0)
    nerve, dermis = (ModelSettings(name=name, options=options) for name in NETWORKS[networks])
    plain = bundle_of(folder / "bundle", nerve, dermis, UM_PER_PX)
    found = load(plain, "cpu")
    images = [read_image(path).pixels for path in sorted((folder / "images").iterdir())[:2]]
    pixels = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).float() / 255
    pair = [stage.networks[0] for stage in found.stages.values()]
    for network in pair:
        for layer in network.modules():
            if isinstance(layer, torch.nn.BatchNorm2d):
                layer.reset_running_stats()
                layer.momentum = None
        with torch.no_grad():
            network.train()(pixels)
        network.eval()
    maps = tuple(found.maps(images[0]).values())
    crossings = CrossingSettings(
        nerve_threshold=float(np.quantile(maps[0], 0.9)), dermis_threshold=float(np.median(maps[1]))
    )
    info = found.info.model_copy(update={"crossings": crossings, "sha256": {}})
    return save(folder / "bundle", info, dict(zip(("nerve", "dermis"), pair, strict=True)))


def score(bundle: Path, images: Path, out: Path, backend: BackendName) -> list[tuple[int, float]]:
    """Run ``skinray score``, one image a part: each image's end can then be read off its part.

    Returns
    -------
    CPU seconds of all its processes, each time that more images are committed.
    """
    command = [sys.executable, "-c", "from skinray.cli import main; main()", "score"]
    command += ["--bundle", str(bundle), "--images", str(images), "--out", str(out)]
    command += ["--um-per-px", str(UM_PER_PX), "--set", "images_per_part=1"]
    command += ["--set", f"backend={backend}"]
    log, cpu = out.with_suffix(".log"), [(0, 0.0)]
    with log.open("w") as said:
        job = subprocess.Popen(command, stdout=said, stderr=said)
        while job.poll() is None:
            time.sleep(POLL_S)
            done = len(list((out / "parts").glob("[!.]*.parquet")))
            if done > cpu[-1][0]:
                cpu.append((done, tree_cpu_seconds(job.pid)))
    if job.returncode:
        sys.exit(f"scoring ended with {job.returncode}:\n{log.read_text()}")
    return cpu


def cpu_an_image(cpu: Sequence[tuple[int, float]]) -> float:
    """Return CPU seconds per image, without the start and the last image, which one does alone."""
    among = [(done, used) for done, used in cpu if MOST_PROCESSES <= done < cpu[-1][0]]
    if len(among) < 2:
        sys.exit("too few images for a steady rate: give more --images")
    (first, before), (last, after) = among[0], among[-1]
    return (after - before) / (last - first)


def check(bundle: Path, images: Path, out: Path, backend: BackendName) -> None:
    """End if scoring and the library count differently."""
    rows = pq.read_table(out / "counts.parquet").to_pylist()
    if [row["status"] for row in rows] != ["ok"] * len(list(images.iterdir())):
        sys.exit("not every image was scored")
    # As in the scoring workers: another number of threads adds up in another order.
    torch.set_num_threads(1)
    loaded = load(bundle, "cpu", backend)
    for row in rows[:CHECKED]:
        image = read_image(images / row["image"])
        count = CrossingsRecord.of(loaded.predict(image.pixels, UM_PER_PX).crossings, UM_PER_PX)
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
    """Return images per second while all processes are at work: the sum of their rates.

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


def bare_pace(bundle: Path, images: Path, shape: tuple[int, int], backend: BackendName) -> Pace:
    """Return the pace of both networks' forward passes alone."""
    processes, threads = shape
    paths = sorted(images.iterdir())
    spawn = multiprocessing.get_context("spawn")
    barrier, ends = spawn.Barrier(processes), spawn.Queue()
    workers = [
        spawn.Process(
            target=bare_worker, args=(bundle, paths[n::processes], threads, barrier, ends, backend)
        )
        for n in range(processes)
    ]
    for worker in workers:
        worker.start()
    found = [ends.get() for _ in workers]
    for worker in workers:
        worker.join()
    used = sum(cpu for cpu, _ in found) / len(paths)
    return Pace(steady_rate([end for _, done in found for end in done]), used)


def bare_worker(
    bundle: Path,
    paths: Sequence[Path],
    threads: int,
    barrier: object,
    ends: object,
    backend: BackendName,
) -> None:
    """Send both networks' forward passes over the images; put who ended each image, and when."""
    keep_freed_memory()  # as scoring's processes do
    torch.set_num_threads(threads)
    loaded = load(bundle, "cpu", backend)
    networks = (loaded.stages["nerve"].networks[0], loaded.stages["dermis"].networks[0])
    tensors = [
        torch.from_numpy(read_image(path).pixels.copy()[None]).permute(0, 3, 1, 2).float() / 255
        for path in paths
    ]
    done = []
    with torch.inference_mode():
        for network in networks:
            network(tensors[0])
        barrier.wait()  # type: ignore[attr-defined]
        began = time.process_time()
        for tensor in tensors:
            for network in networks:
                network(tensor)
            done.append((str(os.getpid()), time.time()))
    ends.put((time.process_time() - began, done))  # type: ignore[attr-defined]


def lines(rounds: Rounds, options: argparse.Namespace) -> list[str]:
    """Return the lines of the result."""
    speed, cpu = zip(*rounds.ratios(), strict=True)
    verdict = "met" if statistics.median(speed) >= ASKED else "NOT met"
    names = " and ".join(NETWORKS[options.networks])
    found = [
        "# Scoring against the networks' bare forward passes",
        "",
        f"{options.images} drawn images of {SIZE[0]}x{SIZE[1]} px; {names}, random weights,",
        f"computed by `{options.backend}`.",
        "Scoring reads and decodes the files, predicts, counts, draws and commits, by",
        "`skinray score` with its defaults but for one image a part. The forward passes begin with",
        "ready tensors in memory, in one process of two threads or two of one; the faster of the",
        "two is the yardstick, round by round. Images a second are of the time in which all",
        "processes are at work, without each one's first image. All processes have the same",
        "niceness, and keep the memory they free. Counts and lengths of boundary of",
        f"{min(CHECKED, options.images)} images were the library's own.",
        "",
        f"Machine: {machine()}. {versions('torch', 'ray')}. Rounds: {options.rounds}.",
        "",
        "| | images/s: median of rounds | lowest and highest | CPU s an image |",
        "|---|---|---|---|",
        row("`skinray score`", rounds.score),
    ]
    if rounds.reference:
        found.append(row("`skinray score`, float32 in torch", rounds.reference))
    for (processes, threads), values in rounds.bare.items():
        who = f"{processes} process{'es' * (processes > 1)}"
        found.append(row(f"bare passes, {who} x {threads} thread{'s' * (threads > 1)}", values))
    gain = []
    if rounds.reference:
        kept = "met" if rounds.gain() >= GAIN else "NOT met"
        gain = [
            f"Images/s against float32 in torch: **{rounds.gain():.2f}** times (asked: at least "
            f"{GAIN:g}; {kept}). Random weights say nothing about the gate, so it is not asked.",
        ]
    return [
        *found,
        "",
        *gain,
        f"Ratio of images/s to bare passes: **{statistics.median(speed):.3f}** (asked: at least "
        f"{ASKED:g}; {verdict}), {min(speed):.3f} - {max(speed):.3f} over the rounds.",
        f"Ratio of CPU, bare passes over scoring: {statistics.median(cpu):.3f}, {min(cpu):.3f} - "
        f"{max(cpu):.3f}; Ray's own processes are in it. Beside other work it is the steadier.",
        f"From the command to the first image: {statistics.median(rounds.start_s):.0f} s.",
    ]


def row(name: str, values: Sequence[Pace]) -> str:
    """Return a table row."""
    speed = [pace.images_per_s for pace in values]
    cpu = statistics.median(pace.cpu_s for pace in values)
    middle = statistics.median(speed)
    return f"| {name} | {middle:.3f} | {min(speed):.3f} - {max(speed):.3f} | {cpu:.2f} |"


if __name__ == "__main__":
    main()
