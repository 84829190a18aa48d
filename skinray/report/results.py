"""What a cross-validated run measured: plain records, stored as ``results.json``.

A run folder holds ``results.json`` (a :class:`RunResults`), ``settings.yaml`` and
``predictions/<fold>/<image>.npz`` with the arrays ``nerve`` ((H, W) uint8, probability x 255),
``dermis`` ((H, W) bool, smoothed and filled), ``boundary`` ((H, W) bool) and ``points``
((N, 2) float, row and column). The report is rendered from these alone, so it can be made
again at any time.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from skinray.errors import SkinrayError

StageName = Literal["nerve", "dermis", "skin"]


class Record(BaseModel):
    """Base of all records: immutable, unknown keys refused, NaN kept through the file."""

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="strings")


class CountRow(Record):
    """One held-out image of the whole pipeline."""

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


class FoldRow(Record):
    """One fold: who was held out, what the parameter search chose."""

    fold: int
    train_images: int
    held_out_images: int
    train_subjects: int
    held_out_subjects: int
    crossings: dict[str, float]
    fit_consistency: float | None = None


class ArmRow(Record):
    """One row of table 1 or 2: a network scored on the component split's held-out images."""

    stage: StageName
    label: str
    main: bool
    status: Literal["measured", "not measured"]
    reason: str = ""
    chosen: dict[str, Any] = {}
    pretrained: str | None = None
    dice: dict[int, list[float]] = {}
    images: list[str] = []


class TrialRow(Record):
    """One trial: one configuration of one arm on one split."""

    trial: str
    phase: Literal["tune", "fit"]
    stage: StageName
    arm: str
    split: str
    params: dict[str, Any]
    status: Literal["done", "failed"]
    score: float | None = None
    epochs: int = 0
    seconds: float = 0.0
    images_per_s: float | None = None
    error: str = ""


class CurvePoint(Record):
    """One epoch of one training."""

    epoch: int
    loss: float
    learning_rate: float
    validation: float | None = None


class Curve(Record):
    """The course of one training."""

    stage: StageName
    arm: str
    split: str
    points: list[CurvePoint]


class RunResults(Record):
    """Everything the report shows."""

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
    arms: list[ArmRow]
    trials: list[TrialRow]
    curves: list[Curve]
    settings: dict[str, Any]
    versions: dict[str, str]
    hardware: str
    started: str
    seconds: float
    bundle: str | None = None
    notes: list[str] = []

    def save(self, run_dir: Path) -> Path:
        """Write ``results.json`` atomically into ``run_dir`` and return its path."""
        path = run_dir / "results.json"
        partial = path.with_suffix(".json.part")
        partial.write_text(self.model_dump_json(indent=1), encoding="utf-8")
        partial.replace(path)
        return path

    @classmethod
    def load(cls, run_dir: Path) -> RunResults:
        """Read ``results.json`` of a finished run; SkinrayError where there is none."""
        path = run_dir / "results.json"
        if not path.is_file():
            raise SkinrayError(
                f"{run_dir}: no results.json; the run has not finished, "
                "continue it with `skinray train-cv --resume`, one on photographs with "
                "`skinray train-photos --resume`"
            )
        return cls.model_validate_json(path.read_text(encoding="utf-8"))
