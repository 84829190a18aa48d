"""Actors that do all stages, fed by Ray Data's pool or by the driver, with 2 and 8 CPUs.

Run: ``python -m benchmarks.speed.score_feeding``. The networks are replaced by a wait, so that two
cores can simulate eight: what remains is reading, counting and committing small images, and Ray.
Each run has its own process and its own Ray; the two ways take turns.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from io import StringIO
from pathlib import Path
from typing import Any

import cv2

from benchmarks.measure import machine, versions, write
from benchmarks.process_tree import tree_cpu_seconds
from benchmarks.speed.scaling import WAIT_S, wait_for_networks
from benchmarks.stand_in import drawn_image, stand_in_bundle

ROOT, SIZE, IMAGES_PER_PART = Path(__file__).parents[2], (96, 128), 2
FEEDS = ("actors", "Ray Data")
RUN = "import sys; from benchmarks.speed.score_feeding import one_run; one_run(*sys.argv[1:])"


@dataclass(frozen=True)
class Run:
    """One run of scoring: from its start to the first images, and after that.

    Attributes
    ----------
    first_s : from Ray's start to the first commit, including the actors' start.
    images_per_s : from the first commit to the last.
    cpu_s : of all processes, per image, over the same time.
    cores : the same per second: what feeding and the small rest keep busy.
    """

    first_s: float
    images_per_s: float
    cpu_s: float
    cores: float


def main() -> None:
    """Measure, print and write ``results/score_feeding.md``."""
    options = arguments()
    before = machine()
    found: dict[tuple[int, str], list[Run]] = {}
    with tempfile.TemporaryDirectory(prefix="feeding-") as scratch:
        for turn in range(options.rounds):
            for cpus in options.cpus:
                for feed in FEEDS:
                    run = started(feed, cpus, cpus * options.images, Path(scratch), turn)
                    found.setdefault((cpus, feed), []).append(run)
                    print(f"round {turn + 1}, {cpus} CPUs, {feed}: {run}", flush=True)
    write("score_feeding", lines(found, options, f"Before: {before}. After: {machine()}."))


def arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Return the command line's options."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=40, help="for each actor")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--cpus", type=int, nargs="+", default=[2, 8])
    return parser.parse_args(argv)


def started(feed: str, cpus: int, images: int, scratch: Path, turn: int) -> Run:
    """Measure one run in its own process."""
    folder = scratch / f"images-{images}"
    if not folder.is_dir():
        folder.mkdir()
        for at in range(images):
            pixels = drawn_image(at, SIZE, nerves=at % 5)
            cv2.imwrite(str(folder / f"{at:04d}.png"), pixels[..., ::-1])
    out = scratch / f"out-{turn}-{cpus}-{feed.replace(' ', '')}"
    told = out.with_suffix(".json")
    # Workers must find this module, by which the wait comes to them.
    env = {k: v for k, v in os.environ.items() if k != "RAY_ADDRESS"} | {"PYTHONPATH": str(ROOT)}
    subprocess.run(
        [sys.executable, "-c", RUN, feed, str(cpus), str(folder), str(out), str(told)],
        env=env, check=True, timeout=900,
    )  # fmt: skip
    return Run(**json.loads(told.read_text(encoding="utf-8")))


def one_run(feed: str, cpus: str, images: str, out: str, told: str) -> None:
    """Score the images and write a :class:`Run`; the process serves this run only."""
    import ray
    from rich.console import Console

    from skinray.cluster.score import pipeline
    from skinray.cluster.score.run import score
    from skinray.config.scoring import ScoreSettings

    if feed == "Ray Data":
        pipeline._fused = through_data
    count, marks = len(list(Path(images).iterdir())), list[tuple[int, float, float]]()
    plain = pipeline.Pace.add

    def noted(pace: Any, done: int) -> None:
        plain(pace, done)
        if not marks or pace.done == count:
            marks.append((pace.done, time.monotonic(), tree_cpu_seconds()))

    pipeline.Pace.add = noted  # type: ignore[method-assign]
    # One more than actors, for both: Ray Data reads the numbers of the batches in tasks.
    ray.init(
        address="local", num_cpus=int(cpus) + 1, log_to_driver=False,
        object_store_memory=200_000_000, _node_ip_address="127.0.0.1",
        runtime_env={"worker_process_setup_hook": wait_for_networks},
    )  # fmt: skip
    began, said = time.monotonic(), StringIO()
    settings = ScoreSettings(
        layout="fused", images_per_part=IMAGES_PER_PART, overlays=False, um_per_px=0.5
    ).override({"fused.actors": int(cpus)})
    bundle = stand_in_bundle(Path(out).with_suffix(".bundle"))
    totals = score(bundle, images, Path(out), settings, console=Console(file=said))
    ray.shutdown()
    if totals.scored != count or len(marks) != 2:
        raise RuntimeError(f"{totals.scored} of {count} images were scored: {said.getvalue()}")
    (first, first_at, first_cpu), (last, last_at, last_cpu) = marks
    took, used = last_at - first_at, last_cpu - first_cpu
    run = Run(first_at - began, (last - first) / took, used / (last - first), used / took)
    Path(told).write_text(json.dumps(asdict(run)), encoding="utf-8")


def through_data(job: Any, claims: Any, pools: Any, batches: int) -> Iterator[int]:
    """Score with a pool of Ray Data, in the place of actors that the driver feeds."""
    import ray.data

    from skinray.cluster.score.pipeline import _resources, quiet_data
    from skinray.cluster.score.stages import Scorer

    class Fed(Scorer):
        def __call__(self, numbers: dict[str, Any]) -> dict[str, Any]:
            return {"done": [self.score(int(number)) for number in numbers["id"]]}

    data = ray.data.range(batches, override_num_blocks=batches).map_batches(
        Fed, fn_constructor_args=(job, claims), batch_size=1, **_resources(pools.actors[0])
    )
    with quiet_data():
        for block in data.iter_batches(batch_size=None, batch_format="numpy", prefetch_batches=0):
            yield int(block["done"].sum())


def lines(found: dict[tuple[int, str], list[Run]], options: Any, when: str) -> list[str]:
    """Return the lines of the result."""
    told = [
        "# Who feeds the actors that score: the driver, or Ray Data's pool",
        "",
        f"As many actors as CPUs, {options.images} images of {SIZE[1]}x{SIZE[0]} px for each, "
        f"{IMAGES_PER_PART} in a batch. Networks are a wait of {WAIT_S:g} s per image, so that "
        "more actors than cores do not compete for the processor; the maximum is "
        f"{1 / WAIT_S:g} images/s per actor. *Cores*: CPU time of all processes per second, "
        "after the start. Medians of the rounds, lowest and highest.",
        "",
        f"{when} {versions('ray')}. Rounds: {options.rounds}.",
        "",
        "| CPUs | fed by | images/s | of maximum | CPU ms per image | cores | first images after |",
        "|---|---|---|---|---|---|---|",
    ]
    for (cpus, feed), runs in found.items():
        rates, cpu, cores, first = zip(
            *((r.images_per_s, 1e3 * r.cpu_s, r.cores, r.first_s) for r in runs), strict=True
        )
        share = 100 * statistics.median(rates) * WAIT_S / cpus
        told.append(
            f"| {cpus} | {feed} | {spread(rates, 2)} | {share:.0f} % | {spread(cpu, 0)} | "
            f"{spread(cores, 3)} | {spread(first, 1)} s |"
        )
    return told


def spread(values: Sequence[float], digits: int) -> str:
    """Return median, lowest and highest."""
    middle, low, high = statistics.median(values), min(values), max(values)
    return f"{middle:.{digits}f} ({low:.{digits}f} - {high:.{digits}f})"


if __name__ == "__main__":
    main()
