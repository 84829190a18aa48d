"""Score a cohort: list, read, predict, count and commit, on whatever Ray there is.

Whatever dies, nothing that was committed is lost or done again: parts are written whole, and what
is still to do is always worked out from the listing and the parts.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

from ray.data.exceptions import ExecutionTimeoutError
from ray.exceptions import RayError
from rich.console import Console

from skinray.cluster.score_pipeline import run_round
from skinray.cluster.score_pools import Machines
from skinray.cluster.score_stages import BATCHES_PER_FILE, Job
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
# Fewer would leave actors idle at the end; more would commit needlessly often.
PARTS_PER_CPU = 4


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
            totals = write_tables(out, ledger.rows(), job.info.kind, overlays=job.settings.overlays)
    from skinray.report.cohort_page import write_cohort_report

    write_cohort_report(out)
    clear_traces(out)
    return totals


def _compute(job: Job, ledger: Ledger, console: Console) -> None:
    """Score what is pending until nothing is, or nothing more comes of it."""
    left, fruitless = ledger.left(), 0
    if not left:
        return
    with session():
        while left and fruitless < FRUITLESS_ROUNDS:
            failure, sized = None, _sized(job, left)
            _prepare(sized, ledger)
            try:
                run_round(sized, left, console)
            except (RayError, ExecutionTimeoutError, RuntimeError) as error:
                # Workers died more often than Ray forgives, or cannot do what they should.
                failure = error
                console.print(f"interrupted ({type(error).__name__}); going on", highlight=False)
            ledger.add_parts(committed(job.out))
            before, left = left, ledger.left()
            fruitless = fruitless + 1 if left >= before else 0
            if failure is not None and fruitless == FRUITLESS_ROUNDS:
                raise TrainingError(
                    f"{job.out}: scoring stopped, {left} images left: {_cause(failure)}; mend "
                    "that and go on with --resume"
                ) from failure


def _sized(job: Job, images: int) -> Job:
    """Make parts smaller where few images are left, so that all actors end at about one time."""
    parts = PARTS_PER_CPU * max(1, int(Machines.at_hand().cpus))
    size = min(job.settings.images_per_part, -(-images // parts))
    return replace(job, settings=job.settings.override({"images_per_part": size}))


def _prepare(job: Job, ledger: Ledger) -> None:
    """Write what is to do where the stages find it."""
    clear_traces(job.out)
    (job.out / PENDING).mkdir()
    size = BATCHES_PER_FILE * job.settings.images_per_part
    for number, chunk in enumerate(_chunks(ledger.pending(), size)):
        write_entries(chunk, job.out / PENDING / f"{number:06d}.parquet")
    with (job.out / KEYS).open("w", encoding="utf-8") as file:
        file.writelines(f"{key}\n" for key in ledger.contents())


def _chunks(entries: Iterator[Any], size: int) -> Iterator[list[Any]]:
    while chunk := list(islice(entries, size)):
        yield chunk


def _cause(error: BaseException) -> str:
    while error.__cause__ is not None:
        error = error.__cause__
    text = str(error).strip().splitlines()
    return text[-1] if text else type(error).__name__
