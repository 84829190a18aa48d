"""The results of a cross-validated run: plain records, stored as ``results.json``.

A run folder holds ``results.json`` (a :class:`RunResults`), ``settings.yaml`` and
``predictions/<fold>/<image>.npz`` with the arrays ``nerve`` ((H, W) uint8, probability x 255),
``dermis`` ((H, W) bool, smoothed and filled), ``boundary`` ((H, W) bool) and ``points``
((N, 2) float, row and column). The report is made from these files alone, so it can be made
again at any time.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path
from statistics import fmean
from typing import Any, ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from skinray.config.kinds import STAGES, Stage
from skinray.errors import SkinrayError
from skinray.files import CSV_ENCODING, spreadsheet_cell, whole, write_whole
from skinray.learning.metrics import has_learned
from skinray.learning.run_folder import OWNER


class Record(BaseModel):
    """Base of all records: immutable, no unknown keys, NaN survives the file."""

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="strings")


class CountRow(Record):
    """One held-out image, counted by the whole pipeline.

    ``chance`` is, by stage, the Dice of the better of an empty and a full mask.
    """

    image: str
    path: str
    subject: str
    group: str | None
    fold: int
    expert: int
    model: int
    second_expert: int | None = None
    nerve_dice: dict[int, float]
    dermis_dice: float
    boundary_px: float
    um_per_px: float | None = None
    prediction: str | None = None
    chance: dict[Stage, float] = {}

    def score(self, stage: Stage) -> float:
        """Return the Dice of a stage that decides whether it was learned."""
        return self.nerve_dice[max(self.nerve_dice)] if stage == "nerve" else self.dermis_dice


class FoldRow(Record):
    """One fold: what was held out, and the parameters that the search chose."""

    fold: int
    train_images: int
    held_out_images: int
    train_subjects: int
    held_out_subjects: int
    crossings: dict[str, float]
    fit_consistency: float | None = None


class ArmRow(Record):
    """One row of table 1 or 2: a network scored on the component split's held-out images.

    ``chosen`` is its configuration on that split; the trials of phase "fit" have those of others.
    """

    stage: Stage
    label: str
    main: bool
    status: Literal["measured", "not measured"]
    reason: str = ""
    chosen: dict[str, Any] = {}
    pretrained: str | None = None
    dice: dict[int, list[float]] = {}
    images: list[str] = []


class TrialRow(Record):
    """One trial: one configuration of one arm on one split.

    ``finding`` says what a network that did not learn did instead, and the likely cause.
    ``epochs_asked`` shows which round of a search by halving a trial belongs to.
    """

    trial: str
    phase: Literal["tune", "fit"]
    stage: Stage
    arm: str
    split: str
    params: dict[str, Any]
    status: Literal["done", "failed"]
    score: float | None = None
    epochs_asked: int = 0
    epochs: int = 0
    seconds: float = 0.0
    images_per_s: float | None = None
    fed_by: str = ""
    workers: int = 1
    crops_streamed: int = 0
    waited_for_data_s: float = 0.0
    error: str = ""
    learned: bool | None = None
    finding: str = ""


class CurvePoint(Record):
    """One epoch of one training."""

    epoch: int
    loss: float
    learning_rate: float
    validation: float | None = None


class Curve(Record):
    """The epochs of one training."""

    stage: Stage
    arm: str
    split: str
    points: list[CurvePoint]


class StoredResults(Record):
    """What the results of all kinds of training share, and their file ``results.json``."""

    file: ClassVar[str] = "results.json"
    command: ClassVar[str]  # that resumes an interrupted run
    of: ClassVar[str]  # what kind of run it is, for errors

    curves: list[Curve]
    settings: dict[str, Any]
    versions: dict[str, str]
    hardware: str
    started: str
    seconds: float

    def save(self, run_dir: Path) -> Path:
        """Write ``results.json`` into ``run_dir``; it appears whole. Return its path."""
        return write_whole(run_dir / self.file, self.model_dump_json(indent=1))

    @classmethod
    def load(cls, run_dir: Path) -> Self:
        """Read ``results.json`` of a finished run; SkinrayError if it is missing or damaged."""
        path = run_dir / cls.file
        try:
            return cls.model_validate_json(path.read_text(encoding="utf-8"))
        except (FileNotFoundError, NotADirectoryError):
            raise SkinrayError(_no_results(run_dir, cls.file)) from None
        except ValueError as error:
            reason = str(error)
            if isinstance(error, ValidationError):
                first = error.errors()[0]
                reason = f"{'.'.join(map(str, first['loc'])) or 'the file'}: {first['msg']}"
            raise SkinrayError(
                f"{path}: not the results of {cls.of} ({reason}); restore the file, or test again "
                f"with `{cls.command} --resume`"
            ) from None


def _no_results(run_dir: Path, file: str) -> str:
    """Say why a folder has no results, and what to do."""
    if not run_dir.exists():
        return f"{run_dir}: no such folder; give the --out folder of a run"
    if (run_dir.parent / file).is_file():
        return f"{run_dir}: inside the folder of a run; give {run_dir.parent}"
    if not (run_dir / OWNER).is_file():
        return f"{run_dir}: not the folder of a run; give the --out folder of one"
    return (
        f"{run_dir}: no {file}; the run has not finished. Continue it with `skinray train-cv "
        "--resume` or, for photographs, `skinray train-photos --resume`"
    )


def in_words(split: str) -> str:
    """Return what a split is called in sentences."""
    if split == "all":
        return "the bundle"
    return split.replace("-", " ") if split.startswith("fold-") else "tables 1 and 2"


def why_optimistic(settings: Mapping[str, Any], searched: bool) -> str:
    """Say that a run's figures are optimistic, and why; empty if its search gives no reason.

    ``settings`` are those of the whole run. Without ``tune.selection``, the run is of a version
    that always pooled the folds.
    """
    tune = settings.get("tune", {})
    if not searched or tune.get("selection", "pooled") == "nested":
        return ""
    if tune.get("validation") == "held_out":
        return (
            "The figures are optimistic: the grid search was scored on the held-out images, which "
            "then also test its choice (tune.validation: held_out)."
        )
    return (
        "The figures are optimistic: each network has one configuration, the one with the best "
        "mean over all folds, so every held-out image had a part in the choice that it then tests "
        "(tune.selection: pooled)."
    )


class RunResults(StoredResults):
    """Everything the report shows.

    ``component_train`` is how many images trained the networks of tables 1 and 2; None: all that
    were not held out. ``synthetic``: skinray drew every image of the cohort.
    """

    command = "skinray train-cv"
    of = "a cross-validated run"

    recipe: str
    seed: int
    data: str
    data_fingerprint: str
    images: int
    subjects: int
    fold_unit: Literal["subject", "image"]
    counts: list[CountRow]
    folds: list[FoldRow]
    component_split: str
    component_counts: list[CountRow] = []
    component_train: int | None = None
    arms: list[ArmRow]
    trials: list[TrialRow]
    bundle: str | None = None
    notes: list[str] = []
    synthetic: bool = False

    @property
    def last_round(self) -> list[TrialRow]:
        """The trials of the last, longest round of each arm's search."""
        tried = [trial for trial in self.trials if trial.phase == "tune"]
        tune = self.settings.get("tune", {})
        if tune.get("halving", 1) == 1 and not tune.get("second_tries"):
            return tried
        longest: dict[tuple[Stage, str], int] = {}
        for trial in tried:
            arm = trial.stage, trial.arm
            longest[arm] = max(trial.epochs_asked, longest.get(arm, 0))
        return [trial for trial in tried if trial.epochs_asked == longest[trial.stage, trial.arm]]

    @property
    def optimistic(self) -> str:
        """See :func:`why_optimistic`."""
        return why_optimistic(self.settings, any(trial.phase == "tune" for trial in self.trials))

    @property
    def failures(self) -> list[str]:
        """What did not work: each sentence names a part of the run, what it did, and the cause.

        A baseline that did not learn is not among them: it counts nothing.
        """
        return [*self._not_learned(), *self._not_found()]

    def is_main(self, trial: TrialRow) -> bool:
        """Whether a trial is of a network that counts."""
        main = (self.settings.get(trial.stage) or {}).get("main") or {}
        return main.get("label") == trial.arm

    def _not_learned(self) -> list[str]:
        """Name the trainings of which the network is no better than chance on its own images."""
        return [
            f"The {trial.stage} network of {in_words(trial.split)} did not learn: {trial.finding}."
            for trial in self.trials
            if trial.phase == "fit" and trial.learned is False and self.is_main(trial)
        ]

    def _not_found(self) -> list[str]:
        """Name the folds in which a network that has learned is at chance on held-out images."""
        unlearned = {(t.stage, t.split) for t in self.trials if t.phase == "fit" and not t.learned}
        said = []
        for stage in STAGES["biopsy"]:
            for number in sorted({row.fold for row in self.counts}):
                rows = [row for row in self.counts if row.fold == number and stage in row.chance]
                if not rows or (stage, f"fold-{number}") in unlearned:
                    continue
                score = fmean(row.score(stage) for row in rows)
                chance = fmean(row.chance[stage] for row in rows)
                if not has_learned(score, chance):
                    said.append(
                        f"The {stage} network of fold {number} learned its training images but is "
                        f"no better than chance on the held-out ones (Dice {score:.2f}; a mask "
                        f"that ignores the image reaches {chance:.2f}): the labels may belong to "
                        "other images, the images may be too few, or they may differ too much."
                    )
        return said


def write_trials(results: RunResults, run_dir: Path) -> Path:
    """Write ``trials.csv``: a row per trial, a column per searched setting."""
    rows = []
    for trial in results.trials:
        row = trial.model_dump(exclude={"params"})
        row |= {f"params.{key}": value for key, value in trial.params.items()}
        rows.append({key: _cell(value) for key, value in row.items()})
    path = run_dir / "trials.csv"
    columns = dict.fromkeys(name for row in rows for name in row)
    with whole(path) as partial, partial.open("w", newline="", encoding=CSV_ENCODING) as file:
        writer = csv.DictWriter(file, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    return path


def _cell(value: Any) -> Any:
    """Return a value for a CSV file, with as many digits as it is worth."""
    if not isinstance(value, float):
        return spreadsheet_cell(value)
    return float(f"{value:.4g}") if abs(value) < 1000 else round(value, 1)
