"""Skin in a photograph: from the network's map to a mask, with the confidence of each pixel."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from skinray.config.photos import SkinSettings
from skinray.errors import ImageError, size_of

# The filter's coefficients are smooth, so they are computed on a picture no larger than this.
FILTERED_PX = 1024
Floats = NDArray[np.float64]


class NotFiniteError(ImageError):
    """A network's map with values that are not finite."""


@dataclass(frozen=True)
class Skin:
    """The skin in one photograph, on its own pixels.

    Attributes
    ----------
    mask : (H, W) bool.
    probability : (H, W) float32 in 0..1 that a pixel is skin; the mask is where it reaches the
        threshold.
    """

    mask: NDArray[np.bool_]
    probability: NDArray[np.float32]

    @property
    def fraction(self) -> float:
        """Share of the photograph that is skin, 0 to 1."""
        return float(self.mask.mean())

    @property
    def confidence(self) -> NDArray[np.float32]:
        """(H, W) float32: 0 if skin and background are equally likely, 1 if either is certain."""
        return np.abs(2 * self.probability - 1)

    def __repr__(self) -> str:
        height, width = self.mask.shape
        return f"<Skin: {self.fraction:.1%} of {width}x{height} px>"


class SkinArea(BaseModel):
    """The skin in one photograph as tables and answers give it, in pixels of the upright image."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    skin_px: int = Field(ge=0, description="pixels that are skin")
    skin_fraction: float = Field(ge=0, le=1, description="share of the photograph that is skin")
    confidence: float = Field(
        ge=0, le=1, description="mean over pixels of |2 p - 1|: 1 certain, 0 undecided"
    )
    width: int = Field(ge=1, description="pixels")
    height: int = Field(ge=1, description="pixels")

    @classmethod
    def of(cls, found: Skin) -> Self:
        """Return the record of the skin found."""
        height, width = found.mask.shape
        return cls(
            skin_px=int(found.mask.sum()),
            skin_fraction=found.fraction,
            confidence=float(found.confidence.mean(dtype=float)),
            width=width,
            height=height,
        )


def find_skin(
    image: NDArray[np.uint8], probability: NDArray[np.float32], settings: SkinSettings
) -> Skin:
    """Return the mask of the skin in a probability map.

    Parameters
    ----------
    image : (H, W, 3) uint8, RGB; its edges guide the map if ``settings.refine`` is on.
    probability : (H, W) float32 in 0..1.
    settings : threshold and refinement.

    Raises ImageError if the map differs in size from the image, or (NotFiniteError) is not finite:
    no mask is better than a wrong one. The caller adds which photograph it was.
    """
    if probability.shape != image.shape[:2]:
        raise ImageError(
            f"map of {size_of(probability.shape)}, photograph of {size_of(image.shape)}: both need "
            "the same height and width"
        )
    if not np.isfinite(probability).all():
        raise NotFiniteError(
            "the network returned values that are not finite: the bundle's weights are invalid; "
            "use another bundle"
        )
    if settings.refine:
        radius = max(1, round(settings.refine_radius * max(image.shape[:2])))
        probability = guided_filter(image, probability, radius, settings.refine_eps)
    return Skin(probability >= np.float32(settings.threshold), probability)


def guided_filter(
    image: NDArray[np.uint8], values: NDArray[np.float32], radius: int, eps: float
) -> NDArray[np.float32]:
    """Align a map's edges with a photograph's (He, Sun and Tang, 2013; fast version: 2015).

    In each window the map is modelled as linear in the photograph's brightness.

    Parameters
    ----------
    image : (H, W, 3) uint8, RGB.
    values : (H, W) float32 in 0..1.
    radius : of the square windows, in pixels of the image.
    eps : brightness variance (of 0..1) below which a window counts as flat.

    Returns (H, W) float32 in 0..1.
    """
    guide = np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), np.float32) / 255
    height, width = values.shape
    times = max(1.0, max(height, width) / FILTERED_PX)
    small = max(1, round(width / times)), max(1, round(height / times))
    window = (2 * max(1, round(radius / times)) + 1,) * 2

    def mean(of: Floats) -> Floats:
        return np.asarray(cv2.blur(of, window, borderType=cv2.BORDER_REFLECT), np.float64)

    def resized(of: Floats, size: tuple[int, int], how: int) -> Floats:
        return of if times == 1 else np.asarray(cv2.resize(of, size, interpolation=how), np.float64)

    ours, theirs = (resized(v.astype(np.float64), small, cv2.INTER_AREA) for v in (guide, values))
    variance = np.maximum(mean(ours * ours) - mean(ours) ** 2, 0)
    slope = (mean(ours * theirs) - mean(ours) * mean(theirs)) / (variance + eps)
    offset = mean(theirs) - slope * mean(ours)
    slope, offset = (resized(mean(v), (width, height), cv2.INTER_LINEAR) for v in (slope, offset))
    return np.clip(slope * guide + offset, 0, 1).astype(np.float32)
