"""The report of a scored cohort of biopsies: counts, densities, pixel sizes, subjects."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

from skinray.images.doubts import is_far_scale
from skinray.report.charts import COLOURS
from skinray.report.cohorts.figures import HistogramLabels, histogram
from skinray.report.cohorts.gathered import Check, CohortReport, Findings, Ranking
from skinray.report.cohorts.run import CohortRun
from skinray.report.cohorts.subjects import Subjects
from skinray.report.cohorts.tally import Histogram, ImageRow, Moments, Tally, column
from skinray.report.cohorts.words import summary
from skinray.report.tables import many, number

MOST_SUBJECTS = 200
SUBJECTS = "subjects.csv"
COUNTS = HistogramLabels(
    "Crossings per image",
    "Check the overlay of an image whose count is 0 or far to the right of the rest.",
    "counts", "images", "crossings in an image", 0, COLOURS[0],
)  # fmt: skip
DENSITIES = HistogramLabels(
    "Crossings per mm of boundary",
    "Images with a known pixel size and a boundary.",
    "densities", "images", "crossings per mm", 2, COLOURS[2],
)  # fmt: skip


@dataclass
class CountTally(Tally):
    """What a cohort of biopsies adds up to.

    An image without a boundary is in no figure of counts: its count of 0 means nothing.

    Attributes
    ----------
    counts, densities : of images with a boundary; densities of those with a known pixel size.
    crossings, boundary_mm : sums over the images with a density, for the pooled density.
    without_scale, without_boundary, without_crossing : images with a result but no pixel size,
        no boundary, or a boundary and no crossing.
    """

    counts: Moments = field(default_factory=Moments)
    densities: Moments = field(default_factory=Moments)
    scales: Moments = field(default_factory=Moments)
    count_bins: Histogram = field(default_factory=lambda: Histogram(1))
    density_bins: Histogram = field(default_factory=lambda: Histogram(1 / 64))
    crossings: int = 0
    boundary_mm: float = 0.0
    without_scale: int = 0
    without_boundary: int = 0
    without_crossing: int = 0

    def _add_results(self, rows: list[ImageRow]) -> None:
        bounded = [row for row in rows if row["boundary_px"]]
        counts, scales = column(bounded, "count"), column(rows, "um_per_px")
        dense = [row for row in rows if row["density_per_mm"] is not None]
        densities = column(dense, "density_per_mm")
        self.counts.add(counts)
        self.count_bins.add(counts)
        self.densities.add(densities)
        self.density_bins.add(densities)
        self.scales.add(scales)
        self.crossings += sum(row["count"] for row in dense)
        self.boundary_mm += math.fsum(row["boundary_mm"] for row in dense)
        self.without_scale += len(rows) - len(scales)
        self.without_boundary += len(rows) - len(bounded)
        self.without_crossing += int((counts == 0).sum())

    @property
    def far_count(self) -> float:
        """The count above which an image is far outside: Tukey's 3 quartile ranges above."""
        low, high = self.count_bins.quantile(0.25), self.count_bins.quantile(0.75)
        return math.inf if low is None or high is None else high + 3 * max(1.0, high - low)

    @property
    def pooled_density(self) -> float | None:
        """Crossings per mm over all boundary of known length."""
        return self.crossings / self.boundary_mm if self.boundary_mm else None


class BiopsyReport(CohortReport):
    """What a cohort's report shows of biopsies."""

    template = "cohorts/biopsies.html"
    measured_on = (
        "images from the laboratory that provided the training images. It was not measured for "
        "another stain, thickness, magnification or laboratory: count some of these images by "
        "eye and compare before you rely on the rest."
    )
    ranks = ("Highest counts", "Lowest counts", "Counts in the middle")
    order = ("Lowest counts", "Counts in the middle", "Highest counts")

    def __init__(self, run: CohortRun) -> None:
        self.tally: CountTally = CountTally()
        self.copies: Subjects = Subjects()
        self._trained_um_per_px = run.bundle.um_per_px

    def checks(self) -> list[Check]:
        """Return images without a boundary, with a far count, or with a far or no pixel size."""
        far, trained = self.tally.far_count, self._trained_um_per_px
        more = "" if math.isinf(far) else f" (more than {number(far, 0)} crossings)"
        return [
            Check(
                "No boundary found",
                "The dermis fills the whole image or none of it, so there is nothing to count "
                "along. The count of 0 says nothing about nerves: these images are left out of "
                "every mean here, so leave them out of yours. Open them: some may not show where "
                "dermis and epidermis meet, and in some it may have been missed.",
                lambda row: not row["boundary_px"],
            ),
            Check(
                f"Count far above the rest{more}",
                "More than three times the interquartile range above the third quartile. Often "
                "the tissue is folded or damaged, or the stain differs: check the overlays.",
                lambda row: row["count"] > far,
                key=lambda row: -row["count"],
                name=lambda row: f"{row['image']} ({row['count']})",
            ),
            Check(
                "Pixel size far from that of the training images",
                f"More than twice or less than half of {number(trained, 3)} um/px, the pixel size "
                "that the bundle was trained at. Check um_per_px: the accuracy of counts at such "
                "pixel sizes was not measured.",
                lambda row: is_far_scale(row["um_per_px"], trained),
            ),
            Check(
                "Pixel size not known",
                "These images have no length in mm and no density. They were counted as if they "
                "had the pixel size of the training images. Give um_per_px in the manifest, or "
                "--um-per-px if all images share one pixel size.",
                lambda row: row["um_per_px"] is None,
            ),
        ]

    def ranking(self) -> Ranking:
        """Rank images with a boundary by their count, and by its distance from the median."""
        middle = self.tally.count_bins.quantile(0.5) or 0.0

        def keys(row: ImageRow) -> tuple[float, ...] | None:
            count = row["count"]
            return (-count, count, abs(count - middle)) if row["boundary_px"] else None

        return keys

    def describe(self, row: ImageRow) -> str:
        """Return an image's count and density."""
        count, density = many(row["count"], "crossing"), row["density_per_mm"]
        return count if density is None else f"{count}, {number(density, 1)} per mm"

    def findings(self, out: Path) -> Findings:
        """Return counts and densities; write ``subjects.csv`` if images have subjects."""
        tally, subjects = self.tally, len(self.copies)
        if subjects:
            self.copies.write_csv(out / SUBJECTS)
        quartiles = [tally.count_bins.quantile(share) for share in (0.25, 0.5, 0.75)]
        return Findings(
            answer=_answer(tally, subjects),
            charts=[
                *histogram(COUNTS, tally.counts, tally.count_bins),
                *histogram(DENSITIES, tally.densities, tally.density_bins),
            ],
            exact={
                "subjects": subjects,
                "counts": tally.counts.summary() | {"quartiles": quartiles},
                "densities_per_mm": tally.densities.summary() | {"pooled": tally.pooled_density},
                "um_per_px": tally.scales.summary(),
                "without_crossing": tally.without_crossing,
            },
            shown={
                "median": quartiles[1],
                "subjects": list(islice(self.copies, MOST_SUBJECTS)),
                "all_subjects": subjects,
            },
        )


def _answer(tally: CountTally, subjects: int) -> str:
    text = summary(tally, "image", "counted", subjects)
    if not tally.images:
        return text
    if not tally.counts.n:
        return f"{text} There are no counts to report."
    text += f" Images with a boundary have {number(tally.counts.mean, 1)} crossings on average"
    if tally.pooled_density is None:
        return f"{text}; no pixel size is known, so there is no density."
    return f"{text}, and {number(tally.pooled_density, 2)} per mm of boundary."
