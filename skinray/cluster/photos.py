"""Training on clinical photographs: three scenarios, every network, one table."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

import ray
import torch
from rich.console import Console

from skinray.cluster.device import assigned_device
from skinray.cluster.session import Resources, session, trial_resources
from skinray.cluster.sources import Source, open_source
from skinray.cluster.tune import run_trials
from skinray.errors import SettingsError, TrainingError
from skinray.images.photo_sets import find_set
from skinray.images.photos import Photo, balance, find_backgrounds, split_photos
from skinray.images.skin_labels import read_skin
from skinray.learning.photo_trials import (
    SCENARIOS,
    PhotoTrials,
    Scenario,
    beginning,
    load_photo,
    photos_fingerprint,
    with_weights_at_hand,
)
from skinray.learning.provenance import hardware, now, versions
from skinray.learning.run_folder import claim, refuse_foreign
from skinray.learning.trial import OUTCOME, TrialOutcome, TrialSpec, describe, trained_network
from skinray.photo_config import PhotoSettings
from skinray.progress import Steps
from skinray.report.assemble import curve_of
from skinray.report.photo_bundle import write_photo_bundle
from skinray.report.photo_page import write_photo_report
from skinray.report.photo_rows import Scored, photo_row, score_and_draw
from skinray.report.photo_table import PhotoResults, PhotoRow, unmarked_words
from skinray.report.results import Curve


@dataclass(frozen=True)
class Run:
    """A run under way."""

    settings: PhotoSettings
    trials: PhotoTrials
    source: Source
    resources: Resources
    console: Console


def train_photos(
    data: str | Path,
    public: Sequence[str | Path],
    out: Path,
    settings: PhotoSettings,
    *,
    backgrounds: Sequence[Path] = (),
    resume: bool = False,
    console: Console | None = None,
) -> PhotoResults:
    """Pretrain, train, fine-tune and test every network; leave one table.

    Parameters
    ----------
    data : clinical photographs, a folder as :func:`find_set` takes it.
    public : photographs to pretrain on, alike, each a source of its own.
    out : run folder, seen by every node; receives ``results.json``, ``table1.csv``,
        ``table1.md``, ``photos.csv``, ``views.csv``, ``report.html``, ``settings.yaml``,
        ``examples/``, ``trials/`` and ``bundle/``.
    backgrounds : folders of photographs without skin, which need no masks; where
        ``paste_probability`` says so, skin is put before them as before the others.
    resume : go on with an interrupted run in ``out``.

    Raises
    ------
    SkinrayError
        If the photographs, the settings or the cluster do not allow the run.
    """
    console = console or Console()
    began, started = time.monotonic(), now()
    refuse_foreign(out, resume=resume)
    if backgrounds and not settings.paste_probability:
        raise SettingsError(
            "photographs without skin have no part in a run whose paste_probability is 0: take "
            "--recipe varied, or --set paste_probability=0.5"
        )
    ward, others = find_set(data), [p for one in public for p in find_set(one)]
    behind = [p for one in backgrounds for p in find_backgrounds(one, [*ward, *others])]
    clinical = split_photos(
        ward, settings.train_images, settings.test_images, settings.validation_fraction
    )
    shown = balance(others, settings.pretraining_images)
    pretraining = split_photos(shown, len(shown), 0, settings.validation_fraction)
    everything = [*shown, *clinical.train, *clinical.validation, *clinical.test, *behind]
    unmarked = []
    with Steps("Reading photographs", len(everything), console) as steps:
        for done, photo in enumerate(everything, 1):
            # Whatever is wrong shows now.
            sample = load_photo(photo, settings.load_px, settings.read)
            if photo.coding != "no skin" and not (
                sample.dermis.any() or read_skin(photo.mask, photo.coding, settings.read).any()
            ):
                unmarked.append(f"{photo.source}/{photo.name}")
            steps.set(done)
    if unmarked:
        console.print(unmarked_words(unmarked), style="yellow", highlight=False, soft_wrap=True)
    fingerprint = photos_fingerprint(everything)
    claim(out, settings, fingerprint, resume=resume)
    used = with_weights_at_hand(settings)
    trials = PhotoTrials(
        used, pretraining, clinical, fingerprint, (out / "trials").absolute(), tuple(behind)
    )
    console.print(
        f"{len(shown)} public photographs to pretrain on, {settings.train_images} clinical ones "
        f"to train on, {settings.test_images} to test on"
        f"{f', {len(behind)} without skin' if behind else ''}; run folder {out}",
        highlight=False,
        soft_wrap=True,
    )
    with session():
        resources = trial_resources(settings.cluster)
        reader = partial(load_photo, side=settings.load_px, settings=settings.read)
        with Steps("Decoding photographs", len(trials.photos), console) as steps:
            source = open_source(trials.photos, reader, settings.cluster, steps.tell)
        rows, curves = _rows(Run(settings, trials, source, resources, console))
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
        sources=dict(Counter(photo.source for photo in shown)),
        backgrounds=dict(Counter(photo.source for photo in behind)),
        curves=curves,
        settings=settings.model_dump(mode="json"),
        unmarked=unmarked,
    )
    results.save(out)
    write_photo_report(out)
    write_photo_bundle(out, trials, results)
    return results


class Asked(NamedTuple):
    """A row to be: a trained network, or an ensemble's, in a scenario, with or without flips."""

    scenario: Scenario
    specs: tuple[TrialSpec, ...]
    flips: bool

    @property
    def first(self) -> TrialSpec:
        """The network's trial, or that of the ensemble's first member."""
        return self.specs[0]


def _rows(run: Run) -> tuple[list[PhotoRow], list[Curve]]:
    """Train every network in every scenario, then test each; finished trainings are kept."""
    asked = _trained(run)
    tested = _tested(run, asked)
    specs = {spec.key: spec for one in asked for spec in one.specs}
    outcomes = {key: _outcome(run.trials.trials / key) for key in specs}
    begun = {
        wanted.label: beginning(wanted, used)
        for wanted, used in zip(run.settings.networks, run.trials.settings.networks, strict=True)
    }
    rows = [
        photo_row(
            one.scenario, one.first, outcomes[one.first.key], scored, run.settings,
            begun[one.first.arm.label], flips=one.flips, members=len(one.specs),
        )
        for one, scored in zip(asked, tested, strict=True)
    ]  # fmt: skip
    return rows, [curve_of(spec, outcomes[key]) for key, spec in specs.items()]


def _trained(run: Run) -> list[Asked]:
    """Return the rows in the order of the table, their networks trained."""
    trials = run.trials
    transfer, direct = trials.pretraining(), trials.direct()
    _train(run, [*transfer, *direct], "Pretraining and training")
    ensembles = trials.ensembles()
    _train(run, [spec for members in zip(*ensembles, strict=True) for spec in members],
           "Fine-tuning")  # fmt: skip
    alone: dict[Scenario, list[TrialSpec]] = {
        "direct transfer": transfer,
        "direct training": direct,
        "fine-tuning": [members[0] for members in ensembles],
    }
    tested: list[tuple[Scenario, tuple[TrialSpec, ...]]] = [
        (scenario, (spec,)) for scenario in SCENARIOS for spec in alone[scenario]
    ]
    tested += [("fine-tuning", members) for members in ensembles if len(members) > 1]
    return [
        Asked(scenario, specs, flips)
        for scenario, specs in tested
        for flips in ((False, True) if run.settings.flips else (False,))
    ]


def _tested(run: Run, asked: list[Asked]) -> list[Scored]:
    test = ray.remote(
        num_cpus=run.resources.cpus_per_worker, num_gpus=run.resources.gpus_per_worker
    )(_test)
    refs = [
        test.remote(one, str(run.trials.trials), run.trials.clinical.test, run.settings,
                    run.resources.cpus_per_worker)
        for one in asked
    ]  # fmt: skip
    with Steps("Testing", len(refs), run.console) as steps:
        for done in range(1, len(refs) + 1):
            ray.wait(refs, num_returns=done, fetch_local=False)
            steps.set(done)
    found: list[Scored] = ray.get(refs)
    return found


def _train(run: Run, specs: list[TrialSpec], title: str) -> None:
    results = run_trials(
        specs, run.source, run.trials.trials, run.resources, run.settings.cluster, title
    )
    for result in results:
        if result.outcome is None:
            raise TrainingError(f"{describe(result.spec)} failed: {result.error}")


def _outcome(folder: Path) -> TrialOutcome:
    return TrialOutcome.model_validate_json((folder / OUTCOME).read_text(encoding="utf-8"))


def _test(
    asked: Asked, trials: str, photos: tuple[Photo, ...], settings: PhotoSettings, threads: int
) -> Scored:
    torch.set_num_threads(threads)
    device = assigned_device()
    networks = [trained_network(spec, Path(trials) / spec.key).to(device) for spec in asked.specs]
    return score_and_draw(
        networks, photos, settings.read, Path(trials).parent, asked.first.key, device,
        flips=asked.flips, skin=settings.skin,
    )  # fmt: skip
