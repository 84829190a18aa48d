"""From the two maps of a biopsy to all that a client asked for: the last stage, everywhere."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from skinray.config import CrossingSettings
from skinray.crossings import Crossings
from skinray.crossings.clusters import cluster_centres
from skinray.crossings.detect import two_sided
from skinray.crossings.maps import threshold_map, true_pixels
from skinray.errors import SkinrayError
from skinray.learning.bundle import Maps
from skinray.learning.bundle_info import BundleInfo, Kind, Stage
from skinray.learning.count import Count
from skinray.report.geojson import to_geojson
from skinray.report.overlays import encode_png, overlay
from skinray.service.pictures import to_grey
from skinray.service.want import Want


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

    count: Count
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
        count=Count.of(found, um_per_px),
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
