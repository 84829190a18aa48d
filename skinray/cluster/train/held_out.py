"""The Ray tasks that score held-out biopsies after training."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from skinray.cluster.train.sources import Source
from skinray.config.biopsies import RunSettings
from skinray.images.cohort.rows import Biopsy
from skinray.learning.held_out import SplitScores, score_split
from skinray.learning.search import Split
from skinray.learning.spec import TrialSpec
from skinray.learning.trial import trained_network
from skinray.learning.validation import scores
from skinray.models.predict import predict_map


@dataclass(frozen=True)
class ScoringInputs:
    """What all scoring tasks of a run share; ``out`` is its folder."""

    source: Source
    biopsies: tuple[Biopsy, ...]
    out: Path
    settings: RunSettings
    um_per_px: float | None

    def network(self, spec: TrialSpec, device: torch.device) -> torch.nn.Module:
        """Return the network of a trial."""
        return trained_network(spec, self.out / "trials" / spec.key).to(device)


def split_scores(
    device: torch.device, split: Split, nerve: TrialSpec, dermis: TrialSpec, inputs: ScoringInputs
) -> SplitScores:
    """Score a split's held-out images with the networks of two trials."""
    return score_split(
        (inputs.network(nerve, device), inputs.network(dermis, device)),
        inputs.source,
        inputs.biopsies,
        split.train,
        split.held_out,
        inputs.settings.crossings,
        inputs.settings.fit,
        inputs.out / "predictions" / split.name,
        um_per_px=inputs.um_per_px,
        device=device,
        seed=inputs.settings.seed,
    )


def arm_dice(
    device: torch.device, spec: TrialSpec, split: Split, inputs: ScoringInputs
) -> dict[int, list[float]]:
    """Return an arm's Dice by tolerance, one value for each held-out image of the split."""
    network = inputs.network(spec, device)
    rows = []
    for at in split.held_out:
        sample = inputs.source[at]
        probability = predict_map(network, sample.image, device)
        rows.append(scores(spec.stage, probability, sample.masks[spec.stage]))
    return {k: [row[k] for row in rows] for k in rows[0]}
