"""Figures of a scored cohort of biopsies: counts, densities, scales."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from skinray.report.cohort_tally import Histogram, Moments, Row, Tally


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
