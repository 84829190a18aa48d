"""What the report of a scored cohort of biopsies tells: counts, densities, subjects."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

from skinray.report.cohort_figures import count_chart, density_chart
from skinray.report.cohort_page import Gathered, spread
from skinray.report.cohort_pictures import MOST_NAMED, Fetch
from skinray.report.cohort_run import CohortRun, read_rows
from skinray.report.cohort_subjects import Subjects
from skinray.report.cohort_words import limits
from skinray.report.count_choice import Choice
from skinray.report.count_tally import CountTally
from skinray.report.count_words import OUTSIDE, answer, warnings

MOST_SUBJECTS = 200
SUBJECTS = "subjects.csv"
QUARTILES = (0.25, 0.5, 0.75)


def gather_counts(out: Path, run: CohortRun, fetch: Fetch | None = None) -> Gathered:
    """Read the table of counts, twice, and write ``subjects.csv`` where images have subjects."""
    tally = CountTally(bundle_um_per_px=run.bundle.um_per_px)
    with Subjects() as subjects:
        for rows in read_rows(out, "biopsy"):
            tally.add(rows)
            subjects.add(rows)
        choice = Choice(tally)
        for rows in read_rows(out, "biopsy"):
            choice.add(rows)
            if tally.duplicates:
                subjects.look_up(rows)
        if len(subjects):
            partial = subjects.write_csv(out / f"{SUBJECTS}.part")
            partial.replace(out / SUBJECTS)
        quartiles = [tally.count_bins.quantile(share) for share in QUARTILES]
        return Gathered(
            run=run,
            tally=tally,
            answer=answer(tally, len(subjects)),
            warnings=warnings(tally, choice, subjects.shared(MOST_NAMED)),
            limits=limits(run.bundle, OUTSIDE),
            charts=[chart for chart in (count_chart(tally), density_chart(tally)) if chart],
            sheet=choice.pictures(out, fetch),
            exact={
                "subjects": len(subjects),
                "counts": spread(tally.counts) | {"quartiles": quartiles},
                "densities_per_mm": spread(tally.densities) | {"pooled": tally.pooled_density},
                "um_per_px": spread(tally.scales),
                "without_crossing": tally.without_crossing,
            },
            shown={
                "median": tally.count_bins.quantile(0.5),
                "subjects": list(islice(subjects, MOST_SUBJECTS)),
                "all_subjects": len(subjects),
            },
        )
