"""From the two maps of a biopsy to all that a client asked for: the last stage, everywhere."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from skinray.config.biopsies import CrossingSettings
from skinray.config.kinds import Kind, Stage
from skinray.crossings import Crossings
from skinray.crossings.detect import CrossingsRecord, cluster_centres, two_sided
from skinray.crossings.maps import threshold_map, true_pixels
from skinray.errors import SkinrayError
from skinray.learning.bundle import Maps
from skinray.learning.bundle.info import BundleInfo
from skinray.scoring.geojson import to_geojson
from skinray.scoring.overlays import encode_png, overlay
from skinray.service.answers.request import PNG_SCHEMA, Want, as_text, to_grey


@dataclass(frozen=True)
class CountWant(Want["CountAnswer"]):
    """The crossings of a biopsy, and what a client asked for beside.

    Attributes
    ----------
    geojson : points and boundary as GeoJSON.
    overlay : the picture with nerves, boundary and crossings drawn on it.
    maps : both probability maps, as grey pictures.
    boundary : the pixels close to the boundary, as a picture.
    image : the decoded image itself, for browsers that cannot show its format.
    sweep : nerve thresholds to count at, beside the bundle's own.
    """

    kind: ClassVar[Kind] = "biopsy"

    geojson: bool = False
    overlay: bool = False
    maps: bool = False
    image: bool = False
    sweep: tuple[float, ...] = ()
    boundary: bool = False

    @property
    def pixels(self) -> bool:
        """Whether the image itself is needed, beside its maps."""
        return self.overlay or self.image

    def thresholds(self, info: BundleInfo) -> dict[Stage, float]:
        """Ask where the nerves are, not how probable, for a count alone."""
        if self.maps or self.sweep:
            return {}
        return {"nerve": info.counting.nerve_threshold}

    def answer(
        self,
        info: BundleInfo,
        image: NDArray[np.uint8] | None,
        maps: Maps,
        um_per_px: float | None,
    ) -> CountAnswer:
        """Count, and draw what was asked for; see :class:`Want`."""
        return count_answer(info, image, maps["nerve"], maps["dermis"], um_per_px, self)


@dataclass(frozen=True)
class SweepPoint:
    """The crossings at one nerve threshold: row and column of each."""

    nerve_threshold: float
    count: int
    points: list[tuple[float, float]]


@dataclass(frozen=True)
class CountAnswer:
    """What one biopsy gave. Pictures are PNG files, of the image's own size; None: not asked for.

    Attributes
    ----------
    count : the record that a scored cohort would hold.
    nerve_threshold : the bundle's own, that the count was made with.
    nerve_png, dermis_png : 8-bit grey, probability times 255.
    boundary_png : 8-bit grey, 255 on the boundary.
    sweep : in the order of the thresholds asked for.
    """

    count: CrossingsRecord
    geojson: dict[str, Any] | None
    overlay_png: bytes | None
    nerve_png: bytes | None
    dermis_png: bytes | None
    boundary_png: bytes | None
    image_png: bytes | None
    sweep: list[SweepPoint] | None
    nerve_threshold: float
    bundle_id: str


def count_answer(
    info: BundleInfo,
    image: NDArray[np.uint8] | None,
    nerve: NDArray[Any],
    dermis: NDArray[np.float32],
    um_per_px: float | None,
    want: CountWant,
) -> CountAnswer:
    """Count, and draw what was asked for.

    Parameters
    ----------
    info : of the bundle that made the maps.
    image : (H, W, 3) uint8 RGB; None where ``want.pixels`` says that it is not needed.
    nerve : (H, W) float32, probability, on the image's own pixels; a uint8 mask of it above the
        bundle's threshold will do where ``want.thresholds`` says so.
    dermis : (H, W) float32, probability.
    um_per_px : scale of the image; None: unknown.

    Raises
    ------
    SkinrayError
        If a map is no probability map, or does not have the image's size.
    """
    found = info.find_crossings(nerve, dermis, um_per_px)
    settings = info.counting.at_scale(info.um_per_px if um_per_px is None else um_per_px)
    fibres = threshold_map(nerve, settings.nerve_threshold)
    drawn = own = None
    if image is not None:
        own = encode_png(image) if want.image else None
        drawn = overlay(image, fibres, found.boundary, found.points) if want.overlay else None
    elif want.pixels:
        raise SkinrayError("a picture of the image is asked for, but the image is not given")
    return CountAnswer(
        count=CrossingsRecord.of(found, um_per_px),
        geojson=to_geojson(found.points, found.dermis) if want.geojson else None,
        overlay_png=None if drawn is None else encode_png(drawn),
        nerve_png=encode_png(to_grey(nerve)) if want.maps else None,
        dermis_png=encode_png(to_grey(dermis)) if want.maps else None,
        boundary_png=encode_png(found.boundary.astype(np.uint8) * 255) if want.boundary else None,
        image_png=own,
        sweep=sweep(nerve, found, settings, want.sweep) if want.sweep else None,
        nerve_threshold=settings.nerve_threshold,
        bundle_id=info.id,
    )


def sweep(
    nerve: NDArray[np.float32],
    found: Crossings,
    settings: CrossingSettings,
    thresholds: tuple[float, ...],
) -> list[SweepPoint]:
    """Count at other nerve thresholds; what hangs on the dermis alone is taken from ``found``.

    Parameters
    ----------
    nerve : (H, W) float32, probability.
    found : the crossings at the bundle's own threshold.
    settings : of the crossing stage, at the image's own scale.
    """
    near = true_pixels(found.boundary)
    probability = nerve[tuple(near.T)]
    result = []
    for threshold in thresholds:
        fibres = threshold_map(nerve, threshold)
        pixels = near[threshold_map(probability, threshold)]
        centres = cluster_centres(pixels, settings.eps_px, settings.min_points)
        kept = centres[two_sided(centres, fibres, found.dermis, settings)]
        points = [(float(row), float(column)) for row, column in kept]
        result.append(SweepPoint(threshold, len(points), points))
    return result


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


class BiopsyCount(CrossingsRecord):
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
