"""What is told of one counted image: the same record in a scored cohort and over HTTP."""

from __future__ import annotations

from typing import Self

from pydantic import BaseModel, ConfigDict, Field

from skinray.crossings import Crossings


class Count(BaseModel):
    """The crossings of one image, in pixels of that image as it stands upright."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    count: int = Field(ge=0, description="nerve crossings of the dermal-epidermal boundary")
    boundary_px: float = Field(ge=0, description="length of the boundary in pixels")
    boundary_mm: float | None = Field(description="the same in mm; null: the scale is unknown")
    density_per_mm: float | None = Field(
        description="crossings per mm of boundary; null: scale unknown, or no boundary"
    )
    um_per_px: float | None = Field(description="scale used; null: unknown, never guessed")
    width: int = Field(ge=1, description="pixels")
    height: int = Field(ge=1, description="pixels")
    points: list[tuple[float, float]] = Field(
        description="row and column of each crossing; whole numbers are middles of pixels"
    )

    @classmethod
    def of(cls, found: Crossings, um_per_px: float | None) -> Self:
        """Tell of the crossings that were found at a scale."""
        height, width = found.boundary.shape
        return cls(
            count=found.count,
            boundary_px=found.boundary_px,
            boundary_mm=found.boundary_mm,
            density_per_mm=found.density_per_mm,
            um_per_px=um_per_px,
            width=width,
            height=height,
            points=[(float(row), float(column)) for row, column in found.points],
        )
