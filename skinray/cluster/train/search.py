"""The cross-validated grid search: its rounds of trials, and the configurations they choose."""

from __future__ import annotations

import logging
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from skinray.cluster.train.run import TrainingRun
from skinray.cluster.train.tune import TrialResult, all_trained
from skinray.config.biopsies import RunSettings
from skinray.config.kinds import STAGES, Stage
from skinray.images.cohort.rows import Cohort
from skinray.learning.search import Chosen, SpecMaker, Splits, choose, deciding
from skinray.learning.search.choice import Scores, StillIn, best_part, gives_evidence, rounds
from skinray.learning.spec import TrialSpec, describe, grid_points

LOG = logging.getLogger(__name__)
Arm = tuple[Stage, str]  # stage and label


@dataclass(frozen=True)
class Search:
    """A grid search: all its trials, those of the last round, and what these choose from."""

    tried: Sequence[TrialResult]
    last: Sequence[TrialResult]
    still_in: StillIn


@dataclass(frozen=True)
class GridSearch:
    """Searches the grids of all arms on the inner parts of the splits."""

    settings: RunSettings
    cohort: Cohort
    splits: Splits
    data: str  # the cohort's fingerprint

    def run(self, run: TrainingRun) -> Search:
        """Run the grid search; with ``second_tries``, again for all epochs where none learned."""
        tune = self.settings.tune
        search = self._in_rounds(run, tune.epochs_fraction)
        poor = {_arm(r.spec) for r in search.last} - _learned_arms(search.last)
        if not poor or not tune.second_tries or tune.epochs_fraction == 1:
            return search
        again = self._in_rounds(run, 1.0, poor, ", longer", "-longer")
        kept = [result for result in search.last if _arm(result.spec) not in poor]
        still_in = {place: of for place, of in search.still_in.items() if place[:2] not in poor}
        return Search(
            [*search.tried, *again.tried], [*kept, *again.last], {**still_in, **again.still_in}
        )

    def _in_rounds(
        self,
        run: TrainingRun,
        epochs_fraction: float,
        only: Collection[Arm] | None = None,
        title: str = "",
        ending: str = "",
    ) -> Search:
        """Search in one round or, with ``halving``, in several; each but the last is shorter.

        Parameters
        ----------
        epochs_fraction : of the last round.
        only : the arms to search; None: all.
        title, ending : of the search in progress lines, and of its trials' keys.
        """
        tune, by_split = self.settings.tune, deciding(self.splits, self.settings)
        of_arm = {
            (stage, arm.label): rounds(len(grid_points(arm)), tune.halving)
            for stage in STAGES["biopsy"]
            for arm in self.settings.stage(stage).arms
        }
        most = max(of_arm.values())
        trials = [self._trials(epochs_fraction / tune.halving**left) for left in range(most)]
        epochs = [{_arm(spec): spec.arm.train.epochs for spec in specs} for specs in trials]
        tried: list[TrialResult] = []
        last: Sequence[TrialResult] = ()
        still_in: StillIn = {}
        for left in reversed(range(most)):
            mark = f"-1-of-{tune.halving**left}" if left else ""
            specs = [
                spec.override({"key": f"{spec.key}{ending}{mark}"})
                for spec in trials[left]
                if (only is None or _arm(spec) in only)
                # Arms with small grids join later, and a round must be shorter than the next.
                and left < of_arm[_arm(spec)]
                and (not left or epochs[left][_arm(spec)] < epochs[left - 1][_arm(spec)])
                and gives_evidence(spec, by_split, still_in)
            ]
            part = f", round {most - left} of {most}" if most > 1 else ""
            last = _all_but_diverged(run.train(specs, f"Grid search{title}{part}"))
            tried += last
            if left:
                # Where nothing was learned yet, scores say nothing about the configurations.
                learned = _learned_arms(last)
                ranked = [result for result in last if _arm(result.spec) in learned]
                found, scores = [result.spec for result in ranked], _evidence(ranked)
                best = best_part(found, scores, by_split, still_in, tune.halving)
                still_in = {**still_in, **best}
        return Search(tried, last, still_in)

    def _trials(self, epochs_fraction: float) -> list[TrialSpec]:
        """List the trials of the search that train for a share of their arms' epochs."""
        settings = self.settings.override({"tune.epochs_fraction": epochs_fraction})
        return SpecMaker(settings, self.cohort, self.data).search(self.splits)

    def chosen(self, search: Search) -> Chosen:
        """Choose the configuration of each arm and split; one that diverges is out."""
        for result in search.tried:
            if result.diverged:
                LOG.warning("%s: not chosen: %s", describe(result.spec), result.error)
        # Where nothing was learned, there is no winner: the first point of the grid is used.
        learned = _learned_arms(search.last)
        last = [result for result in search.last if _arm(result.spec) in learned]
        by_split = deciding(self.splits, self.settings)
        return choose([r.spec for r in last], _evidence(last), by_split, search.still_in)


def _arm(spec: TrialSpec) -> Arm:
    return spec.stage, spec.arm.label


def _learned_arms(results: Sequence[TrialResult]) -> set[Arm]:
    return {_arm(r.spec) for r in results if r.outcome and r.outcome.learned}


def _all_but_diverged(results: Sequence[TrialResult]) -> Sequence[TrialResult]:
    """Return a search's trials unless one failed: a full disk must decide nothing."""
    all_trained([result for result in results if not result.diverged])
    return results


def _evidence(results: Sequence[TrialResult]) -> Scores:
    return {r.spec.key: r.outcome.evidence if r.outcome else None for r in results}
