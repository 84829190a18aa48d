"""What is told of the skin in one photograph: the same record in a scored cohort and over HTTP."""

from __future__ import annotations

from typing import Self

from pydantic import BaseModel, ConfigDict, Field

from skinray.learning.skin import Skin


class SkinArea(BaseModel):
    """The skin in one photograph as it stands upright."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    skin_px: int = Field(ge=0, description="pixels that are skin")
    skin_fraction: float = Field(ge=0, le=1, description="share of the photograph that is skin")
    confidence: float = Field(
        ge=0, le=1, description="mean over pixels of |2 p - 1|: 1 is certain, 0 undecided"
    )
    width: int = Field(ge=1, description="pixels")
    height: int = Field(ge=1, description="pixels")

    @classmethod
    def of(cls, found: Skin) -> Self:
        """Tell of the skin that was found."""
        height, width = found.mask.shape
        return cls(
            skin_px=int(found.mask.sum()),
            skin_fraction=found.fraction,
            confidence=float(found.confidence.mean(dtype=float)),
            width=width,
            height=height,
        )
