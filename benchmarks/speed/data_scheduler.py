"""A training step while Ray Data makes crops in the same process, its scheduler at rest or not.

Run: ``python -m benchmarks.speed.data_scheduler``. The training is the recipe ``auto``'s: a narrow
HED on crops of 256 px, one thread on one core, as where each core has a training. The plan has far
more crops than the steps take, so that the pipeline runs, and its output is held back, during the
steps that are timed.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext
from itertools import repeat
from pathlib import Path

import torch

from benchmarks.measure import figure, machine, versions, write
from skinray.cluster.session import session
from skinray.cluster.train import data
from skinray.cluster.train.data import RayFeed
from skinray.cluster.train.sources import open_source
from skinray.config.images import AugmentSettings, ReadSettings
from skinray.config.recipes import NARROW_HED
from skinray.config.training import ArmSettings, ClusterSettings, ModelSettings
from skinray.images.cohort.common_scale import LabelledReader
from skinray.images.cohort.manifest import read_manifest
from skinray.images.phantoms.cohort import write_cohort
from skinray.learning.auto.plan import TRAIN_NARROW
from skinray.learning.feed import ALONE
from skinray.learning.loop import Batch, Objective
from skinray.learning.optimisers import new_optimizer
from skinray.learning.spec import TrialSpec
from skinray.models import build
from skinray.models.compute import placed

IMAGES, SIZE, CROP_PX, DRAWS, EPOCHS = 4, (512, 384), 256, 40, 100
LEFT_OUT, CPU = 20, torch.device("cpu")
ASKED = 1.1


@contextmanager
def without_rest() -> Iterator[None]:
    """Let Ray Data's scheduler run as Ray means it to."""
    ours = data.unhurried
    data.unhurried = lambda context: None
    try:
        yield
    finally:
        data.unhurried = ours


def seconds(spec: TrialSpec, batches: Iterable[Batch], steps: int) -> float:
    """Return the median time of a training step on batches."""
    network = placed(build(spec.arm.model.name, **spec.arm.model.options), CPU)
    objective = Objective(network, spec.arm.train)
    optimizer = new_optimizer(objective.parameters(), spec.arm.train)
    taken = []
    for number, batch in zip(range(steps + LEFT_OUT), batches, strict=False):
        began = time.perf_counter()
        optimizer.zero_grad(set_to_none=True)
        objective(batch.image, batch.truth).backward()
        optimizer.step()
        if number >= LEFT_OUT:
            taken.append(time.perf_counter() - began)
    return statistics.median(taken)


def ready() -> Iterator[Batch]:
    """Yield one batch again and again."""
    image = torch.randint(0, 255, (4, CROP_PX, CROP_PX, 3), dtype=torch.uint8)
    truth = torch.zeros((4, CROP_PX, CROP_PX), dtype=torch.uint8)
    truth[:, 100:103] = 1
    yield from repeat(Batch(image, truth, 4))


def main() -> None:
    """Measure, print and write ``results/data_scheduler.md``."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=100)
    options = parser.parse_args()
    torch.set_num_threads(1)
    train = TRAIN_NARROW.override({"epochs": EPOCHS, "draws_per_image": DRAWS})
    spec = TrialSpec(
        key="steps", phase="fit", stage="nerve",
        arm=ArmSettings(
            label="HED", model=ModelSettings(name="hed", options=NARROW_HED), train=train
        ),
        augment=AugmentSettings(crop_px=CROP_PX, translate_px=CROP_PX // 8), split="all",
        train=tuple(range(IMAGES)), names=tuple(map(str, range(IMAGES))), seed=0, data="drawn",
    )  # fmt: skip
    found: dict[str, list[float]] = {"no pipeline": [], "at rest": [], "as Ray means it": []}
    with tempfile.TemporaryDirectory() as folder, session(trains=False):
        cohort = Path(folder) / "cohort"
        write_cohort(cohort, IMAGES, 0, SIZE)
        source = open_source(
            read_manifest(cohort).biopsies, LabelledReader(ReadSettings()), ClusterSettings()
        )
        # As where there are as many trainings as cores; new threads inherit it.
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
        for _ in range(options.rounds):
            found["no pipeline"].append(seconds(spec, ready(), options.steps))
            for name, way in (("at rest", nullcontext), ("as Ray means it", without_rest)):
                feed = RayFeed(spec, source, ALONE, (1, 1), 0)
                with way():
                    found[name].append(seconds(spec, feed.batches(0), options.steps))
                feed.close()
            print({name: round(values[-1], 3) for name, values in found.items()}, flush=True)
    bare = statistics.median(found["no pipeline"])
    ratio = statistics.median(found["at rest"]) / bare
    unit = "times a step on ready crops"
    figure("data_scheduler", "training step beside Ray Data", ratio, unit, f"<= {ASKED:g}")
    write("data_scheduler", [
        "# A training step beside Ray Data's scheduler", "",
        "Ray Data schedules its tasks in a thread of the process that takes the crops. While its "
        "output is held back, that thread does not wait, and shares core and GIL with the "
        f"training. `ray_internals.unhurried` lets it rest after each step. A narrow HED, "
        f"{CROP_PX} px, 4 crops, one thread on one core; the plan has more crops than the steps "
        f"take. Asked: at most {ASKED:g} times a step on crops that are there already: "
        f"{'met' if ratio <= ASKED else '**NOT met**'}.", "",
        "| scheduler | median s a step | rounds | times no pipeline |", "|---|---|---|---|",
        *(
            f"| {name} | {statistics.median(values):.3f} | "
            f"{', '.join(f'{value:.3f}' for value in values)} | "
            f"{statistics.median(values) / bare:.2f} |"
            for name, values in found.items()
        ), "",
        f"`python -m benchmarks.speed.data_scheduler`. {machine()}. {versions('torch', 'ray')}.",
    ])  # fmt: skip


if __name__ == "__main__":
    main()
