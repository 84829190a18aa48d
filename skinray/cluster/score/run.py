"""Score a cohort: list, read, predict, count and commit, on whatever Ray there is.

Whatever dies, nothing that was committed is lost or done again: parts are written whole, and what
is still to do is always worked out from the listing and the parts.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

from ray.data.exceptions import ExecutionTimeoutError
from ray.exceptions import RayError
from rich.console import Console

from skinray.cluster.score.pipeline import run_round
from skinray.cluster.score.pools import Machines, machines_for
from skinray.cluster.score.stages import BATCHES_PER_FILE, Job
from skinray.cluster.session import session
from skinray.config.scoring import ScoreSettings
from skinray.errors import CohortError, TrainingError
from skinray.learning import bundle as bundles
from skinray.progress import Steps
from skinray.scoring.entries import read_entries, write_entries
from skinray.scoring.image_store import is_address
from skinray.scoring.ledger import Ledger
from skinray.scoring.listing import Listing
from skinray.scoring.rows import committed
from skinray.scoring.run_folder import (
    KEYS,
    LISTING,
    PENDING,
    RUN,
    alone,
    claim_folder,
    clear_traces,
    refuse_foreign,
)
from skinray.scoring.run_store import open_output
from skinray.scoring.tables import Totals, tables_of, write_tables

# How a trace names what was raised, and the wrappers that Ray puts around it.
_RAISED = re.compile(r"[\w.]+(Error|Exception|Exit)(: |$)")
_OF_RAY = re.compile(r"([\w.]+\.)?(UserCodeException|RayTaskError\S*|SystemException)(: |$)")
# After so many rounds that brought nothing, what is left has no result.
FRUITLESS_ROUNDS = 3
# Fewer would leave actors idle at the end; more would commit needlessly often.
PARTS_PER_CPU = 4
# Each part is a block of Ray Data on the head node where stages are separate, and always a file:
# more than this it could not carry.
MOST_PARTS = 100_000


def score(
    bundle: Path,
    images: str,
    out: Path | str,
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
    out : run folder, seen by every node, or fsspec address; see DESIGN for what it holds.
    settings : what decides results, and how the work is spread.
    resume : go on with an interrupted run in ``out``.

    Raises
    ------
    SkinrayError
        If the bundle, the images, the folder or the cluster do not allow the run. An image that
        cannot be scored raises nothing: its row says why.
    """
    console, run = console or Console(), open_output(out)
    # Whatever a user can have got wrong is found before Ray starts and a file is written.
    refuse_foreign(run, resume=resume)
    info = bundles.check(bundle)
    if not is_address(images):
        images = str(Path(images).expanduser().absolute())
    listing = Listing(images, skip=str(out) if run.folder is None else str(run.folder))
    if next(iter(listing), None) is None:
        raise CohortError(f"{images}: no image in it; name a folder with PNG, JPEG or TIFF files")
    claim_folder(run, info, bundle, images, settings, resume=resume)
    with alone(run), run.desk() as desk:
        return _score(Job(images, str(bundle), info, run, settings), desk, listing, console)


def _score(job: Job, desk: Path, listing: Listing, console: Console) -> Totals:
    out = job.out
    count = write_entries(listing, desk / LISTING)
    console.print(
        f"{count} images listed ({listing.left_out} other files left out); run folder {out}",
        highlight=False,
        soft_wrap=True,
    )
    with Ledger() as ledger:
        ledger.add_listing(read_entries(desk / LISTING))
        ledger.add_parts(committed(out), retry=True)
        _compute(job, desk, ledger, console)
        with Steps("Writing tables", 1, console):
            totals = write_tables(
                desk, out, ledger.rows(), job.info.kind, overlays=job.settings.overlays
            )
    from skinray.report.cohorts.page import PAGE, write_cohort_report

    out.fetch(desk, RUN)
    write_cohort_report(desk, lambda name: out.fetch(desk, name))
    for name in (LISTING, *tables_of(job.info.kind), *PAGE):
        if (desk / name).exists():
            out.publish(desk, name)
    clear_traces(out)
    return totals


def _compute(job: Job, desk: Path, ledger: Ledger, console: Console) -> None:
    """Score what is pending until nothing is, or nothing more comes of it."""
    left, fruitless = ledger.left(), 0
    if not left:
        return
    with session():
        while left and fruitless < FRUITLESS_ROUNDS:
            failure, machines = None, machines_for(job.settings, job.info.stages, left)
            sized = _sized(job, left, machines)
            _prepare(sized, desk, ledger)
            try:
                run_round(sized, left, machines, console)
            except (RayError, ExecutionTimeoutError, RuntimeError) as error:
                # Workers died more often than Ray forgives, or cannot do what they should.
                failure = error
                console.print(
                    f"interrupted ({_cause(error)}); going on", highlight=False, markup=False
                )
            # A round that broke off has not tried again all that could not be read before.
            ledger.add_parts(committed(job.out, ledger.parts()), retry=failure is not None)
            before, left = left, ledger.left()
            fruitless = fruitless + 1 if left >= before else 0
            if failure is not None and fruitless == FRUITLESS_ROUNDS:
                raise TrainingError(
                    f"{job.out}: scoring stopped, {left} images left: {_cause(failure)}; mend "
                    "that and go on with --resume"
                ) from failure


def _sized(job: Job, images: int, machines: Machines) -> Job:
    """Make parts smaller where few images are left, so that all actors end at about one time.

    Where there are many millions, make them larger.
    """
    parts = PARTS_PER_CPU * max(1, int(machines.cpus))
    size = min(part_size(job.settings.images_per_part, images), -(-images // parts))
    return replace(job, settings=job.settings.override({"images_per_part": size}))


def part_size(asked: int, images: int) -> int:
    """Return how many images a part holds: as asked, or more where that made too many parts."""
    return max(asked, -(-images // MOST_PARTS))


def _prepare(job: Job, desk: Path, ledger: Ledger) -> None:
    """Write what is to do where the stages find it."""
    clear_traces(job.out)
    (desk / PENDING).mkdir(exist_ok=True)
    size = BATCHES_PER_FILE * job.settings.images_per_part
    for number, chunk in enumerate(_chunks(ledger.pending(), size)):
        name = f"{PENDING}/{number:06d}.parquet"
        write_entries(chunk, desk / name)
        job.out.publish(desk, name)
    with (desk / KEYS).open("w", encoding="utf-8") as file:
        file.writelines(f"{key}\n" for key in ledger.contents())
    job.out.publish(desk, KEYS)


def _chunks(entries: Iterator[Any], size: int) -> Iterator[list[Any]]:
    while chunk := list(islice(entries, size)):
        yield chunk


def _cause(error: BaseException) -> str:
    """Return what was raised in a worker; Ray hands it on as text, in traces of its own."""
    while error.__cause__ is not None:
        error = error.__cause__
    lines = [line.strip() for line in str(error).strip().splitlines()]
    raised = [line for line in lines if _RAISED.match(line) and not _OF_RAY.match(line)]
    return (raised or lines or [type(error).__name__])[-1]
