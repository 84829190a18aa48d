"""The report of a scoring run: ``report.html``, ``report.json`` and ``subjects.csv``."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import yaml

from skinray.images.output import open_output
from skinray.report.cohort_figures import count_chart, density_chart
from skinray.report.cohort_pictures import MOST_NAMED, Choice, Fetch
from skinray.report.cohort_run import COUNTS, RUN, CohortRun, read_rows, read_run
from skinray.report.cohort_subjects import Subjects
from skinray.report.cohort_tally import Moments, Tally
from skinray.report.cohort_words import Warned, answer, grouped, limits, many, more, warnings
from skinray.report.page import page_templates, plain, write_whole

MOST_SUBJECTS = 200
SUBJECTS = "subjects.csv"
PAGE = ("report.html", "report.json", SUBJECTS)
QUARTILES = (0.25, 0.5, 0.75)


def write_cohort_report(out: Path, fetch: Fetch | None = None) -> Path:
    """Render ``run.json`` and ``counts.parquet`` of a scoring run.

    The page needs no other file, no script and no network. The table is read in batches, twice:
    memory does not grow with the number of images.

    Parameters
    ----------
    out : the run folder, or the desk of a run in an object store.
    fetch : brings a picture of the run into ``out``.

    Returns
    -------
    The path of ``report.html``; ``report.json`` lies beside it, and ``subjects.csv`` where the
    images have subjects.

    Raises
    ------
    SkinrayError
        The folder holds no scoring run, or one that has not come to its end.
    """
    run = read_run(out)
    tally = Tally(run.bundle.um_per_px)
    with Subjects() as subjects:
        for rows in read_rows(out):
            tally.add(rows)
            subjects.add(rows)
        choice = Choice(tally)
        for rows in read_rows(out):
            choice.add(rows)
            if tally.duplicates:
                subjects.look_up(rows)
        if len(subjects):
            partial = subjects.write_csv(out / f"{SUBJECTS}.part")
            partial.replace(out / SUBJECTS)
        found = Gathered(
            run, tally, choice, subjects, warnings(tally, choice, subjects.shared(MOST_NAMED))
        )
        write_whole(out / "report.json", json.dumps(_exact(found), indent=1, allow_nan=False))
        return write_whole(out / "report.html", render(out, found, fetch))


def render_again(address: str) -> str:
    """Render the report of a scoring run in an object store; return the page's address."""
    out = open_output(address)
    with out.desk() as desk:
        for name in (RUN, COUNTS):
            out.fetch(desk, name)
        write_cohort_report(desk, lambda name: out.fetch(desk, name))
        for name in PAGE:
            if (desk / name).exists():
                out.publish(desk, name)
    return f"{out}/{PAGE[0]}"


@dataclass(frozen=True)
class Gathered:
    """All that the page tells of."""

    run: CohortRun
    tally: Tally
    choice: Choice
    subjects: Subjects
    warnings: list[Warned]


def render(out: Path, found: Gathered, fetch: Fetch | None = None) -> str:
    """Return the page as HTML."""
    templates = page_templates()
    templates.filters |= {"many": many, "grouped": grouped, "more": more}
    run, tally = found.run, found.tally
    return templates.get_template("cohort_template.html").render(
        answer=answer(tally, len(found.subjects)),
        run=run,
        bundle=run.bundle,
        tally=tally,
        median=tally.count_bins.quantile(0.5),
        warnings=found.warnings,
        limits=limits(run.bundle),
        charts=[chart for chart in (count_chart(tally), density_chart(tally)) if chart],
        sheet=found.choice.pictures(out, fetch),
        subjects=list(islice(found.subjects, MOST_SUBJECTS)),
        all_subjects=len(found.subjects),
        settings=yaml.safe_dump(run.settings, sort_keys=False, allow_unicode=True),
    )


def _exact(found: Gathered) -> dict[str, Any]:
    """Every figure unrounded; what is not known is null."""
    tally, subjects = found.tally, len(found.subjects)
    values: dict[str, Any] = plain(
        {
            "answer": answer(tally, subjects),
            "images": tally.images,
            "scored": tally.scored,
            "failed": tally.failed,
            "duplicates": tally.duplicates,
            "subjects": subjects,
            "counts": _spread(tally.counts) | {"quartiles": _quartiles(tally)},
            "densities_per_mm": _spread(tally.densities) | {"pooled": tally.pooled_density},
            "um_per_px": _spread(tally.scales),
            "without_crossing": tally.without_crossing,
            "warnings": [asdict(warned) for warned in found.warnings],
            "failures": [asdict(reason) for reason in tally.failures.most_first],
            "run": asdict(found.run),
        }
    )
    return values


def _quartiles(tally: Tally) -> list[float | None]:
    return [tally.count_bins.quantile(share) for share in QUARTILES]


def _spread(found: Moments) -> dict[str, float | int | None]:
    if not found.n:
        return {"n": 0, "mean": None, "sd": None, "lowest": None, "highest": None}
    return {
        "n": found.n, "mean": found.mean, "sd": found.sd, "lowest": found.low,
        "highest": found.high,
    }  # fmt: skip
