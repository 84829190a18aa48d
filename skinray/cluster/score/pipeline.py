"""One round of scoring: all stages in one kind of actor, or a Ray Data pipeline of stages."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from rich.console import Console

from skinray.cluster.score.actors import Team
from skinray.cluster.score.claims import ClaimActors
from skinray.cluster.score.pools import Machines, Pool, Pools, plan_pools
from skinray.cluster.score.stages import Predict, decode, finish
from skinray.images.file_errors import counted
from skinray.progress import Steps
from skinray.scoring.score_image import Job

if TYPE_CHECKING:
    import ray.data

# Large blocks of images would fill the memory by the dozen.
BLOCK_BYTES = 32 << 20
# Longer than Ray's half hour: a batch of whole slides may take longer on a CPU.
NO_PROGRESS_S = 24 * 3600


def run_round(job: Job, images: int, machines: Machines, console: Console) -> None:
    """Send the pending images (their number, listed in the run folder) through the stages."""
    batches = -(-images // job.settings.images_per_part)
    pools = plan_pools(job.settings, job.info.stages, machines, batches)
    claims = ClaimActors.start(job.out, machines.nodes)
    scored = _fused if pools.layout == "fused" else _separate
    pace = Pace()
    with Steps("Scoring images", images, console) as steps:
        for done in scored(job, claims, pools, batches):
            pace.add(done)
            steps.set(pace.done, f"{pace.rate:.2f} images/s" if pace.rate else "")
    console.print(str(pace), highlight=False)


@dataclass
class Pace:
    """Images done and how fast, not counting the start of actors and networks.

    Attributes
    ----------
    done, done_s : images so far, and seconds until the last of them was done.
    first, first_s : the same for the first block.
    """

    done: int = 0
    done_s: float = 0.0
    first: int = 0
    first_s: float = 0.0
    began: float = field(default_factory=time.monotonic)

    def add(self, images: int) -> None:
        """Note that this many more are done."""
        self.done, self.done_s = self.done + images, time.monotonic() - self.began
        if not self.first:
            self.first, self.first_s = self.done, self.done_s

    @property
    def rate(self) -> float:
        """Images per second since the first block; 0 before the second."""
        took = self.done_s - self.first_s
        return (self.done - self.first) / took if took > 0 else 0.0

    def __str__(self) -> str:
        text = f"{counted(self.done, 'image')} processed, the first after {self.first_s:.1f} s"
        return f"{text}, then {self.rate:.2f} images/s" if self.rate else text


def _fused(job: Job, claims: ClaimActors, pools: Pools, batches: int) -> Iterator[int]:
    team = Team(job, claims, pools.actors[0], batches)
    try:
        yield from team
    finally:
        team.end()


def _separate(job: Job, claims: ClaimActors, pools: Pools, batches: int) -> Iterator[int]:
    from ray.data.exceptions import ExecutionTimeoutError

    with quiet_data():
        images = _dataset(job, claims, pools, batches)
        blocks = images.iter_batches(batch_size=None, batch_format="numpy", prefetch_batches=0)
        try:
            for block in blocks:
                yield int(block["done"].sum())
        except ExecutionTimeoutError as error:  # a bare Exception; another round may succeed
            raise RuntimeError(str(error)) from error


def _dataset(job: Job, claims: ClaimActors, pools: Pools, batches: int) -> ray.data.Dataset:
    import ray.data  # slow to import, and actors of all stages need none of it

    settings = job.settings
    images = ray.data.range(batches, override_num_blocks=batches).map_batches(
        decode,
        fn_args=(job, claims),
        batch_size=None,
        batch_format="pyarrow",
        num_cpus=settings.decode_cpus,
    )
    for stage, pool in zip(job.info.stages, pools.actors, strict=True):
        images = images.map_batches(
            Predict,
            fn_constructor_args=(job, stage),
            batch_size=1,  # Ray Data gives no GPU without a size; a block is one image anyway
            batch_format="pyarrow",
            **_resources(pool),
        )
    return images.map_batches(
        finish,
        fn_args=(job,),
        batch_size=settings.images_per_part,
        batch_format="pyarrow",
        num_cpus=settings.crossing_cpus,
    )


def _resources(pool: Pool) -> dict[str, Any]:
    from ray.data import ActorPoolStrategy

    return {
        "compute": ActorPoolStrategy(min_size=pool.least, max_size=pool.most),
        "num_cpus": pool.cpus,
        "num_gpus": pool.gpus,
    }


@contextmanager
def quiet_data() -> Iterator[None]:
    """Turn off Ray Data's progress lines and keep blocks small, for datasets made meanwhile."""
    from ray.data import DataContext

    context, logger = DataContext.get_current().copy(), logging.getLogger("ray.data")
    context.enable_progress_bars = context.print_on_execution_start = False
    context.target_max_block_size = BLOCK_BYTES
    context.execution_no_progress_timeout_s = NO_PROGRESS_S
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with DataContext.current(context):
            yield
    finally:
        logger.setLevel(level)
