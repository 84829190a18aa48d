"""Ray Data feeds every training: a pool of actors augments the rows of a plan.

Each training worker runs a pipeline over its own rows of the plan, starting at the stored state.
The plan alone decides what the worker gets, whatever the number of actors, workers or restarts.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import ray
import ray.data
from numpy.typing import NDArray
from ray.data import ActorPoolStrategy, DataContext, Dataset
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from skinray.cluster.ray_internals import unhurried
from skinray.cluster.train.resources import Resources
from skinray.cluster.train.sources import COLUMNS, Augmenter, Source, rows_of
from skinray.errors import TrainingError
from skinray.learning.crops import PlanRow, remaining_steps
from skinray.learning.feed import Fed, Feed, InProcessFeed, Taken, as_batch
from skinray.learning.loop import Batch, World
from skinray.learning.spec import TrialSpec

# Bytes of crops in a block: large enough to hide the hand-over, small enough to stream.
BLOCK_BYTES = 16 << 20
MOST_ROWS_PER_BLOCK = 256
# An image and its mask.
BYTES_PER_PIXEL = 4
# Blocks made ahead of the step that takes them.
AHEAD = 2
# Rows with their images (S, S, 3) and masks (S, S).
CropStream = Generator[tuple[PlanRow, NDArray[np.uint8], NDArray[np.uint8]], None, None]


def plan_dataset(
    spec: TrialSpec,
    source: Source,
    rows: list[PlanRow],
    actors: tuple[int, int],
    cpus_per_actor: float,
) -> Dataset:
    """Return the crops of some rows of the plan, in their order.

    Columns ``epoch``, ``image``, ``repeat``; ``pixels`` (S, S, 3) and ``mask`` (S, S), uint8.

    Parameters
    ----------
    actors : fewest and most that augment; Ray Data adds some when the pool is the slower part.
    cpus_per_actor : of each further actor. The first runs on this node, on CPUs that the training
        holds already, so it never waits for any.
    """
    context = DataContext.get_current().copy()
    context.execution_options.preserve_order = True
    context.enable_progress_bars = False
    unhurried(context)
    with DataContext.current(context):
        table = {name: np.array([getattr(row, name) for row in rows]) for name in COLUMNS}
        per_block = rows_per_block(spec)
        blocks = [
            {name: values[at : at + per_block] for name, values in table.items()}
            for at in range(0, len(rows), per_block)
        ]
        return ray.data.from_blocks([pa.table(block) for block in blocks]).map_batches(
            Augmenter,
            fn_constructor_args=(spec, source),
            batch_size=None,
            compute=ActorPoolStrategy(min_size=actors[0], max_size=actors[1]),
            num_cpus=cpus_per_actor,
            ray_remote_args_fn=_first_on_this_node(actors[1]),
        )


def _first_on_this_node(most: int) -> Callable[[], dict[str, Any]]:
    """Return the function that gives Ray Data the options of each actor that it starts."""
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=True)
    started = count()

    def options() -> dict[str, Any]:
        first = next(started) == 0 or most == 1
        return {"num_cpus": 0, "scheduling_strategy": here} if first else {}

    return options


def rows_per_block(spec: TrialSpec) -> int:
    """Return how many crops make a block that streams well."""
    crop_bytes = BYTES_PER_PIXEL * spec.augment.crop_px**2
    return max(1, min(MOST_ROWS_PER_BLOCK, BLOCK_BYTES // crop_bytes))


class RayFeed:
    """One worker's batches, from a Ray Data pipeline over its rows of all epochs to come.

    Parameters
    ----------
    actors, cpus_per_actor : as :func:`plan_dataset` takes them.
    stats_file : receives Ray Data's own statistics of the pipeline; None: not stored.
    """

    def __init__(
        self,
        spec: TrialSpec,
        source: Source,
        world: World,
        actors: tuple[int, int],
        cpus_per_actor: float,
        stats_file: Path | None = None,
    ) -> None:
        self.spec, self.source, self.world = spec, source, world
        self.actors, self.cpus_per_actor, self.stats_file = actors, cpus_per_actor, stats_file
        self._taken = Taken()
        self._dataset: Dataset | None = None
        self._stream: CropStream | None = None

    def batches(self, epoch: int, row: int = 0) -> Iterator[Batch]:
        """Yield this worker's part of each step of the epoch, from ``row`` of the plan on.

        Call it for one epoch after the other.
        """
        if self._stream is None:
            self._stream = self._started(epoch, row)
        return self._taken.each(self._steps(self._stream, epoch, row))

    def fed(self) -> Fed:
        """Return what the training has taken so far."""
        taken = self._taken
        return Fed(
            by="ray data", crops=taken.crops, waited_s=taken.waited_s, workers=self.world.size
        )

    def close(self) -> None:
        """Stop the pipeline and with it its actors."""
        dataset, stream = self._dataset, self._stream
        self._stream = self._dataset = None
        try:
            if dataset is not None and self.stats_file is not None:
                self.stats_file.parent.mkdir(parents=True, exist_ok=True)
                self.stats_file.write_text(dataset.stats(), encoding="utf-8")
        finally:
            if stream is not None:
                stream.close()  # Ray Data stops a pipeline when its iterator is gone

    def _started(self, epoch: int, row: int) -> CropStream:
        rows = [each for step in self._own(epoch, row) for each in step]
        for later in range(epoch + 1, self.spec.arm.train.epochs):
            rows += [each for step in self._own(later, 0) for each in step]
        self._dataset = plan_dataset(self.spec, self.source, rows, self.actors, self.cpus_per_actor)
        blocks = self._dataset.iter_batches(
            batch_size=None, batch_format="numpy", prefetch_batches=AHEAD
        )
        return _each_row(blocks)

    def _own(self, epoch: int, row: int) -> list[list[PlanRow]]:
        return remaining_steps(self.spec, epoch, row, self.world.rank, self.world.size)

    def _steps(self, stream: CropStream, epoch: int, row: int) -> Iterator[Batch]:
        for step in self._own(epoch, row):
            crops = []
            for wanted in step:
                came, *crop = next(stream, (None,))
                if came != wanted:
                    raise TrainingError(
                        f"{self.spec.key}: Ray Data gave {came or 'nothing'} where the plan has "
                        f"{wanted}; continue with --resume, or add --set cluster.data_workers=0"
                    )
                crops.append(crop)
            images, masks = zip(*crops, strict=True)
            yield as_batch(np.stack(images), np.stack(masks), self.spec.step)


def feed_for(
    spec: TrialSpec, source: Source, world: World, resources: Resources, folder: Path
) -> Feed:
    """Return the feed of one worker: Ray Data, or its own process if ``data_workers`` is 0."""
    if not resources.data_workers[1]:
        return InProcessFeed(spec, source, resources.cpus_per_worker, world)
    stats_file = folder / f"ray_data-{world.rank}.txt"
    return RayFeed(spec, source, world, resources.data_workers, resources.actor_cpus, stats_file)


def _each_row(blocks: Any) -> CropStream:
    for block in blocks:
        for at, row in enumerate(rows_of(block)):
            yield row, block["pixels"][at], block["mask"][at]
