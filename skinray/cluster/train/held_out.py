"""Held-out biopsies, scored after training by one task per split and per row of the tables."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import ray
import torch

from skinray.cluster.train.run import TrainingRun
from skinray.cluster.train.sources import Source
from skinray.config.biopsies import RunSettings
from skinray.images.cohort.manifest import Biopsy
from skinray.learning.held_out import SplitScores, score_split
from skinray.learning.search import Split
from skinray.learning.spec import TrialSpec
from skinray.learning.trial import trained_network
from skinray.learning.validation import scores
from skinray.models.predict import predict_map


@dataclass(frozen=True)
class SplitJob:
    """A split to score, with the trials whose networks score it."""

    split: Split
    nerve: TrialSpec
    dermis: TrialSpec


@dataclass(frozen=True)
class ScoringInputs:
    """What all scoring tasks of a run share."""

    source: Source
    biopsies: tuple[Biopsy, ...]
    trials: Path
    predictions: Path
    settings: RunSettings
    um_per_px: float | None


def score_splits(
    run: TrainingRun, inputs: ScoringInputs, jobs: Sequence[SplitJob]
) -> list[SplitScores]:
    """Score every split, in the order given."""
    shared = ray.put(inputs)
    return run.tasks("Held-out images", _score_split, [(job, shared) for job in jobs])


def score_arms(
    run: TrainingRun, inputs: ScoringInputs, specs: Sequence[TrialSpec], split: Split
) -> list[dict[int, list[float]]]:
    """Return each arm's Dice by tolerance, one value for each held-out image of the split."""
    shared = ray.put(inputs)
    calls = [(spec, split, shared) for spec in specs]
    return run.tasks("Rows of tables 1 and 2", _score_arm, calls)


def _score_split(device: torch.device, job: SplitJob, inputs: ScoringInputs) -> SplitScores:
    nerve, dermis = (
        trained_network(spec, inputs.trials / spec.key).to(device)
        for spec in (job.nerve, job.dermis)
    )
    return score_split(
        (nerve, dermis),
        inputs.source,
        inputs.biopsies,
        job.split.train,
        job.split.held_out,
        inputs.settings.crossings,
        inputs.settings.fit,
        inputs.predictions / job.split.name,
        um_per_px=inputs.um_per_px,
        device=device,
        seed=inputs.settings.seed,
    )


def _score_arm(
    device: torch.device, spec: TrialSpec, split: Split, inputs: ScoringInputs
) -> dict[int, list[float]]:
    network = trained_network(spec, inputs.trials / spec.key).to(device)
    rows = []
    for at in split.held_out:
        sample = inputs.source[at]
        probability = predict_map(network, sample.image, device)
        rows.append(scores(spec.stage, probability, sample.masks[spec.stage]))
    return {k: [row[k] for row in rows] for k in rows[0]}
