"""Who trains on what: splits of the cohort, the grid search's trials, and its winner."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import product
from statistics import fmean
from typing import Any, Literal

import torch

from skinray.config import ArmSettings, RunSettings
from skinray.errors import SettingsError, TrainingError, WeightsError
from skinray.images.folds import assign_folds, hold_out
from skinray.images.manifest import Cohort
from skinray.learning.spec import StageName, TrialSpec, configured, scaled
from skinray.learning.trial import new_network

STAGES: tuple[StageName, ...] = ("nerve", "dermis")
COMPONENTS, EVERYTHING = "components", "all"


@dataclass(frozen=True)
class Split:
    """Positions in the cohort: ``train`` teaches, ``held_out`` is scored.

    ``inner`` is the part of ``train`` that scores the grid search's trials on this split, so
    that they never look at ``held_out``.
    """

    name: str
    train: tuple[int, ...]
    held_out: tuple[int, ...]
    inner: tuple[int, ...] = ()


@dataclass(frozen=True)
class Splits:
    """All splits of a run."""

    folds: tuple[Split, ...]
    components: Split
    everything: Split

    @property
    def components_is_fold(self) -> bool:
        """Whether tables 1 and 2 use the first fold's held-out images."""
        return self.components.name == self.folds[0].name


def make_splits(cohort: Cohort, settings: RunSettings) -> Splits:
    """Split the cohort into folds, the component split, and everything.

    Fold i's inner part is the next fold, so inner parts respect subjects as folds do.

    Raises
    ------
    CohortError
        If there are fewer subjects (or images) than folds.
    SettingsError
        If there are too few folds for an inner part.
    """
    count, everyone = settings.folds.count, range(len(cohort.biopsies))
    if count < 3 and settings.tune.validation == "inner":
        raise SettingsError(
            "folds.count 2 leaves nothing to train on beside an inner validation part: "
            "use 3 or more folds, or tune.validation 'held_out'"
        )
    of = assign_folds(cohort, settings.folds, settings.seed)
    folds = tuple(
        Split(
            f"fold-{k + 1}",
            train=tuple(i for i in everyone if of[i] != k),
            held_out=tuple(i for i in everyone if of[i] == k),
            inner=tuple(i for i in everyone if of[i] == (k + 1) % count),
        )
        for k in range(count)
    )
    components = folds[0]
    if settings.folds.components_held_out is not None:
        out = hold_out(cohort, settings.folds.components_held_out, settings.folds, settings.seed)
        components = Split(
            COMPONENTS,
            train=tuple(i for i in everyone if not out[i]),
            held_out=tuple(i for i in everyone if out[i]),
        )
    return Splits(folds, components, Split(EVERYTHING, tuple(everyone), ()))


def grid_points(arm: ArmSettings) -> list[dict[str, Any]]:
    """List an arm's configurations; one empty point where there is nothing to choose."""
    paths = list(arm.grid)
    return [
        dict(zip(paths, values, strict=True))
        for values in product(*(arm.grid[path] for path in paths))
    ]


class SpecMaker:
    """Makes the trials of a run out of its settings, splits and cohort."""

    def __init__(self, settings: RunSettings, cohort: Cohort, data_fingerprint: str) -> None:
        self.settings = settings
        self.names = [biopsy.name for biopsy in cohort.biopsies]
        self.data = data_fingerprint

    def search(self, splits: Splits) -> list[TrialSpec]:
        """List the grid search: one trial for each arm, grid point and fold."""
        specs = []
        for stage in STAGES:
            for arm in self.settings.stage(stage).arms:
                points = grid_points(arm)
                if len(points) > 1:
                    specs += [
                        self.make("tune", stage, arm, split, point)
                        for point in points
                        for split in splits.folds
                    ]
        return specs

    def training(
        self, splits: Splits, chosen: dict[tuple[StageName, str], dict[str, Any]]
    ) -> list[TrialSpec]:
        """List the final trainings: the main arm on every split, baselines on one."""
        main = [*splits.folds]
        if not self.settings.ensemble:
            main.append(splits.everything)
        if not splits.components_is_fold:
            main.append(splits.components)
        specs = []
        for stage in STAGES:
            settings = self.settings.stage(stage)
            for arm in settings.arms:
                point = chosen.get((stage, arm.label), _first(arm))
                where = main if arm is settings.main else [splits.components]
                specs += [self.make("fit", stage, arm, split, point) for split in where]
        return specs

    def make(
        self,
        phase: Literal["tune", "fit"],
        stage: StageName,
        arm: ArmSettings,
        split: Split,
        point: dict[str, Any],
    ) -> TrialSpec:
        """Make one trial; its key names its folder."""
        resolved, augment = configured(self.settings.stage(stage), arm, point)
        train: tuple[int, ...] = split.train
        validation: tuple[int, ...] = ()
        if phase == "tune":
            train, validation = self._search_split(split)
            share = self.settings.tune.epochs_fraction
            epochs = max(1, round(resolved.train.epochs * share))
            resolved = resolved.override({"train.epochs": epochs})
        # Labels may differ in nothing that a file name can show, so the mark stands for both.
        facts = json.dumps([arm.label, point], sort_keys=True)
        mark = hashlib.sha256(facts.encode()).hexdigest()[:8]
        resolved, step = scaled(resolved, self.settings.cluster)
        return TrialSpec(
            key=f"{phase}-{stage}-{arm.slug}-{mark}-{split.name}",
            phase=phase,
            stage=stage,
            arm=resolved,
            augment=augment,
            split=split.name,
            params=point,
            train=train,
            names=tuple(self.names[i] for i in train),
            validation=validation,
            step_crops=step,
            seed=self.settings.seed,
            data=self.data,
        )

    def _search_split(self, split: Split) -> tuple[tuple[int, ...], tuple[int, ...]]:
        if self.settings.tune.validation == "held_out":
            return split.train, split.held_out
        inner = set(split.inner)
        return tuple(i for i in split.train if i not in inner), split.inner


def check_trials(specs: Iterable[TrialSpec]) -> None:
    """Raise now what a trial's network would raise later, on another machine.

    Raises
    ------
    SettingsError
        If a network cannot be built with its options, or lacks what its loss asks for.
    WeightsError
        If pretrained weights do not fit it.
    """
    distinct = {(s.arm.model.fingerprint(), s.arm.train.side_weight > 0): s for s in specs}
    for spec in distinct.values():
        model, where = spec.arm.model, f"{spec.stage} {spec.arm.label}"
        try:
            # Without weights to compare, the shapes are enough: no memory, no random numbers.
            with torch.device("meta" if model.weights is None else "cpu"):
                network = new_network(spec)
        except (TypeError, ValueError) as error:
            raise SettingsError(
                f"{where}: options {model.options} do not describe a {model.name} ({error}); "
                "correct model.options"
            ) from None
        except (SettingsError, WeightsError) as error:
            raise type(error)(f"{where}: {error}") from None
        if spec.arm.train.side_weight > 0 and not hasattr(network, "forward_sides"):
            raise SettingsError(
                f"{where}: {model.name} has no side outputs; set train.side_weight to 0"
            )


def choose(
    specs: Sequence[TrialSpec], scores: dict[str, float | None]
) -> dict[tuple[StageName, str], dict[str, Any]]:
    """Choose each arm's configuration: the best mean score over the folds.

    A configuration that failed in any fold is out; equal means keep the grid's order.

    Raises
    ------
    TrainingError
        If every configuration of an arm failed.
    """
    chosen: dict[tuple[StageName, str], dict[str, Any]] = {}
    for stage, label in dict.fromkeys((spec.stage, spec.arm.label) for spec in specs):
        own = [spec for spec in specs if (spec.stage, spec.arm.label) == (stage, label)]
        means = []
        for point in _distinct(spec.params for spec in own):
            values = [scores.get(spec.key) for spec in own if spec.params == point]
            good = [value for value in values if value is not None]
            if good and len(good) == len(values):
                means.append((fmean(good), point))
        if not means:
            raise TrainingError(
                f"{stage} {label}: every configuration of the grid failed; the trials' errors "
                "say why, a lower train.learning_rate is the usual remedy"
            )
        chosen[stage, label] = max(means, key=lambda pair: pair[0])[1]
    return chosen


def _distinct(points: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for point in points:
        if point not in found:
            found.append(point)
    return found


def _first(arm: ArmSettings) -> dict[str, Any]:
    return grid_points(arm)[0]
