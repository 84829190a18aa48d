"""From the raw results of a run to the records that its report shows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from skinray.config.biopsies import RunSettings
from skinray.config.kinds import STAGES
from skinray.images.cohort.check import on_sources
from skinray.images.cohort.rows import Cohort
from skinray.learning.auto.watch import finding
from skinray.learning.bundle.info import LIMITS
from skinray.learning.held_out import HeldOut, SplitScores
from skinray.learning.search import Split, Splits
from skinray.learning.spec import TrialSpec
from skinray.learning.trial import TrialOutcome
from skinray.report.biopsies.agreement import agreement
from skinray.report.biopsies.results import (
    ArmRow,
    CountRow,
    Curve,
    CurvePoint,
    FoldRow,
    RunResults,
    TrialRow,
    why_optimistic,
)
from skinray.report.biopsies.scores import DRAWN, EXPERT, fold_r, spread

Trial = tuple[TrialSpec, TrialOutcome | None, str]


@dataclass(frozen=True)
class Measured:
    """The raw results of a run."""

    run_dir: Path
    data: str
    data_fingerprint: str
    splits: Splits
    scores: dict[str, SplitScores]
    search: list[Trial]
    trained: list[Trial]
    arms: list[tuple[TrialSpec, dict[int, list[float]]]]
    um_per_px: float | None


def headline(
    measured: Measured, settings: RunSettings, *, synthetic: bool = False
) -> dict[str, Any]:
    """Return the figures for the model card, from held-out images alone.

    If those images were used to choose the settings, a note says so. ``synthetic``: skinray drew
    them, so no expert has counted.
    """
    counts = f"{(DRAWN if synthetic else EXPERT).whose}{'' if synthetic else ' counts'}"
    folds = [measured.scores[split.name].images for split in measured.splits.folds]
    images = [image for fold in folds for image in fold]
    figures: dict[str, Any] = {
        "images held out once each": len(images),
        "dermis Dice (mean)": round(fmean(i.dermis_dice for i in images), 3),
    }
    for k in images[0].nerve_dice:
        figures[f"nerve Dice, k = {k} (mean)"] = round(fmean(i.nerve_dice[k] for i in images), 3)
    pooled = agreement([i.model for i in images], [i.expert for i in images])
    if pooled.r is not None:
        figures[f"Pearson r with {counts} (all images)"] = round(pooled.r, 3)
    if pooled.mean_absolute_error is not None:
        figures["error of a count (mean, crossings)"] = round(pooled.mean_absolute_error, 2)
    if pooled.limits is not None:
        figures[LIMITS] = [round(limit, 2) for limit in pooled.limits]
    r = spread(fold_r(agreement([i.model for i in f], [i.expert for i in f])) for f in folds)
    if r is not None:
        of = f"{r.n} of {len(folds)} folds"
        figures[f"Pearson r with {counts} (mean of {of})"] = round(r.mean, 3)
    why = why_optimistic(settings.model_dump(mode="json"), bool(measured.search))
    return figures | ({"note": why} if why else {})


def assemble(
    measured: Measured,
    settings: RunSettings,
    cohort: Cohort,
    missing: dict[tuple[str, str], str],
    *,
    started: str,
    seconds: float,
    versions: dict[str, str],
    hardware: str,
) -> RunResults:
    """Build the records; ``missing`` has the arms that could not start, with the reason."""
    splits = measured.splits
    folds = [(k, split) for k, split in enumerate(splits.folds, 1)]
    counts = [
        _count(measured, cohort, split, image, k)
        for k, split in folds
        for image in measured.scores[split.name].images
    ]
    components = measured.scores[splits.components.name].images
    return RunResults(
        recipe=settings.recipe,
        seed=settings.seed,
        data=measured.data,
        data_fingerprint=measured.data_fingerprint,
        images=len(cohort.biopsies),
        subjects=len({b.subject for b in cohort.biopsies}),
        fold_unit=settings.folds.unit,
        counts=counts,
        folds=[_fold(measured, cohort, split, k) for k, split in folds],
        component_split=splits.components.name,
        component_counts=[_count(measured, cohort, splits.components, i, 0) for i in components],
        component_train=len(splits.components.train),
        arms=_arms(measured, settings, cohort, missing),
        trials=[_trial(*t) for t in (*measured.search, *measured.trained)],
        curves=[curve_of(spec, outcome) for spec, outcome, _ in measured.trained if outcome],
        settings=settings.model_dump(mode="json"),
        versions=versions,
        hardware=hardware,
        started=started,
        seconds=seconds,
        bundle="bundle",
        notes=_notes(measured, settings, cohort),
        synthetic=cohort.synthetic,
    )


def _count(measured: Measured, cohort: Cohort, split: Split, image: HeldOut, k: int) -> CountRow:
    biopsy = cohort.biopsies[image.position]
    return CountRow(
        image=biopsy.name,
        path=str(biopsy.image),
        subject=biopsy.subject,
        group=biopsy.group,
        fold=k,
        expert=image.expert,
        model=image.model,
        second_expert=biopsy.second_count,
        nerve_dice=image.nerve_dice,
        dermis_dice=image.dermis_dice,
        boundary_px=image.boundary_px,
        um_per_px=measured.um_per_px,
        prediction=f"predictions/{split.name}/{image.prediction}",
        chance=dict(image.chance),
    )


def _fold(measured: Measured, cohort: Cohort, split: Split, k: int) -> FoldRow:
    scored = measured.scores[split.name]

    def subjects(positions: Sequence[int]) -> int:
        return len({cohort.biopsies[i].subject for i in positions})

    return FoldRow(
        fold=k,
        train_images=len(split.train),
        held_out_images=len(split.held_out),
        train_subjects=subjects(split.train),
        held_out_subjects=subjects(split.held_out),
        crossings=scored.crossings.model_dump(),
        fit_consistency=scored.consistency,
    )


def _arms(
    measured: Measured, settings: RunSettings, cohort: Cohort, missing: dict[tuple[str, str], str]
) -> list[ArmRow]:
    by_label = {(spec.stage, spec.arm.label): (spec, dice) for spec, dice in measured.arms}
    names = [cohort.biopsies[i].name for i in measured.splits.components.held_out]
    rows = []
    for stage in STAGES["biopsy"]:
        of = settings.stage(stage)
        for arm in of.arms:
            row = ArmRow(
                stage=stage,
                label=arm.label,
                main=False,
                status="not measured",
                reason=missing.get((stage, arm.label), ""),
                pretrained=arm.model.weights,
            )
            if (stage, arm.label) not in missing:
                spec, dice = by_label[stage, arm.label]
                found = {"main": arm is of.main, "chosen": spec.params, "dice": dice}
                row = row.model_copy(update=found | {"status": "measured", "images": names})
            rows.append(row)
    return rows


def _trial(spec: TrialSpec, outcome: TrialOutcome | None, error: str) -> TrialRow:
    base = TrialRow(
        trial=spec.key, phase=spec.phase, stage=spec.stage, arm=spec.arm.label,
        split=spec.split, params=spec.params, status="failed", error=error,
        epochs_asked=spec.arm.train.epochs,
    )  # fmt: skip
    if outcome is None:
        return base
    images = sum(end.images for end in outcome.history)
    return base.model_copy(
        update={
            "status": "done",
            "score": outcome.score,
            "epochs": len(outcome.history),
            "seconds": outcome.seconds,
            "images_per_s": images / outcome.seconds if outcome.seconds else None,
            "fed_by": outcome.fed.by,
            "workers": outcome.fed.workers,
            "crops_streamed": images,
            "waited_for_data_s": outcome.fed.waited_s,
            "learned": outcome.learned,
            "finding": finding(spec, outcome),
        }
    )


def curve_of(spec: TrialSpec, outcome: TrialOutcome) -> Curve:
    """Return the epochs of one training, counted from 1."""
    points = [
        CurvePoint(
            epoch=end.epoch + 1, loss=end.loss, learning_rate=end.learning_rate,
            validation=end.validation,
        )
        for end in outcome.history
    ]  # fmt: skip
    return Curve(stage=spec.stage, arm=spec.arm.label, split=spec.split, points=points)


def _notes(measured: Measured, settings: RunSettings, cohort: Cohort) -> list[str]:
    notes = []
    if settings.folds.unit == "image":
        notes.append(
            "Folds are of images: images of one subject can be in both training and test, so "
            "the figures say little about new subjects."
        )
    if why := why_optimistic(settings.model_dump(mode="json"), bool(measured.search)):
        notes.append(why)
    skipped = sum(o.history[-1].skipped_steps for _, o, _ in measured.trained if o and o.history)
    if skipped:
        notes.append(f"{skipped} training steps were skipped: their gradient was not finite.")
    notes += [f"{line[0].upper()}{line[1:]}." for line in (*cohort.notes, *on_sources(cohort))]
    uncounted = sum(biopsy.count is None for biopsy in cohort.scored)
    if uncounted:
        whose = (DRAWN if cohort.synthetic else EXPERT).whose
        notes.append(
            f"The manifest has no count for {uncounted} of {len(cohort.scored)} images: for "
            f"these, {whose} count is the number of crossings found on {whose} labels."
        )
    return notes
