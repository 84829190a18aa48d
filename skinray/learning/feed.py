"""Feeds: the source of one worker's batches, here crops made in its own process."""

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
# Crops prepared ahead of the training step, for each thread.
AHEAD = 4


class Fed(BaseModel):
    """Statistics of a feed, for one of the workers.

    Attributes
    ----------
    by : "ray data" or "in process".
    crops : crops that this worker used.
    waited_s : time that its steps waited for them.
    workers : number of workers that trained together.
    """

    model_config = ConfigDict(frozen=True)

    by: str = "in process"
    crops: int = 0
    waited_s: float = 0.0
    workers: int = 1


class Feed(Protocol):
    """Gives one worker its batches, epoch by epoch."""

    def batches(self, epoch: int, row: int = 0) -> Iterator[Batch]:
        """Yield this worker's part of each step of the epoch, starting at ``row`` of the plan."""

    def fed(self) -> Fed:
        """Return the statistics so far."""

    def close(self) -> None:
        """Release all resources, at the end of a training or after an error."""


@dataclass
class Taken:
    """Counts the crops of a feed and the time that steps waited for them."""

    crops: int = 0
    waited_s: float = 0.0

    def each(self, batches: Iterator[Batch]) -> Iterator[Batch]:
        """Yield the batches unchanged."""
        while True:
            began = time.perf_counter()
            batch = next(batches, None)
            self.waited_s += time.perf_counter() - began
            if batch is None:
                return
            self.crops += len(batch.image)
            yield batch


class InProcessFeed:
    """Crops made by threads of the training process (OpenCV releases the GIL).

    Parameters
    ----------
    samples : the cohort by position.
    threads : number of threads that make crops.
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
        """Return the statistics so far."""
        taken = self._taken
        return Fed(crops=taken.crops, waited_s=taken.waited_s, workers=self.world.size)

    def close(self) -> None:
        """Do nothing: no resources are held between batches."""

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
    """Return a batch of (N, S, S, 3) images and (N, S, S) masks, uint8.

    ``step``: crops in the whole step, over all workers.
    """
    return Batch(torch.from_numpy(images), torch.from_numpy(masks), step)
