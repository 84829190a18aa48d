"""The crop that a row of the plan stands for: the same wherever it is made. No torch in it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from skinray.config import AugmentSettings
from skinray.images.augment import apply, draw, generator
from skinray.images.paste import paste
from skinray.images.sample import Sample
from skinray.learning.plan import PlanRow
from skinray.learning.spec import StageName, TrialSpec


def truth_of(stage: StageName, sample: Sample) -> NDArray[np.uint8]:
    """Return the (H, W) uint8 mask that the stage learns."""
    return sample.nerve if stage == "nerve" else sample.dermis


def augmented(sample: Sample, row: PlanRow, name: str, seed: int, how: AugmentSettings) -> Sample:
    """Return the crop that the plan's row stands for."""
    rng = generator(seed, row.epoch, name, row.repeat)
    return apply(draw(rng, how), sample, how)


class CropMaker:
    """Makes a trial's crops, one row of its plan at a time.

    Parameters
    ----------
    samples : the cohort by position.
    """

    def __init__(self, spec: TrialSpec, samples: Sequence[Sample]) -> None:
        self.spec = spec
        self.samples = samples

    def crop(self, row: PlanRow) -> Sample:
        """Return one row's augmented sample."""
        spec = self.spec
        sample = self.samples[spec.train[row.image]]
        crop = augmented(sample, row, spec.names[row.image], spec.seed, spec.augment)
        behind = self._behind(row)
        return crop if behind is None else paste(crop, behind)

    def stacked(self, rows: Sequence[PlanRow]) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """Return the crops of some rows: images (N, S, S, 3) and masks (N, S, S)."""
        return self.stack([self.crop(row) for row in rows])

    def stack(self, crops: Sequence[Sample]) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """Return crops as the arrays that a step takes."""
        truths = [truth_of(self.spec.stage, crop) for crop in crops]
        return np.stack([crop.image for crop in crops]), np.stack(truths)

    def _behind(self, row: PlanRow) -> Sample | None:
        """Return the view that this row's skin is put before, if any.

        It is of any of the backgrounds, now and then of the row's own photograph.
        """
        spec = self.spec
        if spec.paste_probability == 0:
            return None
        rng = generator(spec.seed, row.epoch, f"behind {spec.names[row.image]}", row.repeat)
        if rng.random() >= spec.paste_probability:
            return None
        at = spec.backgrounds[int(rng.integers(len(spec.backgrounds)))]
        return apply(draw(rng, spec.augment), self.samples[at], spec.augment)
