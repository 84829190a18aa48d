"""Figures of a scored cohort of biopsies: counts, densities, scales."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from skinray.report.cohorts.tally import Histogram, Moments, Row, Tally


@dataclass
class CountTally(Tally):
    """What a cohort of biopsies adds up to.

    An image without a boundary is left out of every figure of counts, as duplicates are: its
    count of 0 says nothing.

    Attributes
    ----------
    counts, densities : of scored images that are no duplicates and have a boundary; densities
        of those with a scale.
    crossings, boundary_mm : sums over images with a known density, for the pooled one.
    without_scale, without_boundary, without_crossing : of scored images that are no duplicates;
        those without crossing have a boundary.
    far_scale : of the same, those at a scale beyond a factor of two from the bundle's.
    """

    bundle_um_per_px: float | None = None
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
    far_scale: int = 0

    def _add_results(self, rows: list[Row]) -> None:
        bounded = [row for row in rows if row["boundary_px"]]
        counts = np.array([row["count"] for row in bounded], np.float64)
        dense = [row for row in rows if row["density_per_mm"] is not None]
        densities = np.array([row["density_per_mm"] for row in dense], np.float64)
        scales = np.array([r["um_per_px"] for r in rows if r["um_per_px"] is not None], np.float64)
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
        if self.bundle_um_per_px:
            ratio = scales / self.bundle_um_per_px
            self.far_scale += int(((ratio > 2) | (ratio < 0.5)).sum())

    @property
    def far_count(self) -> float | None:
        """The count above which an image lies far outside (Tukey: 3 quartile ranges above)."""
        low, high = self.count_bins.quantile(0.25), self.count_bins.quantile(0.75)
        if low is None or high is None:
            return None
        return high + 3 * max(1.0, high - low)

    @property
    def pooled_density(self) -> float | None:
        """Crossings a millimetre over all boundary of known length."""
        return self.crossings / self.boundary_mm if self.boundary_mm else None


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
