"""Find the crossings of nerves and the dermal-epidermal boundary (paper 2.4)."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from functools import wraps
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import BaseModel, ConfigDict, Field
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

from skinray.config.biopsies import CrossingSettings
from skinray.crossings.boundary import PAPER_SETTINGS, dermis_area, edge_band, smooth
from skinray.crossings.density import boundary_length_px, density_per_mm, to_mm
from skinray.crossings.maps import as_map, threshold_map, true_pixels
from skinray.errors import SkinrayError, size_of

# What each step of the stage depends on.
AREA = ("sigma_px", "dermis_threshold", "min_area_fraction")
BOUNDARY = (*AREA, "boundary_width_px")
CENTRES = (*BOUNDARY, "nerve_threshold", "eps_px", "min_points")
NO_BOUNDARY = "no boundary of the dermis was found, so there is nothing to count along"


@dataclass(frozen=True, eq=False)
class Crossings:
    """The crossings of one image, in pixels of that image.

    Attributes
    ----------
    points : (N, 2) float64, row and column of each crossing, sorted by row, then column.
    boundary : (H, W) bool, the pixels close to the edge of the dermis.
    boundary_px : length of the boundary line in pixels, without the image frame.
    boundary_mm : the same in millimetres; None without a scale.
    dermis : (H, W) bool, the dermis after smoothing and flipping of enclosed areas.
    """

    points: NDArray[np.float64]
    boundary: NDArray[np.bool_]
    boundary_px: float
    boundary_mm: float | None
    dermis: NDArray[np.bool_]

    @property
    def count(self) -> int:
        """Number of crossings."""
        return len(self.points)

    @property
    def density_per_mm(self) -> float | None:
        """Crossings per millimetre of boundary; None without a scale or a boundary."""
        return density_per_mm(self.count, self.boundary_mm)

    def __repr__(self) -> str:
        text = f"{self.count} crossing{'s' if self.count != 1 else ''}"
        text += f", boundary {self.boundary_px:.0f} px"
        if self.boundary_mm is not None:
            text += f" = {self.boundary_mm:.3f} mm"
        if self.density_per_mm is not None:
            text += f", {self.density_per_mm:.1f} per mm"
        return f"<Crossings: {text}>"


class CrossingsRecord(BaseModel):
    """The crossings of one image for tables and answers, in pixels of the upright image."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    count: int = Field(ge=0, description="nerve crossings of the dermal-epidermal boundary")
    boundary_px: float = Field(ge=0, description="length of the boundary in pixels")
    boundary_mm: float | None = Field(description="the same in mm; null: the scale is unknown")
    density_per_mm: float | None = Field(
        description="crossings per mm of boundary; null: scale unknown, no boundary, or no tissue"
    )
    um_per_px: float | None = Field(description="scale used; null: unknown, never guessed")
    width: int = Field(ge=1, description="pixels")
    height: int = Field(ge=1, description="pixels")
    points: list[tuple[float, float]] = Field(
        description="row and column of each crossing; whole numbers are centres of pixels"
    )
    warnings: list[str] = Field(
        [], description="what to know before believing the count, in plain sentences"
    )

    @classmethod
    def of(
        cls,
        found: Crossings,
        um_per_px: float | None,
        tissue: bool = True,
        warnings: Sequence[str] = (),
    ) -> Self:
        """Return the record of the crossings found at a scale; without tissue, of no density."""
        height, width = found.boundary.shape
        nowhere = [] if found.boundary_px else [NO_BOUNDARY]
        return cls(
            count=found.count,
            boundary_px=found.boundary_px,
            boundary_mm=found.boundary_mm,
            density_per_mm=found.density_per_mm if tissue else None,
            um_per_px=um_per_px,
            width=width,
            height=height,
            points=[(float(row), float(column)) for row, column in found.points],
            warnings=[*warnings, *nowhere],
        )


def find_crossings(
    nerve: ArrayLike,
    dermis: ArrayLike,
    settings: CrossingSettings = PAPER_SETTINGS,
    um_per_px: float | None = None,
) -> Crossings:
    """Find where nerves cross from the dermis into the epidermis.

    Parameters
    ----------
    nerve, dermis : (H, W) masks (bool, or integers of which those above 0 are true) or float
        probabilities in [0, 1], on the pixels of one image.
    settings : parameters at ``settings.reference_um_per_px``; the paper's by default.
    um_per_px : scale of this image. With it, lengths are converted to the image's scale and
        ``boundary_mm`` is known; without it, lengths are taken as pixels of this image.

    Raises SkinrayError if a map is not two-dimensional, is empty, holds NaN or values outside
    [0, 1], if the maps differ in shape, or if the scale is not above 0.
    """
    to_mm(0, um_per_px)
    settings = settings.at_scale(um_per_px)
    steps = CrossingSteps(nerve, dermis)
    length_px = boundary_length_px(
        steps.smoothed(settings), steps.area(settings), settings.dermis_threshold
    )
    return Crossings(
        points=steps.points(settings),
        boundary=steps.boundary(settings),
        boundary_px=length_px,
        boundary_mm=to_mm(length_px, um_per_px),
        dermis=steps.area(settings),
    )


Step = Callable[["CrossingSteps", CrossingSettings], NDArray[Any]]


def _once_for(*names: str) -> Callable[[Step], Step]:
    """Run a step once for each combination of the settings that it depends on."""

    def once(step: Step) -> Step:
        @wraps(step)
        def kept(self: CrossingSteps, settings: CrossingSettings) -> NDArray[Any]:
            key = (step.__name__, *(getattr(settings, name) for name in names))
            if key not in self._done:
                self._done[key] = step(self, settings)
            return self._done[key]

        return kept

    return once


class CrossingSteps:
    """The steps of the stage on one image, each run once for the settings it depends on.

    :func:`find_crossings` runs them once; the search for parameters tries many settings, most
    of which share most steps. All settings are at the image's own scale.

    Parameters
    ----------
    nerve, dermis : (H, W) masks or probabilities, as for :func:`find_crossings`.
    """

    def __init__(self, nerve: ArrayLike, dermis: ArrayLike) -> None:
        self._nerve = as_map(nerve, "nerve map")
        self._dermis = as_map(dermis, "dermis map")
        if self._nerve.shape != self._dermis.shape:
            raise SkinrayError(
                f"nerve map {size_of(self._nerve.shape)} does not match dermis map "
                f"{size_of(self._dermis.shape)}: make both from the same image at the same "
                "magnification"
            )
        self._done: dict[Hashable, NDArray[Any]] = {}

    @_once_for("sigma_px")
    def smoothed(self, settings: CrossingSettings) -> NDArray[np.float32]:
        """Return the smoothed dermis map, (H, W)."""
        return smooth(self._dermis, settings.sigma_px)

    @_once_for(*AREA)
    def area(self, settings: CrossingSettings) -> NDArray[np.bool_]:
        """Return the dermis after smoothing and flipping, (H, W)."""
        return dermis_area(self._dermis, self.smoothed(settings), settings)

    @_once_for(*BOUNDARY)
    def boundary(self, settings: CrossingSettings) -> NDArray[np.bool_]:
        """Return the pixels close to the dermis's edge, (H, W)."""
        return edge_band(self.area(settings), settings.boundary_width_px)

    @_once_for("nerve_threshold")
    def fibres(self, settings: CrossingSettings) -> NDArray[np.bool_]:
        """Return the nerve mask, (H, W)."""
        return threshold_map(self._nerve, settings.nerve_threshold)

    @_once_for(*CENTRES)
    def centres(self, settings: CrossingSettings) -> NDArray[np.float64]:
        """Return the clusters' means before the two-sided filter, (K, 2)."""
        pixels = true_pixels(self.fibres(settings) & self.boundary(settings))
        return cluster_centres(pixels, settings.eps_px, settings.min_points)

    def points(self, settings: CrossingSettings) -> NDArray[np.float64]:
        """Return the crossings, (N, 2)."""
        centres = self.centres(settings)
        return centres[two_sided(centres, self.fibres(settings), self.area(settings), settings)]


def two_sided(
    centres: NDArray[np.float64],
    fibres: NDArray[np.bool_],
    area: NDArray[np.bool_],
    settings: CrossingSettings,
) -> NDArray[np.bool_]:
    """Return which crossings have nerve on both sides of the boundary, (K,) bool.

    Nerve pixels count if their centres lie inside the square of ``window_px`` around the
    crossing: 17 rows of pixels, or 16 if the crossing lies midway between two rows, so that a
    mirrored image gives the mirrored window.
    """
    half = settings.window_px / 2
    kept = np.zeros(len(centres), dtype=np.bool_)
    for index, centre in enumerate(centres):
        row, column = (
            slice(max(math.floor(middle - half) + 1, 0), math.ceil(middle + half))
            for middle in centre
        )
        nerve = fibres[row, column]
        inside = np.count_nonzero(nerve & area[row, column])
        outside = np.count_nonzero(nerve) - inside
        kept[index] = min(inside, outside) >= settings.min_side_pixels
    return kept


def cluster_centres(
    pixels: NDArray[np.int64], eps_px: float, min_points: int
) -> NDArray[np.float64]:
    """Return the mean pixel of every DBSCAN cluster, (K, 2), sorted by row, then column.

    A pixel is a core point if ``min_points`` pixels, itself included, lie within ``eps_px``. A
    cluster is a connected set of core points and every pixel within ``eps_px`` of one of them.
    As in the definition of Ester et al. (1996), a border pixel within reach of two clusters
    belongs to both. (scikit-learn's DBSCAN assigns it to the cluster it meets first, which would
    make the result depend on the image's orientation, and takes a second to import.)
    """
    count = len(pixels)
    if count == 0:
        return np.empty((0, 2))
    pairs = cKDTree(pixels).query_pairs(eps_px, output_type="ndarray")
    is_core = 1 + np.bincount(pairs.ravel(), minlength=count) >= min_points
    both = is_core[pairs]
    linked, mixed = pairs[both.all(axis=1)], np.flatnonzero(both[:, 0] != both[:, 1])
    graph = coo_array((np.ones(len(linked), bool), linked.T), shape=(count, count))
    cluster = connected_components(graph, directed=False)[1]
    core_end = both[mixed].argmax(axis=1)
    reached = np.stack([cluster[pairs[mixed, core_end]], pairs[mixed, 1 - core_end]], axis=1)
    cores = np.flatnonzero(is_core)
    members = np.stack([cluster[cores], cores], axis=1)
    owner, member = np.concatenate([members, np.unique(reached, axis=0)]).T
    owner = np.unique(owner, return_inverse=True)[1]
    sums = [np.bincount(owner, weights=pixels[member, axis]) for axis in (0, 1)]
    centres = np.stack(sums, axis=1) / np.bincount(owner)[:, None]
    return np.asarray(centres[np.lexsort((centres[:, 1], centres[:, 0]))])
