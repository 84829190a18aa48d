"""From the two maps of a biopsy to everything that a client asked for: the last stage."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from skinray.config.biopsies import CrossingSettings
from skinray.config.kinds import Kind, Stage
from skinray.crossings import Crossings
from skinray.crossings.detect import CrossingsRecord, cluster_centres, two_sided
from skinray.crossings.maps import threshold_map, true_pixels
from skinray.errors import SkinrayError
from skinray.images.doubts import black_end, doubts, shows_tissue
from skinray.learning.bundle import Maps
from skinray.learning.bundle.info import BundleInfo
from skinray.scoring.geojson import to_geojson
from skinray.scoring.overlays import encode_png, overlay
from skinray.service.answers.request import Png, Want, png_field, to_grey
from skinray.service.metrics import Meter


@dataclass(frozen=True)
class CountWant(Want["BiopsyCount"]):
    """The crossings of a biopsy, and whatever else the client asked for.

    Attributes
    ----------
    geojson : points and boundary as GeoJSON.
    overlay : the image with nerves, boundary and crossings drawn on it.
    maps : both probability maps, as grey pictures.
    image : the decoded image itself, for browsers that cannot show its format.
    sweep : nerve thresholds to count at, in addition to the bundle's own.
    boundary : the pixels close to the boundary, as a picture.
    tissue : whether the image shows any; without, its count has no density.
    black : share of black rows at the image's end.
    """

    kind: ClassVar[Kind] = "biopsy"

    geojson: bool = False
    overlay: bool = False
    maps: bool = False
    image: bool = False
    sweep: tuple[float, ...] = ()
    boundary: bool = False
    tissue: bool = True
    black: float = 0.0

    def about(self, image: NDArray[np.uint8], sha256: str = "") -> Self:
        """Look whether the image shows tissue and is whole; see :class:`Want`."""
        about = super().about(image, sha256)
        return replace(about, tissue=shows_tissue(image), black=black_end(image))

    @property
    def pixels(self) -> bool:
        """Whether the image itself is needed, in addition to its maps."""
        return self.overlay or self.image

    def thresholds(self, info: BundleInfo) -> dict[Stage, float]:
        """Ask where the nerves are, not how probable, if only a count is wanted."""
        if self.maps or self.sweep:
            return {}
        return {"nerve": info.counting.nerve_threshold}

    def answer(
        self,
        info: BundleInfo,
        image: NDArray[np.uint8] | None,
        maps: Maps,
        um_per_px: float | None,
        backend: str,
    ) -> BiopsyCount:
        """Count, and draw what was asked for; see :class:`Want`."""
        nerve, dermis = maps["nerve"], maps["dermis"]
        found = info.find_crossings(nerve, dermis, um_per_px)
        settings = info.counting.at_scale(info.um_per_px if um_per_px is None else um_per_px)
        drawn = own = None
        if image is not None:
            own = encode_png(image) if self.image else None
            if self.overlay:
                fibres = threshold_map(nerve, settings.nerve_threshold)
                drawn = encode_png(overlay(image, fibres, found.boundary, found.points))
        elif self.pixels:
            raise SkinrayError("a picture of the image is asked for, but the image is not given")
        boundary = encode_png(found.boundary.astype(np.uint8) * 255) if self.boundary else None
        said = doubts(self.tissue, um_per_px, info.um_per_px, self.black)
        return BiopsyCount(
            **dict(CrossingsRecord.of(found, um_per_px, self.tissue, said)),
            bundle=info.id,
            backend=backend,
            synthetic=info.synthetic,
            note=info.note_on(self.image_sha256),
            image_sha256=self.image_sha256,
            nerve_threshold=settings.nerve_threshold,
            nerve_png=encode_png(to_grey(nerve)) if self.maps else None,
            dermis_png=encode_png(to_grey(dermis)) if self.maps else None,
            boundary_png=boundary,
            image_png=own,
            sweep=sweep(nerve, found, settings, self.sweep) if self.sweep else None,
            geojson=to_geojson(found.points, found.dermis) if self.geojson else None,
            overlay_png=drawn,
        )


def sweep(
    nerve: NDArray[np.float32],
    found: Crossings,
    settings: CrossingSettings,
    thresholds: tuple[float, ...],
) -> list[Sweep]:
    """Count at other nerve thresholds; whatever depends only on the dermis is reused.

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
        result.append(Sweep(nerve_threshold=threshold, count=len(points), points=points))
    return result


EXAMPLE: dict[str, Any] = {
    "count": 2,
    "boundary_px": 1624.5,
    "boundary_mm": 0.81225,
    "density_per_mm": 2.4622961,
    "um_per_px": 0.5,
    "width": 1600,
    "height": 1200,
    "warnings": [],
    "points": [[611.5, 402.25], [640.0, 1190.75]],
    "bundle": "9f2c0d5e6a7b8c1d3e4f50617283940a1b2c3d4e5f60718293a4b5c6d7e8f901",
    "backend": "eager",
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
    """The count of one biopsy: its record in a scored cohort, and the extras asked for."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", json_schema_extra={"examples": [EXAMPLE]}
    )

    bundle: str = Field(description="SHA-256 of the bundle that counted")
    backend: str = Field(
        description="what computed the networks: eager is float32 in torch, the reference"
    )
    synthetic: bool = Field(
        False, description="whether the bundle was trained on drawn images alone"
    )
    note: str = Field(
        "", description="what is wrong with the bundle or with this use of it, if anything"
    )
    image_sha256: str = Field(description="SHA-256 of the uploaded file")
    nerve_threshold: float = Field(gt=0, lt=1, description="the bundle's own")
    nerve_png: Png | None = png_field("nerve probability, 255 for 1 (include=maps)")
    dermis_png: Png | None = png_field("dermis probability, 255 for 1 (include=maps)")
    boundary_png: Png | None = png_field("255 on the boundary (include=boundary)")
    image_png: Png | None = png_field("the decoded image, upright (include=image)")
    sweep: list[Sweep] | None = Field(
        None, description="counts at thresholds .05 to .95 (include=sweep)"
    )
    # Answers of their own media type, not part of the JSON.
    geojson: dict[str, Any] | None = Field(None, exclude=True)
    overlay_png: bytes | None = Field(None, exclude=True)

    def measure(self, meter: Meter) -> None:
        """Report the count."""
        meter.counted(self.count)

    def tensors(self) -> dict[str, NDArray[Any]]:
        """Return the outputs of the model ``biopsies``; an unknown value is an empty tensor."""

        def one(value: float | None) -> NDArray[Any]:
            return np.array([] if value is None else [value], np.float64)

        return {
            "count": np.array([self.count], np.int64),
            "points": np.array(self.points, np.float64).reshape(-1, 2),
            "boundary_px": one(self.boundary_px),
            "boundary_mm": one(self.boundary_mm),
            "density_per_mm": one(self.density_per_mm),
        }
