"""What larger steps ask of the learning rate, and what batch norm over few crops costs.

Run: ``python -m benchmarks.accuracy.several_workers``. A test shows that workers which train
together take the same step as one worker with all their crops. So one process simulates them: a
step of N workers is N times as large, and batch norm of a worker's own crops is that of one pass.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import torch

from benchmarks.measure import machine, versions, write
from skinray.cli import guarded
from skinray.config.biopsies import PhantomSettings, StageSettings
from skinray.config.kinds import Stage
from skinray.config.recipes import recipe
from skinray.config.training import ArmSettings, ClusterSettings
from skinray.images.augment import Sample
from skinray.images.phantoms.phantom import make_phantom
from skinray.learning.spec import TrialSpec, scaled
from skinray.learning.trial import run_trial

TRAIN, HELD_OUT, SIZE = 24, 8, (384, 288)
RULES, WORKERS, NORM_CROPS = ("same", "sqrt", "linear"), (2, 4), (8, 4, 2)


def main() -> None:
    """Train, print and write ``results/several_workers.md``."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--processes", type=int, default=2)
    options = parser.parse_args()
    seeds, before = range(options.seeds), machine()
    stages: tuple[Stage, ...] = ("nerve", "dermis")
    jobs = {("one worker", stage, s): one_worker(stage, s) for stage in stages for s in seeds}
    for stage in stages:
        for workers in WORKERS:
            for rule in RULES:
                for s in seeds:
                    spec = of_workers(stage, s, workers, rule)
                    jobs[f"{workers} workers, {rule}", stage, s] = spec
    for crops in NORM_CROPS:
        for s in seeds:
            jobs[f"batch norm over {crops}", "dermis", s] = with_batch_norm(s, crops)
    with ProcessPoolExecutor(options.processes, get_context("spawn")) as pool:
        found = dict(zip(jobs, pool.map(score, jobs.values()), strict=True))
    for job, value in found.items():
        print(*job, f"{value:.3f}")
    write("several_workers", page(found, options.seeds, before))


def one_worker(stage: Stage, seed: int) -> TrialSpec:
    """Return the demo's training of a stage with one worker."""
    return trial(stage, seed, demo(stage).main, 0)


def of_workers(stage: Stage, seed: int, workers: int, rule: str) -> TrialSpec:
    """Return it with the steps of several workers."""
    cluster = ClusterSettings().override({"workers": workers, "learning_rate_rule": rule})
    return trial(stage, seed, *scaled(demo(stage).main, cluster))


def with_batch_norm(seed: int, crops: int) -> TrialSpec:
    """Return the dermis network with batch norm, steps of 8 crops in passes of fewer."""
    arm = demo("dermis").main.override(
        {"model.options.group_norm": False, "train.batch_size": crops}
    )
    return trial("dermis", seed, arm, 8)


def demo(stage: Stage) -> StageSettings:
    """Return a stage of the demo."""
    return recipe("demo").stage(stage)


def trial(stage: Stage, seed: int, arm: ArmSettings, step: int) -> TrialSpec:
    """Return a training on the first drawn biopsies, scored on the others."""
    return TrialSpec(
        key="steps", phase="tune", stage=stage, split="all", seed=seed, data="phantoms",
        arm=arm, augment=demo(stage).augment, step_crops=step,
        train=tuple(range(TRAIN)), names=tuple(str(at) for at in range(TRAIN)),
        validation=tuple(range(TRAIN, TRAIN + HELD_OUT)),
    )  # fmt: skip


def score(spec: TrialSpec) -> float:
    """Train; return the mean Dice of the images held out (nerves: within 3 px)."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        outcome = run_trial(spec, drawn(), Path(folder))
    if outcome is None or outcome.score is None:
        raise RuntimeError("a training came to no score")
    return outcome.score


def drawn() -> list[Sample]:
    """Return the drawn biopsies with their labels."""
    samples = []
    for at in range(TRAIN + HELD_OUT):
        samples.append(make_phantom(PhantomSettings(), 7, at, SIZE).sample)
    return samples


def page(found: dict[tuple[str, Stage, int], float], seeds: int, before: str) -> list[str]:
    """Return the lines of the result."""
    names = list(dict.fromkeys((name, stage) for name, stage, _ in found))
    rows = []
    for name, stage in names:
        values = [found[name, stage, s] for s in range(seeds)]
        shown = ", ".join(f"{value:.3f}" for value in values)
        rows.append(f"| {name} | {stage} | **{statistics.mean(values):.3f}** | {shown} |")
    return [
        "# Several workers: the learning rate, and batch norm",
        "",
        f"The demo's networks on {TRAIN} drawn biopsies of {SIZE[0]}x{SIZE[1]} px, the same number",
        f"of epochs in each row; mean Dice of {HELD_OUT} others, nerves within 3 px. Steps of",
        "several workers take that many times the 4 crops of one worker, so there are fewer steps;",
        "`same`, `sqrt` and `linear` are `cluster.learning_rate_rule`. Below, the dermis network",
        "with batch norm in place of group norm, all with steps of 8 crops: normalised over all 8,",
        "as batch norm synchronised between workers does, or over the 4 or 2 of each worker.",
        "",
        "| step | stage | mean Dice | by seed |",
        "|---|---|---|---|",
        *rows,
        "",
        f"`python -m benchmarks.accuracy.several_workers`. Before: {before}. {versions('torch')}.",
    ]


if __name__ == "__main__":
    guarded(main)
