"""What a labelled cohort looks like, measured on some of its images: the ground of a plan."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

import cv2
import numpy as np
from numpy.typing import NDArray

from skinray.config.images import ReadSettings
from skinray.images.augment import Sample
from skinray.images.cohort.common_scale import LabelledReader
from skinray.images.cohort.rows import Cohort

# Images that are measured; more would not change a plan.
MEASURED = 16


@dataclass(frozen=True)
class CohortFacts:
    """A cohort in figures.

    Attributes
    ----------
    images, subjects : how many.
    height, width : median size in pixels, at the cohort's common scale.
    um_per_px : the common scale; None: unknown.
    stroke_px : median width of the traced nerves; 0 if none is traced.
    dermis : mean share of the dermis.
    """

    images: int
    subjects: int
    height: int
    width: int
    um_per_px: float | None
    stroke_px: float
    dermis: float

    @property
    def short_side(self) -> int:
        """The shorter side of the median image, in pixels."""
        return min(self.height, self.width)

    @property
    def pixels(self) -> int:
        """Pixels of the median image."""
        return self.height * self.width


def measured_positions(images: int) -> list[int]:
    """Return which images are measured: at most :data:`MEASURED`, evenly spaced."""
    return sorted({int(at) for at in np.linspace(0, images - 1, min(images, MEASURED))})


def measured_samples(cohort: Cohort, um_per_px: float | None) -> list[Sample]:
    """Read the images that are measured, at the cohort's common scale, with their labels."""
    read = LabelledReader(ReadSettings(), um_per_px)
    return [read(cohort.biopsies[at]) for at in measured_positions(len(cohort.biopsies))]


def cohort_facts(cohort: Cohort, samples: Sequence[Sample], um_per_px: float | None) -> CohortFacts:
    """Measure a cohort.

    Parameters
    ----------
    samples : those of :func:`measured_samples`, at the scale ``um_per_px``.
    """
    strokes = [width for one in samples if (width := stroke_width(one.masks["nerve"])) > 0]
    return CohortFacts(
        images=len(cohort.biopsies),
        subjects=len({biopsy.subject for biopsy in cohort.biopsies}),
        height=round(median(one.shape[0] for one in samples)),
        width=round(median(one.shape[1] for one in samples)),
        um_per_px=um_per_px,
        stroke_px=median(strokes) if strokes else 0.0,
        dermis=float(np.mean([one.masks["dermis"].mean() for one in samples])),
    )


def stroke_width(mask: NDArray[np.uint8]) -> float:
    """Return the typical width of the lines of an (H, W) mask in pixels; 0 if it is empty.

    In a line of width w, the mean distance of its pixels to the nearest pixel outside is about
    w / 4 + 1/2.
    """
    if not mask.any():
        return 0.0
    # A frame of background, so that lines that leave the image have an edge there too.
    framed = np.pad((mask > 0).astype(np.uint8), 1)
    distance = cv2.distanceTransform(framed, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    return max(1.0, 4 * (float(distance[framed > 0].mean()) - 0.5))
