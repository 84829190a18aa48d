"""Score a cohort: list, read, predict, count and commit, on whatever Ray there is.

Whatever dies, nothing that was committed is lost or done again: parts are written whole, and what
is still to do is always worked out from the listing and the parts.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import ray
import ray.data
from ray.data import ActorPoolStrategy, DataContext, Dataset
from ray.data.exceptions import ExecutionTimeoutError
from ray.exceptions import RayError
from rich.console import Console

from skinray.cluster.score_pools import Machines, Pool, Pools, plan_pools
from skinray.cluster.score_stages import (
    BATCHES_PER_FILE,
    Claims,
    Decode,
    Finish,
    Fused,
    Job,
    Predict,
)
from skinray.cluster.session import session
from skinray.config import ScoreSettings
from skinray.errors import CohortError, TrainingError
from skinray.images.entry import read_entries, write_entries
from skinray.images.listing import Listing
from skinray.images.store import is_address
from skinray.learning import bundle as bundles
from skinray.learning.score_folder import (
    KEYS,
    LISTING,
    PENDING,
    alone,
    claim_folder,
    clear_traces,
    refuse_foreign,
)
from skinray.learning.score_ledger import Ledger
from skinray.learning.score_parts import committed
from skinray.progress import Steps
from skinray.report.score_tables import Totals, write_tables

# After so many rounds that brought nothing, what is left has no result.
FRUITLESS_ROUNDS = 3
# Large blocks of images would lie in memory by the dozen.
BLOCK_BYTES = 32 << 20
# Not Ray's half an hour: a batch of whole slides on a CPU may take longer.
NO_PROGRESS_S = 24 * 3600


def score(
    bundle: Path,
    images: str,
    out: Path,
    settings: ScoreSettings,
    *,
    resume: bool = False,
    console: Console | None = None,
) -> Totals:
    """Score every image of a cohort with a bundle, and leave tables, overlays and a report.

    Parameters
    ----------
    bundle : the bundle's folder, seen by every node.
    images : folder, pattern, manifest or fsspec address.
    out : run folder, seen by every node; see DESIGN for what it holds.
    settings : what decides results, and how the work is spread.
    resume : go on with an interrupted run in ``out``.

    Raises
    ------
    SkinrayError
        If the bundle, the images, the folder or the cluster do not allow the run. An image that
        cannot be scored raises nothing: its row says why.
    """
    console = console or Console()
    # Whatever a user can have got wrong is found before Ray starts and a file is written.
    refuse_foreign(out, resume=resume)
    info = bundles.check(bundle)
    if not is_address(images):
        images = str(Path(images).expanduser().absolute())
    listing = Listing(images, skip=out)
    if next(iter(listing), None) is None:
        raise CohortError(f"{images}: no image in it; name a folder with PNG, JPEG or TIFF files")
    claim_folder(out, info, bundle, images, settings, resume=resume)
    with alone(out):
        return _score(Job(images, str(bundle), info, out, settings), listing, console)


def _score(job: Job, listing: Listing, console: Console) -> Totals:
    out = job.out
    count = write_entries(listing, out / LISTING)
    console.print(
        f"{count} images listed ({listing.left_out} other files left out); run folder {out}",
        highlight=False,
        soft_wrap=True,
    )
    with Ledger() as ledger:
        ledger.add_listing(read_entries(out / LISTING))
        ledger.add_parts(committed(out))
        _compute(job, ledger, console)
        with Steps("Writing tables", 1, console):
            totals = write_tables(out, ledger.rows(), overlays=job.settings.overlays)
    from skinray.report.cohort_page import write_cohort_report

    write_cohort_report(out)
    clear_traces(out)
    return totals


def _compute(job: Job, ledger: Ledger, console: Console) -> None:
    """Score what is pending until nothing is, or nothing more comes of it."""
    left, fruitless = _prepare(job, ledger), 0
    if not left:
        return
    with session():
        while left and fruitless < FRUITLESS_ROUNDS:
            failure = None
            try:
                _round(job, left, console)
            except (RayError, ExecutionTimeoutError, RuntimeError) as error:
                # Workers died more often than Ray forgives, or cannot do what they should.
                failure = error
                console.print(f"interrupted ({type(error).__name__}); going on", highlight=False)
            ledger.add_parts(committed(job.out))
            before, left = left, _prepare(job, ledger)
            fruitless = fruitless + 1 if left >= before else 0
            if failure is not None and fruitless == FRUITLESS_ROUNDS:
                raise TrainingError(
                    f"{job.out}: scoring stopped, {left} images left: {_cause(failure)}; mend "
                    "that and go on with --resume"
                ) from failure


def _prepare(job: Job, ledger: Ledger) -> int:
    """Write what is to do where the stages find it; return how many images."""
    clear_traces(job.out)
    (job.out / PENDING).mkdir()
    entries, count = ledger.pending(), 0
    size = BATCHES_PER_FILE * job.settings.images_per_part
    for number, chunk in enumerate(_chunks(entries, size)):
        count += write_entries(chunk, job.out / PENDING / f"{number:06d}.parquet")
    with (job.out / KEYS).open("w", encoding="utf-8") as file:
        file.writelines(f"{key}\n" for key in ledger.contents())
    return count


def _chunks(entries: Iterator[Any], size: int) -> Iterator[list[Any]]:
    while chunk := list(islice(entries, size)):
        yield chunk


def _round(job: Job, images: int, console: Console) -> None:
    batches = -(-images // job.settings.images_per_part)
    pools = plan_pools(job.settings, Machines.at_hand(), batches)
    claims = ray.remote(num_cpus=0, max_restarts=-1, max_task_retries=-1)(Claims).remote(
        str(job.out / KEYS)
    )
    build = _fused if pools.layout == "fused" else _separate
    pace = Pace()
    with _quiet_data(), Steps("Scoring images", images, console) as steps:
        for block in build(job, claims, pools, batches).iter_batches(
            batch_size=None, batch_format="numpy", prefetch_batches=0
        ):
            pace.add(int(block["done"].sum()))
            steps.set(pace.done, f"{pace.rate:.2f} images/s" if pace.rate else "")
    console.print(str(pace), highlight=False)


@dataclass
class Pace:
    """Images done and how fast, the start of the actors and networks not counted.

    Attributes
    ----------
    done : images so far.
    first, first_s : images of the first block, and seconds until it was there.
    last_s : seconds until the last block.
    """

    done: int = 0
    first: int = 0
    first_s: float = 0.0
    last_s: float = 0.0
    began: float = field(default_factory=time.monotonic)

    def add(self, images: int) -> None:
        """Note that so many more are done."""
        self.last_s = time.monotonic() - self.began
        if not self.done:
            self.first, self.first_s = images, self.last_s
        self.done += images

    @property
    def rate(self) -> float:
        """Images a second since the first block; 0 before there is a second one."""
        under_way = self.last_s - self.first_s
        return (self.done - self.first) / under_way if under_way > 0 else 0.0

    def __str__(self) -> str:
        text = f"{self.done} images went through, the first after {self.first_s:.1f} s"
        return f"{text}; once under way {self.rate:.2f} images/s" if self.rate else text


def _fused(job: Job, claims: Any, pools: Pools, batches: int) -> Dataset:
    return ray.data.range(batches, override_num_blocks=batches).map_batches(
        Fused, fn_constructor_args=(job, claims), batch_size=None, **_resources(pools.actors[0])
    )


def _separate(job: Job, claims: Any, pools: Pools, batches: int) -> Dataset:
    settings = job.settings
    images = ray.data.range(batches, override_num_blocks=batches).map_batches(
        Decode(job, claims).__call__,
        batch_size=None,
        batch_format="pyarrow",
        num_cpus=settings.decode_cpus,
    )
    for stage, pool in zip(bundles.STAGES, pools.actors, strict=True):
        images = images.map_batches(
            Predict,
            fn_constructor_args=(job, stage),
            batch_size=None,
            batch_format="pyarrow",
            **_resources(pool),
        )
    return images.map_batches(
        Finish(job).__call__,
        batch_size=settings.images_per_part,
        batch_format="pyarrow",
        num_cpus=settings.crossing_cpus,
    )


def _resources(pool: Pool) -> dict[str, Any]:
    return {
        "compute": ActorPoolStrategy(min_size=pool.most, max_size=pool.most),
        "num_cpus": pool.cpus,
        "num_gpus": pool.gpus,
    }


@contextmanager
def _quiet_data() -> Iterator[None]:
    """Keep Ray Data's own progress away and its blocks small, for a while."""
    context, logger = DataContext.get_current(), logging.getLogger("ray.data")
    changes: dict[str, Any] = {
        "enable_progress_bars": False,
        "print_on_execution_start": False,
        "target_max_block_size": BLOCK_BYTES,
        "execution_no_progress_timeout_s": NO_PROGRESS_S,
    }
    before = {name: getattr(context, name) for name in changes}
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        for name, value in changes.items():
            setattr(context, name, value)
        yield
    finally:
        for name, value in before.items():
            setattr(context, name, value)
        logger.setLevel(level)


def _cause(error: BaseException) -> str:
    while error.__cause__ is not None:
        error = error.__cause__
    text = str(error).strip().splitlines()
    return text[-1] if text else type(error).__name__
