"""The report of a scored cohort of photographs: shares of skin, and masks to doubt."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from skinray.report.charts import COLOURS
from skinray.report.cohorts.figures import HistogramLabels, histogram
from skinray.report.cohorts.gathered import Check, CohortReport, Findings, Ranking
from skinray.report.cohorts.run import CohortRun
from skinray.report.cohorts.subjects import Copies
from skinray.report.cohorts.tally import Histogram, ImageRow, Moments, Tally, column
from skinray.report.cohorts.words import summary
from skinray.report.tables import number

# A mask with a lower mean confidence needs review: half way between a guess and certainty.
UNSURE = 0.5
# Bins of a hundredth; 1 itself is the first of its bin.
BIN = 1 / 100
FRACTIONS = HistogramLabels(
    "Share of skin per photograph",
    "Check a mask at 0 or 1: no skin was found, or no background.",
    "shares of skin", "photographs", "share of skin", 2, COLOURS[0],
)  # fmt: skip
CONFIDENCES = HistogramLabels(
    "Mean confidence per photograph",
    "1: every pixel is certain; 0: skin and background are equally likely. The network rates "
    "itself and can be wrong.",
    "mean confidences", "photographs", "mean confidence", 2, COLOURS[2],
)  # fmt: skip


@dataclass
class AreaTally(Tally):
    """What a cohort of photographs adds up to.

    Attributes
    ----------
    fractions, confidences : of photographs with a result.
    without_skin, all_skin, unsure : photographs with no skin, with nothing else, and with a mean
        confidence below ``UNSURE``.
    """

    table: str = "areas"
    fractions: Moments = field(default_factory=Moments)
    confidences: Moments = field(default_factory=Moments)
    fraction_bins: Histogram = field(default_factory=lambda: Histogram(BIN))
    confidence_bins: Histogram = field(default_factory=lambda: Histogram(BIN))
    without_skin: int = 0
    all_skin: int = 0
    unsure: int = 0

    def _add_results(self, rows: list[ImageRow]) -> None:
        fractions, confidences = column(rows, "skin_fraction"), column(rows, "confidence")
        self.fractions.add(fractions)
        self.fraction_bins.add(fractions)
        self.confidences.add(confidences)
        self.confidence_bins.add(confidences)
        self.without_skin += int((fractions == 0).sum())
        self.all_skin += int((fractions == 1).sum())
        self.unsure += int((confidences < UNSURE).sum())


class PhotoReport(CohortReport):
    """What a cohort's report shows of photographs."""

    template = "cohorts/photos.html"
    measured_on = (
        "photographs like the training ones. It was not measured for another camera, light, "
        "body part or skin tone: trace some of these photographs and compare before you rely on "
        "the rest. The training report shows how accuracy differs by skin tone and lighting."
    )
    ranks = order = ("Least certain", "Most skin", "Least skin")

    def __init__(self, _: CohortRun) -> None:
        self.tally: AreaTally = AreaTally()
        self.copies = Copies()

    def checks(self) -> list[Check]:
        """Return photographs without skin, without background, or with an unsure mask."""
        return [
            Check(
                "No skin found",
                "The mask is empty. Open these photographs: some may show no skin, and in some it "
                "was missed.",
                lambda row: row["skin_fraction"] == 0,
            ),
            Check(
                "Skin everywhere",
                "The mask fills the photograph. That is right for a close-up; otherwise the "
                "background was taken for skin.",
                lambda row: row["skin_fraction"] == 1,
            ),
            Check(
                f"Unsure (mean confidence below {number(UNSURE, 1)})",
                "In much of the photograph the network finds skin and background about equally "
                "likely. Often the light, the camera or the skin tone differs from those of the "
                "training photographs.",
                lambda row: row["confidence"] < UNSURE,
            ),
        ]

    def ranking(self) -> Ranking:
        """Rank by confidence and by share of skin."""
        return lambda row: (row["confidence"], -row["skin_fraction"], row["skin_fraction"])

    def describe(self, row: ImageRow) -> str:
        """Return a photograph's share of skin and confidence."""
        return f"{_percent(row['skin_fraction'])} skin, confidence {number(row['confidence'], 2)}"

    def findings(self, out: Path) -> Findings:
        """Return shares of skin and confidences."""
        tally = self.tally
        answer = summary(tally, "photograph", "scored")
        if tally.fractions.n:
            answer += f" On average {_percent(tally.fractions.mean)} of a photograph is skin."
        return Findings(
            answer=answer,
            charts=[
                *histogram(FRACTIONS, tally.fractions, tally.fraction_bins),
                *histogram(CONFIDENCES, tally.confidences, tally.confidence_bins),
            ],
            exact={
                "skin_fraction": tally.fractions.summary(),
                "confidence": tally.confidences.summary(),
                "without_skin": tally.without_skin,
                "all_skin": tally.all_skin,
                "unsure": tally.unsure,
            },
            shown={"median": tally.fraction_bins.quantile(0.5), "unsure_below": UNSURE},
        )


def _percent(share: float) -> str:
    return f"{number(100 * share, 0)} %"
