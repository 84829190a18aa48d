"""What a person should look at in a cohort, and what was understood of it, in sentences."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from skinray.images.cohort.plausible.labels_fit import FEWEST
from skinray.images.cohort.plausible.trace import Trace
from skinray.images.cohort.rows import Biopsy
from skinray.images.file_errors import counted

# A scale this many times the median, or this part of it, is probably a slip.
ODD_SCALE = 4
# Counts that differ by as many crossings, and by this share of the larger one, are far apart.
FAR, FAR_SHARE = 5, 0.5
# Tracings of lines that all end within this share of both sides are at another scale.
QUARTER = 0.55
# Scales of so many rows that rise by equal steps were filled down.
FILLED = 4
# Rows of the table of the worst.
WORST = 5


def cohort_notes(traces: Sequence[Trace]) -> list[str]:
    """Return what a person should look at in a cohort as a whole."""
    return [
        *_blank(traces),
        *_black_ends(traces),
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


def _black_ends(traces: Sequence[Trace]) -> list[str]:
    ends = [f"row {t.biopsy.row}, {t.biopsy.name}: {t.black:.0%}" for t in traces if t.black]
    if not ends:
        return []
    black = f"{counted(len(ends), 'image')} black at the bottom ({_first(ends)})"
    return [
        f"{black}: copy a file again if it was cut off; otherwise crop the image and its labels"
    ]


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
        f"{first.biopsy.row}: {first.stated:g}, its file: {first.in_file:g}); the manifest's value "
        "is used"
    ]


def _odd_scales(traces: Sequence[Trace]) -> list[str]:
    """Note scales that are far from those of the other images, or that a spreadsheet counted up."""
    stated = [t.stated for t in traces if t.stated]
    steps = np.diff(stated)
    if len(stated) >= FILLED and steps[0] != 0 and np.allclose(steps, steps[0], atol=1e-6):
        return [
            f"um_per_px changes by {steps[0]:g} from row to row ({stated[0]:g}, {stated[1]:g}, "
            f"{stated[2]:g}, ...): a spreadsheet counted it up; enter the scale of each image"
        ]
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
    """Note lines that were taken for a label although their class is not ours, or missing."""
    taken = Counter(pair for trace in traces for pair in trace.classes)
    return [
        f"column {column}: the lines of {counted(files, 'file')} are all of class '{name}' and are "
        f"taken for the label; if that is right, enter '{name}' in a column {column}_class"
        if name
        else f"column {column}: lines without a class in {counted(files, 'file')} are taken for "
        "the label, although other lines have a class; give them one, or delete them"
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
