"""Find the crossings of nerves and the dermal-epidermal boundary (paper 2.4)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

from skinray.config import CrossingSettings
from skinray.crossings.boundary import PAPER_SETTINGS, dermis_area, edge_band, smooth
from skinray.crossings.density import boundary_length_px, density_per_mm, to_mm
from skinray.crossings.maps import as_map, check_same_shape, threshold_map, true_pixels


@dataclass(frozen=True, eq=False)
class Crossings:
    """The crossings of one image, in pixels of that image.

    Attributes
    ----------
    points : (N, 2) float64, row and column of each crossing, sorted by row, then column.
    boundary : (H, W) bool, the pixels close to the edge of the dermis.
    boundary_px : length of the boundary line in pixels, the image frame not counted.
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
    um_per_px : scale of this image. With it, lengths are brought to the image's scale and
        ``boundary_mm`` is known; without, pixels are taken as they are.

    Raises
    ------
    SkinrayError
        If a map is not two-dimensional, is empty, holds NaN or values outside [0, 1], if the
        maps differ in shape, or if the scale is not above 0.
    """
    to_mm(0, um_per_px)
    settings = settings.at_scale(um_per_px)
    nerve_map, dermis_map = as_map(nerve, "nerve map"), as_map(dermis, "dermis map")
    check_same_shape(nerve_map, dermis_map)
    smoothed = smooth(dermis_map, settings.sigma_px)
    area = dermis_area(dermis_map, smoothed, settings)
    boundary = edge_band(area, settings.boundary_width_px)
    fibres = threshold_map(nerve_map, settings.nerve_threshold)
    shared = true_pixels(fibres & boundary)
    centres = cluster_centres(shared, settings.eps_px, settings.min_points)
    points = centres[two_sided(centres, fibres, area, settings)]
    length_px = boundary_length_px(smoothed, area, settings.dermis_threshold)
    return Crossings(points, boundary, length_px, to_mm(length_px, um_per_px), area)


def cluster_centres(
    pixels: NDArray[np.int64], eps_px: float, min_points: int
) -> NDArray[np.float64]:
    """Return the mean pixel of every DBSCAN cluster, (K, 2), sorted by row, then column.

    A pixel is a core point if ``min_points`` pixels, itself included, lie within ``eps_px``. A
    cluster is a connected set of core points and every pixel within ``eps_px`` of one of them.
    As in the definition of Ester et al. (1996), a border pixel within reach of two clusters
    belongs to both; libraries give it to the cluster they meet first, which would make the
    result depend on how the image is turned.
    """
    if len(pixels) == 0:
        return np.empty((0, 2))
    total = len(pixels)
    pairs = cKDTree(pixels).query_pairs(eps_px, output_type="ndarray")
    core = 1 + np.bincount(pairs.ravel(), minlength=total) >= min_points
    linked = pairs[core[pairs].all(axis=1)]
    graph = coo_array((np.ones(len(linked), dtype=np.int8), tuple(linked.T)), shape=(total, total))
    cluster = connected_components(graph, directed=False)[1]
    both_ways = np.concatenate([pairs, pairs[:, ::-1]])
    border = both_ways[core[both_ways[:, 0]] & ~core[both_ways[:, 1]]]
    cores = np.flatnonzero(core)
    member = np.concatenate([cores, border[:, 1]])
    owner = np.concatenate([cluster[cores], cluster[border[:, 0]]])
    owner, member = np.unique(np.stack([owner, member]), axis=1)
    _, index, size = np.unique(owner, return_inverse=True, return_counts=True)
    sums = [np.bincount(index, weights=pixels[member, axis]) for axis in (0, 1)]
    centres = np.stack(sums, axis=1) / size[:, None]
    return np.asarray(centres[np.lexsort((centres[:, 1], centres[:, 0]))])


def two_sided(
    centres: NDArray[np.float64],
    fibres: NDArray[np.bool_],
    area: NDArray[np.bool_],
    settings: CrossingSettings,
) -> NDArray[np.bool_]:
    """Return which crossings have nerve on both sides of the boundary, (K,) bool.

    Counted are the nerve pixels whose centres lie inside the square of ``window_px`` round the
    crossing: 17 rows of pixels, or 16 where the crossing lies midway between two rows, so that
    a mirrored image gives the mirrored window.
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
