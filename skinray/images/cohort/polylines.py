"""Polylines: read from GeoJSON, as exported by QuPath and other tools, and drawn on masks.

One file may hold all labels of an image: each reader takes the lines of its class and those without
a class of ours, and leaves the other classes alone.

In GeoJSON the outer corner of the first pixel is 0, 0 and its centre .5, .5; :func:`draw_line`
takes coordinates of arrays, where that centre is 0, 0.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skinray.config.images import ReadSettings
from skinray.images.file_errors import UnfitLabelError, reading_label
from skinray.images.read import read_bytes

Points = NDArray[np.float64]  # (N, 2): x, y in pixels
MIDDLE = 0.5  # of the first pixel in x and y, from the image's outer corner

# A line drawn by hand to the edge of the image may slip a little over it; coordinates in
# micrometres or at another magnification reach much further.
OUTSIDE_PX = 10

# Classes in QuPath: those that scoring writes, and those that a person may have added.
NERVE, BOUNDARY, CROSSING, DERMIS = "Nerve", "Boundary", "Crossing", "Dermis"
_CLASSES = {
    word.lower(): name
    for name in (NERVE, BOUNDARY, CROSSING, DERMIS)
    for word in (name, f"{name}s")
}

_INSIDE = {"FeatureCollection": "features", "GeometryCollection": "geometries"}


def looks_like_json(path: Path) -> bool:
    """Return whether a label file is JSON, by its first character."""
    try:
        with path.open("rb") as file:
            return file.read(64).removeprefix(b"\xef\xbb\xbf").lstrip()[:1] in (b"{", b"[")
    except (OSError, ValueError):
        return False  # reading it as an image will report what is wrong


def read_polylines(
    path: Path, shape: tuple[int, int], settings: ReadSettings, kind: str
) -> list[Points]:
    """Read every LineString and MultiLineString of a GeoJSON file, drawn on an image of ``shape``.

    Features of another class of ours than ``kind`` (``NERVE`` or ``BOUNDARY``) are left out.

    Raises LabelError if the file is not GeoJSON, holds geometries other than lines, lines outside
    the image, or other classes only.
    """
    source = str(path)
    with reading_label():
        data = read_bytes(path, settings)
    try:
        others: set[str] = set()
        found = list(_lines(json.loads(data), source, kind, others))
    except (ValueError, RecursionError) as error:
        reason = "nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise UnfitLabelError(
            source, f"not valid JSON ({reason})", "export it again as GeoJSON"
        ) from None
    if others and not found:
        raise UnfitLabelError(
            source,
            f"holds {' and '.join(sorted(others))}, and no line of class {kind}",
            f"trace it, give it the class {kind}, and export it too",
        )
    return [_points(line, shape, source) for line in found]


def _lines(value: Any, source: str, wanted: str, others: set[str]) -> Iterator[Any]:
    """Yield the coordinates of every line below a GeoJSON value; note the classes left out."""
    if isinstance(value, list):  # QuPath can export a plain list of features
        for item in value:
            yield from _lines(item, source, wanted, others)
        return
    kind = str(value.get("type")) if isinstance(value, dict) else type(value).__name__
    if kind in _INSIDE:
        yield from _lines(_member(value, _INSIDE[kind], source), source, wanted, others)
    elif kind == "Feature":
        of = _class_of(value)
        if of in (None, wanted):
            yield from _lines(_member(value, "geometry", source), source, wanted, others)
        else:
            others.add(str(of))
    elif kind == "LineString":
        yield _member(value, "coordinates", source)
    elif kind == "MultiLineString":
        yield from _member(value, "coordinates", source)
    else:
        raise UnfitLabelError(
            source,
            f"a geometry of type {kind[:40]}, not a line",
            "trace with the polyline tool and export LineString geometries",
        )


def _class_of(feature: dict[str, Any]) -> str | None:
    """Return which of our classes a feature has; None for none or another one.

    QuPath writes ``Nerve: PGP9.5`` for a class derived from ``Nerve``.
    """
    properties = feature.get("properties")
    classification = properties.get("classification") if isinstance(properties, dict) else None
    name = classification.get("name") if isinstance(classification, dict) else classification
    return _CLASSES.get(name.split(":")[0].strip().lower()) if isinstance(name, str) else None


def _member(value: dict[str, Any], name: str, source: str) -> Any:
    member = value.get(name)
    if not isinstance(member, list | dict):
        raise UnfitLabelError(
            source, f"{value['type']} without {name}", "export it again as GeoJSON"
        )
    return member


def _points(coordinates: Any, shape: tuple[int, int], source: str) -> Points:
    """Return the coordinates of one line, checked."""
    try:
        points = np.array([pair[:2] for pair in coordinates], np.float64)
    except (TypeError, ValueError, OverflowError):
        points = np.empty((0, 0))
    if points.ndim != 2 or points.shape[1:] != (2,) or not np.isfinite(points).all():
        raise UnfitLabelError(
            source, "a line whose coordinates are not x, y pairs", "export it again as GeoJSON"
        )
    if len(points) < 2:
        raise UnfitLabelError(source, "a line of one point", "delete or continue it")
    size = np.array([shape[1], shape[0]])
    if (points < -OUTSIDE_PX).any() or (points > size + OUTSIDE_PX).any():
        x, y = points[np.argmax(np.abs(points - size / 2).max(axis=1))]
        raise UnfitLabelError(
            source,
            f"a line reaches x={x:.0f}, y={y:.0f}, outside the image ({shape[1]}x{shape[0]})",
            "export coordinates in pixels of the full-resolution image",
        )
    return points


def draw_line(mask: NDArray[np.bool_], points: Points, width_px: float) -> None:
    """Draw a polyline with round ends on a mask, (H, W) bool, in place; ignore what is outside.

    In ``points`` whole numbers are centres of pixels.
    """
    for start, end in pairwise(points):
        _draw_segment(mask, start, end, width_px / 2)


def _draw_segment(mask: NDArray[np.bool_], start: Points, end: Points, radius: float) -> None:
    height, width = mask.shape
    left, top = np.maximum(np.floor(np.minimum(start, end) - radius), 0).astype(int)
    right, bottom = np.minimum(
        np.ceil(np.maximum(start, end) + radius), [width - 1, height - 1]
    ).astype(int)
    if left > right or top > bottom:
        return
    y, x = np.ogrid[top : bottom + 1, left : right + 1]
    along = end - start
    length2 = float(along @ along)
    offset_x, offset_y = x - start[0], y - start[1]
    if length2 > 0:
        at = np.clip((offset_x * along[0] + offset_y * along[1]) / length2, 0, 1)
        offset_x, offset_y = offset_x - at * along[0], offset_y - at * along[1]
    mask[top : bottom + 1, left : right + 1] |= offset_x**2 + offset_y**2 <= radius**2
