"""Bring a cohort's images to one scale, so that a network sees one fibre width."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from statistics import median

import cv2
import numpy as np

from skinray.config import ReadSettings
from skinray.images.manifest import Biopsy, load_sample
from skinray.images.sample import Sample
from skinray.learning.predict import scale_factor

# Shares of a pixel this small are the arithmetic's, not the tracing's.
ROUNDING = 1e-4


@dataclass(frozen=True)
class LabelledReader:
    """Reads a biopsy and its labels at the cohort's common scale (um per pixel)."""

    settings: ReadSettings
    um_per_px: float | None = None

    def __call__(self, biopsy: Biopsy) -> Sample:
        """Return the sample, resampled where its known scale differs from the common one."""
        sample = load_sample(biopsy, self.settings)
        return resampled(sample, scale_factor(biopsy.um_per_px, self.um_per_px))


def common_scale(biopsies: Iterable[Biopsy]) -> float | None:
    """Return the median of the known scales; None where no image has one."""
    known = [b.um_per_px for b in biopsies if b.um_per_px is not None]
    return median(known) if known else None


def resampled(sample: Sample, factor: float) -> Sample:
    """Return the sample with ``factor`` times the pixels along each side.

    The image is averaged when it shrinks. A pixel of the result is nerve where nerve covers it
    at least half as much as a line of one pixel of the source would, so that a thin tracing
    does not tear.
    """
    if factor == 1.0:
        return sample
    height, width = sample.shape
    size = (max(1, round(width * factor)), max(1, round(height * factor)))
    how = cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR
    image = cv2.resize(sample.image, size, interpolation=how)
    covered = cv2.resize(sample.nerve.astype(np.float32), size, interpolation=how)
    dermis = cv2.resize(sample.dermis, size, interpolation=cv2.INTER_NEAREST_EXACT)
    return Sample(
        np.asarray(image, np.uint8),
        (np.asarray(covered) >= 0.5 * min(1.0, factor) - ROUNDING).astype(np.uint8),
        np.asarray(dermis, np.uint8),
    )
