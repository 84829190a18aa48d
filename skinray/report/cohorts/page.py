"""The report of a scoring run: ``report.html`` and ``report.json``; what it tells is its kind's."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import yaml

from skinray.files import write_whole
from skinray.report.biopsies.page import page_templates, plain
from skinray.report.charts import Chart
from skinray.report.cohorts.pictures import Fetch, Picture
from skinray.report.cohorts.run import RUN, CohortRun, read_run
from skinray.report.cohorts.tally import Moments, Tally
from skinray.report.cohorts.words import Warned, grouped, many, more
from skinray.scoring.kinds import SCORED_KINDS
from skinray.scoring.run_store import open_output

PAGE = ("report.html", "report.json", "subjects.csv")


@dataclass(frozen=True)
class Gathered:
    """All that a page tells of.

    Attributes
    ----------
    answer : what the run found, in a sentence or two.
    exact : the figures of this kind alone, for ``report.json``.
    shown : what this kind's template shows beyond the rest.
    """

    run: CohortRun
    tally: Tally
    answer: str
    warnings: list[Warned]
    limits: list[str]
    charts: list[Chart]
    sheet: dict[str, list[Picture]]
    exact: dict[str, Any]
    shown: dict[str, Any]


def write_cohort_report(out: Path, fetch: Fetch | None = None) -> Path:
    """Render ``run.json`` and the table of images of a scoring run.

    The page needs no other file, no script and no network. The table is read in batches, twice:
    memory does not grow with the number of images.

    Parameters
    ----------
    out : the run folder, or the desk of a run in an object store.
    fetch : brings a picture of the run into ``out``.

    Returns
    -------
    The path of ``report.html``; ``report.json`` lies beside it, and ``subjects.csv`` where
    biopsies have subjects.

    Raises
    ------
    SkinrayError
        The folder holds no scoring run, or one that has not come to its end.
    """
    from skinray.report.cohorts.biopsies import gather_counts
    from skinray.report.cohorts.photos import gather_areas

    run = read_run(out)
    gather = gather_counts if run.kind == "biopsy" else gather_areas
    found = gather(out, run, fetch)
    write_whole(out / "report.json", json.dumps(_exact(found), indent=1, allow_nan=False))
    return write_whole(out / "report.html", render(found))


def render_again(address: str) -> str:
    """Render the report of a scoring run in an object store; return the page's address."""
    out = open_output(address)
    with out.desk() as desk:
        out.fetch(desk, RUN)
        out.fetch(desk, f"{SCORED_KINDS[read_run(desk).kind].table}.parquet")
        write_cohort_report(desk, lambda name: out.fetch(desk, name))
        for name in PAGE:
            if (desk / name).exists():
                out.publish(desk, name)
    return f"{out}/{PAGE[0]}"


def render(found: Gathered) -> str:
    """Return the page as HTML."""
    templates = page_templates()
    templates.filters |= {"many": many, "grouped": grouped, "more": more}
    run = found.run
    name = "cohort_template.html" if run.kind == "biopsy" else "area_template.html"
    return templates.get_template(name).render(
        answer=found.answer,
        run=run,
        bundle=run.bundle,
        tally=found.tally,
        table=SCORED_KINDS[run.kind].table,
        warnings=found.warnings,
        limits=found.limits,
        charts=found.charts,
        sheet=found.sheet,
        settings=yaml.safe_dump(run.settings, sort_keys=False, allow_unicode=True),
        **found.shown,
    )


def _exact(found: Gathered) -> dict[str, Any]:
    """Every figure unrounded; what is not known is null."""
    tally = found.tally
    values: dict[str, Any] = plain(
        {
            "answer": found.answer,
            "images": tally.images,
            "scored": tally.scored,
            "failed": tally.failed,
            "duplicates": tally.duplicates,
            **found.exact,
            "warnings": [asdict(warned) for warned in found.warnings],
            "failures": [asdict(reason) for reason in tally.failures.most_first],
            "run": asdict(found.run),
        }
    )
    return values


def spread(found: Moments) -> dict[str, float | int | None]:
    """Return number, mean, spread and range of values; None of no values."""
    if not found.n:
        return {"n": 0, "mean": None, "sd": None, "lowest": None, "highest": None}
    return {
        "n": found.n, "mean": found.mean, "sd": found.sd, "lowest": found.low,
        "highest": found.high,
    }  # fmt: skip
