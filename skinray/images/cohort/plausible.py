"""Labels that can be read but cannot be right: compared with their images and with each other.

Each image leaves a small :class:`Trace`; at the end, the traces are compared. What is sure is a
problem, what a person should look at is a note.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Container, Iterator, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from skinray.config.images import ReadSettings
from skinray.images.cohort.polylines import (
    BOUNDARY,
    NERVE,
    foreign_class,
    looks_like_json,
    read_polylines,
)
from skinray.images.cohort.rows import Biopsy
from skinray.images.doubts import shows_tissue
from skinray.images.file_errors import FileProblem, counted
from skinray.images.read import Image

# Side of the small copies that are compared.
SMALL_PX = 128
# A scale this many times the median, or this part of it, is probably a slip.
ODD_SCALE = 4
# Counts that differ by as many crossings, and by this share of the larger one, are far apart.
FAR, FAR_SHARE = 5, 0.5
# Tracings of lines that all end within this share of both sides are at another scale.
QUARTER = 0.55
# Correlation of small copies from which two images are nearly the same.
NEARLY_SAME = 0.995
# Rows of the table of the worst.
WORST = 5
# A nerve label of more pieces than this in its middle quarter, most of which have fewer pixels, is
# noise.
SPECKS, SPECK_PX = 75, 6
# Images of one size, and pairs of them, from which labels are compared with other images.
FEWEST = 8
# Most overlap (Dice) of two dermis masks that are compared: those of equal framing say nothing.
UNLIKE = 0.93
# Images that are compared with all others at most.
MOST_COMPARED = 60
# How much steeper, on average, an image must be along its own labels than along those of others:
# 1.6 to 2.5 times in cohorts of drawings and of real tissue, .95 to 1.05 after a shift.
OWN_FITS = 1.2


# Counts the crossings of two masks, (H, W), at a scale: the crossing stage is another package.
Count = Callable[[NDArray[np.bool_], NDArray[np.bool_], float | None], int]


@dataclass(frozen=True)
class Trace:
    """What is kept of an image and its labels.

    Attributes
    ----------
    size : height and width.
    crossings : of the labels; None: not counted.
    reach : largest x and y of the nerve lines, as shares of the sides; None: no GeoJSON lines.
    line_reach : the same of the boundary line.
    orientation : of the pixels in the file; 1: upright.
    tracing : hash of the nerve label; empty if it marks nothing.
    small : (S, S) float32, grey, standardised.
    dermis : (S, S) bool.
    stated, in_file : um per pixel by the manifest and by the image file.
    tissue : whether the image shows any; False: it is blank.
    traced : whether the nerve label marks anything; None: there is none.
    classes : column and class of GeoJSON lines that were taken although their class is not ours.
    """

    biopsy: Biopsy
    size: tuple[int, int]
    crossings: int | None
    reach: tuple[float, float] | None
    small: NDArray[np.float32]
    dermis: NDArray[np.bool_] | None
    stated: float | None
    in_file: float | None
    tissue: bool = True
    traced: bool | None = None
    classes: tuple[tuple[str, str], ...] = ()
    line_reach: tuple[float, float] | None = None
    orientation: int = 1
    tracing: str = ""


def trace_of(
    biopsy: Biopsy,
    image: Image,
    nerves: NDArray[np.bool_] | None,
    dermis: NDArray[np.bool_] | None,
    count: Count | None = None,
) -> Trace:
    """Return what is kept of an image and its masks, (H, W)."""
    pixels, in_file = image.pixels, image.um_per_px
    height, width = pixels.shape[:2]
    side = (SMALL_PX, SMALL_PX)
    copy = np.asarray(cv2.resize(pixels, side, interpolation=cv2.INTER_AREA), np.uint8)
    grey = copy.mean(axis=2, dtype=np.float32)
    crossings = None
    scale = biopsy.um_per_px or in_file
    both = nerves is not None and dermis is not None and dermis.any() and not dermis.all()
    if count is not None and both:
        crossings = count(nerves, dermis, scale)  # type: ignore[arg-type]
    reach = None
    if nerves is not None and nerves.any() and biopsy.nerves and looks_like_json(biopsy.nerves):
        rows, columns = np.flatnonzero(nerves.any(axis=1)), np.flatnonzero(nerves.any(axis=0))
        reach = (columns[-1] + 1) / width, (rows[-1] + 1) / height
    return Trace(
        biopsy=biopsy,
        size=(height, width),
        crossings=crossings,
        reach=reach,
        small=(grey - grey.mean()) / max(float(grey.std()), 1e-6),
        dermis=None if dermis is None else _small(dermis) > 0.5,
        stated=biopsy.um_per_px,
        in_file=in_file,
        tissue=shows_tissue(copy),
        traced=None if nerves is None else bool(nerves.any()),
        classes=tuple(_foreign_classes(biopsy)) if nerves is not None and both else (),
        line_reach=_line_reach(biopsy, (height, width)) if dermis is not None else None,
        orientation=image.orientation,
        tracing=_hash(nerves) if nerves is not None and nerves.any() else "",
    )


def _hash(mask: NDArray[np.bool_]) -> str:
    return hashlib.sha256(np.packbits(mask).tobytes() + str(mask.shape).encode()).hexdigest()


def _line_reach(biopsy: Biopsy, shape: tuple[int, int]) -> tuple[float, float] | None:
    """Return the largest x and y of the boundary line, as shares of the sides; None without one."""
    path = biopsy.boundary
    if biopsy.dermis is not None or path is None or not looks_like_json(path):
        return None
    settings, chosen = ReadSettings(), biopsy.classes.get("boundary")
    points = np.concatenate(read_polylines(path, shape, settings, BOUNDARY, chosen))
    x, y = points.max(axis=0)
    return float(x) / shape[1], float(y) / shape[0]


def _foreign_classes(biopsy: Biopsy) -> Iterator[tuple[str, str]]:
    """Yield the columns whose lines have a class that is neither ours nor named in the row."""
    line = None if biopsy.dermis else biopsy.boundary
    for column, path, kind in (("nerves", biopsy.nerves, NERVE), ("boundary", line, BOUNDARY)):
        if path is not None and column not in biopsy.classes and looks_like_json(path):
            name = foreign_class(path, ReadSettings(), kind)
            if name is not None:
                yield column, name


def _small(mask: NDArray[np.bool_]) -> NDArray[np.float32]:
    side = (SMALL_PX, SMALL_PX)
    white = mask.view(np.uint8) * np.uint8(255)
    shrunk = cv2.resize(white, side, interpolation=cv2.INTER_AREA)
    return np.asarray(shrunk, np.float32) / np.float32(255)


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
    if len(traces) < 2:
        return
    flat = np.stack([trace.small.ravel() for trace in traces]) / SMALL_PX
    for at in range(1, len(traces)):
        alike = np.flatnonzero(flat[:at] @ flat[at] >= NEARLY_SAME)
        here = traces[at].biopsy
        for other in alike.tolist():
            there = traces[other].biopsy
            if there.subject != here.subject and here.row not in reported:
                yield FileProblem(
                    here.row, here.name,
                    f"nearly the same picture as row {there.row}, {there.name}, of another subject "
                    f"({here.subject} and {there.subject})",
                    "keep one of them, or give both the same subject",
                )  # fmt: skip
                break


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


def cohort_notes(traces: Sequence[Trace]) -> list[str]:
    """Return what a person should look at in a cohort as a whole."""
    return [
        *_blank(traces),
        *_same_labels(traces),
        *_far_counts(traces),
        *_lines_at_another_scale(traces),
        *_scales(traces),
        *_odd_scales(traces),
        *_line_classes(traces),
        *_turned(traces),
    ]


def _first(cases: Sequence[str]) -> str:
    """List the first cases, and say how many more there are."""
    more = [f"and {len(cases) - WORST} more"] * (len(cases) > WORST)
    return "; ".join([*cases[:WORST], *more])


def _blank(traces: Sequence[Trace]) -> list[str]:
    blank = [f"row {t.biopsy.row}, {t.biopsy.name}" for t in traces if not t.tissue]
    if not blank:
        return []
    return [f"{counted(len(blank), 'image')} blank, without any tissue ({_first(blank)})"]


def _same_labels(traces: Sequence[Trace]) -> list[str]:
    """Note nerve labels that are empty or copies, and dermis labels that are all the same."""
    lines = []
    empty = [f"row {t.biopsy.row}" for t in traces if t.traced is False]
    if empty:
        more = ", ..." if len(empty) > WORST else ""
        lines.append(
            f"{counted(len(empty), 'nerve label')} without a single line "
            f"({', '.join(empty[:WORST])}{more})"
        )
    first: dict[str, Biopsy] = {}
    again = [
        f"row {trace.biopsy.row} as row {known.row}"
        for trace in traces
        if trace.tracing
        and (known := first.setdefault(trace.tracing, trace.biopsy)) is not trace.biopsy
    ]
    if again:
        lines.append(
            f"{counted(len(again), 'nerve label')} marking the very pixels of another image's "
            f"({_first(again)}): one was probably copied over the other"
        )
    masks = [trace.dermis for trace in traces if trace.dermis is not None]
    if len(masks) >= FEWEST and all(np.array_equal(mask, masks[0]) for mask in masks):
        lines.append(f"the dermis labels of all {len(masks)} images are the same")
    return lines


def _far_counts(traces: Sequence[Trace]) -> list[str]:
    """Note counts far from the labels; of the second expert, only if most are far."""
    first = [(t.biopsy, t.biopsy.count, t.crossings) for t in traces]
    second = [(t.biopsy, t.biopsy.second_count, t.crossings) for t in traces]
    lines = []
    for who, rows, least in (("expert", first, 0.0), ("second expert", second, 0.5)):
        known = [(b, count, found) for b, count, found in rows if None not in (count, found)]
        far = [
            (abs(count - found), biopsy, count, found)
            for biopsy, count, found in known
            if count is not None and found is not None
            and abs(count - found) >= max(FAR, FAR_SHARE * max(count, found) + 1e-9)
        ]  # fmt: skip
        if not far or len(far) < least * len(known):
            continue
        far.sort(key=lambda one: -one[0])
        worst = [
            f"row {biopsy.row}, {biopsy.name}: counted {count}, labels cross {found} times"
            for _, biopsy, count, found in far
        ]
        lines.append(
            f"the {who}'s counts of {counted(len(far), 'image')} are far from the crossings of the "
            f"labels ({_first(worst)}): correct the counts or the labels, or know why"
        )
    return lines


def _lines_at_another_scale(traces: Sequence[Trace]) -> list[str]:
    """Note lines that all end in the first quarter; nerves may do so by chance in a few images."""
    nerves = [trace.reach for trace in traces if trace.reach is not None]
    lines = [trace.line_reach for trace in traces if trace.line_reach is not None]
    notes = []
    for what, reached, least in (("nerve lines", nerves, 0.7), ("boundary lines", lines, 0.0)):
        near = [one for one in reached if max(one) <= QUARTER]
        if not near or len(near) < least * len(reached):
            continue
        x, y = np.max(near, axis=0)
        notes.append(
            f"the {what} of {len(near)} of {counted(len(reached), 'GeoJSON file')} end within "
            f"{x:.0%} of the images' width and {y:.0%} of their height: are their coordinates in "
            "micrometres, or of a smaller copy?"
        )
    return notes


def _turned(traces: Sequence[Trace]) -> list[str]:
    """Note images that are stored turned: labels may have been drawn on them as stored."""
    turned = [f"row {t.biopsy.row}, {t.biopsy.name}" for t in traces if t.orientation != 1]
    if not turned:
        return []
    return [
        f"{counted(len(turned), 'image')} turned upright, as the file asks (EXIF; "
        f"{_first(turned)}): labels drawn in a program that ignores it do not fit"
    ]


def _scales(traces: Sequence[Trace]) -> list[str]:
    differ = [
        trace for trace in traces
        if trace.stated and trace.in_file and abs(trace.stated / trace.in_file - 1) > 0.02
    ]  # fmt: skip
    if not differ:
        return []
    first = differ[0]
    return [
        f"um_per_px of {counted(len(differ), 'row')} differs from what the image file states (row "
        f"{first.biopsy.row}: {first.stated:g}, its file: {first.in_file:g}); the manifest counts"
    ]


def _odd_scales(traces: Sequence[Trace]) -> list[str]:
    """Note scales that are far from those of the other images."""
    known = [(t.stated or t.in_file, t.biopsy) for t in traces]
    scales = [(scale, biopsy) for scale, biopsy in known if scale]
    if len(scales) < FEWEST:
        return []
    usual = float(np.median([scale for scale, _ in scales]))
    odd = [
        f"row {biopsy.row}, {biopsy.name}: {scale:g}"
        for scale, biopsy in scales
        if not 1 / ODD_SCALE <= scale / usual <= ODD_SCALE
    ]
    if not odd:
        return []
    return [
        f"um_per_px of {counted(len(odd), 'image')} is far from the usual {usual:g} "
        f"({_first(odd)}): correct it, or know why"
    ]


def _line_classes(traces: Sequence[Trace]) -> list[str]:
    """Note lines of another class than ours that were taken as the only ones there are."""
    taken = Counter(pair for trace in traces for pair in trace.classes)
    return [
        f"column {column}: the lines of {counted(files, 'file')} are all of class '{name}' and are "
        f"taken for the label; if that is right, enter '{name}' in a column {column}_class"
        for (column, name), files in sorted(taken.items())
    ]


def understood(traces: Sequence[Trace]) -> list[str]:
    """Return what was understood of a cohort, in a few lines for a person to compare."""
    if not traces:
        return []
    biopsies = [trace.biopsy for trace in traces]
    sizes = sorted({trace.size for trace in traces}, key=lambda size: size[0] * size[1])
    shown = f"{sizes[0][1]}x{sizes[0][0]}"
    if len(sizes) > 1:
        shown += f" to {sizes[-1][1]}x{sizes[-1][0]}, {len(sizes)} sizes"
    groups = sorted({biopsy.group for biopsy in biopsies if biopsy.group is not None})
    lines = [
        f"{counted(len(traces), 'image')} of {shown} px",
        f"{counted(len({biopsy.subject for biopsy in biopsies}), 'subject')}"
        + (f" in {counted(len(groups), 'group')}: {', '.join(groups[:8])}" if groups else ""),
        f"scale: {_scale_words(traces)}",
    ]
    pairs = [(t.biopsy.count, t.crossings) for t in traces if t.crossings is not None]
    crossings = [found for _, found in pairs]
    if crossings:
        counts = [count for count, _ in pairs if count is not None]
        expert = f"; the expert counted {np.mean(counts):.1f}" if counts else ""
        lines.append(f"labels cross {np.mean(crossings):.1f} times an image on average{expert}")
    return lines


def _scale_words(traces: Sequence[Trace]) -> str:
    stated = [trace.stated for trace in traces if trace.stated]
    in_file = [t.in_file for t in traces if t.in_file and not t.stated]
    parts = []
    for values, source in ((stated, "the manifest"), (in_file, "the image files")):
        if values:
            low, high = min(values), max(values)
            shown = f"{low:g}" if low == high else f"{low:g} to {high:g}"
            parts.append(f"{shown} um per pixel, by {source} ({counted(len(values), 'image')})")
    unknown = len(traces) - len(stated) - len(in_file)
    if unknown:
        parts.append(f"unknown for {counted(unknown, 'image')}")
    return "; ".join(parts)
