"""Ray Data feeds several-worker trials: a plan of crops, augmented by a pool of actors.

The plan is a table of (epoch, image, repeat) rows; each row's randomness comes from the run
seed, so any number of actors and any number of runs gives the same batches.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import ray.data
from ray.data import ActorPoolStrategy, Dataset, ExecutionOptions

from skinray.cluster.sources import Source
from skinray.learning.checkpoint import TrainState
from skinray.learning.feed import Feed, as_batch
from skinray.learning.loop import Batch
from skinray.learning.plan import PlanRow, remaining_rows
from skinray.learning.trial import TrialSpec
from skinray.learning.validation import truth_of

# Crops a block holds: large enough to hide the hand-over, small enough to stream.
ROWS_PER_BLOCK = 16
# A feed that stands still for this long gets no resources; Ray's own patience is half an hour.
NO_PROGRESS_S = 120


class Augmenter:
    """Turns plan rows into crops; one lives in each actor of the pool."""

    def __init__(self, spec: TrialSpec, source: Source) -> None:
        self.feed = Feed(spec, source)
        self.stage = spec.stage

    def __call__(self, rows: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Return ``image`` (n, S, S, 3) and ``mask`` (n, S, S), uint8."""
        crops = [
            self.feed.crop(PlanRow(int(epoch), int(image), int(repeat)))
            for epoch, image, repeat in zip(
                rows["epoch"], rows["image"], rows["repeat"], strict=True
            )
        ]
        return {
            "image": np.stack([crop.image for crop in crops]),
            "mask": np.stack([truth_of(self.stage, crop) for crop in crops]),
        }


def plan_dataset(
    spec: TrialSpec,
    source: Source,
    workers: tuple[int, int],
    actors: int,
    start: TrainState | None = None,
) -> Dataset:
    """Return the crops of all epochs still to train, from the state's place in the plan on."""
    epoch, row = (start.epoch, start.row) if start is not None else (0, 0)
    rows = remaining_rows(spec, workers, epoch, row)
    for later in range(epoch + 1, spec.arm.train.epochs):
        rows += remaining_rows(spec, workers, later, 0)
    table = [{"epoch": r.epoch, "image": r.image, "repeat": r.repeat} for r in rows]
    blocks = max(1, -(-len(table) // ROWS_PER_BLOCK))
    ray.data.DataContext.get_current().execution_no_progress_timeout_s = NO_PROGRESS_S
    return ray.data.from_items(table, override_num_blocks=blocks).map_batches(
        Augmenter,
        fn_constructor_args=(spec, source),
        batch_size=ROWS_PER_BLOCK,
        compute=ActorPoolStrategy(size=actors),
        num_cpus=1,
    )


def execution_options() -> ExecutionOptions:
    """Return options under which the crops arrive in the order of the plan."""
    options = ExecutionOptions()
    options.preserve_order = True
    return options


class ShardFeed:
    """One worker's batches, epoch by epoch, out of its endless share of the data set."""

    def __init__(self, spec: TrialSpec, shard: Any, workers: tuple[int, int], size: int) -> None:
        self.spec = spec
        self.workers = workers
        self.size = size
        self._batches = iter(
            shard.iter_batches(
                batch_size=spec.arm.train.batch_size, batch_format="numpy", drop_last=True
            )
        )

    def batches(self, epoch: int, row: int = 0) -> Iterator[Batch]:
        """Yield this worker's batches of the epoch, from ``row`` of the common plan on."""
        rows = len(remaining_rows(self.spec, self.workers, epoch, row))
        for _ in range(rows // (self.spec.arm.train.batch_size * self.size)):
            batch = next(self._batches)
            # Views of the object store are read-only; torch wants memory of its own.
            yield as_batch(batch["image"].copy(), batch["mask"].copy())
