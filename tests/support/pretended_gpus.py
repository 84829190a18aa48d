"""Trainings on pretended GPUs of a machine without any; prints what was observed."""

from __future__ import annotations

import json
import os
import sys
import tempfile
import threading
from pathlib import Path

import ray
from ray.util.state import list_actors

from skinray.cluster.device import PRETENDED_GPUS
from skinray.cluster.session import session
from skinray.cluster.train.held import held, left_behind
from skinray.cluster.train.resources import trial_resources
from skinray.cluster.train.sources import Source
from skinray.cluster.train.tune import run_trials
from skinray.config.training import ClusterSettings
from skinray.images.augment import Sample
from tests.support.tiny import drawn_sample, tiny_spec


def main(cpus: int, gpus: int, workers: int, trials: int) -> None:
    """Run some trainings of several workers, and count those that train at the same time."""
    os.environ |= {PRETENDED_GPUS: "1", "RAY_TRAIN_METRICS_ENABLED": "0"}
    ray.init(address="local", num_cpus=cpus, num_gpus=gpus, log_to_driver=False)
    settings = ClusterSettings(workers=workers)
    with session(trains=True):
        resources = trial_resources(settings)
        source = Source(range(8), never, [ray.put(drawn_sample(at)) for at in range(8)])
        spec = tiny_spec(
            train=tuple(range(8)), names=tuple("abcdefgh"), arm__train__epochs=30,
            step_crops=2 * workers,
        )  # fmt: skip
        specs = [spec.override({"key": f"trial-{at}", "seed": at}) for at in range(trials)]
        before, over = held(), threading.Event()
        alive: list[int] = []
        watcher = threading.Thread(target=watch, args=(alive, over), daemon=True)
        watcher.start()
        with tempfile.TemporaryDirectory() as folder:
            found = run_trials(specs, source, Path(folder), resources, settings, "pretended")
        over.set()
        watcher.join()
        told = {
            "at_once": resources.at_once,
            "gpus_per_worker": resources.gpus_per_worker,
            "most_workers": max(alive),
            "errors": [result.error for result in found],
            "workers": [result.outcome.fed.workers for result in found if result.outcome],
            "left": left_behind(before, 30),
        }
    print(json.dumps(told))


def watch(alive: list[int], over: threading.Event) -> None:
    """Count the workers that hold a GPU, again and again."""
    where = ray.get_runtime_context().gcs_address  # another Ray may run on this machine
    while not over.wait(0.3):
        filters = [("class_name", "=", "RayTrainWorker"), ("state", "=", "ALIVE")]
        alive.append(len(list_actors(where, filters=filters, limit=1000)))


def never(labelled: object) -> Sample:
    """Stand in for the reader of images lost with a node."""
    raise LookupError(f"{labelled}: drawn, and in no file")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
