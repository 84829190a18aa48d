"""Augmented batches in this process, in the order and with the pixels of the plan."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np
import torch

from skinray.config import AugmentSettings
from skinray.images.augment import apply, draw, generator
from skinray.images.paste import paste
from skinray.images.sample import Sample
from skinray.learning.loop import Batch, World
from skinray.learning.plan import PlanRow, remaining_rows
from skinray.learning.validation import truth_of

if TYPE_CHECKING:
    from skinray.learning.trial import TrialSpec

ALONE = World()
# Crops prepared ahead of the training step, per thread.
AHEAD = 4


def augmented(sample: Sample, row: PlanRow, name: str, seed: int, how: AugmentSettings) -> Sample:
    """Return the crop that the plan's row stands for: the same wherever it is made."""
    rng = generator(seed, row.epoch, name, row.repeat)
    return apply(draw(rng, how), sample, how)


class Feed:
    """Batches of a trial's training images, made by a few threads (OpenCV frees the lock).

    Parameters
    ----------
    threads : that make crops.
    world : of the workers that train together, this one takes its part of every step.
    workers : the fewest and most that there may be; see :func:`remaining_rows`.
    """

    def __init__(
        self,
        spec: TrialSpec,
        samples: Sequence[Sample],
        threads: int = 1,
        world: World = ALONE,
        workers: tuple[int, int] = (1, 1),
    ) -> None:
        self.spec = spec
        self.samples = samples
        self.threads = threads
        self.world = world
        self.workers = workers

    def crop(self, row: PlanRow) -> Sample:
        """Return one row's augmented sample."""
        spec = self.spec
        sample = self.samples[spec.train[row.image]]
        crop = augmented(sample, row, spec.names[row.image], spec.seed, spec.augment)
        behind = self._behind(row)
        return crop if behind is None else paste(crop, behind)

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

    def rows(self, epoch: int, row: int = 0) -> list[PlanRow]:
        """Return this worker's rows of the epoch, from ``row`` of the common plan on."""
        rest = remaining_rows(self.spec, self.workers, epoch, row)
        return rest[self.world.rank :: self.world.size]

    def batches(self, epoch: int, row: int = 0) -> Iterator[Batch]:
        """Yield the epoch's batches: (B, S, S, 3) uint8 images and (B, S, S) uint8 masks."""
        size = self.spec.arm.train.batch_size
        crops = self._crops(self.rows(epoch, row))
        while group := [crop for _, crop in zip(range(size), crops, strict=False)]:
            yield as_batch(
                np.stack([crop.image for crop in group]),
                np.stack([truth_of(self.spec.stage, crop) for crop in group]),
            )

    def _crops(self, rows: list[PlanRow]) -> Iterator[Sample]:
        if self.threads <= 1:
            yield from map(self.crop, rows)
            return
        with ThreadPoolExecutor(self.threads) as pool:
            waiting: deque[Future[Sample]] = deque()
            for row in rows:
                waiting.append(pool.submit(self.crop, row))
                if len(waiting) > AHEAD * self.threads:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()


def as_batch(images: np.ndarray, masks: np.ndarray) -> Batch:
    """Turn stacked arrays into the tensors the loop takes."""
    return torch.from_numpy(images), torch.from_numpy(masks)
