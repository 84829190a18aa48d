"""Folds for cross-validation: whole subjects together, groups spread evenly, seeded.

The result depends only on names, subjects, groups and the seed, not on the order of the
manifest's rows. docs/decisions/0036 says why scikit-learn's StratifiedGroupKFold is not used.

Images whose labels a model made alone are no truth to score against: they change nothing in how the
others are dealt, and follow their subject. docs/decisions/0038 has the reasons.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from skinray.config.biopsies import FoldSettings
from skinray.errors import CohortError
from skinray.images.cohort.rows import Cohort
from skinray.images.file_errors import counted

# The fold of an image that is never held out: only a model labelled images of its subject.
TRAINED_ALWAYS = -1


@dataclass(frozen=True)
class _Unit:
    """What stays together: the rows of one subject, or one row."""

    group: str
    rows: tuple[int, ...]


def assign_folds(cohort: Cohort, settings: FoldSettings, seed: int) -> NDArray[np.int64]:
    """Assign each image of the cohort to a fold.

    Units (subjects, or images if ``settings.unit`` says so) are placed one by one, large ones
    first, in the fold that so far has the smallest share of the unit's group and of all images.
    No fold stays empty. An image with a model's own labels belongs to the fold of its subject, so
    that it does not train a network that is scored on that subject; it has no fold if no other
    image of the subject has one, or if folds are of images.

    Returns (N,) int in 0 .. ``settings.count - 1`` or ``TRAINED_ALWAYS``, in the order of
    ``cohort.biopsies``.
    Raises CohortError if there are fewer units than folds.
    """
    units = _shuffled_units(cohort, settings, seed)
    if len(units) < settings.count:
        remedy = f"add {settings.unit}s or set folds.count to at most {len(units)}"
        if len(units) == 1:
            remedy = f"add images of at least one more {settings.unit}"
            if settings.unit == "subject":
                remedy += ", or see with --fold-unit image how well it counts this subject alone"
        raise CohortError(
            f"{cohort.root}: {counted(len(units), settings.unit)}{_left_out(cohort)} cannot fill "
            f"{settings.count} folds: {remedy}"
        )
    total = Counter[str]()
    for unit in units:
        total[unit.group] += len(unit.rows)
    folds = np.full(len(cohort.biopsies), TRAINED_ALWAYS, np.int64)
    of_group = {group: np.zeros(settings.count) for group in total}
    of_all = np.zeros(settings.count)
    for unit in sorted(units, key=lambda unit: -len(unit.rows)):  # stable: keeps the shuffle
        share = of_group[unit.group] / total[unit.group] + of_all / sum(total.values())
        fold = int(np.argmin(share))
        folds[list(unit.rows)] = fold
        of_group[unit.group][fold] += len(unit.rows)
        of_all[fold] += len(unit.rows)
    return _with_subjects(cohort, settings, folds)


def hold_out(cohort: Cohort, count: int, settings: FoldSettings, seed: int) -> NDArray[np.bool_]:
    """Choose about ``count`` images to hold out of one training (tables 1 and 2 of the paper).

    By image: exactly ``count``. By subject: whole subjects whose images sum to as near ``count``
    as possible. Groups are drawn in proportion; both sides keep at least one image. An image with a
    model's own labels does not count, and goes with its subject as in :func:`assign_folds`.

    Returns (N,) bool in the order of ``cohort.biopsies``, True where held out.
    Raises CohortError if nothing would be left to train on, or there is a single unit.
    """
    units = _proportional_order(_shuffled_units(cohort, settings, seed), seed)
    images = len(cohort.scored)
    if len(units) < 2 or not 1 <= count < images:
        raise CohortError(
            f"{cohort.root}: cannot hold out {count} of {images} images in "
            f"{counted(len(units), settings.unit)}: set folds.components_held_out below the number "
            f"of images, or add {settings.unit}s"
        )
    held = np.where([biopsy.is_scored for biopsy in cohort.biopsies], 0, TRAINED_ALWAYS)
    for unit in _nearest_total([len(unit.rows) for unit in units], count):
        held[list(units[unit].rows)] = 1
    return np.asarray(_with_subjects(cohort, settings, held) == 1, bool)


def _with_subjects(
    cohort: Cohort, settings: FoldSettings, folds: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Put images with a model's own labels into the fold of their subject's other images."""
    if settings.unit == "image":
        return folds
    pairs = list(zip(cohort.biopsies, folds.tolist(), strict=True))
    of = {biopsy.subject: fold for biopsy, fold in pairs if biopsy.is_scored}
    return np.array([of.get(biopsy.subject, TRAINED_ALWAYS) for biopsy, _ in pairs], np.int64)


def _left_out(cohort: Cohort) -> str:
    """Say that some images were not counted, and why."""
    alone = len(cohort.biopsies) - len(cohort.scored)
    return f", without the {counted(alone, 'image')} labelled by a model alone," if alone else ""


def _shuffled_units(cohort: Cohort, settings: FoldSettings, seed: int) -> list[_Unit]:
    """Return the units to score, in an order drawn from the seed, whatever that of the rows."""
    rows: dict[str, list[int]] = {}
    for row, biopsy in enumerate(cohort.biopsies):
        if not biopsy.is_scored:
            continue
        key = biopsy.subject if settings.unit == "subject" else biopsy.name
        rows.setdefault(key, []).append(row)
    units = [_Unit(_group(cohort, rows[name]), tuple(rows[name])) for name in sorted(rows)]
    order = np.random.default_rng(seed).permutation(len(units))
    return [units[index] for index in order]


def _group(cohort: Cohort, rows: list[int]) -> str:
    """Return the most common group of these rows, the first by name if there are several."""
    counts = Counter(cohort.biopsies[row].group or "" for row in rows)
    return min(counts, key=lambda group: (-counts[group], group))


def _proportional_order(units: list[_Unit], seed: int) -> list[_Unit]:
    """Interleave groups, so that the first units of the list, however many, are in proportion."""
    sizes = Counter(unit.group for unit in units)
    start = dict(
        zip(sorted(sizes), np.random.default_rng([seed, 1]).random(len(sizes)), strict=True)
    )
    seen = Counter[str]()
    place: list[float] = []
    for unit in units:
        place.append((seen[unit.group] + start[unit.group]) / sizes[unit.group])
        seen[unit.group] += 1
    return [units[index] for index in np.argsort(place, kind="stable")]


def _nearest_total(sizes: list[int], target: int) -> list[int]:
    """Choose indices whose sizes sum as near to ``target`` as possible, but not all of them."""
    total = sum(sizes)
    # last[s]: the index that first made the sum s reachable, using only indices up to itself.
    last = np.full(total + 1, -1)
    reachable = np.zeros(total + 1, bool)
    reachable[0] = True
    for index, size in enumerate(sizes):
        new = np.zeros_like(reachable)
        new[size:] = reachable[: total + 1 - size]
        new &= ~reachable
        last[new] = index
        reachable |= new
    sums = np.flatnonzero(reachable[1:total]) + 1
    best = int(sums[np.argmin(np.abs(sums - target))])
    chosen = []
    while best:
        chosen.append(int(last[best]))
        best -= sizes[chosen[-1]]
    return chosen
