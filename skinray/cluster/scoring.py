"""Score splits and arms in Ray tasks: each takes one worker's share of the cluster."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
import torch

from skinray.cluster.device import assigned_device
from skinray.cluster.session import Resources
from skinray.cluster.sources import Source
from skinray.config import CrossingSettings, FitSettings
from skinray.images.manifest import Biopsy
from skinray.learning.crossval import Split
from skinray.learning.held_out import SplitScores, score_split
from skinray.learning.predict import predict_map
from skinray.learning.trial import TrialSpec, trained_network
from skinray.learning.validation import scores, truth_of
from skinray.progress import Steps


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
    task = _remote(_score_split, resources)
    shared = ray.put(scene)
    results: list[SplitScores] = _gather("Held-out images", [task.remote(j, shared) for j in jobs])
    return results


def score_arms(
    specs: Sequence[TrialSpec], split: Split, scene: Scene, resources: Resources
) -> list[dict[int, list[float]]]:
    """Return each arm's Dice by tolerance, one value for each held-out image of the split."""
    task = _remote(_score_arm, resources)
    shared = ray.put(scene)
    refs = [task.remote(spec, split, shared) for spec in specs]
    results: list[dict[int, list[float]]] = _gather("Rows of tables 1 and 2", refs)
    return results


def _remote(function: Any, resources: Resources) -> Any:
    return ray.remote(
        num_cpus=resources.cpus_per_worker, num_gpus=resources.gpus_per_worker, max_retries=3
    )(function)


def _gather(title: str, refs: list[Any]) -> list[Any]:
    with Steps(title, len(refs)) as steps:
        for done in range(1, len(refs) + 1):
            ray.wait(refs, num_returns=done)
            steps.set(done)
    return list(ray.get(refs))


def _score_split(job: SplitJob, scene: Scene) -> SplitScores:
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
    torch.set_num_threads(scene.threads)
    device = assigned_device()
    network = trained_network(spec, scene.trials / spec.key).to(device)
    rows = []
    for at in split.held_out:
        sample = scene.source[at]
        probability = predict_map(network, sample.image, device)
        rows.append(scores(spec.stage, probability, truth_of(spec.stage, sample)))
    return {k: [row[k] for row in rows] for k in rows[0]}
