"""The main job: search, train, score and bundle the crossing counter, cross-validated."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import ray
from rich.console import Console

from skinray.cluster.train.resources import Resources
from skinray.cluster.train.run import TrainingJob, TrainingRun, run_training
from skinray.cluster.train.search import GridSearch
from skinray.cluster.train.tune import Trained, TrialResult, all_trained
from skinray.config.biopsies import CrossingSettings, RunSettings
from skinray.config.kinds import STAGES
from skinray.images.cohort.check import checked_cohort
from skinray.images.cohort.common_scale import LabelledReader, common_scale
from skinray.images.cohort.manifest import fingerprint, image_hashes
from skinray.images.cohort.rows import Cohort
from skinray.learning import bundle as bundles
from skinray.learning.auto.watch import OTHER_RATES, tries
from skinray.learning.bundle.info import BundleInfo
from skinray.learning.held_out import (
    ScoringInputs,
    arm_dice,
    fitted,
    images_to_fit,
    split_scores,
    stored_pair,
)
from skinray.learning.provenance import now, versions
from skinray.learning.search import SpecMaker, Split, Splits, make_splits
from skinray.learning.spec import TrialSpec
from skinray.learning.trial import check_trials, trained_network
from skinray.models.weights.load import usable_arms
from skinray.progress import Steps
from skinray.report.biopsies.assemble import Measured, assemble, headline
from skinray.report.biopsies.page import write_report
from skinray.report.biopsies.results import RunResults, write_trials

LOG = logging.getLogger(__name__)


def train_cv(
    data: Path,
    out: Path,
    settings: RunSettings,
    *,
    resume: bool = False,
    console: Console | None = None,
) -> RunResults:
    """Cross-validate the pipeline on a labelled cohort and leave a report and a bundle.

    Parameters
    ----------
    data : cohort folder with ``manifest.csv``.
    out : run folder that every node sees; receives ``report.html``, ``report.json``,
        ``results.json``, ``trials.csv``, ``settings.yaml``, ``bundle/``, ``trials/`` and
        ``predictions/``.
    resume : continue an interrupted run in ``out``.

    Raises
    ------
    SkinrayError
        If the cohort, the settings, the weights or the cluster do not allow the run.
    """
    check = partial(_checked, data, settings)
    return run_training(check, out, settings, resume=resume, console=console)


@dataclass(frozen=True)
class BiopsyJob(TrainingJob[RunResults]):
    """A cross-validation that has been checked."""

    asked: RunSettings
    settings: RunSettings  # without the arms whose weights are missing
    missing: dict[tuple[str, str], str]  # the reason for each of these, by stage and label
    cohort: Cohort
    splits: Splits
    um_per_px: float | None  # common scale of the cohort

    def train(self, run: TrainingRun) -> RunResults:
        """Search, train and score; write the bundle."""
        maker = SpecMaker(self.settings, self.cohort, self.data)
        grid = GridSearch(self.settings, self.cohort, self.splits, self.data)
        search = grid.run(run)
        trained = self._trained(run, maker.training(self.splits, grid.chosen(search)))
        measured = self._measured(run, search.tried, trained)
        results = assemble(measured, self.asked, self.cohort, self.missing, **run.facts())
        self._save_bundle(run, [spec for spec, _ in trained], measured, results.failures)
        return results

    def save(self, results: RunResults, out: Path) -> None:
        """Write the results and the page."""
        results.save(out)
        write_trials(results, out)
        write_report(out)

    def _trained(self, run: TrainingRun, wanted: Sequence[TrialSpec]) -> list[Trained]:
        """Train the final networks, those of the bundle last."""
        kept = [spec for spec in wanted if self._is_kept(spec)]
        others = [spec for spec in wanted if spec not in kept]
        trained = self._until_learned(run, others, "Training")
        together = run.kept_resources(kept)
        title = "Training the bundle's networks"
        return [*trained, *self._until_learned(run, kept, title, together)]

    def _until_learned(
        self,
        run: TrainingRun,
        specs: Sequence[TrialSpec],
        title: str,
        resources: Resources | None = None,
    ) -> list[Trained]:
        """Train networks; with ``second_tries``, those that did not learn again at other rates."""
        found = {result.spec.key: result for result in run.train(specs, title, resources)}
        for at in range(len(OTHER_RATES)) if self.settings.tune.second_tries else ():
            poor = [spec for spec in specs if not _has_learned(found[spec.key])]
            other = [tries(spec)[at] for spec in poor]
            again = run.train(other, f"{title}, another rate", resources) if poor else []
            for spec, result in zip(poor, again, strict=True):
                if _has_learned(result) or found[spec.key].outcome is None:
                    found[spec.key] = result
        return all_trained([found[spec.key] for spec in specs])

    def _measured(
        self, run: TrainingRun, search: Sequence[TrialResult], trained: Sequence[Trained]
    ) -> Measured:
        """Score the held-out images of every split, and each arm's for tables 1 and 2."""
        splits, specs = self.splits, [spec for spec, _ in trained]
        inputs = ScoringInputs(
            run.source, self.cohort.biopsies, run.out, self.settings, self.um_per_px
        )
        shared = ray.put(inputs)
        scored = {split.name: split for split in (*splits.folds, splits.components)}
        pairs = [(split, *self._main_pair(specs, split), shared) for split in scored.values()]
        rows = [spec for spec in specs if spec.split == splits.components.name]
        arms = [(spec, splits.components, shared) for spec in rows]
        scores = run.tasks("Held-out images", split_scores, pairs)
        dice = run.tasks("Rows of tables 1 and 2", arm_dice, arms)
        return Measured(
            run_dir=run.out,
            data=str(self.cohort.root.absolute()),
            data_fingerprint=self.data,
            splits=splits,
            scores=dict(zip(scored, scores, strict=True)),
            search=[(r.spec, r.outcome, r.error) for r in search],
            trained=[(spec, outcome, "") for spec, outcome in trained],
            arms=list(zip(rows, dice, strict=True)),
            um_per_px=self.um_per_px,
        )

    def _members(self) -> tuple[Split, ...]:
        """Return the splits whose networks make the bundle."""
        return self.splits.folds if self.settings.ensemble else (self.splits.everything,)

    def _is_kept(self, spec: TrialSpec) -> bool:
        """Whether a trial's network goes into the bundle."""
        main = self.settings.stage(spec.stage).main.label
        return spec.arm.label == main and spec.split in {split.name for split in self._members()}

    def _main_pair(self, specs: Sequence[TrialSpec], split: Split) -> tuple[TrialSpec, TrialSpec]:
        """Return the trials of the main nerve and dermis network on a split."""
        nerve, dermis = (
            next(
                s for s in specs
                if (s.stage, s.arm.label, s.split)
                == (stage, self.settings.stage(stage).main.label, split.name)
            )
            for stage in STAGES["biopsy"]
        )  # fmt: skip
        return nerve, dermis

    def _save_bundle(
        self,
        run: TrainingRun,
        specs: Sequence[TrialSpec],
        measured: Measured,
        failures: Sequence[str],
    ) -> None:
        pairs = [self._main_pair(specs, split) for split in self._members()]
        nerve, dermis = (
            [trained_network(spec, run.trials / spec.key) for spec in stage]
            for stage in zip(*pairs, strict=True)
        )
        info = BundleInfo(
            models={
                stage: spec.arm.model.override({"weights": None})
                for stage, spec in zip(STAGES["biopsy"], pairs[0], strict=True)
            },
            crossings=self._final_crossings(run, measured),
            um_per_px=self.um_per_px,
            fold="folds" if self.settings.ensemble else self.splits.everything.name,
            settings=self.settings.model_dump(mode="json"),
            metrics=headline(measured, self.settings, synthetic=self.cohort.synthetic),
            failures=tuple(failures),
            synthetic=self.cohort.synthetic,
            trained_on=image_hashes(self.cohort),
            versions=versions(),
            data_fingerprint=self.data,
            images=len(self.cohort.biopsies),
            subjects=_subjects(self.cohort),
            created=now(),
        )
        bundles.save(run.out / "bundle", info, {"nerve": nerve, "dermis": dermis})

    def _final_crossings(self, run: TrainingRun, measured: Measured) -> CrossingSettings:
        """Search once more over all held-out maps; none is of a network trained on its image."""
        places = {
            image.position: run.out / "predictions" / split.name / image.prediction
            for split in self.splits.folds
            for image in measured.scores[split.name].images
        }
        search = self.settings.fit
        pairs = [
            stored_pair(places[at], run.source[at], self.um_per_px)
            for at in images_to_fit(sorted(places), search, self.settings.seed)
        ]
        return fitted(pairs, self.settings.crossings, search)[0]


def _checked(data: Path, asked: RunSettings, console: Console) -> BiopsyJob:
    """Read the cohort and find whatever a user can have got wrong."""
    settings, missing = usable_arms(asked)
    with Steps("Checking images and labels", 1, console) as steps:
        cohort = checked_cohort(data, settings.read, settings.folds, settings.seed, steps.tell)
    splits = make_splits(cohort, settings)
    data_fingerprint = fingerprint(cohort)
    maker = SpecMaker(settings, cohort, data_fingerprint)
    check_trials([*maker.search(splits), *maker.training(splits, {})])
    scale = common_scale(cohort.biopsies)
    return BiopsyJob(
        data=data_fingerprint,
        labelled=cohort.biopsies,
        reader=LabelledReader(settings.read, scale),
        summary=f"{len(cohort.biopsies)} images, {_subjects(cohort)} subjects, "
        f"{len(splits.folds)} folds of {settings.folds.unit}s",
        asked=asked,
        settings=settings,
        missing=missing,
        cohort=cohort,
        splits=splits,
        um_per_px=scale,
    )


def _has_learned(result: TrialResult) -> bool:
    return result.outcome is not None and result.outcome.learned


def _subjects(cohort: Cohort) -> int:
    return len({biopsy.subject for biopsy in cohort.biopsies})
