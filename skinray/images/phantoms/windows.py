"""Windows of real tissue that the junction crosses once, in a clear line."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d

from skinray.errors import CohortError
from skinray.images.cohort.polylines import Points
from skinray.images.phantoms.junction import Bool, Junction, build, survives_smoothing
from skinray.images.phantoms.slides import BAND, DERMIS, EPIDERMIS, KERATIN, THUMB, Codes, Slide

_STEP_PX = 32
_DERMIS_SHARE = (0.2, 0.8)
_EPIDERMIS_SHARE = 0.12
_SCRAP_SHARE = 0.01


@dataclass(frozen=True)
class Window:
    """A rectangle on a slide, in its pixels; ``mirrored`` left to right when read."""

    slide: Slide
    x: int
    y: int
    width: int
    height: int
    mirrored: bool = False

    def look(self) -> tuple[NDArray[np.uint8], Codes]:
        """Return RGB (H, W, 3) and codes (H, W) of the window."""
        pixels, codes = self.slide.cut(self.x, self.y, self.width, self.height)
        if self.mirrored:
            pixels, codes = pixels[:, ::-1], codes[:, ::-1]
        return np.ascontiguousarray(pixels), np.ascontiguousarray(codes)


def choose_windows(
    rng: np.random.Generator, slides: list[Slide], size: tuple[int, int], many: int
) -> list[Window]:
    """Choose ``many`` windows of ``size`` (width, height) that overlap as little as possible.

    If there are fewer, they are repeated; each is mirrored at random.

    Raises CohortError if no window of that size has a junction that crosses it once.
    """
    candidates = [window for slide in slides for window in _candidates(slide, size)]
    candidates = [candidates[k] for k in rng.permutation(len(candidates))]
    chosen: list[Window] = []
    for allowed in (0.0, 0.1, 0.25, 0.45, 0.7):
        later: list[Window] = []
        for window in candidates:
            if len(chosen) == many:
                break
            if any(_overlap(window, other) > allowed for other in chosen):
                later.append(window)
            elif find_junction(window.look()[1]) is not None:
                chosen.append(window)
        candidates = later
    if not chosen:
        raise CohortError(
            f"{slides[0].folder}: no window of {size[0]}x{size[1]} px that the junction crosses "
            "once: use a smaller size"
        )
    repeated = [chosen[k % len(chosen)] for k in range(many)]
    return [replace(window, mirrored=bool(rng.random() < 0.5)) for window in repeated]


def _overlap(one: Window, other: Window) -> float:
    """Return the share of a window that the other also covers."""
    if one.slide.section != other.slide.section:
        return 0.0
    across = max(0, one.width - abs(one.x - other.x)) / one.width
    return across * max(0, one.height - abs(one.y - other.y)) / one.height


def _candidates(slide: Slide, size: tuple[int, int]) -> Iterator[Window]:
    """Yield the windows without missing tiles that have enough of both layers."""
    codes, known, (left, top) = slide.overview()
    width, height = size
    across, down = -(-width // THUMB), -(-height // THUMB)
    layers = np.stack([known, codes == DERMIS, codes == EPIDERMIS, codes == BAND], -1)
    total = cv2.integral(layers.astype(np.float64).copy(), sdepth=cv2.CV_64F)
    for row in range(0, codes.shape[0] - down + 1, _STEP_PX // THUMB):
        for column in range(0, codes.shape[1] - across + 1, _STEP_PX // THUMB):
            below, right = row + down, column + across
            summed = total[below, right] - total[row, right] - total[below, column]
            share = (summed + total[row, column]) / (down * across)
            enough = _DERMIS_SHARE[0] < share[1] + share[3] / 2 < _DERMIS_SHARE[1]
            if share[0] > 1 - 1e-9 and enough and share[2] > _EPIDERMIS_SHARE and share[3] > 0.01:
                yield Window(slide, left + column * THUMB, top + row * THUMB, width, height)


def find_junction(codes: Codes) -> Junction | None:
    """Return the junction of a window from its codes; None if it is not one clear line.

    The band is split down its middle, and the edge is smoothed until the crossing stage's
    smoothing finds the same line.
    """
    dermis = _whole(_split_band(codes))
    for _ in range(8):
        if dermis is None:
            return None
        line = _edge(dermis)
        if line is None:
            return None
        if survives_smoothing(dermis):
            return build(line, dermis)
        dermis = _whole(_smoothed(dermis, 7))
    return None


def living_tissue(codes: Codes) -> Bool:
    """Return where nerves can run: not in keratin or background, nor at their edges."""
    dead = ((codes == 0) | (codes == KERATIN)).astype(np.uint8)
    dead = cv2.morphologyEx(dead, cv2.MORPH_OPEN, np.ones((5, 5), np.uint8))
    return np.asarray(cv2.dilate(dead, np.ones((9, 9), np.uint8)) == 0)


def _split_band(codes: Codes) -> Bool:
    """Return the dermis with the nearer half of the band."""
    to_dermis = cv2.distanceTransform((codes != DERMIS).astype(np.uint8), cv2.DIST_L2, 5)
    epidermis = (codes == EPIDERMIS) | (codes == KERATIN)
    to_epidermis = cv2.distanceTransform((~epidermis).astype(np.uint8), cv2.DIST_L2, 5)
    dermis = (codes == DERMIS) | ((codes == BAND) & (to_dermis < to_epidermis))
    return _smoothed(dermis, 5)


def _smoothed(mask: Bool, sigma_px: float) -> Bool:
    soft = cv2.GaussianBlur(
        mask.astype(np.float32), (0, 0), sigma_px, borderType=cv2.BORDER_REFLECT
    )
    return np.asarray(soft > 0.5)


def _whole(dermis: Bool) -> Bool | None:
    """Merge scraps into their surroundings; None if either layer is in several pieces."""
    for layer in (True, False):
        _, parts, stats, _ = cv2.connectedComponentsWithStats(
            (dermis == layer).astype(np.uint8), connectivity=4
        )
        areas = stats[1:, cv2.CC_STAT_AREA]
        if not areas.size:
            return None
        scraps = areas < _SCRAP_SHARE * dermis.size
        enclosed = np.array([_is_enclosed(box, dermis.shape) for box in stats[1:]])
        turn = scraps | (enclosed & (areas < 0.2 * dermis.size))
        if np.count_nonzero(~turn) != 1:
            return None
        dermis = dermis ^ np.concatenate([[False], turn])[parts]
    return dermis


def _is_enclosed(box: NDArray[np.int32], shape: tuple[int, ...]) -> bool:
    left, top, width, height = (int(v) for v in box[:4])
    return left > 0 and top > 0 and left + width < shape[1] and top + height < shape[0]


def _edge(dermis: Bool) -> Points | None:
    """Return the edge of the dermis from frame to frame, x and y about 1 px apart."""
    height, width = dermis.shape
    contours, _ = cv2.findContours(
        dermis.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE
    )
    outline = max(contours, key=len).reshape(-1, 2)
    inner = ((outline > 0) & (outline < [width - 1, height - 1])).all(1)
    starts = np.flatnonzero(inner & ~np.roll(inner, 1))
    if not starts.size:
        return None
    outline, inner = np.roll(outline, -starts[0], 0), np.roll(inner, -starts[0])
    stops = np.flatnonzero(np.diff(np.concatenate([[False], inner, [False]]).astype(int)))
    runs = [outline[a:b] for a, b in zip(stops[::2], stops[1::2], strict=True) if b - a > 8]
    if len(runs) != 1 or len(runs[0]) < 0.5 * min(height, width):
        return None
    line = runs[0].astype(np.float64)
    ends = line[[0, -1]]
    line = gaussian_filter1d(line, 2, axis=0, mode="nearest")
    return np.vstack([_to_frame(ends[0], width, height), line, _to_frame(ends[1], width, height)])


def _to_frame(end: Points, width: int, height: int) -> Points:
    """Move the end of a line from 1 px inside the frame onto it."""
    moved = end.copy()
    far = np.array([width - 1, height - 1])
    moved[end <= 1] = 0
    beyond = end >= far - 1
    moved[beyond] = far[beyond]
    return moved
