"""The recipe ``auto``: a run planned from a cohort, a machine and a budget of hours.

A plan is a handful of rules. Each gives one line of the plan's table, with its reason; the
measurements behind them are in ``docs/background/plan.md``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console

from skinray.config.biopsies import (
    FitSettings,
    FoldSettings,
    RunSettings,
    StageSettings,
    TuneSettings,
)
from skinray.config.images import AugmentSettings, ReadSettings
from skinray.config.kinds import Stage
from skinray.config.recipes import NARROW_HED
from skinray.config.training import ArmSettings, ModelSettings, TrainSettings
from skinray.errors import CohortError
from skinray.images.cohort.check import CheckReport, checked_cohort
from skinray.images.cohort.common_scale import common_scale
from skinray.images.cohort.facts import CohortFacts, cohort_facts, measured_samples
from skinray.images.cohort.manifest import read_manifest
from skinray.images.file_errors import counted
from skinray.learning.auto.labels import doubts, label_crossings
from skinray.learning.auto.machine import Cost, MachineFacts, Timer, machine_facts, measure
from skinray.models.compute import computes_bfloat16
from skinray.models.weights.load import available
from skinray.progress import Steps

# Widest stroke, in pixels, that the nerve network sees: HED's first stages look 14 px far.
WIDEST_STROKE_PX = 5.0
# Short side of the image that the dermis network sees: it must see both layers at once.
DERMIS_SIDE_PX = 320
SCALES = (1.0, 0.5, 0.25, 0.125)
# Crops of a step, and of an epoch: long enough that the epochs' overhead does not count.
BATCH, CROPS_PER_EPOCH = 4, 160
NERVE_CROP_PX, LEAST_CROP_PX = 256, 96
# Steps below which no network has learned here, and above which none has gained.
LEAST_STEPS = 120
MOST_STEPS: dict[Stage, int] = {"nerve": 2000, "dermis": 600}
# Images on which the crossing parameters of a fold are fitted.
FITTED = 12
# Share of the budget for trainings and predictions; the rest is for decoding, Ray and the report.
USED = 0.8
# Share of the trainings' time that the dermis networks get at most; thin lines need more steps.
DERMIS_SHARE = 0.4
SEARCH_FRACTION = 0.5
FOLDS = 5
FEWEST_SUBJECTS, FEWEST_IMAGES = 3, 10
EDGES = ("hed_bsds500", "hed_bsds500_caffe")
# Of the working image's short side, for the dermis.
CROP_SHARE = 0.6
TRAIN_NARROW = TrainSettings(
    loss="dice", learning_rate=1e-3, weight_decay=1e-4, batch_size=BATCH, schedule="cosine",
    clip_norm=1.0, validate_every_epochs=1000,
)  # fmt: skip
TRAIN_FULL = TRAIN_NARROW.override({"learning_rate": 1e-4})
TRAIN_DERMIS = TRAIN_NARROW.override({"loss": "bce"})
STARTER = "from the starter"
# bfloat16 must be faster by this much to be used.
PAYS = 1.2


@dataclass(frozen=True)
class PlanLine:
    """One decision: what it is about, what was decided and why."""

    what: str
    value: str
    reason: str


@dataclass(frozen=True)
class Plan:
    """The settings of a run, and the decisions that led to them."""

    settings: RunSettings
    lines: tuple[PlanLine, ...]


def plan_for(
    data: Path, hours: float | None, console: Console | None = None, *, anyway: bool = False
) -> Plan:
    """Check a cohort, measure it and this machine, and plan a run.

    Parameters
    ----------
    anyway : do not compare the labels with what the starter sees.

    Raises
    ------
    CohortError
        If the cohort has problems; the message lists every one.
    """
    folds = folds_of(data)
    report = CheckReport(label_crossings)
    with Steps("Checking images and labels", 1, console) as steps:
        cohort = checked_cohort(data, ReadSettings(), folds, progress=steps.tell, report=report)
    scale = common_scale(cohort.biopsies)
    samples = measured_samples(cohort, scale)
    doubt = "" if anyway else doubts(samples, report.traces)
    if doubt:
        raise CohortError(f"{data}: {doubt}; if they are right, repeat with --anyway")
    facts = cohort_facts(cohort, samples, scale)
    with Steps("Timing networks", 1, console):
        plan = plan_run(facts, machine_facts(), hours, folds=folds)
    notes = [PlanLine("note", note, "") for note in (*cohort.notes, *report.notes())]
    return replace(plan, lines=(*plan.lines, *notes))


def folds_of(data: Path) -> FoldSettings:
    """Return the folds that a run of the recipe ``auto`` has on a cohort.

    Raises
    ------
    CohortError
        If its table cannot be read.
    """
    listed = read_manifest(data).scored
    return folds_for(len(listed), len({biopsy.subject for biopsy in listed}))


def folds_for(images: int, subjects: int) -> FoldSettings:
    """Return folds of subjects; of images if they are many and of too few subjects."""
    if subjects >= FEWEST_SUBJECTS or images < FEWEST_IMAGES:
        count = max(FEWEST_SUBJECTS, min(FOLDS, subjects))
        return FoldSettings(count=count, components_held_out=None)
    return FoldSettings(count=FOLDS, unit="image", components_held_out=None)


def plan_run(
    cohort: CohortFacts,
    machine: MachineFacts,
    hours: float | None,
    timer: Timer | None = None,
    folds: FoldSettings | None = None,
) -> Plan:
    """Plan a run on a cohort.

    Parameters
    ----------
    hours : the budget; None: that of the machine.
    timer : measures the cost of an arm at a crop size; None: on this machine, some seconds each.
    folds : None: those that all images of the cohort can fill.
    """
    folds = folds or folds_for(cohort.images, cohort.subjects)
    timer = timer or partial(measure, at_once=machine.at_once)
    planner = _Planner(cohort, machine, hours or machine.hours, timer, folds)
    return planner.plan()


@dataclass(frozen=True)
class _Wish:
    """What a stage is to train, before its steps are known."""

    arm: ArmSettings
    crop_px: int
    scales: tuple[float, ...]
    cost: Cost

    @property
    def scale(self) -> float:
        """The working scale that is tried first."""
        return self.scales[0]


class _Planner:
    """Decides line by line."""

    def __init__(
        self,
        cohort: CohortFacts,
        machine: MachineFacts,
        hours: float,
        timer: Timer,
        folds: FoldSettings,
    ) -> None:
        self.cohort, self.machine, self.hours, self.timer = cohort, machine, hours, timer
        self.folds = folds
        self.lines: list[PlanLine] = []
        self.short: set[Stage] = set()  # stages that have too little time

    def say(self, what: str, value: str, reason: str) -> None:
        """Add a line to the table."""
        self.lines.append(PlanLine(what, value, reason))

    def plan(self) -> Plan:
        """Make every decision, in the order of the table."""
        self._show_facts()
        self._say_folds()
        folds, (nerve, dermis) = self.folds, (self._nerve(), self._dermis())
        budget = self.hours * 3600 * USED - self._scoring_s(folds, (nerve, dermis))
        searched = folds.count * len(dermis.scales) * SEARCH_FRACTION * (len(dermis.scales) > 1)
        short = (folds.count + 1 + searched) / self.machine.at_once
        steps = self._steps("dermis", dermis, budget * DERMIS_SHARE / short)
        left = budget - short * steps * dermis.cost.step_s
        each = left / self._rounds(folds)
        stages = {
            "nerve": self._stage("nerve", nerve, self._steps("nerve", nerve, each)),
            "dermis": self._stage("dermis", dermis, steps),
        }
        settings = RunSettings(
            recipe="auto", folds=folds, fit=FitSettings(max_images=FITTED),
            tune=TuneSettings(epochs_fraction=SEARCH_FRACTION, second_tries=True), **stages,
        )  # fmt: skip
        return Plan(settings, tuple(self.lines))

    def _show_facts(self) -> None:
        found, machine = self.cohort, self.machine
        scale = f"{found.um_per_px:g} um per pixel" if found.um_per_px else "scale unknown"
        self.say(
            "cohort",
            f"{found.images} images of {found.subjects} subjects",
            f"{found.width}x{found.height} px, {scale}; traced lines {found.stroke_px:.1f} px "
            f"wide; dermis {found.dermis:.0%}",
        )
        on = f"{machine.gpus} GPUs" if machine.gpus else f"{machine.cores} CPU cores"
        self.say("budget", f"{self.hours:g} h", f"{on}; --hours sets another budget")

    def _say_folds(self) -> None:
        folds = self.folds
        why = "no subject is both trained on and tested"
        if folds.unit == "image":
            why = (
                f"{counted(self.cohort.subjects, 'subject')} cannot fill folds: the figures say "
                "nothing about new subjects"
            )
        self.say("folds", f"{folds.count}, of {folds.unit}s", why)

    def _nerve(self) -> _Wish:
        stroke = self.cohort.stroke_px
        scale = nerve_scale(stroke)
        why = f"lines are then {stroke * scale:.1f} px wide; the paper's are about 3"
        self.say("nerve: working scale", _share(scale), why)
        crop = _crop(min(NERVE_CROP_PX, self.cohort.short_side * scale))
        known = next((name for name in EDGES if available(name)), None)
        if known:
            full = self._wish("HED transfer learning", "hed", {}, known, TRAIN_FULL, crop, (scale,))
            if self._affordable(full):
                self.say("nerve: network", "HED, full width", f"starts from {known}")
                return full
        narrow = self._wish(
            f"HED {STARTER}", "hed", NARROW_HED, "starter_nerve", TRAIN_NARROW, crop, (scale,)
        )
        fetch = "given the hours, `skinray weights fetch hed_bsds500_caffe` allows the full width"
        why = (
            "learns more in this time than the full width"
            if known
            else f"starts from drawings; {fetch}"
        )
        self.say("nerve: network", "HED, a quarter of the width", why)
        return narrow

    def _dermis(self) -> _Wish:
        side = self.cohort.short_side
        first = next((one for one in SCALES if side * one <= DERMIS_SIDE_PX), SCALES[-1])
        half = first / 2
        scales = (first, half) if half in SCALES and side * half >= LEAST_CROP_PX else (first,)
        tried = " or ".join(map(_share, scales))
        why = f"the network must see both layers at once: {side * first:.0f} px on the short side"
        self.say("dermis: working scale", tried, why)
        crop = _crop(side * first * CROP_SHARE)
        label = f"DeepLab, light, {STARTER}"
        start = "starter_dermis"
        wish = self._wish(label, "deeplab_lite", {}, start, TRAIN_DERMIS, crop, scales)
        why = "starts from drawings, and learns from few images in minutes"
        self.say("dermis: network", "DeepLabV3+, light", why)
        return wish

    def _wish(
        self,
        label: str,
        name: str,
        options: dict[str, Any],
        weights: str | None,
        train: TrainSettings,
        crop_px: int,
        scales: tuple[float, ...],
    ) -> _Wish:
        """Build an arm, and time it in the faster number format."""
        model = ModelSettings(name=name, options={**options, "scale": scales[0]}, weights=weights)
        arm = ArmSettings(label=label, model=model, train=train.override({"precision": "float32"}))
        half = arm.override({"train.precision": "bfloat16"})
        device = self.machine.device
        cost = self.timer(arm, crop_px, device)
        if computes_bfloat16(device):
            faster = self.timer(half, crop_px, device)
            if cost.step_s > PAYS * faster.step_s:
                return _Wish(half, crop_px, scales, replace(faster, megapixel_s=cost.megapixel_s))
        return _Wish(arm, crop_px, scales, cost)

    def _scoring_s(self, folds: FoldSettings, wishes: Sequence[_Wish]) -> float:
        """Estimate the time of all predictions: held-out images, and those of the fit."""
        images = self.cohort.images + folds.count * min(FITTED, self.cohort.images)
        pixels = self.cohort.pixels / 1e6
        each = sum(wish.cost.megapixel_s * pixels * wish.scale**2 for wish in wishes)
        return images * each / self.machine.at_once

    def _affordable(self, wish: _Wish) -> bool:
        """Whether there is time for as many steps as a network gains from, beside predictions."""
        left = self.hours * 3600 * USED - self._scoring_s(FoldSettings(count=FOLDS), [wish])
        each = left * (1 - DERMIS_SHARE) / self._rounds(FoldSettings(count=FOLDS))
        return each >= MOST_STEPS["nerve"] * wish.cost.step_s

    def _rounds(self, folds: FoldSettings) -> int:
        """Return how many long trainings follow one another: the folds', then the bundle's own."""
        return math.ceil(folds.count / self.machine.at_once) + 1

    def _steps(self, stage: Stage, wish: _Wish, seconds: float) -> int:
        """Return how many steps of a training fit into its ``seconds``, within the limits."""
        affordable = int(seconds / wish.cost.step_s)
        if affordable < LEAST_STEPS:
            self.short.add(stage)
        return min(MOST_STEPS[stage], max(LEAST_STEPS, affordable))

    def _stage(self, stage: Stage, wish: _Wish, steps: int) -> StageSettings:
        """Return the settings of a stage whose networks train for a number of steps."""
        train = self.cohort.images * (FOLDS - 1) / FOLDS
        draws = max(1, round(CROPS_PER_EPOCH / train))
        epochs = max(2, round(steps * BATCH / (train * draws)))
        why = f"{wish.cost.step_s:.2f} s a step in {wish.arm.train.precision}"
        if stage in self.short:
            why += f"; too few hours: it needs at least {LEAST_STEPS} steps"
        self.say(f"{stage}: training", f"{steps} steps of {BATCH} crops of {wish.crop_px} px", why)
        changes: dict[str, Any] = {"train.epochs": epochs, "train.draws_per_image": draws}
        if len(wish.scales) > 1:
            changes["grid"] = {"model.options.scale": wish.scales}
        return StageSettings(
            main=wish.arm.override(changes),
            augment=AugmentSettings(crop_px=wish.crop_px, translate_px=wish.crop_px // 8),
        )


def nerve_scale(stroke_px: float) -> float:
    """Return the working scale at which lines of that width are seen."""
    return next(one for one in SCALES if stroke_px * one <= WIDEST_STROKE_PX or one == SCALES[-1])


def _crop(side: float) -> int:
    """Return a crop's side: at least :data:`LEAST_CROP_PX`, and a multiple of 32."""
    return max(LEAST_CROP_PX, int(side) // 32 * 32)


def _share(scale: float) -> str:
    return "full size" if scale == 1 else f"1/{round(1 / scale)}"
