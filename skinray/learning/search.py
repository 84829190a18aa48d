"""Who trains on what: splits of the cohort, the grid search's trials and the final trainings."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import product
from typing import Any, Literal

import torch

from skinray.config.biopsies import RunSettings
from skinray.config.kinds import STAGES, Stage
from skinray.config.training import ArmSettings
from skinray.errors import CohortError, SettingsError, WeightsError
from skinray.images.cohort.folds import assign_folds, hold_out
from skinray.images.cohort.rows import Cohort
from skinray.learning.spec import TrialSpec, configured, scaled
from skinray.learning.trial import new_network

COMPONENTS, EVERYTHING = "components", "all"
# The configuration of each arm on each split, by stage, label and the split's name.
Choice = dict[tuple[Stage, str, str], dict[str, Any]]
# A training of the search: its name, its images, and by split those that it is scored on.
Look = tuple[str, tuple[int, ...], dict[str, tuple[int, ...]]]


@dataclass(frozen=True)
class Split:
    """Positions in the cohort: ``train`` teaches, ``held_out`` is scored.

    ``inner`` are parts of ``train``. The grid search judges a configuration for this split by
    networks trained on ``train`` without one part, and scored on that part.
    """

    name: str
    train: tuple[int, ...]
    held_out: tuple[int, ...]
    inner: tuple[tuple[int, ...], ...] = ()


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

    def trained(self, settings: RunSettings) -> tuple[Split, ...]:
        """Return the splits that the main arms are trained on, each once."""
        final = () if settings.ensemble else (self.everything,)
        return (*self.folds, *final, *(() if self.components_is_fold else (self.components,)))


def make_splits(cohort: Cohort, settings: RunSettings) -> Splits:
    """Split the cohort into folds, the component split, and everything.

    A fold's inner parts are other folds, the nearest first, so they respect subjects as folds do.

    Raises
    ------
    CohortError
        If there are fewer subjects (or images) than folds, or too few beside the component
        split's held-out images for a search of its own.
    """
    count, everyone = settings.folds.count, range(len(cohort.biopsies))
    inner = settings.tune.inner_splits if settings.tune.validation == "inner" else 0
    of = assign_folds(cohort, settings.folds, settings.seed)
    parts = [tuple(i for i in everyone if of[i] == k) for k in range(count)]
    folds = tuple(
        Split(
            f"fold-{k + 1}",
            train=tuple(i for i in everyone if of[i] != k),
            held_out=parts[k],
            inner=tuple(parts[at] for at in _nearest(k, count)[:inner]),
        )
        for k in range(count)
    )
    components = folds[0]
    if settings.folds.components_held_out is not None:
        out = hold_out(cohort, settings.folds.components_held_out, settings.folds, settings.seed)
        train = tuple(i for i in everyone if not out[i])
        components = Split(
            COMPONENTS,
            train=train,
            held_out=tuple(i for i in everyone if out[i]),
            inner=_inner_parts(cohort, train, settings),
        )
    return Splits(folds, components, Split(EVERYTHING, tuple(everyone), ()))


def _nearest(fold: int, count: int) -> list[int]:
    """List the other folds, as if they stood in a circle: one on, one back, two on, two back."""
    both = [(fold + way * step) % count for step in range(1, count) for way in (1, -1)]
    return list(dict.fromkeys(both))[: count - 1]


def _inner_parts(
    cohort: Cohort, train: tuple[int, ...], settings: RunSettings
) -> tuple[tuple[int, ...], ...]:
    """Deal the images ``train`` as folds are dealt, and return as many parts as search trials."""
    arms = (arm for stage in STAGES["biopsy"] for arm in settings.stage(stage).arms)
    if settings.tune.selection == "pooled" or all(len(grid_points(arm)) == 1 for arm in arms):
        return ()
    unit, rows = settings.folds.unit, [cohort.biopsies[i] for i in train]
    units = len({row.subject if unit == "subject" else row.name for row in rows})
    # As many parts as a fold's training images have, unless too few subjects are left.
    count, inner = min(settings.folds.count - 1, units), settings.tune.inner_splits
    needed = max(2, inner)
    if count < needed:
        raise CohortError(
            f"{cohort.root}: the {units} {unit}(s) beside the held-out images of tables 1 and 2 "
            f"cannot fill {needed} parts for the grid search: lower folds.components_held_out, "
            f"set it to null to use the first fold, or add {unit}s"
        )
    folds = settings.folds.model_copy(update={"count": count})
    of = assign_folds(replace(cohort, biopsies=tuple(rows)), folds, settings.seed)
    return tuple(
        tuple(i for i, part in zip(train, of, strict=True) if part == j) for j in range(inner)
    )


def deciding(splits: Splits, settings: RunSettings) -> dict[str, tuple[Split, ...]]:
    """Return, by the name of each trained split, the splits whose evidence chooses for it.

    Nested: its own, from networks that never saw the images that test the choice. No image
    tests the networks trained on everything: there all folds' evidence counts. Pooled: all folds'
    evidence, for every split.
    """
    trained = splits.trained(settings)
    if settings.tune.selection == "pooled":
        return {split.name: splits.folds for split in trained}
    return {
        split.name: splits.folds if split is splits.everything else (split,) for split in trained
    }


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
        """List the grid search: for each arm and grid point, its trials on the deciding splits."""
        by_split = deciding(splits, self.settings)
        specs = []
        for stage, arm, trained in self._arms(splits):
            points = grid_points(arm)
            if len(points) > 1:
                where = dict.fromkeys(one for split in trained for one in by_split[split.name])
                specs += [
                    self.make("tune", stage, arm, name, train, point, evidence)
                    for point in points
                    for name, train, evidence in self._looks(
                        list(where), configured(self.settings.stage(stage), arm, point)[0]
                    )
                ]
        return specs

    def _looks(self, where: list[Split], arm: ArmSettings) -> list[Look]:
        """List what a configuration, here ``arm``, is trained on, and scored on for which split.

        Fold 1 without fold 2 and fold 2 without fold 1 leave the same images to train on: one
        training gives evidence for both, unless its own scores choose the epoch that is kept.
        """
        looks: dict[Any, tuple[tuple[int, ...], dict[str, tuple[int, ...]]]] = {}
        shared = arm.train.keep == "last" and arm.train.early_stop_epochs is None
        held_out = self.settings.tune.validation == "held_out"
        for split in where:
            for part in (split.held_out,) if held_out else split.inner:
                train = tuple(i for i in split.train if i not in part)
                place = train if shared else (split.name, train)
                looks.setdefault(place, (train, {}))[1][split.name] = part
        named = ["-".join(evidence) for _, evidence in looks.values()]
        return [
            (name if named.count(name) == 1 else f"{name}-inner-{named[:at].count(name) + 1}",
             train, evidence)
            for at, (name, (train, evidence)) in enumerate(zip(named, looks.values(), strict=True))
        ]  # fmt: skip

    def training(self, splits: Splits, chosen: Choice) -> list[TrialSpec]:
        """List the final trainings, each with what was chosen for its arm and split.

        What was not chosen is the grid's first point.
        """
        return [
            self.make("fit", stage, arm, split.name, split.train, point)
            for stage, arm, trained in self._arms(splits)
            for split in trained
            for point in [chosen.get((stage, arm.label, split.name), grid_points(arm)[0])]
        ]

    def _arms(self, splits: Splits) -> list[tuple[Stage, ArmSettings, tuple[Split, ...]]]:
        """List the arms with what each is trained on: the main arm on all splits, others on one."""
        everywhere, one = splits.trained(self.settings), (splits.components,)
        arms = []
        for stage in STAGES["biopsy"]:
            of = self.settings.stage(stage)
            arms += [(stage, arm, everywhere if arm is of.main else one) for arm in of.arms]
        return arms

    def make(
        self,
        phase: Literal["tune", "fit"],
        stage: Stage,
        arm: ArmSettings,
        name: str,
        train: tuple[int, ...],
        point: dict[str, Any],
        evidence: dict[str, tuple[int, ...]] | None = None,
    ) -> TrialSpec:
        """Make one trial on the images ``train``; its key names its folder.

        ``evidence``: by the name of a split, the images whose scores help to choose for it.
        """
        evidence = evidence or {}
        resolved, augment = configured(self.settings.stage(stage), arm, point)
        if phase == "tune":
            share = self.settings.tune.epochs_fraction
            epochs = max(1, round(resolved.train.epochs * share))
            resolved = resolved.override({"train.epochs": epochs})
        # Labels may differ in nothing that a file name can show, so the mark stands for both.
        facts = json.dumps([arm.label, point], sort_keys=True)
        mark = hashlib.sha256(facts.encode()).hexdigest()[:8]
        resolved, step = scaled(resolved, self.settings.cluster)
        return TrialSpec(
            key=f"{phase}-{stage}-{arm.slug}-{mark}-{name}",
            phase=phase,
            stage=stage,
            arm=resolved,
            augment=augment,
            split=name,
            params=point,
            train=train,
            names=tuple(self.names[i] for i in train),
            # Two splits may ask for the same images: each is scored once.
            validation=tuple(dict.fromkeys(i for part in evidence.values() for i in part)),
            evidence=evidence,
            step_crops=step,
            seed=self.settings.seed,
            data=self.data,
        )


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
