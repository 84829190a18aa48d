"""What decides a trial's result: the specification that every worker is sent. No torch in it."""

from __future__ import annotations

import json
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from skinray.config.base import Settings
from skinray.config.biopsies import StageSettings
from skinray.config.images import AugmentSettings
from skinray.config.kinds import Stage
from skinray.config.training import ArmSettings, ClusterSettings


class TrialSpec(Settings):
    """Everything that decides a trial's result, apart from the pixels.

    ``train`` and ``validation`` are positions in the cohort; ``names`` are the image names
    at the training positions, which seed the augmentation; ``data`` is the cohort's
    fingerprint. ``evidence``: of a trial of the grid search, parts of ``validation`` by the name of
    the split for which their scores help to choose. ``step_crops`` is the size of a step over all
    workers; 0: the arm's ``batch_size``. Of the stage "skin", ``paste_probability`` is how often
    the skin is put before one of the photographs at the positions ``backgrounds``. ``goes_on_from``
    is the key of a finished trial, in a folder beside this one's, with whose weights the network
    begins: no path, so that the run may be moved.
    """

    key: str
    phase: Literal["tune", "fit"]
    stage: Stage
    arm: ArmSettings
    augment: AugmentSettings
    split: str
    params: dict[str, Any] = Field(default_factory=dict)
    train: tuple[int, ...]
    names: tuple[str, ...]
    validation: tuple[int, ...] = ()
    evidence: dict[str, tuple[int, ...]] = Field(default_factory=dict)
    step_crops: int = Field(0, ge=0)
    paste_probability: float = Field(0, ge=0, le=1)
    backgrounds: tuple[int, ...] = ()
    goes_on_from: str | None = None
    seed: int
    data: str

    @model_validator(mode="after")
    def _pastes_skin_before_something(self) -> Self:
        if self.paste_probability and (self.stage != "skin" or not self.backgrounds):
            raise ValueError("paste_probability is of the stage skin, and needs backgrounds")
        return self

    @property
    def step(self) -> int:
        """Crops that one step of the optimiser takes, over all workers."""
        return self.step_crops or self.arm.train.batch_size


def configured(
    stage: StageSettings, arm: ArmSettings, params: dict[str, Any]
) -> tuple[ArmSettings, AugmentSettings]:
    """Put a grid point's values in place: paths below ``augment.`` or below the arm."""
    ours = {k: v for k, v in params.items() if not k.startswith("augment.")}
    augment = {k.removeprefix("augment."): v for k, v in params.items() if k not in ours}
    return arm.override(ours), stage.augment.override(augment)


def scaled(arm: ArmSettings, cluster: ClusterSettings) -> tuple[ArmSettings, int]:
    """Return an arm whose learning rate fits steps of several workers, and the crops of a step."""
    rate = arm.train.learning_rate * cluster.rate_factor
    step = arm.train.batch_size * cluster.worker_range[1]
    return arm.override({"train.learning_rate": rate}), step


def describe(spec: TrialSpec) -> str:
    """Return the trial in a few words, for progress lines and errors."""
    params = json.dumps(spec.params, sort_keys=True) if spec.params else ""
    return f"{spec.phase} {spec.stage} {spec.arm.label} {spec.split} {params}".strip()
