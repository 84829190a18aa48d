"""Training on clinical photographs: three scenarios, every network, one table."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import ray
import torch
from rich.console import Console

from skinray.cluster.device import assigned_device
from skinray.cluster.session import Resources, session, trial_resources
from skinray.cluster.sources import Source, open_source
from skinray.cluster.tune import run_trials
from skinray.config import ReadSettings
from skinray.errors import TrainingError
from skinray.images.photos import Photo, balance, find_photos, split_photos
from skinray.learning.photo_scores import PhotoScore, score_photos, summarise
from skinray.learning.photo_trials import (
    SCENARIOS,
    PhotoTrials,
    Scenario,
    load_photo,
    photos_fingerprint,
)
from skinray.learning.provenance import hardware, now, versions
from skinray.learning.run_folder import claim, refuse_foreign
from skinray.learning.trial import OUTCOME, TrialOutcome, TrialSpec, describe, trained_network
from skinray.photo_config import PhotoSettings
from skinray.progress import Steps
from skinray.report.photo_table import PhotoResults, PhotoRow


@dataclass(frozen=True)
class Run:
    """A run under way."""

    settings: PhotoSettings
    trials: PhotoTrials
    source: Source
    resources: Resources
    console: Console


def train_photos(
    data: Path,
    public: Sequence[Path],
    out: Path,
    settings: PhotoSettings,
    *,
    resume: bool = False,
    console: Console | None = None,
) -> PhotoResults:
    """Pretrain, train, fine-tune and test every network; leave one table.

    Parameters
    ----------
    data : folder of clinical photographs, ``images`` and ``masks`` in it.
    public : folders of the same kind to pretrain on, each a source of its own.
    out : run folder, seen by every node; receives ``results.json``, ``table1.csv``,
        ``table1.md``, ``photos.csv``, ``settings.yaml`` and ``trials/``.
    resume : go on with an interrupted run in ``out``.

    Raises
    ------
    SkinrayError
        If the photographs, the settings or the cluster do not allow the run.
    """
    console = console or Console()
    began, started = time.monotonic(), now()
    refuse_foreign(out, resume=resume)
    clinical = split_photos(
        find_photos(data), settings.train_images, settings.test_images,
        settings.validation_fraction,
    )  # fmt: skip
    shown = balance([p for one in public for p in find_photos(one)], settings.pretraining_images)
    pretraining = split_photos(shown, len(shown), 0, settings.validation_fraction)
    everything = [*shown, *clinical.train, *clinical.validation, *clinical.test]
    with Steps("Reading photographs", len(everything), console) as steps:
        for done, photo in enumerate(everything, 1):
            load_photo(photo, settings.load_px, settings.read)  # whatever is wrong shows now
            steps.set(done)
    fingerprint = photos_fingerprint(everything)
    claim(out, settings, fingerprint, resume=resume)
    trials = PhotoTrials(settings, pretraining, clinical, fingerprint, (out / "trials").absolute())
    console.print(
        f"{len(shown)} public photographs to pretrain on, {settings.train_images} clinical ones "
        f"to train on, {settings.test_images} to test on; run folder {out}",
        highlight=False,
        soft_wrap=True,
    )
    with session():
        resources = trial_resources(settings.cluster)
        reader = partial(load_photo, side=settings.load_px, settings=settings.read)
        with Steps("Decoding photographs", len(trials.photos), console) as steps:
            source = open_source(trials.photos, reader, settings.cluster, steps.tell)
        rows = _rows(Run(settings, trials, source, resources, console))
    results = PhotoResults(
        data=str(data),
        public=[str(one) for one in public],
        fingerprint=fingerprint,
        pretraining_images=len(shown),
        train_images=settings.train_images,
        test_images=settings.test_images,
        rows=rows,
        started=started,
        seconds=time.monotonic() - began,
        versions=versions(),
        hardware=hardware(),
    )
    results.save(out)
    return results


def _rows(run: Run) -> list[PhotoRow]:
    """Train every network in every scenario, then test each; finished trainings are kept."""
    trials = run.trials
    specs: dict[Scenario, list[TrialSpec]] = {
        "direct transfer": trials.pretraining(),
        "direct training": trials.direct(),
    }
    _train(run, [*specs["direct transfer"], *specs["direct training"]], "Pretraining and training")
    specs["fine-tuning"] = trials.fine_tuning()
    _train(run, specs["fine-tuning"], "Fine-tuning")
    asked = [(scenario, spec) for scenario in SCENARIOS for spec in specs[scenario]]
    test = ray.remote(
        num_cpus=run.resources.cpus_per_worker, num_gpus=run.resources.gpus_per_worker
    )(_test)
    refs = [
        test.remote(spec, str(trials.trials), trials.clinical.test, run.settings.read,
                    run.resources.cpus_per_worker)
        for _, spec in asked
    ]  # fmt: skip
    with Steps("Testing", len(refs), run.console) as steps:
        for done in range(1, len(refs) + 1):
            ray.wait(refs, num_returns=done, fetch_local=False)
            steps.set(done)
    rows = []
    for (scenario, spec), scores in zip(asked, ray.get(refs), strict=True):
        rows.append(
            PhotoRow(
                network=spec.arm.label,
                model=spec.arm.model.name,
                scenario=scenario,
                epochs=_epochs(trials.trials / spec.key),
                summary=summarise(scores, run.settings.resamples, run.settings.seed),
                photos=scores,
            )
        )
    return rows


def _train(run: Run, specs: list[TrialSpec], title: str) -> None:
    results = run_trials(
        specs, run.source, run.trials.trials, run.resources, run.settings.cluster, title
    )
    for result in results:
        if result.outcome is None:
            raise TrainingError(f"{describe(result.spec)} failed: {result.error}")


def _epochs(folder: Path) -> int:
    text = (folder / OUTCOME).read_text(encoding="utf-8")
    return len(TrialOutcome.model_validate_json(text).history)


def _test(
    spec: TrialSpec, trials: str, photos: tuple[Photo, ...], read: ReadSettings, threads: int
) -> list[PhotoScore]:
    torch.set_num_threads(threads)
    device = assigned_device()
    network = trained_network(spec, Path(trials) / spec.key).to(device)
    return score_photos(network, photos, read, device)
