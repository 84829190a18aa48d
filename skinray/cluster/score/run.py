"""Score a cohort on whatever Ray there is, in rounds, until no image is left."""

from __future__ import annotations

import re
from pathlib import Path

from ray.exceptions import RayError
from rich.console import Console

from skinray.cluster.score.pipeline import run_round
from skinray.cluster.score.pools import machines_for
from skinray.cluster.session import session
from skinray.config.scoring import ScoreSettings
from skinray.errors import TrainingError
from skinray.progress import Steps
from skinray.scoring.run import ScoringRun
from skinray.scoring.tables import Totals

# How a trace names what was raised, and the wrappers that Ray puts around it.
_RAISED = re.compile(r"[\w.]+(Error|Exception|Exit)(: |$)")
_OF_RAY = re.compile(r"([\w.]+\.)?(UserCodeException|RayTaskError\S*|SystemException)(: |$)")
# After this many rounds without progress, the images left have no result.
FRUITLESS_ROUNDS = 3


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
    resume : continue an interrupted run in ``out``.

    Raises
    ------
    SkinrayError
        If the bundle, the images, the folder or the cluster do not allow the run. An image that
        cannot be scored raises nothing: its row says why.
    """
    console = console or Console()
    with ScoringRun.claimed(bundle, images, out, settings, resume=resume) as run:
        console.print(
            f"{run.listed} images listed ({run.left_out} other files skipped); run folder "
            f"{run.job.out}",
            highlight=False,
            soft_wrap=True,
        )
        if run.job.info.failures:
            said = "The bundle did not learn its task: do not use these results."
            console.print(said, style="red", highlight=False)
        if run.job.info.starter:
            said = "No bundle of yours: counting with the starter, untrained on your images."
            console.print(said, style="yellow", highlight=False)
        elif run.job.info.synthetic:
            said = "This bundle was trained on images that skinray drew, and on none of a patient."
            console.print(said, style="yellow", highlight=False)
        run.collect(retry=True)
        if run.left:
            with session():
                _compute(run, console)
        with Steps("Writing tables", 1, console):
            totals = run.write_tables()
        from skinray.report.cohorts.page import PAGE, write_cohort_report  # slow to import

        write_cohort_report(run.desk, run.fetch)
        run.publish(PAGE)
    return totals


def _compute(run: ScoringRun, console: Console) -> None:
    """Score what is left, until nothing is or further rounds bring nothing."""
    fruitless = 0
    while run.left and fruitless < FRUITLESS_ROUNDS:
        before, failure = run.left, None
        machines = machines_for(run.job.settings, run.job.info.stages, before)
        job = run.hand_out(machines.cpus)
        if job.long and job.settings.backend == "auto" and not fruitless:
            said = (
                "Backends are compared first, once for each bundle and machine (not with --exact)."
            )
            console.print(said, highlight=False)
        try:
            run_round(job, before, machines, console)
        except (RayError, RuntimeError) as error:
            # Workers died more often than Ray allows, or cannot do their work.
            failure = error
            console.print(
                f"interrupted ({_cause(error)}); continuing", highlight=False, markup=False
            )
        # A round that broke off has not retried all images that could not be read before.
        run.collect(retry=failure is not None)
        fruitless = fruitless + 1 if run.left >= before else 0
        if failure is not None and fruitless == FRUITLESS_ROUNDS:
            raise TrainingError(
                f"{run.job.out}: scoring stopped, {run.left} images left: {_cause(failure)}; fix "
                "this and continue with --resume"
            ) from failure


def _cause(error: BaseException) -> str:
    """Return what was raised in a worker; Ray passes it on as text, in traces of its own."""
    while error.__cause__ is not None:
        error = error.__cause__
    lines = [line.strip() for line in str(error).strip().splitlines()]
    raised = [line for line in lines if _RAISED.match(line) and not _OF_RAY.match(line)]
    return (raised or lines or [type(error).__name__])[-1]
