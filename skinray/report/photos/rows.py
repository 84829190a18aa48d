"""From a trained network to its row of the table: tested, summed up, three photographs drawn."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from statistics import median
from typing import NamedTuple

import torch
from torch import nn

from skinray.config.images import ReadSettings
from skinray.config.photos import PhotoSettings, SkinSettings
from skinray.images.photos.pairs import Photo
from skinray.learning.photos.scores import PhotoScore, look, score_photos, summarise
from skinray.learning.photos.trials import Scenario
from skinray.learning.photos.views import views
from skinray.learning.spec import TrialSpec
from skinray.learning.trial import TrialOutcome
from skinray.report.photos.examples import PhotoExample, write_examples
from skinray.report.photos.table import PhotoRow


class Scored(NamedTuple):
    """What the test photographs came to, the drawings of three of them, and a network's size.

    ``parameters`` counts those of one network, also where several are averaged.
    """

    scores: list[PhotoScore]
    examples: list[PhotoExample]
    parameters: int


def score_and_draw(
    networks: Sequence[nn.Module],
    photos: Sequence[Photo],
    settings: ReadSettings,
    run_dir: Path,
    key: str,
    device: torch.device,
    *,
    flips: bool,
    skin: SkinSettings,
) -> Scored:
    """Score networks on photographs, and draw the best, the median and the worst.

    Parameters
    ----------
    networks : one, or the members of an ensemble.
    run_dir : receives ``examples/``.
    key : of the trial.
    flips : whether to average over mirrored photographs.
    skin : from the networks' map to the mask.
    """
    scores = score_photos(networks, photos, settings, device, flips=flips, skin=skin)
    predict = partial(look, networks, device=device, flips=flips, skin=skin)
    named = f"{key}-flips" if flips else key
    if len(networks) > 1:
        named += "-ensemble"
    examples = write_examples(run_dir, named, photos, scores, predict, settings)
    return Scored(scores, examples, sum(one.numel() for one in networks[0].parameters()))


def photo_row(
    scenario: Scenario,
    spec: TrialSpec,
    outcome: TrialOutcome,
    tested: Scored,
    settings: PhotoSettings,
    begun: str,
    *,
    flips: bool,
    members: int = 1,
) -> PhotoRow:
    """Return the row of a network in a scenario.

    Parameters
    ----------
    spec, outcome : of the network, or of the first member of its ensemble.
    begun : the weights it began from.
    members : networks whose probabilities were averaged.
    """
    scores = tested.scores
    return PhotoRow(
        network=spec.arm.label,
        model=spec.arm.model.name,
        scenario=scenario,
        epochs=len(outcome.history),
        summary=summarise(scores, settings.resamples, settings.seed),
        photos=scores,
        flips=flips,
        members=members,
        begun=begun,
        best_epoch=best_epoch(outcome) if members == 1 else None,
        parameters=tested.parameters,
        epoch_s=epoch_s(outcome),
        views=views(scores, settings.resamples, settings.seed),
        examples=tested.examples,
    )


def epoch_s(outcome: TrialOutcome) -> float | None:
    """Return the median seconds of an epoch, its validation included; None without an epoch."""
    return median(end.seconds for end in outcome.history) if outcome.history else None


def best_epoch(outcome: TrialOutcome) -> int | None:
    """Return the epoch, counted from 1, whose validation was best; None without validation."""
    told = [
        (end.validation, -end.epoch)
        for end in outcome.history
        if end.validation is not None and math.isfinite(end.validation)
    ]
    return 1 - max(told)[1] if told else None
