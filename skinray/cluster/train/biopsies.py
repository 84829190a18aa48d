"""The main job: search, train, score and bundle, cross-validated, on whatever Ray there is.

Every part is a unit of work with a folder of its own, so the whole can be called again after any
interruption: of each training that was under way it redoes at most ``cluster.checkpoint_every_s``.
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from skinray.cluster.session import session
from skinray.cluster.shared_folder import check_shared
from skinray.cluster.train.held_out import Scene, SplitJob, score_arms, score_splits
from skinray.cluster.train.placement import kept_resources, trial_resources
from skinray.cluster.train.resources import Resources
from skinray.cluster.train.sources import Source, open_source
from skinray.cluster.train.tune import TrialResult, all_trained, run_trials
from skinray.config.biopsies import CrossingSettings, RunSettings
from skinray.config.kinds import STAGES
from skinray.images.cohort.check import checked_cohort
from skinray.images.cohort.common_scale import LabelledReader, common_scale
from skinray.images.cohort.manifest import fingerprint
from skinray.images.cohort.rows import Cohort
from skinray.learning import bundle as bundles
from skinray.learning.bundle.info import BundleInfo
from skinray.learning.held_out import SplitScores, fitted, images_to_fit, stored_pair
from skinray.learning.provenance import hardware, now, versions
from skinray.learning.run_folder import claim, refuse_foreign
from skinray.learning.search import (
    SpecMaker,
    Split,
    Splits,
    choose,
    deciding,
    make_splits,
)
from skinray.learning.spec import TrialSpec, describe
from skinray.learning.trial import check_trials, trained_network
from skinray.models.weights.load import usable_arms
from skinray.progress import Steps
from skinray.report.biopsies.assemble import Measured, assemble, headline
from skinray.report.biopsies.page import write_report
from skinray.report.biopsies.results import RunResults, write_trials

LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Run:
    """A run under way."""

    settings: RunSettings
    cohort: Cohort
    data: str
    out: Path
    um_per_px: float | None
    source: Source
    resources: Resources

    @property
    def trials(self) -> Path:
        """Folder of the trials."""
        return self.out / "trials"


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
    out : run folder, seen by every node; receives ``report.html``, ``report.json``,
        ``results.json``, ``trials.csv``, ``settings.yaml``, ``bundle/``, ``trials/`` and
        ``predictions/``.
    resume : go on with an interrupted run in ``out``.

    Raises
    ------
    SkinrayError
        If the cohort, the settings, the weights or the cluster do not allow the run.
    """
    console = console or Console()
    began, started = time.monotonic(), now()
    # Whatever a user can have got wrong is found before Ray starts and a file is written.
    refuse_foreign(out, resume=resume)
    usable, missing = usable_arms(settings)
    with Steps("Checking images and labels", 1, console) as steps:
        cohort = checked_cohort(data, usable.read, usable.folds, usable.seed, steps.tell)
    splits = make_splits(cohort, usable)
    data_fingerprint = fingerprint(cohort)
    maker = SpecMaker(usable, cohort, data_fingerprint)
    check_trials([*maker.search(splits), *maker.training(splits, {})])
    claim(out, settings, data_fingerprint, resume=resume)
    console.print(
        f"{len(cohort.biopsies)} images, {len({b.subject for b in cohort.biopsies})} subjects, "
        f"{len(splits.folds)} folds of {usable.folds.unit}s; run folder {out}",
        highlight=False,
        soft_wrap=True,
    )
    with session(trains=True):
        resources = trial_resources(usable.cluster, console)
        check_shared(out)
        scale = common_scale(cohort.biopsies)
        with Steps("Decoding images", len(cohort.biopsies), console) as steps:
            source = open_source(
                cohort.biopsies,
                LabelledReader(usable.read, scale),
                usable.cluster,
                steps.tell,
            )
        run = Run(usable, cohort, data_fingerprint, out, scale, source, resources)
        measured = _measure(run, splits)
    results = assemble(
        measured,
        settings,
        cohort,
        missing,
        started=started,
        seconds=time.monotonic() - began,
        versions=versions(),
        hardware=hardware(),
    )
    results.save(out)
    write_trials(results, out)
    write_report(out)
    return results


def _measure(run: Run, splits: Splits) -> Measured:
    maker = SpecMaker(run.settings, run.cohort, run.data)
    search = _trials(run, maker.search(splits), run.resources, "Grid search")
    # A configuration that does not train is out of the search; anything else ends the run, so that
    # a disk or a node that fails decides nothing.
    all_trained([result for result in search if not result.diverged])
    for result in search:
        if result.diverged:
            LOG.warning("%s: not chosen: %s", describe(result.spec), result.error)
    scores = {r.spec.key: r.outcome.evidence if r.outcome else None for r in search}
    chosen = choose([r.spec for r in search], scores, deciding(splits, run.settings))
    wanted = maker.training(splits, chosen)
    kept = [spec for spec in wanted if _is_kept(spec, run.settings, splits)]
    others = [spec for spec in wanted if spec not in kept]
    trained = _trials(run, others, run.resources, "Training")
    together = kept_resources(run.settings.cluster, run.resources, kept)
    trained += _trials(run, kept, together, "Training the bundle's networks")
    all_trained(trained)
    scene = Scene(
        source=run.source,
        biopsies=run.cohort.biopsies,
        trials=run.trials,
        predictions=run.out / "predictions",
        crossings=run.settings.crossings,
        fit=run.settings.fit,
        um_per_px=run.um_per_px,
        seed=run.settings.seed,
        threads=run.resources.cpus_per_worker,
    )
    specs = [result.spec for result in trained]
    scored = [*splits.folds]
    if not splits.components_is_fold:
        scored.append(splits.components)
    jobs = [SplitJob(split, *_main_pair(specs, run.settings, split)) for split in scored]
    by_split = dict(
        zip(
            (split.name for split in scored),
            score_splits(jobs, scene, run.resources),
            strict=True,
        )
    )
    rows = [spec for spec in specs if spec.split == splits.components.name]
    arms = score_arms(rows, splits.components, scene, run.resources)
    measured = Measured(
        run_dir=run.out,
        data=str(run.cohort.root.absolute()),
        data_fingerprint=run.data,
        splits=splits,
        scores=by_split,
        search=[(r.spec, r.outcome, r.error) for r in search],
        trained=[(r.spec, r.outcome, r.error) for r in trained],
        arms=list(zip(rows, arms, strict=True)),
        um_per_px=run.um_per_px,
    )
    _save_bundle(run, specs, by_split, splits, measured)
    return measured


def _trials(
    run: Run, specs: list[TrialSpec], resources: Resources, title: str
) -> list[TrialResult]:
    if not specs:
        return []
    return run_trials(specs, run.source, run.trials, resources, run.settings.cluster, title)


def _members(settings: RunSettings, splits: Splits) -> tuple[Split, ...]:
    """Return the splits whose networks make the bundle."""
    return splits.folds if settings.ensemble else (splits.everything,)


def _is_kept(spec: TrialSpec, settings: RunSettings, splits: Splits) -> bool:
    """Say whether a trial's network goes into the bundle."""
    main = settings.stage(spec.stage).main.label
    names = {split.name for split in _members(settings, splits)}
    return spec.arm.label == main and spec.split in names


def _main_pair(
    specs: list[TrialSpec], settings: RunSettings, split: Split
) -> tuple[TrialSpec, TrialSpec]:
    def of(stage: str, label: str) -> TrialSpec:
        return next(
            s for s in specs if (s.stage, s.arm.label, s.split) == (stage, label, split.name)
        )

    nerve, dermis = (of(stage, settings.stage(stage).main.label) for stage in STAGES["biopsy"])
    return nerve, dermis


def _save_bundle(
    run: Run,
    specs: list[TrialSpec],
    by_split: dict[str, SplitScores],
    splits: Splits,
    measured: Measured,
) -> None:
    pairs = [_main_pair(specs, run.settings, split) for split in _members(run.settings, splits)]
    nerve, dermis = (
        [trained_network(spec, run.trials / spec.key) for spec in stage]
        for stage in zip(*pairs, strict=True)
    )
    info = BundleInfo(
        models={
            stage: spec.arm.model.override({"weights": None})
            for stage, spec in zip(STAGES["biopsy"], pairs[0], strict=True)
        },
        crossings=_final_crossings(run, splits, by_split),
        um_per_px=run.um_per_px,
        fold="folds" if run.settings.ensemble else splits.everything.name,
        settings=run.settings.model_dump(mode="json"),
        metrics=headline(measured, run.settings),
        versions=versions(),
        data_fingerprint=run.data,
        images=len(run.cohort.biopsies),
        subjects=len({biopsy.subject for biopsy in run.cohort.biopsies}),
        created=now(),
    )
    bundles.save(run.out / "bundle", info, {"nerve": nerve, "dermis": dermis})


def _final_crossings(
    run: Run, splits: Splits, by_split: dict[str, SplitScores]
) -> CrossingSettings:
    """Search once more over all held-out maps: each was made by networks not trained on it."""
    places = {
        image.position: run.out / "predictions" / split.name / image.prediction
        for split in splits.folds
        for image in by_split[split.name].images
    }
    search = run.settings.fit
    pairs = [
        stored_pair(places[at], run.source[at], run.um_per_px)
        for at in images_to_fit(sorted(places), search, run.settings.seed)
    ]
    return fitted(pairs, run.settings.crossings, search)[0]
