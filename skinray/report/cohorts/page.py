"""The report of a scoring run: ``report.html`` and ``report.json``."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from skinray.config.kinds import Kind
from skinray.files import write_whole
from skinray.report.cohorts.biopsies import SUBJECTS, BiopsyReport
from skinray.report.cohorts.gathered import Gathered
from skinray.report.cohorts.photos import PhotoReport
from skinray.report.cohorts.pictures import Fetch
from skinray.report.cohorts.run import RUN, read_run
from skinray.report.page import render, write_json
from skinray.scoring.run_store import open_output

PAGE = ("report.html", "report.json", SUBJECTS)
REPORTS: dict[Kind, type[BiopsyReport] | type[PhotoReport]] = {
    "biopsy": BiopsyReport,
    "photo": PhotoReport,
}


def write_cohort_report(out: Path, fetch: Fetch | None = None) -> Path:
    """Render ``run.json`` and the table of images of a scoring run.

    The table is read in batches, twice: memory does not grow with the number of images.

    Parameters
    ----------
    out : the run folder, or the desk of a run in an object store.
    fetch : brings a picture of the run into ``out``.

    Returns
    -------
    The path of ``report.html``, beside ``report.json`` and, if biopsies have subjects,
    ``subjects.csv``.

    Raises
    ------
    SkinrayError
        The folder holds no scoring run, or one that has not finished.
    """
    run = read_run(out)
    report = REPORTS[run.kind](run)
    found = report.gather(out, run, fetch)
    write_json(out / "report.json", _exact(found))
    everything = vars(found) | vars(found.findings) | found.findings.shown
    failed = run.bundle.failures
    page = render(report.template, bundle=run.bundle, failed_parts=failed, **everything)
    return write_whole(out / "report.html", page)


def render_again(address: str) -> str:
    """Render the report of a scoring run in an object store; return the page's address."""
    out = open_output(address)
    with out.desk() as desk:
        out.fetch(desk, RUN)
        out.fetch(desk, f"{read_run(desk).table}.parquet")
        write_cohort_report(desk, lambda name: out.fetch(desk, name))
        for name in PAGE:
            if (desk / name).exists():
                out.publish(desk, name)
    return f"{out}/{PAGE[0]}"


def _exact(found: Gathered) -> dict[str, Any]:
    """Every figure unrounded; what is not known is null."""
    tally = found.tally
    return {
        "answer": found.findings.answer,
        "synthetic": found.run.synthetic,
        "images": tally.images,
        "scored": tally.scored,
        "failed": tally.failed,
        "duplicates": tally.duplicates,
        "in_training_set": tally.trained_on,
        **found.findings.exact,
        "warnings": [asdict(warned) for warned in found.warnings],
        "failures": [asdict(reason) for reason in tally.failures.most_first],
        "run": asdict(found.run),
    }
