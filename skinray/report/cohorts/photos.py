"""What the report of a scored cohort of photographs tells: shares of skin, and doubtful masks."""

from __future__ import annotations

from pathlib import Path

from skinray.report.biopsies.tables import number
from skinray.report.cohorts.count_tally import UNSURE, AreaTally
from skinray.report.cohorts.figures import confidence_chart, fraction_chart
from skinray.report.cohorts.page import Gathered, spread
from skinray.report.cohorts.pictures import MOST_NAMED, Fetch, Sheet, note
from skinray.report.cohorts.run import CohortRun, read_rows
from skinray.report.cohorts.subjects import Copies
from skinray.report.cohorts.tally import Row
from skinray.report.cohorts.words import Warned, limits, of_two_subjects, opening

RANKS = ("Least certain", "Most skin", "Least skin")
OUTSIDE = (
    "photographs of the training's own kind. Another camera, light, part of the body or tone of "
    "skin is outside what was measured: trace some of these photographs and compare before "
    "relying on the rest. The training's report tells how the figures differ by tone of skin and "
    "by light."
)


def gather_areas(out: Path, run: CohortRun, fetch: Fetch | None = None) -> Gathered:
    """Read the table of areas, and choose what to show."""
    tally, sheet = AreaTally(), Sheet(RANKS, RANKS)
    empty: list[str] = []
    full: list[str] = []
    unsure: list[str] = []
    with Copies() as copies:
        for rows in read_rows(out, "photo"):
            tally.add(rows)
            copies.add(rows)
            for row in rows:
                if row["status"] != "ok" or row["duplicate_of"]:
                    continue
                fraction, confidence = row["skin_fraction"], row["confidence"]
                sheet.add(row, (confidence, -fraction, fraction))
                for names, holds in (
                    (empty, fraction == 0), (full, fraction == 1), (unsure, confidence < UNSURE),
                ):  # fmt: skip
                    if holds:
                        note(names, row)
        if tally.duplicates:
            for rows in read_rows(out, "photo"):
                copies.look_up(rows)
        twice = of_two_subjects(copies.shared(MOST_NAMED))
    return Gathered(
        run=run,
        tally=tally,
        answer=answer(tally),
        warnings=_warnings(tally, twice, empty, full, unsure),
        limits=limits(run.bundle, OUTSIDE),
        charts=[chart for chart in (fraction_chart(tally), confidence_chart(tally)) if chart],
        sheet=sheet.pictures(out, _told, fetch),
        exact={
            "skin_fraction": spread(tally.fractions),
            "confidence": spread(tally.confidences),
            "without_skin": tally.without_skin,
            "all_skin": tally.all_skin,
            "unsure": tally.unsure,
        },
        shown={
            "median": tally.fraction_bins.quantile(0.5),
            "unsure_below": UNSURE,
        },
    )


def answer(tally: AreaTally) -> str:
    """Return what the run found, in one sentence or two."""
    said = opening(tally, "photograph", "scored")
    if tally.fractions.n:
        said += f" Skin is {_percent(tally.fractions.mean)} of a photograph on average."
    return said


def _warnings(
    tally: AreaTally, twice: Warned, empty: list[str], full: list[str], unsure: list[str]
) -> list[Warned]:
    found = [
        twice,
        Warned(
            "No skin found",
            "The mask is empty. Look at them: some may show no skin, and in some it was missed.",
            tally.without_skin,
            empty,
        ),
        Warned(
            "Skin everywhere",
            "The mask fills the photograph. That is right for a close-up; else the background "
            "was taken for skin.",
            tally.all_skin,
            full,
        ),
        Warned(
            f"Unsure (mean confidence below {number(UNSURE, 1)})",
            "The network finds skin and background about as likely in much of the photograph. "
            "Often another light, camera or tone of skin than it was trained on.",
            tally.unsure,
            unsure,
        ),
    ]
    return [warned for warned in found if warned.images]


def _told(row: Row) -> str:
    confidence = number(row["confidence"], 2)
    return f"{_percent(row['skin_fraction'])} skin, confidence {confidence}"


def _percent(share: float) -> str:
    return f"{number(100 * share, 0)} %"
