"""One training by Ray Train on several workers, as a separate job that can be disturbed."""

from __future__ import annotations

import argparse
from pathlib import Path

from benchmarks.chaos.lab import quick_settings
from skinray.cli import guarded
from skinray.cluster.session import session
from skinray.cluster.train import workers
from skinray.cluster.train.resources import Resources
from skinray.cluster.train.sources import open_source
from skinray.config.images import ReadSettings
from skinray.config.training import ClusterSettings
from skinray.images.cohort.common_scale import LabelledReader
from skinray.images.cohort.manifest import read_manifest
from skinray.learning.spec import TrialSpec, scaled

NAME = "one"


def main() -> None:
    """Train, or continue what an earlier call left."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--epochs", type=int, required=True)
    parser.add_argument("--workers", type=int, nargs=2, required=True, metavar=("LOW", "HIGH"))
    parser.add_argument("--cpus-per-worker", type=int, default=1)
    parser.add_argument("--checkpoint-every-s", type=float, default=0.0)
    parser.add_argument("--resize-every-s", type=float, default=workers.ELASTIC_MONITOR_S)
    options = parser.parse_args()
    workers.ELASTIC_MONITOR_S = options.resize_every_s
    low, high = options.workers
    settings = ClusterSettings(
        workers=(low, high), cpus_per_worker=options.cpus_per_worker,
        checkpoint_every_s=options.checkpoint_every_s, max_failures=10,
    )  # fmt: skip
    biopsies = read_manifest(options.data).biopsies
    spec = trial([biopsy.name for biopsy in biopsies], options.epochs, settings)
    with session(trains=True):
        source = open_source(biopsies, LabelledReader(ReadSettings()), settings)
        cpus = options.cpus_per_worker
        resources = Resources(cpus, 0.0, (low, high), at_once=1, data_workers=(1, 1))
        folder = options.out / "trials" / NAME
        workers.train_on_workers(spec, source, folder, resources, settings)


def trial(names: list[str], epochs: int, settings: ClusterSettings) -> TrialSpec:
    """Return the training of a tiny nerve network on all images."""
    nerve = quick_settings(epochs, {}).nerve
    arm, step = scaled(nerve.main, settings)
    return TrialSpec(
        key=NAME, phase="fit", stage="nerve", split="all", seed=1, data="phantoms",
        arm=arm, augment=nerve.augment, step_crops=step, train=tuple(range(len(names))),
        names=tuple(names),
    )  # fmt: skip


if __name__ == "__main__":
    guarded(main)
