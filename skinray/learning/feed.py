"""What a training is fed with, one worker's part of every step; here by its own process."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from skinray.images.augment import Sample
from skinray.learning.crops import CropMaker, PlanRow, remaining_steps
from skinray.learning.loop import Batch, World
from skinray.learning.spec import TrialSpec

ALONE = World()
# Crops prepared ahead of the training step, per thread.
AHEAD = 4


class Fed(BaseModel):
    """How a training was fed, as one of its workers saw it.

    Attributes
    ----------
    by : "ray data" or "in process".
    crops : rows that this worker took.
    waited_s : how long its steps waited for them.
    workers : how many trained together.
    """

    model_config = ConfigDict(frozen=True)

    by: str = "in process"
    crops: int = 0
    waited_s: float = 0.0
    workers: int = 1


class Feed(Protocol):
    """Gives one worker its batches, epoch by epoch."""

    def batches(self, epoch: int, row: int = 0) -> Iterator[Batch]:
        """Yield this worker's part of each step of the epoch, from ``row`` of the plan on."""

    def fed(self) -> Fed:
        """Return what was taken so far."""

    def close(self) -> None:
        """Let go of all that makes crops; the end of a training, good or bad."""


@dataclass
class Taken:
    """Counts the crops of a feed, and the time that its steps waited for them."""

    crops: int = 0
    waited_s: float = 0.0

    def each(self, batches: Iterator[Batch]) -> Iterator[Batch]:
        """Pass the batches on."""
        while True:
            began = time.perf_counter()
            batch = next(batches, None)
            self.waited_s += time.perf_counter() - began
            if batch is None:
                return
            self.crops += len(batch.image)
            yield batch


class InProcessFeed:
    """Crops made by a few threads of the training process (OpenCV frees the lock).

    Parameters
    ----------
    samples : the cohort by position.
    threads : that make crops.
    world : the workers that train together.
    """

    def __init__(
        self,
        spec: TrialSpec,
        samples: Sequence[Sample],
        threads: int = 1,
        world: World = ALONE,
    ) -> None:
        self.spec = spec
        self.maker = CropMaker(spec, samples)
        self.threads = threads
        self.world = world
        self._taken = Taken()

    def batches(self, epoch: int, row: int = 0) -> Iterator[Batch]:
        """Yield the epoch's batches: (B, S, S, 3) uint8 images and (B, S, S) uint8 masks."""
        steps = remaining_steps(self.spec, epoch, row, self.world.rank, self.world.size)
        return self._taken.each(self._made(steps))

    def fed(self) -> Fed:
        """Return what was taken so far."""
        taken = self._taken
        return Fed(crops=taken.crops, waited_s=taken.waited_s, workers=self.world.size)

    def close(self) -> None:
        """Nothing is held between batches."""

    def _made(self, steps: list[list[PlanRow]]) -> Iterator[Batch]:
        crops = self._crops([row for step in steps for row in step])
        for step in steps:
            stacked = self.maker.stack([next(crops) for _ in step])
            yield as_batch(*stacked, self.spec.step)

    def _crops(self, rows: list[PlanRow]) -> Iterator[Sample]:
        if self.threads <= 1:
            yield from map(self.maker.crop, rows)
            return
        with ThreadPoolExecutor(self.threads) as pool:
            waiting: deque[Future[Sample]] = deque()
            for row in rows:
                waiting.append(pool.submit(self.maker.crop, row))
                if len(waiting) > AHEAD * self.threads:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()


def as_batch(images: NDArray[np.uint8], masks: NDArray[Any], step: int) -> Batch:
    """Turn (N, S, S, 3) images and (N, S, S) masks, uint8, into what the loop takes.

    ``step``: crops of the whole step, over all workers.
    """
    return Batch(torch.from_numpy(images), torch.from_numpy(masks), step)
