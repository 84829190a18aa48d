"""What ``POST /v1/biopsies`` answers with, as its OpenAPI tells it."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from skinray.learning.count import Count
from skinray.service.count_answer import CountAnswer
from skinray.service.pictures import PNG_SCHEMA, as_text

EXAMPLE: dict[str, Any] = {
    "count": 2,
    "boundary_px": 1624.5,
    "boundary_mm": 0.81225,
    "density_per_mm": 2.4622961,
    "um_per_px": 0.5,
    "width": 1600,
    "height": 1200,
    "points": [[611.5, 402.25], [640.0, 1190.75]],
    "bundle": "9f2c0d5e6a7b8c1d3e4f50617283940a1b2c3d4e5f60718293a4b5c6d7e8f901",
    "image_sha256": "2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae",
    "nerve_threshold": 0.5,
}


class Sweep(BaseModel):
    """The crossings of the image at another nerve threshold."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    nerve_threshold: float = Field(gt=0, lt=1)
    count: int = Field(ge=0)
    points: list[tuple[float, float]] = Field(description="row and column of each crossing")


class BiopsyCount(Count):
    """The count of one biopsy: what a scored cohort holds of it, and what was asked for beside."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", json_schema_extra={"examples": [EXAMPLE]}
    )

    bundle: str = Field(description="SHA-256 that names the bundle which counted")
    image_sha256: str = Field(description="of the file that was sent")
    nerve_threshold: float = Field(gt=0, lt=1, description="the bundle's own")
    nerve_png: str | None = Field(
        None,
        description="nerve probability, 255 for 1 (include=maps)",
        json_schema_extra=PNG_SCHEMA,
    )
    dermis_png: str | None = Field(
        None,
        description="dermis probability, 255 for 1 (include=maps)",
        json_schema_extra=PNG_SCHEMA,
    )
    boundary_png: str | None = Field(
        None, description="255 on the boundary (include=boundary)", json_schema_extra=PNG_SCHEMA
    )
    image_png: str | None = Field(
        None,
        description="the image as decoded, upright (include=image)",
        json_schema_extra=PNG_SCHEMA,
    )
    sweep: list[Sweep] | None = Field(
        None, description="counts at thresholds .05 to .95 (include=sweep)"
    )

    @classmethod
    def from_answer(cls, answer: CountAnswer, image_sha256: str) -> BiopsyCount:
        """Tell of an answer on the file with this hash."""
        points = answer.sweep
        return cls(
            **answer.count.model_dump(),
            bundle=answer.bundle_id,
            image_sha256=image_sha256,
            nerve_threshold=answer.nerve_threshold,
            nerve_png=as_text(answer.nerve_png),
            dermis_png=as_text(answer.dermis_png),
            boundary_png=as_text(answer.boundary_png),
            image_png=as_text(answer.image_png),
            sweep=None
            if points is None
            else [
                Sweep(nerve_threshold=one.nerve_threshold, count=one.count, points=one.points)
                for one in points
            ],
        )
