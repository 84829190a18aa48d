"""The trials of a run: those of the grid search, and the final trainings."""

from __future__ import annotations

import hashlib
import json
from typing import Any, Literal

from skinray.config.biopsies import RunSettings
from skinray.config.kinds import STAGES, Stage
from skinray.config.training import ArmSettings
from skinray.images.cohort.rows import Cohort
from skinray.learning.search.choice import Chosen
from skinray.learning.search.splits import Images, Split, Splits, deciding
from skinray.learning.spec import TrialSpec, configured, grid_points, scaled


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
