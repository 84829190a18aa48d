"""Figures of a scored cohort of photographs: shares of skin, and how sure the network was."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from skinray.report.cohort_tally import Histogram, Moments, Row, Tally

# Below this mean confidence a mask deserves a look: half way between a guess and certainty.
UNSURE = 0.5
# Bins of a hundredth; 1 itself is the first of its bin.
BIN = 1 / 100


@dataclass
class AreaTally(Tally):
    """What a cohort of photographs adds up to.

    Attributes
    ----------
    fractions, confidences : of scored photographs that are no duplicates.
    without_skin, all_skin, unsure : of the same, those with no skin, with nothing else, and with
        a mean confidence below ``UNSURE``.
    """

    table: str = "areas"
    fractions: Moments = field(default_factory=Moments)
    confidences: Moments = field(default_factory=Moments)
    fraction_bins: Histogram = field(default_factory=lambda: Histogram(BIN))
    confidence_bins: Histogram = field(default_factory=lambda: Histogram(BIN))
    without_skin: int = 0
    all_skin: int = 0
    unsure: int = 0

    def _add_results(self, rows: list[Row]) -> None:
        fractions = np.array([row["skin_fraction"] for row in rows], np.float64)
        confidences = np.array([row["confidence"] for row in rows], np.float64)
        self.fractions.add(fractions)
        self.fraction_bins.add(fractions)
        self.confidences.add(confidences)
        self.confidence_bins.add(confidences)
        self.without_skin += int((fractions == 0).sum())
        self.all_skin += int((fractions == 1).sum())
        self.unsure += int((confidences < UNSURE).sum())
