"""The nested grid search: splits of the cohort, trials, and the configuration they choose."""

from __future__ import annotations

import hashlib
import json
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import Any, Literal

from skinray.config.biopsies import RunSettings
from skinray.config.kinds import STAGES, Stage
from skinray.config.training import ArmSettings
from skinray.errors import CohortError, TrainingError
from skinray.images.cohort.folds import assign_folds, hold_out
from skinray.images.cohort.rows import Cohort
from skinray.images.file_errors import counted
from skinray.learning.spec import TrialSpec, configured, grid_points, scaled

COMPONENTS, EVERYTHING = "components", "all"
# The configuration chosen for an arm on a split, by stage, label and the split's name.
Chosen = dict[tuple[Stage, str, str], dict[str, Any]]
Images = tuple[int, ...]  # positions in the cohort


@dataclass(frozen=True)
class Split:
    """Images to train on and held-out images to score, as positions in the cohort.

    ``inner`` are parts of ``train``. To rate a configuration for this split, the grid search
    trains on ``train`` without one part and scores on that part. Images with a model's own labels
    are in ``train`` and ``inner`` so that they leave the training together with their subject; they
    are never held out and never scored.
    """

    name: str
    train: Images
    held_out: Images
    inner: tuple[Images, ...] = ()


@dataclass(frozen=True)
class Splits:
    """All splits of a run."""

    folds: tuple[Split, ...]
    components: Split
    everything: Split

    @property
    def components_is_fold(self) -> bool:
        """Whether tables 1 and 2 use the held-out images of the first fold."""
        return self.components.name == self.folds[0].name

    def trained(self, settings: RunSettings) -> tuple[Split, ...]:
        """Return the splits that the main arms are trained on, each once."""
        final = () if settings.ensemble else (self.everything,)
        return (*self.folds, *final, *(() if self.components_is_fold else (self.components,)))


def make_splits(cohort: Cohort, settings: RunSettings) -> Splits:
    """Return the folds, the component split (tables 1 and 2) and the split with all images.

    A fold's inner parts are other folds, nearest first, so they also keep subjects together.

    Raises
    ------
    CohortError
        If there are fewer subjects (or images) than folds, or too few of them outside the
        component split's held-out images for its own search.
    """
    count, everyone = settings.folds.count, range(len(cohort.biopsies))
    scored = [biopsy.is_scored for biopsy in cohort.biopsies]
    inner = settings.tune.inner_splits if settings.tune.validation == "inner" else 0
    of = assign_folds(cohort, settings.folds, settings.seed)
    parts = [tuple(i for i in everyone if of[i] == k) for k in range(count)]
    folds = tuple(
        Split(
            f"fold-{k + 1}",
            train=tuple(i for i in everyone if of[i] != k),
            held_out=tuple(i for i in parts[k] if scored[i]),
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
            held_out=tuple(i for i in everyone if out[i] and scored[i]),
            inner=_inner_parts(cohort, train, settings),
        )
    return Splits(folds, components, Split(EVERYTHING, tuple(everyone), ()))


def _nearest(fold: int, count: int) -> list[int]:
    """List the other folds in a circle: next, previous, next but one, and so on."""
    both = [(fold + way * step) % count for step in range(1, count) for way in (1, -1)]
    return list(dict.fromkeys(both))[: count - 1]


def _inner_parts(cohort: Cohort, train: Images, settings: RunSettings) -> tuple[Images, ...]:
    """Split the images ``train`` like folds; return as many parts as the search needs."""
    arms = (arm for stage in STAGES["biopsy"] for arm in settings.stage(stage).arms)
    if settings.tune.selection == "pooled" or all(len(grid_points(arm)) == 1 for arm in arms):
        return ()
    unit, rows = settings.folds.unit, [cohort.biopsies[i] for i in train]
    scored = [row for row in rows if row.is_scored]
    units = len({row.subject if unit == "subject" else row.name for row in scored})
    # As many parts as the training images of a fold have, unless too few subjects are left.
    count, inner = min(settings.folds.count - 1, units), settings.tune.inner_splits
    needed = max(2, inner)
    if count < needed:
        raise CohortError(
            f"{cohort.root}: tables 1 and 2 hold out all but {counted(units, unit)}, too few for "
            f"the {needed} parts of the grid search: lower folds.components_held_out, set it to "
            f"null to use the first fold, or add {unit}s"
        )
    folds = settings.folds.model_copy(update={"count": count})
    of = assign_folds(replace(cohort, biopsies=tuple(rows)), folds, settings.seed)
    return tuple(
        tuple(i for i, part in zip(train, of, strict=True) if part == j) for j in range(inner)
    )


def deciding(splits: Splits, settings: RunSettings) -> dict[str, tuple[Split, ...]]:
    """Return, for the name of each split trained on, the splits whose evidence counts for it.

    Nested: only the split itself, so no image that tests a choice has helped to make it. The
    networks trained on all images are not tested, so for them all folds count. Pooled: all folds
    count for every split.
    """
    trained = splits.trained(settings)
    if settings.tune.selection == "pooled":
        return {split.name: splits.folds for split in trained}
    return {
        split.name: splits.folds if split is splits.everything else (split,) for split in trained
    }


class SpecMaker:
    """Makes the trials of a run from its settings, splits and cohort."""

    def __init__(self, settings: RunSettings, cohort: Cohort, data_fingerprint: str) -> None:
        self.settings = settings
        self.names = [biopsy.name for biopsy in cohort.biopsies]
        self.scored = [biopsy.is_scored for biopsy in cohort.biopsies]
        self.data = data_fingerprint

    def search(self, splits: Splits) -> list[TrialSpec]:
        """List the trials of the grid search: each arm, each grid point, each deciding split."""
        by_split = deciding(splits, self.settings)
        specs = []
        for stage, arm, trained in self._arms(splits):
            points = grid_points(arm)
            if len(points) > 1:
                where = dict.fromkeys(one for split in trained for one in by_split[split.name])
                specs += [
                    self.make("tune", stage, arm, name, train, point, evidence)
                    for point in points
                    for name, train, evidence in self._inner_trainings(
                        list(where), configured(self.settings.stage(stage), arm, point)[0]
                    )
                ]
        return specs

    def _inner_trainings(
        self, where: list[Split], arm: ArmSettings
    ) -> list[tuple[str, Images, dict[str, Images]]]:
        """List the search's trainings of one configuration, ``arm``.

        Each has a name, the images to train on and, for each split, the images to score on.
        Fold 1 without fold 2 and fold 2 without fold 1 have the same training images: one
        training gives evidence for both, unless its own scores decide which epoch is kept.
        """
        found: dict[Any, tuple[Images, dict[str, Images]]] = {}
        shared = arm.train.keep == "last" and arm.train.early_stop_epochs is None
        held_out = self.settings.tune.validation == "held_out"
        for split in where:
            for part in (split.held_out,) if held_out else split.inner:
                train = tuple(i for i in split.train if i not in part)
                place = train if shared else (split.name, train)
                judged = tuple(i for i in part if self.scored[i])
                found.setdefault(place, (train, {}))[1][split.name] = judged
        named = ["-".join(evidence) for _, evidence in found.values()]
        return [
            (name if named.count(name) == 1 else f"{name}-inner-{named[:at].count(name) + 1}",
             train, evidence)
            for at, (name, (train, evidence)) in enumerate(zip(named, found.values(), strict=True))
        ]  # fmt: skip

    def training(self, splits: Splits, chosen: Chosen) -> list[TrialSpec]:
        """List the final trainings, each with the configuration chosen for its arm and split.

        Without a choice, it is the first point of the grid.
        """
        return [
            self.make("fit", stage, arm, split.name, split.train, point)
            for stage, arm, trained in self._arms(splits)
            for split in trained
            for point in [chosen.get((stage, arm.label, split.name), grid_points(arm)[0])]
        ]

    def _arms(self, splits: Splits) -> list[tuple[Stage, ArmSettings, tuple[Split, ...]]]:
        """List the arms and their splits: all for the main arms, the component split for others."""
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
        train: Images,
        point: dict[str, Any],
        evidence: dict[str, Images] | None = None,
    ) -> TrialSpec:
        """Make one trial on the images ``train``; its key names its folder.

        ``evidence``: for each split's name, the images whose scores count in its choice.
        """
        evidence = evidence or {}
        resolved, augment = configured(self.settings.stage(stage), arm, point)
        if phase == "tune":
            share = self.settings.tune.epochs_fraction
            epochs = max(1, round(resolved.train.epochs * share))
            resolved = resolved.override({"train.epochs": epochs})
        # Different labels may have the same slug, so the hash is of the label as well.
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
            # Two splits may need the same images; each image is scored once.
            validation=tuple(dict.fromkeys(i for part in evidence.values() for i in part)),
            evidence=evidence,
            step_crops=step,
            seed=self.settings.seed,
            data=self.data,
        )


def choose(
    specs: Sequence[TrialSpec],
    scores: Mapping[str, Mapping[str, float] | None],
    by_split: Mapping[str, Sequence[Split]],
) -> Chosen:
    """Choose each arm's configuration for each split: the one with the best mean score.

    A configuration is excluded if any of its trials for the split failed. Of equal ones, the
    first in the grid wins.

    Parameters
    ----------
    specs : the trials of the search.
    scores : for each trial's key, its score as evidence for each split; None or missing: failed.
    by_split : for each split trained on, the splits whose evidence counts; see :func:`deciding`.

    Raises
    ------
    TrainingError
        If every configuration of an arm failed for a split.
    """
    chosen: Chosen = {}
    for stage, label in dict.fromkeys((spec.stage, spec.arm.label) for spec in specs):
        for name, deciders in by_split.items():
            own = [
                (spec.params, (scores.get(spec.key) or {}).get(split.name))
                for spec in specs
                if (spec.stage, spec.arm.label) == (stage, label)
                for split in deciders
                if split.name in spec.evidence
            ]
            if own:  # else the arm is not trained on this split
                chosen[stage, label, name] = _best(own, f"{stage} {label}, {name}")
    return chosen


def _best(tried: Sequence[tuple[dict[str, Any], float | None]], where: str) -> dict[str, Any]:
    points: dict[str, dict[str, Any]] = {}
    values: dict[str, list[float]] = defaultdict(list)
    for point, score in tried:
        mark = json.dumps(point, sort_keys=True)
        points[mark] = point
        values[mark].append(math.nan if score is None else score)
    means = {mark: fmean(found) for mark, found in values.items()}
    good = {mark: mean for mark, mean in means.items() if not math.isnan(mean)}
    if not good:
        raise TrainingError(
            f"{where}: every configuration of the grid failed; see the trials' errors; a "
            "lower train.learning_rate usually helps"
        )
    return points[max(good, key=good.__getitem__)]
