"""Training on clinical photographs: three scenarios, every network, one table."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

import torch
from rich.console import Console

from skinray.cluster.train.run import TrainingJob, TrainingRun, run_training
from skinray.cluster.train.tune import Trained, all_trained
from skinray.config.photos import PhotoSettings
from skinray.errors import CohortError, SettingsError, SkinrayError
from skinray.images.file_errors import counted
from skinray.images.photos.doubts import PhotoDoubts
from skinray.images.photos.pairs import (
    Photo,
    downsample,
    find_backgrounds,
    load_photo,
    read_pair,
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
from skinray.learning.spec import TrialSpec
from skinray.learning.trial import check_trials, trained_network
from skinray.progress import Steps
from skinray.report.biopsies.assemble import curve_of
from skinray.report.photos.bundle import write_photo_bundle
from skinray.report.photos.page import write_photo_report
from skinray.report.photos.rows import TestedNetwork, photo_row, score_and_draw
from skinray.report.photos.table import PhotoResults, unmarked_words


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
    out : run folder that every node sees; receives ``results.json``, ``table1.csv``,
        ``table1.md``, ``photos.csv``, ``views.csv``, ``report.html``, ``settings.yaml``,
        ``examples/``, ``trials/`` and ``bundle/``.
    backgrounds : folders of photographs without skin, which need no masks; skin from the other
        photographs is pasted onto them, as often as ``paste_probability`` says.
    resume : continue an interrupted run in ``out``.

    Raises
    ------
    SkinrayError
        If the photographs, the settings or the cluster do not allow the run.
    """
    check = partial(_checked, data, public, backgrounds, out, settings)
    return run_training(check, out, settings, resume=resume, console=console)


@dataclass(frozen=True)
class PhotoJob(TrainingJob[PhotoResults]):
    """A run on photographs that has been checked."""

    clinical: str  # the photographs' folders, as the user named them
    public: list[str]
    settings: PhotoSettings
    trials: PhotoTrials  # where networks whose weights are missing start from random weights
    unmarked: list[str]  # names of the photographs whose masks mark no skin
    notes: list[str]  # other doubts about the masks

    def train(self, run: TrainingRun) -> PhotoResults:
        """Train every network in every scenario, then test each."""
        planned, trained = self._trained(run)
        calls = [
            (one, self.trials.trials, self.trials.clinical.test, self.settings) for one in planned
        ]
        tested = run.tasks("Testing", _test, calls)
        begun = {
            wanted.label: beginning(wanted, used)
            for wanted, used in zip(
                self.settings.networks, self.trials.settings.networks, strict=True
            )
        }
        outcomes = {spec.key: outcome for spec, outcome in trained}
        rows = [
            photo_row(
                one.scenario, one.first, outcomes[one.first.key], scored, self.settings,
                begun[one.first.arm.label], flips=one.flips, members=len(one.specs),
            )
            for one, scored in zip(planned, tested, strict=True)
        ]  # fmt: skip
        shown = (*self.trials.public.train, *self.trials.public.validation)
        return PhotoResults(
            data=self.clinical,
            public=self.public,
            fingerprint=self.data,
            pretraining_images=len(shown),
            train_images=self.settings.train_images,
            test_images=self.settings.test_images,
            rows=rows,
            sources=dict(Counter(photo.source for photo in shown)),
            backgrounds=dict(Counter(photo.source for photo in self.trials.backgrounds)),
            curves=[curve_of(spec, outcome) for spec, outcome in trained],
            settings=self.settings.model_dump(mode="json"),
            unmarked=self.unmarked,
            notes=self.notes,
            **run.facts(),
        )

    def save(self, results: PhotoResults, out: Path) -> None:
        """Write the results, the page and the bundle."""
        results.save(out)
        write_photo_report(out)
        write_photo_bundle(out, self.trials, results)

    def _trained(self, run: TrainingRun) -> tuple[list[PlannedRow], list[Trained]]:
        """Return the rows in the order of the table, and their trainings with the outcomes."""
        transfer, direct = self.trials.pretraining(), self.trials.direct()
        trained = all_trained(run.train(transfer, "Pretraining"))
        ensembles = self.trials.ensembles()
        tuned = [spec for members in zip(*ensembles, strict=True) for spec in members]
        # The best of these goes into the bundle.
        kept = run.kept_resources([*direct, *tuned])
        trained += all_trained(run.train(direct, "Training", kept))
        trained += all_trained(run.train(tuned, "Fine-tuning", kept))
        alone: dict[Scenario, list[TrialSpec]] = {
            "direct transfer": transfer,
            "direct training": direct,
            "fine-tuning": [members[0] for members in ensembles],
        }
        tested: list[tuple[Scenario, tuple[TrialSpec, ...]]] = [
            (scenario, (spec,)) for scenario in SCENARIOS for spec in alone[scenario]
        ]
        tested += [("fine-tuning", members) for members in ensembles if len(members) > 1]
        views = (False, True) if self.settings.flips else (False,)
        planned = [
            PlannedRow(scenario, specs, flips) for scenario, specs in tested for flips in views
        ]
        return planned, trained


class PlannedRow(NamedTuple):
    """A row to test: a trained network, or an ensemble's, in a scenario, with or without flips."""

    scenario: Scenario
    specs: tuple[TrialSpec, ...]
    flips: bool

    @property
    def first(self) -> TrialSpec:
        """The network's trial, or that of the ensemble's first member."""
        return self.specs[0]


def _test(
    device: torch.device,
    row: PlannedRow,
    trials: Path,
    photos: tuple[Photo, ...],
    settings: PhotoSettings,
) -> TestedNetwork:
    networks = [trained_network(spec, trials / spec.key).to(device) for spec in row.specs]
    return score_and_draw(
        networks, photos, settings.read, trials.parent, row.first.key, device,
        flips=row.flips, skin=settings.skin,
    )  # fmt: skip


def _checked(
    data: str | Path,
    public: Sequence[str | Path],
    backgrounds: Sequence[Path],
    out: Path,
    settings: PhotoSettings,
    console: Console,
) -> PhotoJob:
    """Read the photographs and find whatever a user can have got wrong."""
    if backgrounds and not settings.paste_probability:
        raise SettingsError(
            "--backgrounds has no effect while paste_probability is 0: add --recipe varied or "
            "--set paste_probability=0.5"
        )
    used, lacking = with_weights_at_hand(settings)
    trials = _trials(find_set(data), find_public(public), backgrounds, used, out)
    check_trials([*trials.pretraining(), *trials.direct()])
    for remark in lacking:
        _remark(console, remark)
    doubts = _doubts([*trials.photos, *trials.clinical.test], settings, console)
    unmarked, notes = doubts.unmarked, doubts.notes()
    for remark in [*([unmarked_words(unmarked)] if unmarked else []), *notes]:
        _remark(console, remark)
    shown = len(trials.public.train) + len(trials.public.validation)
    without = f", {len(trials.backgrounds)} without skin" if trials.backgrounds else ""
    return PhotoJob(
        data=trials.data,
        labelled=trials.photos,
        reader=partial(load_photo, side=settings.load_px, settings=settings.read),
        summary=f"{shown} public photographs to pretrain on, {settings.train_images} clinical ones "
        f"to train on, {settings.test_images} to test on{without}",
        clinical=str(data),
        public=[str(one) for one in public],
        settings=settings,
        trials=trials,
        unmarked=unmarked,
        notes=notes,
    )


def _trials(
    ward: tuple[Photo, ...],
    others: tuple[Photo, ...],
    backgrounds: Sequence[Path],
    settings: PhotoSettings,
    out: Path,
) -> PhotoTrials:
    """Split the photographs, refusing any whose use would falsify a result."""
    refuse_shared(
        others, ward, "one of the clinical photographs, so networks would be tested on what they "
        "are trained on: remove it from the public photographs",
    )  # fmt: skip
    behind = tuple(photo for one in backgrounds for photo in find_backgrounds(one))
    refuse_shared(
        behind, [*ward, *others], "which has a mask: remove it from the photographs without skin"
    )
    clinical = split_photos(
        ward, settings.train_images, settings.test_images, settings.validation_fraction
    )
    shown = downsample(others, settings.pretraining_images)
    pretraining = split_photos(shown, len(shown), 0, settings.validation_fraction)
    everything = [*shown, *clinical.train, *clinical.validation, *clinical.test, *behind]
    data = photos_fingerprint(everything)
    return PhotoTrials(settings, pretraining, clinical, data, (out / "trials").absolute(), behind)


def _doubts(photos: Sequence[Photo], settings: PhotoSettings, console: Console) -> PhotoDoubts:
    """Read every photograph, so that all problems and doubts show now."""
    doubts, problems = PhotoDoubts(), []
    with Steps("Reading photographs", len(photos), console) as steps:
        for done, photo in enumerate(photos, 1):
            try:
                doubts.add(photo, *read_pair(photo, settings.read))
            except SkinrayError as error:
                problems.append(str(error))
            steps.set(done)
    if problems:
        raise CohortError("\n  ".join([counted(len(problems), "problem"), *problems]))
    return doubts


def _remark(console: Console, text: str) -> None:
    console.print(text, style="yellow", highlight=False, soft_wrap=True)
