"""From a corrected count to masks: labels whose own crossings are exactly the corrected ones.

The model's maps are kept wherever nobody corrected them. A removed crossing loses the nerve pixels
that cause it; an added one becomes a short stroke across the boundary. Then the crossings are
found on the masks themselves, and whatever still differs is corrected in the same way. A label is
either exact or refused.

Points are (N, 2) float: row and column.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

from skinray.config.biopsies import CrossingSettings
from skinray.crossings.boundary import edge_band
from skinray.crossings.detect import CrossingSteps
from skinray.crossings.maps import true_pixels
from skinray.crossings.regions import flip_enclosed
from skinray.errors import LabelError
from skinray.images.cohort.polylines import draw_line

STROKE_PX = 3.0  # width of the paper's hand-drawn nerves, at the reference scale
ROUNDS = 6
MIN_DERMIS_SHARE, MAX_NERVE_SHARE = 0.001, 0.5  # outside this range, a labelled cohort is refused
FEW = 5  # points named in a message


@dataclass(frozen=True, eq=False)
class LabelMasks:
    """Masks of one image, (H, W) bool, and the (N, 2) crossings found on them."""

    nerves: NDArray[np.bool_]
    dermis: NDArray[np.bool_]
    points: NDArray[np.float64]


def make_label(
    nerve: NDArray[np.float32],
    dermis: NDArray[np.float32],
    corrected: NDArray[np.float64],
    settings: CrossingSettings,
    um_per_px: float | None = None,
) -> LabelMasks:
    """Make masks on which ``find_crossings`` finds the corrected crossings and no others.

    Parameters
    ----------
    nerve, dermis : (H, W) float32, the model's probability maps.
    corrected : (N, 2) row and column of the corrected crossings.
    settings : of the crossing stage, at the reference scale, with the ``nerve_threshold`` that the
        person chose.
    um_per_px : scale of the image, None if unknown.

    Raises
    ------
    LabelError
        No masks can have these crossings: there is no boundary, a crossing is off the boundary, or
        two are in one place; the message says where.
    """
    factor = 1.0 if um_per_px is None else settings.reference_um_per_px / um_per_px
    settings = settings.at_scale(um_per_px)
    area = flip_enclosed(dermis > 0.5, settings.min_area_fraction * dermis.size)
    if not MIN_DERMIS_SHARE <= area.mean() <= 1 - MIN_DERMIS_SHARE:
        raise LabelError(
            "the model finds no boundary in this image: trace the dermis by hand to make a label"
        )
    editor = _Editor(nerve > settings.nerve_threshold, area, settings, max(1.0, factor) * STROKE_PX)
    editor.check(corrected)
    for turn in range(ROUNDS):
        found = editor.find()
        missing, surplus = unmatched(corrected, found, settings.window_px / 2)
        if len(missing) == 0 and len(surplus) == 0:
            return _checked(LabelMasks(editor.nerves, area, found))
        for place in found[surplus]:
            editor.erase(place, corrected)
        for index in missing:
            if turn > 0:
                editor.clear(index, corrected)
            editor.draw(corrected[index])
    raise LabelError(
        f"masks cannot show the crossings at {_places([*corrected[missing], *found[surplus]])}: "
        "they are too close together or to the edge of the image; move or remove one"
    )


def unmatched(
    wanted: NDArray[np.float64], found: NDArray[np.float64], reach_px: float
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return which points of either set have no partner in the other within ``reach_px``.

    Each point has at most one partner, near in row and in column: within a square window.
    """
    if len(wanted) == 0 or len(found) == 0:
        return np.arange(len(wanted)), np.arange(len(found))
    gaps = np.abs(wanted[:, None] - found[None]).max(axis=2)
    far = float(gaps.size + 1) * (reach_px + 1)  # costs more than all near pairs together
    first, second = linear_sum_assignment(np.where(gaps <= reach_px, gaps, far))
    near = gaps[first, second] <= reach_px
    return (
        np.setdiff1d(np.arange(len(wanted)), first[near]),
        np.setdiff1d(np.arange(len(found)), second[near]),
    )


class _Editor:
    """The nerve mask being edited, over a fixed boundary."""

    def __init__(
        self,
        nerves: NDArray[np.bool_],
        dermis: NDArray[np.bool_],
        settings: CrossingSettings,
        stroke_px: float,
    ) -> None:
        self.nerves = nerves
        self._settings = settings
        self._stroke_px = stroke_px
        self._dermis = dermis
        steps = CrossingSteps(nerves, dermis)
        self._smoothed = steps.smoothed(settings)
        self._boundary = steps.boundary(settings)
        self._edge = true_pixels(edge_band(steps.area(settings), 1))

    def check(self, corrected: NDArray[np.float64]) -> None:
        """Raise LabelError if a crossing is off the boundary."""
        if len(corrected) == 0:
            return
        if len(self._edge) == 0:
            raise LabelError("the model finds no boundary in this image: remove the crossings")
        near = self._edge[cKDTree(self._edge).query(corrected)[1]]
        off = corrected[np.abs(near - corrected).max(axis=1) > self._settings.window_px / 2]
        if len(off):
            raise LabelError(
                f"not on the boundary, so not a crossing: {_places(off)}; remove it, and click on "
                "the line instead"
            )

    def find(self) -> NDArray[np.float64]:
        """Return the crossings of the masks as they are now."""
        return CrossingSteps(self.nerves, self._dermis).points(self._settings)

    def erase(self, place: NDArray[np.float64], keep: NDArray[np.float64]) -> None:
        """Erase the nerve pixels that cause the crossing at ``place``.

        They are its cluster on the boundary and whatever is connected to that within the crossing's
        window, except pixels that are nearer to a crossing in ``keep``.
        """
        band = true_pixels(self.nerves & self._boundary)
        pairs = cKDTree(band).query_pairs(self._settings.eps_px, output_type="ndarray")
        graph = coo_array((np.ones(len(pairs), np.int8), tuple(pairs.T)), shape=(len(band),) * 2)
        group = connected_components(graph, directed=False)[1]
        nearest = group[np.argmin(np.hypot(*(band - place).T))]
        cluster = band[group == nearest]
        box = self._window(place)
        _, pieces = cv2.connectedComponents(self.nerves[box].astype(np.uint8), connectivity=8)
        seeds = np.zeros_like(self.nerves)
        seeds[tuple(cluster.T)] = True
        touched = np.isin(pieces, np.unique(pieces[seeds[box] & (pieces > 0)]))
        hanging = true_pixels(touched & (pieces > 0)) + np.array([box[0].start, box[1].start])
        doomed = np.concatenate([cluster, hanging])
        if len(keep):
            to_place = np.hypot(*(doomed - place).T)
            doomed = doomed[to_place <= cKDTree(keep).query(doomed)[0]]
        self.nerves[tuple(doomed.T)] = False

    def clear(self, index: int, corrected: NDArray[np.float64]) -> None:
        """Erase nerve pixels on the boundary around a crossing that are nearest to this one."""
        box = self._window(corrected[index])
        pixels = true_pixels(self.nerves[box] & self._boundary[box])
        pixels += [box[0].start, box[1].start]
        own = pixels[cKDTree(corrected).query(pixels)[1] == index] if len(pixels) else pixels
        self.nerves[tuple(own.T)] = False

    def draw(self, place: NDArray[np.float64]) -> None:
        """Draw a stroke along the boundary's normal, where the boundary is nearest to ``place``."""
        row, column = self._edge[np.argmin(np.hypot(*(self._edge - place).T))]
        reach = max(1, round(self._settings.sigma_px / 4))
        height, width = self.nerves.shape
        across = np.array(
            [
                float(self._smoothed[row, min(column + reach, width - 1)])
                - float(self._smoothed[row, max(column - reach, 0)]),
                float(self._smoothed[min(row + reach, height - 1), column])
                - float(self._smoothed[max(row - reach, 0), column]),
            ]
        )
        length = float(np.hypot(*across))
        normal = across / length if length > 0 else np.array([0.0, 1.0])
        half = normal * self._settings.window_px / 2
        middle = np.array([column, row], np.float64)
        draw_line(self.nerves, np.stack([middle - half, middle + half]), self._stroke_px)

    def _window(self, place: NDArray[np.float64]) -> tuple[slice, slice]:
        half = self._settings.window_px / 2
        height, width = self.nerves.shape
        low = np.maximum(np.floor(place - half).astype(int), 0)
        high = np.minimum(np.ceil(place + half).astype(int) + 1, [height, width])
        return slice(int(low[0]), int(high[0])), slice(int(low[1]), int(high[1]))


def _checked(label: LabelMasks) -> LabelMasks:
    if label.nerves.mean() > MAX_NERVE_SHARE:
        raise LabelError(
            f"nerves cover {label.nerves.mean():.0%} of the image at this threshold: raise it"
        )
    return label


def _places(points: list[NDArray[np.float64]] | NDArray[np.float64]) -> str:
    named = [f"row {row:.0f}, column {column:.0f}" for row, column in points[:FEW]]
    more = len(points) - FEW
    return "; ".join(named) + (f" and {more} more" if more > 0 else "")
