"""The exact figures of tables 1, 2 and 3, from the records of a run."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from skinray.config.kinds import Stage
from skinray.report.biopsies import paper
from skinray.report.biopsies.agreement import FEWEST, Agreement, agreement
from skinray.report.biopsies.results import ArmRow, CountRow, RunResults


class Truth(NamedTuple):
    """What the model is compared with, in the words of a report.

    Attributes
    ----------
    who, whose : "the expert", and the same as the owner of counts and labels.
    label : in the head of a table.
    second, second_label : the other counter of the same images.
    """

    who: str
    whose: str
    label: str
    second: str
    second_label: str


EXPERT = Truth("the expert", "the expert's", "expert", "the second expert", "2nd expert")
DRAWN = Truth(
    "the truth drawn", "the truth drawn", "truth drawn", "the simulated second count",
    "2nd, simulated",
)  # fmt: skip


@dataclass(frozen=True)
class Spread:
    """Mean and population standard deviation, as in the paper's table 3."""

    mean: float
    sd: float
    n: int


@dataclass(frozen=True)
class ArmScore:
    """One row of table 1 or 2.

    Attributes
    ----------
    label, main, status, reason, chosen, pretrained : as in the run's record.
    dice : tolerance k in pixels (0: plain Dice) -> score over the held-out images.
    paper_row : the paper's row for the same network; None if it has none.
    paper : the paper's figures of that row.
    """

    label: str
    main: bool
    status: str
    reason: str
    chosen: dict[str, Any]
    pretrained: str | None
    dice: dict[int, Spread]
    paper_row: str | None
    paper: dict[int, paper.MeanSd]


@dataclass(frozen=True)
class CountScore:
    """Counts of one counter against the expert's, over one set of images."""

    label: str
    agreement: Agreement
    paper: paper.RAndP | None = None


@dataclass(frozen=True)
class Scores:
    """Every figure of the three tables.

    Attributes
    ----------
    nerve, dermis : the networks on the component split (tables 1 and 2).
    folds : the model on each fold's held-out images (table 3).
    mean_r : correlation over the folds; a fold whose counts do not vary counts as 0. None if
        every fold has too few images.
    flat : labels of the folds whose counts do not vary.
    pooled : the model on all held-out images at once.
    pooled_second : the second expert on those of the same images that were counted.
    split_model, split_second : both on the component split's held-out images.
    nerve_dice, dermis_dice : over all held-out images of the cross-validation.
    optimistic : why all these figures are optimistic; empty if they are not.
    synthetic : skinray drew the images, so there is no expert, and the paper's figures are left
        out.
    """

    nerve: tuple[ArmScore, ...]
    dermis: tuple[ArmScore, ...]
    folds: tuple[CountScore, ...]
    mean_r: Spread | None
    flat: tuple[str, ...]
    pooled: CountScore
    pooled_second: CountScore
    split_model: CountScore
    split_second: CountScore
    nerve_dice: dict[int, Spread]
    dermis_dice: Spread | None
    optimistic: str
    synthetic: bool = False

    @property
    def truth(self) -> Truth:
        """What to call whoever the model is compared with."""
        return DRAWN if self.synthetic else EXPERT


def score_run(results: RunResults) -> Scores:
    """Compute the figures of tables 1 to 3 from the records of a run."""
    folds = _folds(results)
    counts, split = results.counts, results.component_counts
    truth = DRAWN if results.synthetic else EXPERT
    second, theirs = truth.second_label, not results.synthetic
    return Scores(
        nerve=_arms(results, "nerve"),
        dermis=_arms(results, "dermis"),
        folds=folds,
        mean_r=spread(fold_r(fold.agreement) for fold in folds),
        flat=tuple(fold.label for fold in folds if is_flat(fold.agreement)),
        pooled=CountScore("All folds", _model(counts, truth)),
        pooled_second=CountScore(second, _second(counts)),
        split_model=CountScore(
            "Model", _model(split, truth), paper.HELD_OUT_MODEL if theirs else None
        ),
        split_second=CountScore(
            second, _second(split), paper.HELD_OUT_SECOND_EXPERT if theirs else None
        ),
        nerve_dice=_by_tolerance(row.nerve_dice for row in counts),
        dermis_dice=spread(row.dermis_dice for row in counts),
        optimistic=results.optimistic,
        synthetic=results.synthetic,
    )


def is_flat(found: Agreement) -> bool:
    """Whether there are enough images for a correlation, but the counts do not vary."""
    return found.r is None and found.n >= FEWEST


def fold_r(found: Agreement) -> float | None:
    """Return a fold's part of the mean correlation: 0 if its counts do not vary."""
    return 0.0 if is_flat(found) else found.r


def spread(values: Iterable[float | None]) -> Spread | None:
    """Return mean and population sd of the finite values; None if there are none."""
    finite = [value for value in values if value is not None and math.isfinite(value)]
    if not finite:
        return None
    return Spread(float(np.mean(finite)), float(np.std(finite)), len(finite))


def _folds(results: RunResults) -> tuple[CountScore, ...]:
    numbers = sorted({row.fold for row in results.counts} | {fold.fold for fold in results.folds})
    # The paper's folds hold other images: they are matched to ours only by their order.
    matched = len(numbers) == len(paper.FOLDS) and not results.synthetic
    theirs = paper.FOLDS if matched else (None,) * len(numbers)
    truth = DRAWN if results.synthetic else EXPERT
    rows = {number: [r for r in results.counts if r.fold == number] for number in numbers}
    return tuple(
        CountScore(str(number), _model(rows[number], truth), beside)
        for number, beside in zip(numbers, theirs, strict=True)
    )


def _model(rows: Sequence[CountRow], truth: Truth) -> Agreement:
    found = agreement([row.model for row in rows], [row.expert for row in rows])
    return replace(found, reason=found.reason.replace(EXPERT.who, truth.who))


def _second(rows: Sequence[CountRow]) -> Agreement:
    pairs = [(r.second_expert, r.expert) for r in rows if r.second_expert is not None]
    if rows and not pairs:
        return Agreement(0, reason="the cohort has no count of a second expert")
    return agreement([pair[0] for pair in pairs], [pair[1] for pair in pairs])


def _arms(results: RunResults, stage: Stage) -> tuple[ArmScore, ...]:
    scores = [_arm(results, arm) for arm in results.arms if arm.stage == stage]
    order = list(paper.NERVE if stage == "nerve" else paper.DERMIS)

    def place(score: ArmScore) -> int:
        return order.index(score.paper_row) if score.paper_row in order else len(order)

    return tuple(sorted(scores, key=place))


def _arm(results: RunResults, arm: ArmRow) -> ArmScore:
    model, pretrained = _asked_for(results, arm)
    row = None if results.synthetic else paper.network(arm.stage, model, pretrained)
    table = paper.NERVE if arm.stage == "nerve" else paper.DERMIS
    return ArmScore(
        label=arm.label,
        main=arm.main,
        status=arm.status,
        reason=arm.reason,
        chosen=arm.chosen,
        pretrained=arm.pretrained,
        dice={k: s for k, scores in sorted(arm.dice.items()) if (s := spread(scores))},
        paper_row=row,
        paper=table[row] if row else {},
    )


def _asked_for(results: RunResults, arm: ArmRow) -> tuple[str, bool]:
    """Return an arm's network, and whether it starts (or should) from published weights."""
    stage = results.settings.get(arm.stage) or {}
    for settings in (stage.get("main"), *(stage.get("baselines") or ())):
        if settings and settings.get("label") == arm.label:
            model = settings.get("model") or {}
            meant = arm.status == "not measured" and model.get("weights") is not None
            return str(model.get("name", arm.label)), arm.pretrained is not None or meant
    return arm.label, arm.pretrained is not None


def _by_tolerance(rows: Iterable[dict[int, float]]) -> dict[int, Spread]:
    values: dict[int, list[float]] = {}
    for row in rows:
        for k, score in row.items():
            values.setdefault(k, []).append(score)
    return {k: s for k, scores in sorted(values.items()) if (s := spread(scores))}
