"""Polylines: read from GeoJSON, as exported by QuPath and other tools, and drawn on masks.

One file may hold all labels of an image: each reader takes the lines of its own class and those
without a class, and leaves the other classes alone. Without a class of ours, all lines must have
one class, or none. Classes whose name ends with ``*`` are those that QuPath ignores (``Ignore*``,
``Region*``), and so do we.

In GeoJSON the outer corner of the first pixel is 0, 0 and its centre .5, .5; :func:`draw_line`
takes coordinates of arrays, where that centre is 0, 0.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
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
IGNORED = "*"
_CLASSES = {
    word.lower(): name
    for name in (NERVE, BOUNDARY, CROSSING, DERMIS)
    for word in (name, f"{name}s")
}

_GZIP = b"\x1f\x8b"
_MOST_BYTES = 1 << 27
_OTHER_JSON = (
    ({"shapes"}, "LabelMe"),
    ({"annotations", "categories"}, "COCO"),
    ({"_via_img_metadata"}, "the VGG Image Annotator"),
    ({"regions"}, "the VGG Image Annotator"),
    ({"annotations", "data"}, "Label Studio"),
)
_INSIDE = {"FeatureCollection": "features", "GeometryCollection": "geometries"}
_NO_LINES = ("Point", "MultiPoint", "Polygon", "MultiPolygon")
# Where other programs than QuPath keep the class of a feature. Any other property is one too, but
# for the name, if it says one of our classes in some feature; a name is free text otherwise.
_CLASS_NAMES = ("class", "category", "class_name", "category_name", "classification_name")
_FREE_TEXT = "name"


class NoLineError(UnfitLabelError):
    """A file has classes, and no line of the one that is meant."""


def looks_like_json(path: Path) -> bool:
    """Return whether a label file is JSON, perhaps compressed with gzip, by its first bytes."""
    try:
        with path.open("rb") as file:
            start = file.read(4096)
        if start.startswith(_GZIP):
            start = zlib.decompressobj(wbits=31).decompress(start, 64)
        return _text(start[:64]).lstrip()[:1] in ("{", "[")
    except (OSError, ValueError, zlib.error):
        return False  # reading it as an image will report what is wrong


def _text(data: bytes) -> str:
    """Decode UTF-8 or, with a byte order mark, UTF-16; what is cut off is left out."""
    wide = data.startswith((b"\xff\xfe", b"\xfe\xff"))
    return data.decode("utf-16" if wide else "utf-8-sig", errors="ignore")


def read_polylines(
    path: Path, shape: tuple[int, int], settings: ReadSettings, kind: str, chosen: str | None = None
) -> list[Points]:
    """Read every LineString and MultiLineString of a GeoJSON file, drawn on an image of ``shape``.

    Features of another class of ours than ``kind`` (``NERVE`` or ``BOUNDARY``) are left out, and
    those of any other class where lines of ``kind`` are there; so are features without a geometry.

    Parameters
    ----------
    chosen : name of the class to read instead, as the file spells it.

    Raises LabelError if the file is not GeoJSON, holds other geometries than lines for the class,
    lines outside the image, no line of the class, or several classes without saying which is meant.
    """
    source = str(path)
    lines = _of_class(_read(path, settings), kind, chosen, source)
    return [_points(line, shape, source) for line in lines]


def foreign_class(path: Path, settings: ReadSettings, kind: str) -> str | None:
    """Return the class of the lines that :func:`read_polylines` takes; None: ``kind``.

    Empty: some lines have no class, although others have one.
    """
    lines = [line for line in _read(path, settings) if line.type == "LineString"]
    names = {line.of for line in lines}
    if None in names and len(names) > 1:
        return ""
    if any(_ours(name) == kind for name in names):
        return None
    return next((name for name in names if name is not None and _ours(name) is None), None)


@dataclass(frozen=True)
class _Line:
    """A geometry: its type, its coordinates, and the class that its feature has in the file."""

    type: str
    coordinates: Any
    of: str | None


def _read(path: Path, settings: ReadSettings) -> list[_Line]:
    """Read all geometries of a GeoJSON file."""
    source = str(path)
    with reading_label():
        data = read_bytes(path, settings)
    if data.startswith(_GZIP):
        data = _unpacked(data, source)
    wide = data.startswith((b"\xff\xfe", b"\xfe\xff"))
    try:
        value = json.loads(data.decode("utf-16" if wide else "utf-8-sig"))
        _refuse_other_json(value, source)
        return list(_lines(value, source, None, frozenset(_class_names(value))))
    except (ValueError, RecursionError) as error:
        reason = "nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise UnfitLabelError(
            source, f"not valid JSON ({reason})", "export it again as GeoJSON"
        ) from None


def _unpacked(data: bytes, source: str) -> bytes:
    """Decompress a file, up to a size that no tracing has."""
    try:
        found = zlib.decompressobj(wbits=31).decompress(data, _MOST_BYTES)
    except zlib.error:
        raise UnfitLabelError(source, "damaged gzip", "copy or export it again") from None
    if len(found) == _MOST_BYTES:
        raise UnfitLabelError(
            source, f"over {_MOST_BYTES / 1e6:.0f} MB once unpacked", "export the lines alone"
        )
    return found


def _refuse_other_json(value: Any, source: str) -> None:
    """Name the formats of other programs that are JSON too."""
    if isinstance(value, list) and value:
        value = value[0]
    names = value.keys() if isinstance(value, dict) else set()
    for keys, what in _OTHER_JSON:
        if keys <= names and "type" not in names:
            raise UnfitLabelError(
                source, f"a file of {what}, not GeoJSON", "convert it to GeoJSON lines or to a mask"
            )


def _class_names(value: Any) -> Iterator[str]:
    """Yield the properties, in lower case, that name one of our classes in some feature."""
    if isinstance(value, list):
        for item in value:
            yield from _class_names(item)
    elif isinstance(value, dict) and value.get("type") == "FeatureCollection":
        yield from _class_names(value.get("features"))
    elif isinstance(value, dict) and value.get("type") == "Feature":
        for key, text in _texts(value).items():
            if key != _FREE_TEXT and _ours(text):
                yield key


def _texts(feature: dict[str, Any]) -> dict[str, str]:
    """Return the properties of a feature that are text, by name in lower case."""
    properties = feature.get("properties")
    found = properties.items() if isinstance(properties, dict) else ()
    return {key.lower(): text for key, text in found if isinstance(text, str) and text.strip()}


def _lines(value: Any, source: str, of: str | None, names: frozenset[str]) -> Iterator[_Line]:
    """Yield every line below a GeoJSON value that has lines."""
    if isinstance(value, list):  # QuPath can export a plain list of features
        for item in value:
            yield from _lines(item, source, of, names)
        return
    kind = str(value.get("type")) if isinstance(value, dict) else type(value).__name__
    if kind in _INSIDE:
        yield from _lines(_member(value, _INSIDE[kind], source), source, of, names)
    elif kind == "Feature":
        of = _class_of(value, names)
        if value.get("geometry", {}) is None:
            yield _Line("null", None, of)
        else:
            yield from _lines(_member(value, "geometry", source), source, of, names)
        for holder in (value, value.get("properties")):  # a hierarchy of objects in QuPath
            if isinstance(holder, dict) and isinstance(holder.get("childObjects"), list):
                yield from _lines(holder["childObjects"], source, None, names)
    elif kind == "MultiLineString":
        for line in _member(value, "coordinates", source):
            yield _Line("LineString", line, of)
    elif kind == "LineString" or kind in _NO_LINES:
        yield _Line(kind, _member(value, "coordinates", source), of)
    else:
        raise _no_line(kind, source)


def _no_line(kind: str, source: str, of: str | None = None) -> UnfitLabelError:
    whose = f"of class {of}" if of else "without a class"
    return UnfitLabelError(
        source,
        f"a geometry of type {kind[:40]}, not a line ({whose})",
        "trace with the polyline tool; delete what is not a label, such as the annotation of the "
        "whole image",
    )


def _of_class(lines: list[_Line], kind: str, chosen: str | None, source: str) -> list[Any]:
    """Return the coordinates of the lines that are meant."""
    found = _chosen(lines, kind, chosen, source)
    for line in found:
        if line.type != "LineString":
            raise _no_line(line.type, source, line.of)
    return [line.coordinates for line in found]


def _chosen(lines: list[_Line], kind: str, chosen: str | None, source: str) -> list[_Line]:
    """Return the geometries that are meant."""
    lines = [line for line in lines if line.type != "null"] or lines
    names = sorted({line.of for line in lines if line.of is not None})
    held = f"holds {' and '.join(names)}"
    if chosen is not None:
        wanted = chosen.strip().lower()
        if wanted not in {name.strip().lower() for name in names}:
            raise UnfitLabelError(
                source,
                f"{held if names else 'has no classes'}, and no line of class {chosen}",
                "correct the class in the manifest",
            )
        return [line for line in lines if line.of and line.of.strip().lower() == wanted]
    if any(_ours(line.of) == kind for line in lines):
        return [line for line in lines if line.of is None or _ours(line.of) == kind]
    if any(line.type == "LineString" for line in lines):
        # Areas of another class, such as the tissue, are beside the lines.
        traced = {line.of for line in lines if line.type == "LineString"} | {None}
        lines = [line for line in lines if line.type == "LineString" or line.of in traced]
        names = sorted({line.of for line in lines if line.of is not None})
    plain = any(line.of is None for line in lines)
    others = {name for name in names if _ours(name) is None}
    if len(others) + plain > 1:
        unnamed = " and lines without a class" if plain else ""
        raise UnfitLabelError(
            source,
            f"holds lines of several classes: {' and '.join(sorted(others))}{unnamed}",
            f"give those that are meant the class {kind}, or name their class in the manifest "
            f"({'nerves_class' if kind == NERVE else 'boundary_class'})",
        )
    found = [line for line in lines if line.of is None or line.of in others]
    if names and not found:
        none = ", or enter count 0 if there is none" if kind == NERVE else ""
        raise NoLineError(
            source,
            f"{held}, and no line of class {kind}",
            f"trace it, give it the class {kind}, and export it too{none}",
        )
    return found


def _class_of(feature: dict[str, Any], names: frozenset[str]) -> str | None:
    """Return the class of a feature as the file names it; None without one.

    ``names``: the properties that name our classes in this file.
    """
    properties = feature.get("properties")
    classification = properties.get("classification") if isinstance(properties, dict) else None
    name = _derived(classification) if isinstance(classification, dict) else classification
    if isinstance(name, str) and name.strip():
        return name
    texts = _texts(feature)
    usual = [key for key in _CLASS_NAMES if key in names]
    for key in (*usual, *sorted(names), *_CLASS_NAMES):
        if key in texts:
            return texts[key]
    free = texts.get(_FREE_TEXT)
    return free if _ours(free) else None


def _derived(classification: dict[str, Any]) -> str | None:
    """Return the name of a class in QuPath; one that is derived from another as ``A: B``."""
    parts = classification.get("names")
    if isinstance(parts, list) and parts and all(isinstance(part, str) for part in parts):
        return ": ".join(parts)
    found: list[str] = []
    level: Any = classification
    while isinstance(level, dict) and isinstance(level.get("name"), str):
        found.insert(0, level["name"])
        level = level.get("parentClass")
    return ": ".join(found) if found else None


def _ours(name: str | None) -> str | None:
    """Return which of our classes a name means; None for none or another one.

    QuPath writes ``Nerve: PGP9.5`` for a class derived from ``Nerve``, and ends the names of
    classes that it ignores with ``*``.
    """
    if name is None:
        return None
    if name.strip().endswith(IGNORED):
        return IGNORED
    return _CLASSES.get(name.split(":")[0].strip().lower())


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
    except (TypeError, ValueError, OverflowError, KeyError):
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
            "trace on this image and export again: coordinates from the whole slide, or from "
            "before scaling, do not fit",
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
