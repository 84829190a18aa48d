"""A row of Table I, and the way to it: a network is tested, and three photographs are drawn."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from statistics import fmean, median
from typing import NamedTuple

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import nn

from skinray.config.images import ReadSettings
from skinray.config.photos import PhotoSettings, SkinSettings
from skinray.images.photos.pairs import Photo
from skinray.learning.photos.scores import PhotoScore, Summary, look, score_photos, summarise
from skinray.learning.photos.trials import SCENARIOS, Scenario
from skinray.learning.photos.views import View, views
from skinray.learning.spec import TrialSpec
from skinray.learning.trial import TrialOutcome
from skinray.report.photos.examples import PhotoExample, write_examples
from skinray.report.photos.paper import PAPER, Published

# Marks every network whose training is explained by ``looked_words``.
LOOKED = "\N{DAGGER}"
# A network that calls this share of all pixels the same has learned nothing.
SAME = 0.999


class PhotoRow(BaseModel):
    """A row of Table I: one network in one scenario, with or without test-time flips.

    Attributes
    ----------
    epochs, best_epoch : how many were trained, and the one with the best validation; of an
        ensemble the epochs of its first member, and None.
    members : trainings of the network whose probabilities were averaged.
    begun : the weights the network started from, in words.
    parameters : of one network; None if a run did not count them.
    epoch_s : median seconds of an epoch of this training, including validation; of an ensemble
        those of its first member.
    looked_at : see :func:`skinray.config.photos.looked_at`; set by the results.
    """

    model_config = ConfigDict(frozen=True)

    network: str
    model: str
    scenario: Scenario
    epochs: int
    summary: Summary
    photos: list[PhotoScore]
    flips: bool = False
    members: int = 1
    begun: str = ""
    best_epoch: int | None = None
    parameters: int | None = None
    epoch_s: float | None = None
    looked_at: bool = Field(False, exclude=True)
    views: list[View] = []
    examples: list[PhotoExample] = []

    @property
    def label(self) -> str:
        """The network, what was averaged, and a mark if test images influenced its training."""
        averaged = " and ".join(self.averaged)
        name = f"{self.network}, {averaged} averaged" if averaged else self.network
        return f"{name} {LOOKED}" if self.looked_at else name

    @property
    def averaged(self) -> list[str]:
        """What was averaged: members, flips, both or nothing."""
        members = [f"{self.members} members"] if self.members > 1 else []
        return [*members, *(["flips"] if self.flips else [])]

    @property
    def plain(self) -> bool:
        """Whether it is one network that sees each photograph once."""
        return not self.averaged

    @property
    def blind(self) -> str:
        """What it calls at least 999 of 1000 pixels, "skin" or "no skin"; empty if neither."""
        pixels = sum(photo.pixels for photo in self.photos)
        found = sum(photo.predicted for photo in self.photos)
        if found < SAME * pixels:
            return "no skin" if found <= (1 - SAME) * pixels else ""
        return "skin" if pixels else ""

    @property
    def chance(self) -> float:
        """Mean Jaccard of the better of an empty and a full mask of each photograph."""
        shares = (photo.skin / photo.pixels if photo.pixels else 0.0 for photo in self.photos)
        each = [share if share else 1.0 for share in shares]
        return fmean(each) if each else 0.0

    @property
    def published(self) -> Published | None:
        """The paper's figures for the network, if it has them; the paper averages nothing."""
        return PAPER.get(self.model) if self.plain else None

    @property
    def paper(self) -> str:
        """The paper's Jaccard (Dice); empty if it has none."""
        return self.published.scores[SCENARIOS.index(self.scenario)] if self.published else ""


class TestedNetwork(NamedTuple):
    """Scores of the test photographs, drawings of three of them, and the size of one network."""

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
) -> TestedNetwork:
    """Test networks on photographs, and draw the best, the median and the worst.

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
    return TestedNetwork(scores, examples, sum(one.numel() for one in networks[0].parameters()))


def photo_row(
    scenario: Scenario,
    spec: TrialSpec,
    outcome: TrialOutcome,
    tested: TestedNetwork,
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
    begun : the weights it started from, in words.
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
    """Return the median seconds of an epoch, including validation; None without an epoch."""
    return median(end.seconds for end in outcome.history) if outcome.history else None


def best_epoch(outcome: TrialOutcome) -> int | None:
    """Return the first epoch, from 1, with the best validation; None without validation."""
    validated = [
        (end.validation, -end.epoch)
        for end in outcome.history
        if end.validation is not None and math.isfinite(end.validation)
    ]
    return 1 - max(validated)[1] if validated else None
