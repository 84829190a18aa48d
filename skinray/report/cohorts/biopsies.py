"""What the report of a scored cohort of biopsies tells: counts, densities, subjects."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import islice
from pathlib import Path

from skinray.report.biopsies.tables import number
from skinray.report.cohorts.count_tally import CountTally
from skinray.report.cohorts.figures import count_chart, density_chart
from skinray.report.cohorts.page import Gathered, spread
from skinray.report.cohorts.pictures import MOST_NAMED, Fetch, Nearest, Picture, Sheet, note
from skinray.report.cohorts.run import CohortRun, read_rows
from skinray.report.cohorts.subjects import SharedImage, Subjects
from skinray.report.cohorts.tally import Row
from skinray.report.cohorts.words import Warned, limits, many, of_two_subjects, opening

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


OUTSIDE = (
    "images of the training's laboratory. Another stain, thickness, magnification or laboratory "
    "is outside what was measured: count some of these images by eye and compare before relying "
    "on the rest."
)


def answer(tally: CountTally, subjects: int) -> str:
    """Return what the run found, in one sentence or two."""
    of = f" of {many(subjects, 'subject')}" if subjects else ""
    text = opening(tally, "image", "counted", of)
    if not tally.images:
        return text
    if not tally.counts.n:
        return f"{text} There are no counts to report."
    text += f" An image with a boundary has {number(tally.counts.mean, 1)} crossings on average"
    if tally.pooled_density is None:
        return f"{text}; without a known scale there is no density."
    return f"{text}, and {number(tally.pooled_density, 2)} a millimetre of boundary."


def warnings(
    tally: CountTally, choice: Choice, shared: tuple[int, Sequence[SharedImage]]
) -> list[Warned]:
    """Return what needs a look, with the images it is about, most important first."""
    far = "" if tally.far_count is None else f" (above {number(tally.far_count, 0)} crossings)"
    trained = tally.bundle_um_per_px
    found = [
        of_two_subjects(shared),
        Warned(
            "No boundary found",
            "The dermis fills the whole image, or none of it, so there is nothing to count "
            "along. The count 0 of these images says nothing about nerves, and they are left "
            "out of every mean here: leave them out of yours. Look at them: some may show no "
            "junction of dermis and epidermis, and some may be misread.",
            tally.without_boundary,
            choice.without_boundary,
        ),
        Warned(
            f"Count far outside the rest{far}",
            "More than three times the middle half's range above it. Often folded or damaged "
            "tissue, or another stain: look at the overlays.",
            choice.far_images,
            [f"{row['image']} ({row['count']})" for row in choice.far],
        ),
        Warned(
            "Scale far from the training images'",
            f"More than twice or less than half of {number(trained, 3)} um/px, at which the "
            "bundle was trained. Check um_per_px; counts at such scales were not measured.",
            tally.far_scale,
            choice.far_scale,
        ),
        Warned(
            "Scale not known",
            "These images have no length in mm and no density, and were taken to be at the "
            "scale of the training images. Give um_per_px in the manifest, or, where all images "
            "share one scale, as --um-per-px.",
            tally.without_scale,
            choice.without_scale,
        ),
    ]
    return [warned for warned in found if warned.images]


RANKS = ("Highest counts", "Lowest counts", "Counts in the middle")


class Choice:
    """Chooses on a second pass over the rows, when the distribution is known.

    Attributes
    ----------
    far : rows with a count far outside the rest, the highest first; ``far_images`` of them.
    without_boundary, without_scale, far_scale : names of the first such images.
    """

    def __init__(self, tally: CountTally) -> None:
        self.tally = tally
        self._middle = tally.count_bins.quantile(0.5) or 0.0
        self._sheet = Sheet(RANKS, (RANKS[1], RANKS[2], RANKS[0]))
        self._far = Nearest(MOST_NAMED)
        self.far_images = 0
        self.without_boundary: list[str] = []
        self.without_scale: list[str] = []
        self.far_scale: list[str] = []

    def add(self, rows: Iterable[Row]) -> None:
        """Take in a batch of rows of ``counts.parquet``."""
        for row in rows:
            if row["status"] == "ok" and not row["duplicate_of"]:
                self._add_counted(row)

    def _add_counted(self, row: Row) -> None:
        count, trained = row["count"], self.tally.bundle_um_per_px
        if self.tally.far_count is not None and count > self.tally.far_count:
            self.far_images += 1
            self._far.add(-count, row)
        if row["um_per_px"] is None:
            note(self.without_scale, row)
        elif trained and not 0.5 <= row["um_per_px"] / trained <= 2:
            note(self.far_scale, row)
        if not row["boundary_px"]:
            note(self.without_boundary, row)
            return
        self._sheet.add(row, (-count, count, abs(count - self._middle)))

    @property
    def far(self) -> list[Row]:
        """Rows with a count far outside the rest, the highest first."""
        return self._far.rows

    def pictures(self, folder: Path, fetch: Fetch | None = None) -> dict[str, list[Picture]]:
        """Return the contact sheet; see :meth:`Sheet.pictures`."""
        return self._sheet.pictures(folder, _told, fetch)


def _told(row: Row) -> str:
    said = many(row["count"], "crossing")
    density = row["density_per_mm"]
    return said if density is None else f"{said}, {number(density, 1)} per mm"
