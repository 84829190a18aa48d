"""The crossing stage once more, plainly, from the paper's section 2.4 and our readings of it.

Nothing here is taken from skinray: scipy smooths, labels and measures distances, scikit-learn
clusters. The figures are the paper's.
"""

import numpy as np
from scipy.ndimage import distance_transform_edt, gaussian_filter, label
from sklearn.cluster import DBSCAN

SIGMA, THRESHOLD, ENCLOSED_SHARE, WIDTH = 10, 0.6, 0.2, 3
NERVE_THRESHOLD, EPS, MIN_POINTS = 0.5, 3, 4
WINDOW, MIN_SIDE = 17, 5


def plain_dermis(dermis):
    """Smooth, threshold, flip enclosed areas below a fifth of the image."""
    smoothed = gaussian_filter(np.asarray(dermis, dtype=np.float64), SIGMA)
    mask = smoothed > THRESHOLD
    result = mask.copy()
    for value in (True, False):
        areas, _ = label(mask == value)
        frame = np.concatenate([areas[0], areas[-1], areas[:, 0], areas[:, -1]])
        sizes = np.bincount(areas.ravel())
        flipped = sizes < ENCLOSED_SHARE * mask.size
        flipped[0] = False
        flipped[frame] = False
        result[flipped[areas]] = not value
    return result


def plain_boundary(mask):
    """Pixels within half the width of the dermis pixels that have a 4-neighbour outside."""
    outside_beyond_frame = np.pad(mask, 1, mode="edge")
    edge = mask & ~(
        outside_beyond_frame[:-2, 1:-1]
        & outside_beyond_frame[2:, 1:-1]
        & outside_beyond_frame[1:-1, :-2]
        & outside_beyond_frame[1:-1, 2:]
    )
    if not edge.any():
        return edge
    return distance_transform_edt(~edge) <= WIDTH / 2


def plain_crossings(nerve, dermis):
    """Return the crossings, (N, 2) row and column, sorted."""
    nerve = np.asarray(nerve) > NERVE_THRESHOLD
    mask = plain_dermis(dermis)
    shared = np.argwhere(nerve & plain_boundary(mask))
    if len(shared) == 0:
        return np.empty((0, 2))
    clusters = DBSCAN(eps=EPS, min_samples=MIN_POINTS).fit_predict(shared)
    kept = []
    for cluster in range(clusters.max() + 1):
        centre = shared[clusters == cluster].mean(axis=0)
        window = np.ix_(
            abs(np.arange(mask.shape[0]) - centre[0]) < WINDOW / 2,
            abs(np.arange(mask.shape[1]) - centre[1]) < WINDOW / 2,
        )
        dermal = (nerve[window] & mask[window]).sum()
        epidermal = (nerve[window] & ~mask[window]).sum()
        if dermal >= MIN_SIDE and epidermal >= MIN_SIDE:
            kept.append(tuple(centre))
    return np.array(sorted(kept)).reshape(-1, 2)
