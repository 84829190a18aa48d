"""Training on clinical photographs: three scenarios, every network, one table."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

import torch
from rich.console import Console

from skinray.cluster.malloc import keep_freed_memory
from skinray.cluster.session import assigned_device, session
from skinray.cluster.shared_folder import check_shared
from skinray.cluster.train.held_out import run_tasks
from skinray.cluster.train.placement import kept_resources, trial_resources
from skinray.cluster.train.resources import Resources
from skinray.cluster.train.sources import Source, open_source
from skinray.cluster.train.tune import Trained, all_trained, run_trials
from skinray.config.photos import PhotoSettings
from skinray.errors import CohortError, SettingsError, SkinrayError
from skinray.images.photos.labels import read_skin
from skinray.images.photos.pairs import (
    Photo,
    downsample,
    find_backgrounds,
    load_photo,
    refuse_shared,
    split_photos,
)
from skinray.images.photos.public_sets import find_public, find_set
from skinray.learning.photos.trials import (
    SCENARIOS,
    PhotoTrials,
    Scenario,
    beginning,
    photos_fingerprint,
    with_weights_at_hand,
)
from skinray.learning.provenance import hardware, now, versions
from skinray.learning.run_folder import claim, refuse_foreign
from skinray.learning.spec import TrialSpec
from skinray.learning.trial import check_trials, trained_network
from skinray.progress import Steps
from skinray.report.biopsies.assemble import curve_of
from skinray.report.biopsies.results import Curve
from skinray.report.photos.bundle import write_photo_bundle
from skinray.report.photos.page import write_photo_report
from skinray.report.photos.rows import PhotoRow, TestedNetwork, photo_row, score_and_draw
from skinray.report.photos.table import PhotoResults, unmarked_words


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
    public : photographs to pretrain on; each folder is one source.
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
    # Whatever a user can have got wrong is found before Ray starts and a file is written.
    refuse_foreign(out, resume=resume)
    if backgrounds and not settings.paste_probability:
        raise SettingsError(
            "photographs without skin have no part in a run whose paste_probability is 0: take "
            "--recipe varied, or --set paste_probability=0.5"
        )
    used, lacking = with_weights_at_hand(settings)
    trials = _trials(find_set(data), find_public(public), backgrounds, used, out)
    check_trials([*trials.pretraining(), *trials.direct()])
    for remark in lacking:
        _remark(console, remark)
    unmarked = _unmarked([*trials.photos, *trials.clinical.test], settings, console)
    if unmarked:
        _remark(console, unmarked_words(unmarked))
    claim(out, settings, trials.data, resume=resume)
    shown = (*trials.public.train, *trials.public.validation)
    console.print(
        f"{len(shown)} public photographs to pretrain on, {settings.train_images} clinical ones "
        f"to train on, {settings.test_images} to test on"
        f"{f', {len(trials.backgrounds)} without skin' if trials.backgrounds else ''}; "
        f"run folder {out}",
        highlight=False,
        soft_wrap=True,
    )
    with session(trains=True):
        resources = trial_resources(settings.cluster, console)
        check_shared(out)
        reader = partial(load_photo, side=settings.load_px, settings=settings.read)
        with Steps("Decoding photographs", len(trials.photos), console) as steps:
            source = open_source(trials.photos, reader, settings.cluster, steps.tell)
        rows, curves = _rows(Run(settings, trials, source, resources, console))
    results = PhotoResults(
        data=str(data),
        public=[str(one) for one in public],
        fingerprint=trials.data,
        pretraining_images=len(shown),
        train_images=settings.train_images,
        test_images=settings.test_images,
        rows=rows,
        started=started,
        seconds=time.monotonic() - began,
        versions=versions(),
        hardware=hardware(),
        sources=dict(Counter(photo.source for photo in shown)),
        backgrounds=dict(Counter(photo.source for photo in trials.backgrounds)),
        curves=curves,
        settings=settings.model_dump(mode="json"),
        unmarked=unmarked,
    )
    results.save(out)
    write_photo_report(out)
    write_photo_bundle(out, trials, results)
    return results


def _trials(
    ward: tuple[Photo, ...],
    others: tuple[Photo, ...],
    backgrounds: Sequence[Path],
    settings: PhotoSettings,
    out: Path,
) -> PhotoTrials:
    """Split the photographs, refusing any whose use would falsify a result."""
    refuse_shared(
        others, ward, "one of the clinical photographs, so a network would learn from what it is "
        "tested on: take it out of the public ones",
    )  # fmt: skip
    behind = tuple(photo for one in backgrounds for photo in find_backgrounds(one))
    refuse_shared(
        behind, [*ward, *others], "which has a mask: leave it out of the photographs without skin"
    )
    clinical = split_photos(
        ward, settings.train_images, settings.test_images, settings.validation_fraction
    )
    shown = downsample(others, settings.pretraining_images)
    pretraining = split_photos(shown, len(shown), 0, settings.validation_fraction)
    everything = [*shown, *clinical.train, *clinical.validation, *clinical.test, *behind]
    data = photos_fingerprint(everything)
    return PhotoTrials(settings, pretraining, clinical, data, (out / "trials").absolute(), behind)


def _unmarked(photos: Sequence[Photo], settings: PhotoSettings, console: Console) -> list[str]:
    """Read every photograph, so that all that is wrong shows now; name masks without skin."""
    unmarked, problems = [], []
    with Steps("Reading photographs", len(photos), console) as steps:
        for done, photo in enumerate(photos, 1):
            try:
                sample = load_photo(photo, settings.load_px, settings.read)
                if photo.coding != "no skin" and not (
                    sample.masks["skin"].any()
                    or read_skin(photo.mask, photo.coding, settings.read).any()
                ):
                    unmarked.append(f"{photo.source}/{photo.name}")
            except SkinrayError as error:
                problems.append(str(error))
            steps.set(done)
    if problems:
        lines = "\n  ".join(problems)
        raise CohortError(f"{len(problems)} photographs or masks to correct or take out\n  {lines}")
    return unmarked


def _remark(console: Console, text: str) -> None:
    console.print(text, style="yellow", highlight=False, soft_wrap=True)


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
    asked, trained = _trained(run)
    calls = [
        (one, str(run.trials.trials), run.trials.clinical.test, run.settings,
         run.resources.cpus_per_worker)
        for one in asked
    ]  # fmt: skip
    tested = run_tasks("Testing", _test, calls, run.resources, run.console)
    begun = {
        wanted.label: beginning(wanted, used)
        for wanted, used in zip(run.settings.networks, run.trials.settings.networks, strict=True)
    }
    outcomes = {spec.key: outcome for spec, outcome in trained}
    rows = [
        photo_row(
            one.scenario, one.first, outcomes[one.first.key], scored, run.settings,
            begun[one.first.arm.label], flips=one.flips, members=len(one.specs),
        )
        for one, scored in zip(asked, tested, strict=True)
    ]  # fmt: skip
    return rows, [curve_of(spec, outcome) for spec, outcome in trained]


def _trained(run: Run) -> tuple[list[Asked], list[Trained]]:
    """Return the rows in the order of the table, and their trainings with what each came to."""
    trials = run.trials
    transfer, direct = trials.pretraining(), trials.direct()
    trained = _train(run, transfer, run.resources, "Pretraining")
    ensembles = trials.ensembles()
    tuned = [spec for members in zip(*ensembles, strict=True) for spec in members]
    # The best of these goes into the bundle.
    kept = kept_resources(run.settings.cluster, run.resources, [*direct, *tuned])
    trained += _train(run, direct, kept, "Training")
    trained += _train(run, tuned, kept, "Fine-tuning")
    alone: dict[Scenario, list[TrialSpec]] = {
        "direct transfer": transfer,
        "direct training": direct,
        "fine-tuning": [members[0] for members in ensembles],
    }
    tested: list[tuple[Scenario, tuple[TrialSpec, ...]]] = [
        (scenario, (spec,)) for scenario in SCENARIOS for spec in alone[scenario]
    ]
    tested += [("fine-tuning", members) for members in ensembles if len(members) > 1]
    asked = [
        Asked(scenario, specs, flips)
        for scenario, specs in tested
        for flips in ((False, True) if run.settings.flips else (False,))
    ]
    return asked, trained


def _train(run: Run, specs: list[TrialSpec], resources: Resources, title: str) -> list[Trained]:
    results = run_trials(
        specs, run.source, run.trials.trials, resources, run.settings.cluster, title
    )
    return all_trained(results)


def _test(
    asked: Asked, trials: str, photos: tuple[Photo, ...], settings: PhotoSettings, threads: int
) -> TestedNetwork:
    keep_freed_memory()
    torch.set_num_threads(threads)
    device = assigned_device()
    networks = [trained_network(spec, Path(trials) / spec.key).to(device) for spec in asked.specs]
    return score_and_draw(
        networks, photos, settings.read, Path(trials).parent, asked.first.key, device,
        flips=asked.flips, skin=settings.skin,
    )  # fmt: skip
