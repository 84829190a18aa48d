"""Splits of the cohort: folds, the components' split, and which of them decide for which."""

from __future__ import annotations

from dataclasses import dataclass, replace

from skinray.config.biopsies import RunSettings
from skinray.config.kinds import STAGES
from skinray.errors import CohortError
from skinray.images.cohort.folds import assign_folds, hold_out
from skinray.images.cohort.rows import Cohort
from skinray.images.file_errors import counted
from skinray.learning.spec import grid_points

COMPONENTS, EVERYTHING = "components", "all"
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
