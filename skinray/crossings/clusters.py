"""DBSCAN clusters of pixels: one cluster, one candidate crossing (paper 2.4, second step)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree


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
