"""What Ray Train and Ray Data cost a training step.

Run: ``python -m benchmarks.speed.train_overhead``. All versions train the same networks with the
same loop on the same augmented crops, with 1 and 2 workers. Plain: one process per worker, which
makes its own crops, and PyTorch's DistributedDataParallel over gloo. Train: TorchTrainer, whose
workers make their own crops (``cluster.data_workers=0``). Train and Data: as ``skinray train-cv``
does it, each worker fed by a Ray Data pipeline with an actor that augments.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from benchmarks.measure import machine, versions, write
from benchmarks.process_tree import CpuAtChange
from benchmarks.speed.loop_without_ray import without_ray
from skinray.cli import guarded
from skinray.config.biopsies import PhantomSettings
from skinray.config.images import AugmentSettings
from skinray.config.recipes import recipe
from skinray.config.training import ArmSettings, ClusterSettings, ModelSettings, TrainSettings
from skinray.images.augment import Sample
from skinray.images.phantoms.phantom import make_phantom
from skinray.learning.spec import TrialSpec
from skinray.learning.trial import LOG, finished

IMAGES, SEED = 4, 40
# A step under Ray Train, against the plain loop.
TRAIN_ALLOWED = 1.05
# Ray gives its workers niceness 15, so other processes would slow down its side only.
NICENESS = "RAY_worker_niceness"


@dataclass(frozen=True)
class Scale:
    """A size of step to compare at."""

    name: str
    model: ModelSettings
    crop_px: int
    batch_size: int
    steps: int
    epochs: int
    left_out: int
    data_allowed: float  # a step fed by Ray Data, against one whose worker makes its crops


DEMO = recipe("demo").nerve
SCALES = {
    "full": Scale("HED at its published width", ModelSettings(name="hed"), 256, 2, 4, 6, 2, 1.03),
    "demo": Scale(
        "the demo recipe's HED",
        DEMO.main.model, DEMO.augment.crop_px, DEMO.main.train.batch_size, 12, 8, 3, 1.10,
    ),
}  # fmt: skip
WORKERS = (1, 2)


@dataclass(frozen=True)
class Run:
    """What a step of one run took: wall time, CPU time of all processes; and the losses."""

    seconds: float
    cpu_seconds: float
    losses: list[float]


def main() -> None:
    """Measure, print and write ``results/train_overhead.md``."""
    options = arguments()
    os.environ[NICENESS] = "0"
    samples = [phantom(index) for index in range(IMAGES)]
    lines = [
        "# A training step with and without Ray",
        "",
        "Plain: one process per worker, which makes its own crops, gradients averaged by",
        "DistributedDataParallel over gloo. Train: TorchTrainer on a Ray started for each run by",
        "`skinray.cluster.session`, whose workers make their crops too. Train and Data: a Ray Data",
        "pipeline with one actor feeds each worker, as `skinray train-cv` does it. Each worker",
        "has one thread, and all processes the same niceness; two workers fill both cores, so what",
        "an actor takes shows. Seconds a step are an epoch's wall time by its steps, the first",
        "epochs left out. CPU seconds are those of every process, Ray's own too. Each round runs",
        "every version once, in turn; with one worker all had the same losses.",
        "",
        f"Machine: {machine()}. {versions('torch', 'ray', 'opencv-python')}. "
        f"{options.rounds} rounds.",
    ]  # fmt: skip
    for name in options.scale or SCALES:
        lines += compare(SCALES[name], samples, options.rounds)
    write("train_overhead", lines)


def arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Return the command line's options."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--scale", choices=list(SCALES), action="append", help="default: all")
    return parser.parse_args(argv)


def phantom(index: int, size: tuple[int, int] = (640, 480)) -> Sample:
    """Return a synthetic biopsy with its labels."""
    return make_phantom(PhantomSettings(), SEED, index, size).sample


def compare(scale: Scale, samples: Sequence[Sample], rounds: int) -> list[str]:
    """Run all versions in turn, ``rounds`` times, and return the lines of the result."""
    runs: dict[tuple[str, int], list[Run]] = {}
    names = list(VERSIONS)
    for turn in range(rounds):
        for workers in WORKERS:
            # Every second round runs the other way round: neither version always comes first.
            order = names[::-1] if turn % 2 else names
            both = {name: measure(name, scale, samples, workers) for name in order}
            for name, run in both.items():
                if workers == 1 and not np.allclose(both[PLAIN].losses, run.losses, 1e-4):
                    sys.exit(f"{name} trained differently, so its times mean nothing")
            for name, run in both.items():
                runs.setdefault((name, workers), []).append(run)
                print(
                    f"round {turn + 1}, {workers} workers, {name}: {run.seconds:.3f} s a step, "
                    f"{run.cpu_seconds:.3f} s of CPU",
                    flush=True,
                )
    title = f"{scale.name}, crops of {scale.crop_px} px, {scale.batch_size} a worker and step"
    lines = [
        "",
        f"## {title[0].upper()}{title[1:]}",
        "",
        f"{scale.epochs} epochs of {scale.steps} steps, the first {scale.left_out} left out.",
    ]
    for what, of in (("Seconds a step", "seconds"), ("CPU seconds a step", "cpu_seconds")):
        lines += table(what, of, runs, scale)
    return lines


def table(what: str, of: str, runs: dict[tuple[str, int], list[Run]], scale: Scale) -> list[str]:
    """Return the medians over the rounds, and the rounds' ratios."""
    lines = [
        "",
        f"| {what} | without | with | ratio: median of rounds | lowest and highest |",
        "|---|---|---|---|---|",
    ]
    for without, version, allowed in (
        (PLAIN, TRAIN, TRAIN_ALLOWED), (TRAIN, DATA, scale.data_allowed),
    ):  # fmt: skip
        for workers in WORKERS:
            less, more = ([getattr(r, of) for r in runs[v, workers]] for v in (without, version))
            ratios = [b / a for a, b in zip(less, more, strict=True)]
            ratio = statistics.median(ratios)
            met = "met" if ratio <= allowed else "NOT met"
            verdict = f"at most {allowed:g}: {met}" if of == "seconds" else "no limit"
            lines.append(
                f"| {workers} worker{'s' * (workers > 1)}: {without} -> {version} "
                f"| {statistics.median(less):.3f} "
                f"| {statistics.median(more):.3f} | **{ratio:.3f}** ({verdict}) "
                f"| {min(ratios):.3f} - {max(ratios):.3f} |"
            )
    return lines


def measure(version: str, scale: Scale, samples: Sequence[Sample], workers: int) -> Run:
    """Train once and return what a step took after the first epochs."""
    spec = trial(scale, workers, len(samples))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        # A line is added to the log after each epoch: its changes are the epochs' ends.
        with CpuAtChange(folder / LOG) as cpu:
            VERSIONS[version](spec, samples, workers, folder)
        outcome = finished(spec, folder)
    if outcome is None:
        sys.exit(f"{version} on {workers} workers came to no end")
    steady = outcome.history[scale.left_out :]
    ends = cpu.seconds[scale.left_out - 1 : scale.epochs]
    return Run(
        seconds=statistics.median(end.seconds for end in steady) / scale.steps,
        cpu_seconds=(ends[-1] - ends[0]) / (len(ends) - 1) / scale.steps,
        losses=[end.loss for end in outcome.history],
    )


def trial(scale: Scale, workers: int, images: int) -> TrialSpec:
    """Return a trial of ``scale.steps`` steps an epoch on every worker."""
    step = scale.batch_size * workers
    train = TrainSettings(
        learning_rate=1e-4, epochs=scale.epochs, batch_size=scale.batch_size,
        draws_per_image=scale.steps * step // images, plateau_patience_epochs=scale.epochs,
    )  # fmt: skip
    return TrialSpec(
        key="overhead", phase="fit", stage="nerve", split="all", seed=SEED, data="phantoms",
        arm=ArmSettings(label=scale.name, model=scale.model, train=train),
        augment=AugmentSettings(crop_px=scale.crop_px, translate_px=20), step_crops=step,
        train=tuple(range(images)), names=tuple(str(i) for i in range(images)),
    )  # fmt: skip


def with_ray(
    spec: TrialSpec, samples: Sequence[Sample], workers: int, folder: Path, actors: int = 0
) -> None:
    """Train as ``skinray train-cv`` trains a network that it keeps."""
    import ray

    from skinray.cluster.session import session
    from skinray.cluster.train.resources import Resources
    from skinray.cluster.train.sources import Source
    from skinray.cluster.train.workers import train_on_workers

    with session(trains=True):
        source = Source(samples, nowhere, [ray.put(sample) for sample in samples])
        resources = Resources(1, 0.0, (workers, workers), 1, (actors, actors), kept=True)
        settings = ClusterSettings(workers=workers, max_failures=0)
        train_on_workers(spec, source, folder, resources, settings)


def nowhere(labelled: object) -> Sample:
    """Stand in for the reader of images lost with a node; here none is lost."""
    raise LookupError(f"{labelled}: the samples of this benchmark are drawn")


PLAIN, TRAIN, DATA = "plain", "Train", "Train and Data"
Version = Callable[[TrialSpec, Sequence[Sample], int, Path], None]
VERSIONS: dict[str, Version] = {
    PLAIN: without_ray, TRAIN: with_ray, DATA: partial(with_ray, actors=1),
}  # fmt: skip

if __name__ == "__main__":
    guarded(main)
