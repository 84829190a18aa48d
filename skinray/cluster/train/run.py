"""The frame of a training run, the same for biopsies and photographs.

Refuse a folder that is not free, check everything that a user can get wrong, claim the folder, join
Ray, decode the images, train and test, then save results, page and bundle. Every training has a
folder of its own, so the whole can be called again after any interruption: each training that was
under way repeats at most ``cluster.checkpoint_every_s``.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

import ray
from rich.console import Console

from skinray.cluster.device import ready_device
from skinray.cluster.session import session
from skinray.cluster.shared_folder import check_shared
from skinray.cluster.train.resources import Resources, kept_resources, trial_resources
from skinray.cluster.train.sources import Source, open_source
from skinray.cluster.train.tune import TrialResult, run_trials
from skinray.config.biopsies import RunSettings
from skinray.config.photos import PhotoSettings
from skinray.config.training import ClusterSettings
from skinray.images.augment import Sample
from skinray.learning.provenance import hardware, now, versions
from skinray.learning.run_folder import claim, refuse_foreign
from skinray.learning.spec import TrialSpec
from skinray.progress import Steps

T = TypeVar("T")
Results = TypeVar("Results")
# Of a task whose node was lost.
RETRIES = 3


@dataclass(frozen=True)
class TrainingJob(ABC, Generic[Results]):
    """A run that has been checked and not started yet: everything that its kind of image decides.

    Attributes
    ----------
    data : fingerprint of the images and labels.
    labelled : the biopsies or photographs, by position.
    reader : reads and decodes one of them; sent to the workers.
    summary : tells the user what the run will train.
    """

    data: str
    labelled: Sequence[Any]
    reader: Callable[[Any], Sample]
    summary: str

    @abstractmethod
    def train(self, run: TrainingRun) -> Results:
        """Train and test every network; called while Ray is joined."""

    @abstractmethod
    def save(self, results: Results, out: Path) -> None:
        """Write the results and the page into the run folder; Ray has ended."""


@dataclass(frozen=True)
class TrainingRun:
    """A run under way: its folder, its decoded images, and its share of the joined cluster."""

    out: Path
    cluster: ClusterSettings
    source: Source
    resources: Resources
    console: Console
    started: str
    began: float

    @property
    def trials(self) -> Path:
        """Folder of the trials."""
        return self.out / "trials"

    def train(
        self, specs: Sequence[TrialSpec], title: str, resources: Resources | None = None
    ) -> list[TrialResult]:
        """Run every trial that has not finished yet, as :func:`run_trials` does."""
        one = resources or self.resources
        return run_trials(specs, self.source, self.trials, one, self.cluster, title)

    def kept_resources(self, specs: Sequence[TrialSpec]) -> Resources:
        """Return what trainings of the bundle's networks take."""
        return kept_resources(self.cluster, self.resources, specs)

    def tasks(
        self, title: str, function: Callable[..., T], calls: Iterable[tuple[Any, ...]]
    ) -> list[T]:
        """Call ``function(device, *call)`` as one Ray task per call; return the results in order.

        Each task takes one worker's share of the cluster. Put what several calls share into Ray's
        store first (``ray.put``).
        """
        one = self.resources
        task: Any = ray.remote(
            num_cpus=one.cpus_per_worker, num_gpus=one.gpus_per_worker, max_retries=RETRIES
        )(_on_device)
        refs = [task.remote(function, one.cpus_per_worker, *call) for call in calls]
        with Steps(title, len(refs), self.console) as steps:
            for done in range(1, len(refs) + 1):
                ray.wait(refs, num_returns=done, fetch_local=False)
                steps.set(done)
        return list(ray.get(refs))

    def facts(self) -> dict[str, Any]:
        """Return when, for how long and on what the run ran, for its results."""
        return {
            "started": self.started,
            "seconds": time.monotonic() - self.began,
            "versions": versions(),
            "hardware": hardware(),
        }


def _on_device(function: Callable[..., T], threads: int, *call: Any) -> T:
    return function(ready_device(threads), *call)


def run_training(
    check: Callable[[Console], TrainingJob[Results]],
    out: Path,
    settings: RunSettings | PhotoSettings,
    *,
    resume: bool,
    console: Console | None,
) -> Results:
    """Run a training from its check to its bundle; raises what any of the steps does.

    ``check`` reads the data and finds whatever a user can have got wrong: it comes before Ray
    starts and before a file is written.
    """
    console = console or Console()
    began, started = time.monotonic(), now()
    refuse_foreign(out, resume=resume)
    job = check(console)
    claim(out, settings, job.data, resume=resume)
    console.print(f"{job.summary}; run folder {out}", highlight=False, soft_wrap=True)
    with session(trains=True):
        resources = trial_resources(settings.cluster, console)
        check_shared(out)
        with Steps("Decoding images", len(job.labelled), console) as steps:
            source = open_source(job.labelled, job.reader, settings.cluster, steps.tell)
        run = TrainingRun(out, settings.cluster, source, resources, console, started, began)
        results = job.train(run)
    job.save(results, out)
    return results
