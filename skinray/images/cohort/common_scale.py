"""Resample a cohort's images to one scale, so that fibres have one width for the network."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from statistics import median
from typing import TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

from skinray.config.images import ReadSettings
from skinray.config.kinds import Stage
from skinray.errors import ImageError
from skinray.images.augment import Sample
from skinray.images.cohort.manifest import load_sample
from skinray.images.cohort.rows import Biopsy

P = TypeVar("P", np.uint8, np.float32)
# Images whose scale differs from the training scale by less than this are not resampled.
SAME_SCALE = 0.02
# At 0.5, lines one pixel wide break where they step to the next column. At 0.45 none of 4000
# random lines did; this leaves a margin.
LEAST_COVER = 0.4


@dataclass(frozen=True)
class LabelledReader:
    """Reads a biopsy and its labels at the cohort's common scale (um per pixel)."""

    settings: ReadSettings
    um_per_px: float | None = None

    def __call__(self, biopsy: Biopsy) -> Sample:
        """Return the sample, resampled if its known scale differs from the common one."""
        sample = load_sample(biopsy, self.settings)
        return resampled(sample, scale_factor(biopsy.um_per_px, self.um_per_px))


def common_scale(biopsies: Iterable[Biopsy]) -> float | None:
    """Return the median of the known scales; None if no image has one."""
    known = [b.um_per_px for b in biopsies if b.um_per_px is not None]
    return median(known) if known else None


def scale_factor(um_per_px: float | None, trained_um_per_px: float | None) -> float:
    """Return the training pixels per image pixel; 1 if either scale is unknown."""
    if um_per_px is None or trained_um_per_px is None:
        return 1.0
    factor = um_per_px / trained_um_per_px
    return 1.0 if abs(factor - 1) <= SAME_SCALE else factor


def refuse_too_large(
    shape: tuple[int, ...],
    um_per_px: float | None,
    trained_um_per_px: float | None,
    max_pixels: int,
) -> None:
    """Raise ImageError if an image exceeds ``max_pixels`` at the scale of the training."""
    factor = scale_factor(um_per_px, trained_um_per_px)
    pixels = shape[0] * shape[1] * factor**2
    if factor > 1 and pixels > max_pixels:
        raise ImageError(
            f"{pixels / 1e6:.0f} megapixels once resampled from {um_per_px:g} um per pixel to the "
            f"networks' {trained_um_per_px:g}: correct um_per_px, or raise read.max_pixels"
        )


def resampled(sample: Sample, factor: float) -> Sample:
    """Return the sample with ``factor`` times the pixels along each side.

    Shrinking averages the image. A pixel is then nerve if nerve covers ``LEAST_COVER`` of what a
    line one source pixel wide would cover, so that a thin tracing does not break.
    """
    if factor == 1.0:
        return sample
    image = resized(sample.image, factor)
    height, width = image.shape[:2]

    def shrunk(stage: Stage, mask: NDArray[np.uint8]) -> NDArray[np.uint8]:
        if stage == "nerve":
            least = LEAST_COVER * factor if factor < 1 else 0.5
            return (resized(mask.astype(np.float32), factor) >= least).astype(np.uint8)
        nearest = cv2.resize(mask, (width, height), interpolation=cv2.INTER_NEAREST_EXACT)
        return np.asarray(nearest, np.uint8)

    return Sample(image, {stage: shrunk(stage, mask) for stage, mask in sample.masks.items()})


def resized(pixels: NDArray[P], factor: float) -> NDArray[P]:
    """Return an image or a map, (H, W, ...), with ``factor`` times the pixels along each side.

    Shrinking averages the pixels. At factor 1, the result is the array itself.
    """
    if factor == 1.0:
        return pixels
    height, width = pixels.shape[:2]
    size = (max(1, round(width * factor)), max(1, round(height * factor)))
    how = cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(pixels, size, interpolation=how), pixels.dtype)
