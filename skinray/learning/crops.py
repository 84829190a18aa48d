"""The training plan: the rows of each epoch, and the crop of each row. Imports no torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skinray.config.images import AugmentSettings
from skinray.images.augment import Sample, apply, draw, generator, paste
from skinray.images.cohort.common_scale import resampled
from skinray.learning.spec import TrialSpec


@dataclass(frozen=True, slots=True)
class PlanRow:
    """One augmented crop: its epoch, its image and the number of the draw of that image."""

    epoch: int
    image: int
    repeat: int


def epoch_plan(
    names: Sequence[str], seed: int, epoch: int, draws: int = 1, step: int = 1
) -> list[PlanRow]:
    """List an epoch's rows in training order.

    Each image has ``draws`` rows, shuffled by (seed, epoch). To complete the last step, the
    images of the first rows are drawn once more: at most ``step - 1`` rows.

    Parameters
    ----------
    step : crops in one step of the optimiser, over all workers.
    """
    order = generator(seed, epoch, "order").permutation(len(names) * draws)
    rows = [PlanRow(epoch, int(at) % len(names), int(at) // len(names)) for at in order]
    missing = -len(rows) % step
    for extra in range(missing):
        again = rows[extra % len(order)]
        rows.append(PlanRow(epoch, again.image, draws + extra))
    return rows


def remaining_steps(
    spec: TrialSpec, epoch: int, row: int = 0, rank: int = 0, size: int = 1
) -> list[list[PlanRow]]:
    """List one worker's rows of each step of an epoch, starting at ``row`` of the plan.

    Row i of a step goes to worker i modulo ``size``. So any number of workers trains the same
    rows, and a group of another size can continue at any step.

    Parameters
    ----------
    row : rows that are done already; a multiple of the step's size.
    rank, size : this worker, and the number of workers.
    """
    draws, step = spec.arm.train.draws_per_image, spec.step
    rows = epoch_plan(spec.names, spec.seed, epoch, draws, step)
    return [rows[at : at + step][rank::size] for at in range(row, len(rows), step)]


def augmented(sample: Sample, row: PlanRow, name: str, seed: int, how: AugmentSettings) -> Sample:
    """Return the crop of one row of the plan."""
    rng = generator(seed, row.epoch, name, row.repeat)
    return apply(draw(rng, how), sample, how)


class Shrunk(Sequence[Sample]):
    """Samples at a share of their size; each is shrunk once and kept.

    Parameters
    ----------
    samples : the cohort by position.
    factor : pixels per pixel of the samples, along each side.
    """

    def __init__(self, samples: Sequence[Sample], factor: float) -> None:
        self.samples, self.factor = samples, factor
        self.kept: dict[int, Sample] = {}

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, at: Any) -> Any:
        """Return the shrunk sample at a position."""
        if at not in self.kept:
            self.kept[at] = resampled(self.samples[at], self.factor)
        return self.kept[at]


class CropMaker:
    """Makes a trial's crops, one row of its plan at a time, or those of several rows.

    Crops are cut from samples at the working scale of the trial's network.

    Parameters
    ----------
    samples : the cohort by position.
    """

    def __init__(self, spec: TrialSpec, samples: Sequence[Sample]) -> None:
        scale = float(spec.arm.model.options.get("scale", 1))
        self.spec = spec
        self.samples = samples if scale == 1 else Shrunk(samples, scale)

    def crop(self, row: PlanRow) -> Sample:
        """Return the augmented sample of one row."""
        spec = self.spec
        sample = self.samples[spec.train[row.image]]
        crop = augmented(sample, row, spec.names[row.image], spec.seed, spec.augment)
        background = self._background(row)
        return crop if background is None else paste(crop, background)

    def stacked(self, rows: Sequence[PlanRow]) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """Return the crops of rows: images (N, S, S, 3) and masks (N, S, S)."""
        return self.stack([self.crop(row) for row in rows])

    def stack(self, crops: Sequence[Sample]) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """Return crops as arrays: images (N, S, S, 3) and masks (N, S, S)."""
        truths = [crop.masks[self.spec.stage] for crop in crops]
        return np.stack([crop.image for crop in crops]), np.stack(truths)

    def _background(self, row: PlanRow) -> Sample | None:
        """Return the crop onto which this row's skin is pasted, if any.

        It is of one of the backgrounds, which may be the row's own photograph.
        """
        spec = self.spec
        if spec.paste_probability == 0:
            return None
        rng = generator(spec.seed, row.epoch, f"behind {spec.names[row.image]}", row.repeat)
        if rng.random() >= spec.paste_probability:
            return None
        at = spec.backgrounds[int(rng.integers(len(spec.backgrounds)))]
        return apply(draw(rng, spec.augment), self.samples[at], spec.augment)
