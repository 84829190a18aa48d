"""Folds for cross-validation: whole subjects together, groups spread evenly, seeded.

The result depends only on names, subjects, groups and the seed, not on the order of the
manifest's rows. docs/decisions/0036 says why scikit-learn's StratifiedGroupKFold is not used.
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


@dataclass(frozen=True)
class _Unit:
    """What stays together: the rows of one subject, or one row."""

    group: str
    rows: tuple[int, ...]


def assign_folds(cohort: Cohort, settings: FoldSettings, seed: int) -> NDArray[np.int64]:
    """Assign each image of the cohort to a fold.

    Units (subjects, or images if ``settings.unit`` says so) are placed one by one, large ones
    first, in the fold that so far has the smallest share of the unit's group and of all images.
    No fold stays empty.

    Returns (N,) int in 0 .. ``settings.count - 1``, in the order of ``cohort.biopsies``.
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
            f"{cohort.root}: {counted(len(units), settings.unit)} cannot fill {settings.count} "
            f"folds: {remedy}"
        )
    total = Counter[str]()
    for unit in units:
        total[unit.group] += len(unit.rows)
    folds = np.zeros(len(cohort.biopsies), np.int64)
    of_group = {group: np.zeros(settings.count) for group in total}
    of_all = np.zeros(settings.count)
    for unit in sorted(units, key=lambda unit: -len(unit.rows)):  # stable: keeps the shuffle
        share = of_group[unit.group] / total[unit.group] + of_all / len(folds)
        fold = int(np.argmin(share))
        folds[list(unit.rows)] = fold
        of_group[unit.group][fold] += len(unit.rows)
        of_all[fold] += len(unit.rows)
    return folds


def hold_out(cohort: Cohort, count: int, settings: FoldSettings, seed: int) -> NDArray[np.bool_]:
    """Choose about ``count`` images to hold out of one training (tables 1 and 2 of the paper).

    By image: exactly ``count``. By subject: whole subjects whose images sum to as near ``count``
    as possible. Groups are drawn in proportion; both sides keep at least one image.

    Returns (N,) bool in the order of ``cohort.biopsies``, True where held out.
    Raises CohortError if nothing would be left to train on, or there is a single unit.
    """
    units = _proportional_order(_shuffled_units(cohort, settings, seed), seed)
    images = len(cohort.biopsies)
    if len(units) < 2 or not 1 <= count < images:
        raise CohortError(
            f"{cohort.root}: cannot hold out {count} of {images} images in "
            f"{counted(len(units), settings.unit)}: set folds.components_held_out below the number "
            f"of images, or add {settings.unit}s"
        )
    held = np.zeros(images, bool)
    for unit in _nearest_total([len(unit.rows) for unit in units], count):
        held[list(units[unit].rows)] = True
    return held


def _shuffled_units(cohort: Cohort, settings: FoldSettings, seed: int) -> list[_Unit]:
    """Return the units in an order drawn from the seed, whatever the order of the rows."""
    rows: dict[str, list[int]] = {}
    for row, biopsy in enumerate(cohort.biopsies):
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
