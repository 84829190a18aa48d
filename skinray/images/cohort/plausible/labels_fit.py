"""Labels that cannot be right: noise, of another image, of the other side; and twins."""

from __future__ import annotations

from collections.abc import Container, Iterator, Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from skinray.images.cohort.plausible.trace import SMALL_PX, Trace
from skinray.images.cohort.rows import Biopsy
from skinray.images.file_errors import FileProblem

# Correlation of small copies from which two images are nearly the same.
NEARLY_SAME = 0.995
# Images that are compared with one another at a time.
BLOCK = 256
# Images of one size, and pairs of them, from which labels are compared with other images.
FEWEST = 8
# Most overlap (Dice) of two dermis masks that are compared: those of equal framing say nothing.
UNLIKE = 0.93
# Images that are compared with all others at most.
MOST_COMPARED = 60
# How much steeper, on average, an image must be along its own labels than along those of others:
# 1.6 to 2.5 times in cohorts of drawings and of real tissue, .95 to 1.05 after a shift.
OWN_FITS = 1.2
# A nerve label of more pieces than this in its middle quarter, most of which have fewer pixels, is
# noise.
SPECKS, SPECK_PX = 75, 6


def is_noise(nerves: NDArray[np.bool_]) -> bool:
    """Whether a nerve label is specks, not lines, in its middle."""
    height, width = nerves.shape
    nerves = nerves[height // 4 : height - height // 4, width // 4 : width - width // 4]
    pieces, _, stats, _ = cv2.connectedComponentsWithStats(nerves.astype(np.uint8))
    areas = stats[1:, cv2.CC_STAT_AREA]
    return pieces - 1 > SPECKS and float(np.median(areas)) < SPECK_PX


def is_line(dermis: NDArray[np.bool_]) -> bool:
    """Whether a mask of an area is only the line around or along it."""
    side = 2 * round(max(4, min(dermis.shape) / 40)) + 1
    inside = cv2.erode(dermis.astype(np.uint8), np.ones((side, side), np.uint8), borderValue=1)
    return not inside.any()


def twins_of_two_subjects(
    traces: Sequence[Trace], reported: Container[int]
) -> Iterator[FileProblem]:
    """Find nearly equal pictures of two subjects: one person's image under two names.

    ``reported`` are rows that have the same pixels as another one.
    """
    for at, twins in _twins(traces):
        here = traces[at].biopsy
        for other in twins:
            there = traces[other].biopsy
            if there.subject != here.subject and here.row not in reported:
                yield FileProblem(
                    here.row, here.name,
                    f"nearly the same picture as row {there.row}, {there.name}, of another subject "
                    f"({here.subject} and {there.subject})",
                    "keep one of them, or give both the same subject",
                )  # fmt: skip
                break


def _twins(traces: Sequence[Trace]) -> Iterator[tuple[int, list[int]]]:
    """Yield each position with those before it that look nearly the same; block by block."""

    def flat(start: int) -> NDArray[np.float32]:
        rows = [trace.small.ravel() for trace in traces[start : start + BLOCK]]
        return np.asarray(np.stack(rows) / SMALL_PX, np.float32)

    for start in range(0, len(traces), BLOCK):
        rows = flat(start)
        found: list[list[int]] = [[] for _ in rows]
        for other in range(0, start + 1, BLOCK):
            same = rows @ (rows if other == start else flat(other)).T >= NEARLY_SAME
            for row, column in np.argwhere(same).tolist():
                if other + column < start + row:
                    found[row].append(other + column)
        yield from ((start + row, twins) for row, twins in enumerate(found) if twins)


def shifted_labels(traces: Sequence[Trace]) -> str:
    """Say that labels fit other images no worse than their own; "" if they fit, or it is unknown.

    The edge of each dermis label should lie on edges of its own image more than on those of
    others.
    """
    sizes = [trace.size for trace in traces]
    common = max(set(sizes), key=sizes.count) if sizes else (0, 0)
    same = [t for t in traces if t.size == common and t.dermis is not None and t.dermis.any()]
    same = same[:MOST_COMPARED]
    if len(same) < FEWEST:
        return ""
    slopes = [_slope(trace.small) for trace in same]
    masks = [trace.dermis for trace in same if trace.dermis is not None]
    borders = [_border(mask) for mask in masks]

    def fit(image: int, label: int) -> float:
        return float(slopes[image][borders[label]].mean())

    images = range(len(same))
    apart = [
        (at, other)
        for at in images
        for other in ((at + n) % len(same) for n in range(1, len(same)))
        if max(_overlap(masks[at], masks[other]), _overlap(masks[at], ~masks[other])) < UNLIKE
    ]
    if len(apart) < FEWEST:
        return ""  # one label is as good as another
    own = float(np.mean([fit(at, at) for at, _ in apart]))
    foreign = float(np.mean([fit(at, other) for at, other in apart]))
    if own >= OWN_FITS * foreign:
        return ""
    steps = {step: np.mean([fit(at, (at + step) % len(same)) for at in images]) for step in (-1, 1)}
    best = max(steps, key=lambda step: steps[step])
    guess = ""
    if steps[best] >= OWN_FITS * own:
        guess = f"; those of the row {'below' if best > 0 else 'above'} fit better"
    return (
        "the dermis labels fit their own images no better than other images (edges along them are "
        f"{own / foreign:.2f} times as steep; at least {OWN_FITS:g} if they belong together)"
        f"{guess}: they may be shifted by a row, or belong to other images; look at some "
        "(`skinray check --pictures FOLDER` draws them)"
    )


def _overlap(one: NDArray[np.bool_], other: NDArray[np.bool_]) -> float:
    return 2 * float((one & other).sum()) / max(1.0, float(one.sum() + other.sum()))


def of_other_polarity(traces: Sequence[Trace]) -> list[Biopsy]:
    """Return the biopsies whose dermis differs from the rest the other way than in most images.

    Only a hint: tissue varies, so something that knows skin must judge them.
    """
    pairs = [(t, t.dermis) for t in traces if t.dermis is not None]
    pairs = [(t, dermis) for t, dermis in pairs if dermis.any() and not dermis.all()]
    known = [t for t, _ in pairs]
    contrast = np.array([t.small[d].mean() - t.small[~d].mean() for t, d in pairs])
    if len(known) < FEWEST or not np.any(usual := np.median(contrast)):
        return []
    odd = np.sign(contrast) != np.sign(usual)
    return [trace.biopsy for trace, other in zip(known, odd, strict=True) if other]


def _slope(small: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return how steep a small copy is, after some smoothing, with mean 1."""
    smooth = cv2.GaussianBlur(small, (0, 0), 2)
    steep = np.hypot(cv2.Sobel(smooth, cv2.CV_32F, 1, 0), cv2.Sobel(smooth, cv2.CV_32F, 0, 1))
    return np.asarray(steep / max(float(steep.mean()), 1e-6), np.float32)


def _border(dermis: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return the pixels along the edge of a mask, without the frame."""
    mask = dermis.astype(np.uint8)
    edge = cv2.morphologyEx(mask, cv2.MORPH_GRADIENT, np.ones((3, 3), np.uint8)) > 0
    edge[[0, 1, -2, -1]] = edge[:, [0, 1, -2, -1]] = False
    return edge
