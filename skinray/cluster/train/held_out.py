"""Work after training as Ray tasks: each takes one worker's share of the cluster."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import ray
import torch
from rich.console import Console

from skinray.cluster.malloc import keep_freed_memory
from skinray.cluster.session import assigned_device
from skinray.cluster.train.resources import Resources
from skinray.cluster.train.sources import Source
from skinray.config.biopsies import CrossingSettings, FitSettings
from skinray.images.cohort.rows import Biopsy
from skinray.learning.held_out import SplitScores, score_split
from skinray.learning.search import Split
from skinray.learning.spec import TrialSpec
from skinray.learning.trial import trained_network
from skinray.learning.validation import scores
from skinray.models.predict import predict_map
from skinray.progress import Steps

T = TypeVar("T")
# Of a task whose node was lost.
RETRIES = 3


def run_tasks(
    title: str,
    function: Callable[..., T],
    calls: Iterable[tuple[Any, ...]],
    resources: Resources,
    console: Console | None = None,
) -> list[T]:
    """Call a function once for each tuple of arguments; return what came, in their order.

    Parameters
    ----------
    title : heads the progress line.
    calls : what several share is best put into Ray's store before (``ray.put``).
    """
    task: Any = ray.remote(
        num_cpus=resources.cpus_per_worker,
        num_gpus=resources.gpus_per_worker,
        max_retries=RETRIES,
    )(function)
    refs = [task.remote(*call) for call in calls]
    with Steps(title, len(refs), console) as steps:
        for done in range(1, len(refs) + 1):
            ray.wait(refs, num_returns=done, fetch_local=False)
            steps.set(done)
    return list(ray.get(refs))


@dataclass(frozen=True)
class SplitJob:
    """A split to score, with the trials whose networks score it."""

    split: Split
    nerve: TrialSpec
    dermis: TrialSpec


@dataclass(frozen=True)
class Scene:
    """What all scoring tasks of a run share."""

    source: Source
    biopsies: tuple[Biopsy, ...]
    trials: Path
    predictions: Path
    crossings: CrossingSettings
    fit: FitSettings
    um_per_px: float | None
    seed: int
    threads: int


def score_splits(jobs: Sequence[SplitJob], scene: Scene, resources: Resources) -> list[SplitScores]:
    """Score every split, in the order given."""
    shared = ray.put(scene)
    calls = [(job, shared) for job in jobs]
    return run_tasks("Held-out images", _score_split, calls, resources)


def score_arms(
    specs: Sequence[TrialSpec], split: Split, scene: Scene, resources: Resources
) -> list[dict[int, list[float]]]:
    """Return each arm's Dice by tolerance, one value for each held-out image of the split."""
    shared = ray.put(scene)
    calls = [(spec, split, shared) for spec in specs]
    return run_tasks("Rows of tables 1 and 2", _score_arm, calls, resources)


def _score_split(job: SplitJob, scene: Scene) -> SplitScores:
    keep_freed_memory()
    torch.set_num_threads(scene.threads)
    device = assigned_device()
    nerve, dermis = (
        trained_network(spec, scene.trials / spec.key).to(device)
        for spec in (job.nerve, job.dermis)
    )
    return score_split(
        (nerve, dermis),
        scene.source,
        scene.biopsies,
        job.split.train,
        job.split.held_out,
        scene.crossings,
        scene.fit,
        scene.predictions / job.split.name,
        um_per_px=scene.um_per_px,
        device=device,
        seed=scene.seed,
    )


def _score_arm(spec: TrialSpec, split: Split, scene: Scene) -> dict[int, list[float]]:
    keep_freed_memory()
    torch.set_num_threads(scene.threads)
    device = assigned_device()
    network = trained_network(spec, scene.trials / spec.key).to(device)
    rows = []
    for at in split.held_out:
        sample = scene.source[at]
        probability = predict_map(network, sample.image, device)
        rows.append(scores(spec.stage, probability, sample.masks[spec.stage]))
    return {k: [row[k] for row in rows] for k in rows[0]}
