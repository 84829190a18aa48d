"""How many labelled images it takes, from random weights, from the starter and from BSDS500.

Run: ``python -m benchmarks.accuracy.label_fractions``. Tissue is read from ``skin_pas_dej/`` in the
folder that ``--data`` or SKINRAY_REAL_DATA names. Both networks of a bundle train on 8, 16 or 32
images, as the recipe ``auto`` plans a run of ten minutes for them, and count images of other
subjects or windows. ``--views`` also averages over mirrored images, by the same networks.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import torch

from benchmarks.accuracy.own_images import COHORTS, REAL_DATA
from benchmarks.measure import machine, record, recorded, versions, write
from skinray.config.biopsies import RunSettings
from skinray.config.images import PredictSettings, ReadSettings
from skinray.config.kinds import STAGES, Stage
from skinray.config.training import ArmSettings, ModelSettings
from skinray.errors import WeightsError
from skinray.images.augment import Sample
from skinray.images.cohort.check import checked_cohort
from skinray.images.cohort.common_scale import LabelledReader, common_scale
from skinray.images.cohort.facts import cohort_facts
from skinray.images.cohort.rows import Cohort
from skinray.learning.auto.machine import machine_facts, measure
from skinray.learning.auto.plan import TRAIN_FULL, folds_for, plan_run
from skinray.learning.held_out import score_split
from skinray.learning.spec import TrialSpec
from skinray.learning.trial import run_trial, trained_network
from skinray.models.weights.load import available

NAMES = ("1600x1200, drawn", "1024x768, real tissue")
LABELLED, TESTED = (8, 16, 32), 24
HOURS = 1 / 6
STARTS = ("random", "starter", "BSDS500")
EDGES = "hed_bsds500_caffe"
# A rate at which random weights learn; the starters' own rate is made for trained ones.
FROM_RANDOM = {"nerve": 3e-3, "dermis": 2e-3}


def settings_for(
    start: str, cohort: Cohort, samples: list[Sample], scale: float | None
) -> RunSettings:
    """Plan a run of ten minutes on a cohort, from some weights; all starts train for as long."""
    plan = plan_run(cohort_facts(cohort, samples, scale), machine_facts(), HOURS).settings
    changes: dict[str, Any] = {}
    if start == "random":
        for stage, rate in FROM_RANDOM.items():
            changes |= {
                f"{stage}.main.model.weights": None, f"{stage}.main.train.learning_rate": rate
            }  # fmt: skip
    if start == "BSDS500":
        if not available(EDGES):
            raise WeightsError(f"{EDGES} is not on this machine: `skinray weights fetch {EDGES}`")
        narrow = plan.nerve.main
        kept = narrow.train.model_dump(include={"epochs", "draws_per_image", "precision"})
        full = ArmSettings(
            label=EDGES,
            model=ModelSettings(
                name="hed", options={"scale": narrow.model.options["scale"]}, weights=EDGES
            ),
            train=TRAIN_FULL.override(kept),
        )
        crop, cpu = plan.nerve.augment.crop_px, torch.device("cpu")
        slower = measure(full, crop, cpu).step_s / measure(narrow, crop, cpu).step_s
        full = full.override({"train.epochs": max(1, round(kept["epochs"] / slower))})
        changes |= {"nerve.main": full.model_dump()}
    return plan.override(changes)


def one_run(
    start: str, folder: Path, labelled: int, scratch: Path, views: Sequence[int]
) -> list[dict[str, Any]]:
    """Train on the first images and count the last, once for each number of views."""
    everything = checked_cohort(folder, ReadSettings(), folds_for(LABELLED[-1] + TESTED, 1))
    scale = common_scale(everything.biopsies)
    read = LabelledReader(ReadSettings(), scale)
    samples = [read(biopsy) for biopsy in everything.biopsies]
    few = Cohort(everything.root, everything.biopsies[:labelled])
    settings = settings_for(start, few, samples[:labelled], scale)
    began = time.monotonic()
    networks = [trained(stage, settings, samples[:labelled], scratch) for stage in STAGES["biopsy"]]
    minutes = (time.monotonic() - began) / 60
    found = []
    for many in views:
        scored = score_split(
            (networks[0], networks[1]), samples, everything.biopsies, range(labelled),
            range(len(samples) - TESTED, len(samples)), settings.crossings, settings.fit,
            scratch / "maps", um_per_px=scale, predict=PredictSettings(mirrored=many),
        ).images  # fmt: skip
        counts = np.array([(one.model, one.expert) for one in scored], float)
        found.append({
            "views": many,
            "r": float(np.corrcoef(counts.T)[0, 1]) if counts.std(0).all() else 0.0,
            "error": float(np.abs(counts[:, 0] - counts[:, 1]).mean()),
            "nerve_dice": fmean(one.nerve_dice[3] for one in scored),
            "dermis_dice": fmean(one.dermis_dice for one in scored),
            "minutes": minutes,
        })  # fmt: skip
    return found


def trained(
    stage: Stage, settings: RunSettings, samples: list[Sample], scratch: Path
) -> torch.nn.Module:
    """Train one network of the bundle on all samples."""
    of = settings.stage(stage)
    names = tuple(map(str, range(len(samples))))
    spec = TrialSpec(
        key=stage, phase="fit", stage=stage, arm=of.main, augment=of.augment, split="all",
        train=tuple(range(len(samples))), names=names, seed=0, data="few",
    )  # fmt: skip
    run_trial(spec, samples, scratch / stage)
    return trained_network(spec, scratch / stage)


def page(runs: list[dict[str, Any]]) -> list[str]:
    """Return the lines of the result."""
    return [
        "# How many labelled images it takes", "",
        "Each row: the two networks of a bundle, planned by the recipe `auto` for "
        f"{60 * HOURS:.0f} minutes and the images it trains on, count {TESTED} other images of the "
        "cohort. HED from BSDS500 has its full width, and so fewer steps in the same time. Views: "
        "with more than one, maps are averages over mirrored images, by the same networks.", "",
        "| cohort | images | start of the networks | views | nerve Dice, k = 3 | dermis Dice | "
        "pooled r | mean error, crossings | training, min | machine |",
        "|---|---|---|---|---|---|---|---|---|---|",
        *(
            f"| {one['cohort']} | {one['images']} | {one['start']} | {one['views']} | "
            f"{one['nerve_dice']:.3f} | {one['dermis_dice']:.3f} | {one['r']:.3f} | "
            f"{one['error']:.2f} | "
            f"{one['minutes']:.1f} | {one['machine']} |"
            for one in sorted(runs, key=_order)
        ), "",
        *["Not measured yet.", ""][: 2 * (not runs)],
        f"`python -m benchmarks.accuracy.label_fractions`. {versions('torch')}.",
    ]  # fmt: skip


def _order(run: dict[str, Any]) -> tuple[Any, ...]:
    return run["cohort"], run["images"], STARTS.index(run["start"]), run["views"]


def main() -> None:
    """Train and count, add the runs to those before, write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    home = Path(os.environ.get("SKINRAY_REAL_DATA", REAL_DATA))
    parser.add_argument("--data", type=Path, default=home, help="folder of skin_pas_dej/")
    parser.add_argument("--cohort", action="append", choices=NAMES, help="default: all")
    parser.add_argument("--start", action="append", choices=STARTS, help="default: all")
    parser.add_argument("--images", action="append", type=int, help="default: 8, 16 and 32")
    parser.add_argument("--views", action="append", type=int, choices=(1, 2, 4), help="default: 1")
    options = parser.parse_args()
    torch.set_num_threads(os.cpu_count() or 1)
    runs = recorded("label_fractions")
    for name in options.cohort or NAMES:
        with tempfile.TemporaryDirectory(prefix="few-labels-") as scratch:
            folder = Path(scratch) / "cohort"
            COHORTS[name].many(LABELLED[-1] + TESTED).write(folder, options.data / "skin_pas_dej")
            for start in options.start or STARTS:
                for images in options.images or LABELLED:
                    with tempfile.TemporaryDirectory(dir=scratch) as work:
                        found = one_run(start, folder, images, Path(work), options.views or [1])
                    key = {"cohort": name, "start": start, "images": images}
                    for one in found:
                        run = key | one | {"machine": machine()}
                        runs = record("label_fractions", run, [*key, "views"])
    write("label_fractions", page(runs))


if __name__ == "__main__":
    main()
