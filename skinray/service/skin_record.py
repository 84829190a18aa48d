"""What ``POST /v1/photos`` answers with, as its OpenAPI tells it."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from skinray.learning.skin_area import SkinArea
from skinray.service.pictures import PNG_SCHEMA, as_text
from skinray.service.skin_answer import SkinAnswer

EXAMPLE: dict[str, Any] = {
    "skin_px": 5,
    "skin_fraction": 0.4166666666666667,
    "confidence": 0.8725,
    "width": 4,
    "height": 3,
    "threshold": 0.5,
    "mask": {"size": [3, 4], "counts": [1, 2, 1, 3, 5]},
    "request_id": "5f0c0a8e7d3b4a7f9d2e6c1b8a4f3e21",
    "bundle": "9f2c0d5e6a7b8c1d3e4f50617283940a1b2c3d4e5f60718293a4b5c6d7e8f901",
    "image_sha256": "2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae",
}


class RunLengths(BaseModel):
    """A mask as COCO's uncompressed run-length encoding."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    size: tuple[int, int] = Field(description="height and width")
    counts: list[int] = Field(
        description="lengths of runs down the columns, in turn not skin and skin; the first may "
        "be 0"
    )


class Area(BaseModel):
    """The area of the skin at another threshold."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    threshold: float = Field(gt=0, lt=1)
    skin_px: int = Field(ge=0)
    skin_fraction: float = Field(ge=0, le=1)


class PhotoSkin(SkinArea):
    """The skin of one photograph: what a scored cohort holds of it, and what was asked for."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", json_schema_extra={"examples": [EXAMPLE]}
    )

    threshold: float = Field(gt=0, lt=1, description="probability from which on it is skin")
    mask: RunLengths
    request_id: str = Field(description="as in the header X-Request-ID and in the service's log")
    bundle: str = Field(description="SHA-256 that names the bundle which answered")
    image_sha256: str = Field(description="of the file that was sent")
    skin_png: str | None = Field(
        None, description="skin probability, 255 for 1 (include=maps)", json_schema_extra=PNG_SCHEMA
    )
    image_png: str | None = Field(
        None,
        description="the photograph as decoded, upright (include=image)",
        json_schema_extra=PNG_SCHEMA,
    )
    sweep: list[Area] | None = Field(
        None, description="areas at thresholds .05 to .95 (include=sweep)"
    )

    @classmethod
    def from_answer(cls, answer: SkinAnswer, image_sha256: str, request_id: str) -> PhotoSkin:
        """Tell of an answer, its run lengths among it, on the file with this hash."""
        area, points = answer.area, answer.sweep
        return cls(
            **area.model_dump(),
            threshold=answer.threshold,
            mask=RunLengths(size=(area.height, area.width), counts=answer.runs or []),
            request_id=request_id,
            bundle=answer.bundle_id,
            image_sha256=image_sha256,
            skin_png=as_text(answer.skin_png),
            image_png=as_text(answer.image_png),
            sweep=None if points is None else [Area(**vars(one)) for one in points],
        )
