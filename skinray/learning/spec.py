"""The specification of a trial, which is sent to every worker. Imports no torch."""

from __future__ import annotations

import json
from itertools import product
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from skinray.config.base import Settings
from skinray.config.biopsies import StageSettings
from skinray.config.images import AugmentSettings
from skinray.config.kinds import Stage
from skinray.config.training import ArmSettings, ClusterSettings


class TrialSpec(Settings):
    """Everything that determines a trial's result, apart from the pixels.

    Attributes
    ----------
    train, validation : positions in the cohort.
    names : names of the training images; they seed the augmentation.
    evidence : in a grid search, the parts of ``validation`` whose scores count in the choice for
        a split, by the split's name.
    step_crops : crops in a step, over all workers; 0: the arm's ``batch_size``.
    paste_probability : stage "skin" only; how often the skin is pasted onto one of the
        photographs at the positions ``backgrounds``.
    goes_on_from : key of a finished trial, in a folder next to this one's, whose weights the
        network starts from. Not a path, so that a run may be moved.
    data : the cohort's fingerprint.
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
            raise ValueError("paste_probability needs stage skin, and backgrounds")
        return self

    @property
    def step(self) -> int:
        """Crops in one step of the optimiser, over all workers."""
        return self.step_crops or self.arm.train.batch_size


def grid_points(arm: ArmSettings) -> list[dict[str, Any]]:
    """List the points of an arm's grid; a single empty point if there is no grid."""
    paths = list(arm.grid)
    return [
        dict(zip(paths, values, strict=True))
        for values in product(*(arm.grid[path] for path in paths))
    ]


def configured(
    stage: StageSettings, arm: ArmSettings, params: dict[str, Any]
) -> tuple[ArmSettings, AugmentSettings]:
    """Return the arm and the augmentation with a grid point's values set.

    Paths are relative to the arm; those that start with ``augment.`` are of the augmentation.
    """
    ours = {k: v for k, v in params.items() if not k.startswith("augment.")}
    augment = {k.removeprefix("augment."): v for k, v in params.items() if k not in ours}
    return arm.override(ours), stage.augment.override(augment)


def scaled(arm: ArmSettings, cluster: ClusterSettings) -> tuple[ArmSettings, int]:
    """Return an arm with the learning rate for several workers, and the crops in a step."""
    rate = arm.train.learning_rate * cluster.rate_factor
    step = arm.train.batch_size * cluster.worker_range[1]
    return arm.override({"train.learning_rate": rate}), step


def describe(spec: TrialSpec) -> str:
    """Describe the trial briefly, for progress lines and errors."""
    params = json.dumps(spec.params, sort_keys=True) if spec.params else ""
    return f"{spec.phase} {spec.stage} {spec.arm.label} {spec.split} {params}".strip()
