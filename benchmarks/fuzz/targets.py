"""What is fuzzed, and what each target must give: a valid result, or an error of its own kind."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import tifffile
from PIL import Image as Pillow

from skinray.config.base import from_yaml, to_yaml
from skinray.config.images import ReadSettings
from skinray.config.scoring import ServeSettings, ServiceSettings
from skinray.errors import SkinrayError
from skinray.images.cohort.dermis_fill import dermis_from_boundary
from skinray.images.cohort.labels import read_boundary, read_nerves
from skinray.images.cohort.manifest import read_manifest
from skinray.images.pixel_size import is_plausible
from skinray.images.read import decode_image, read_mask
from skinray.scoring.image_store import LocalStore
from skinray.scoring.listing import manifest_entries
from skinray.service.labels.save import parse_points

MOST_PIXELS = 20_000
READ = ReadSettings(max_pixels=MOST_PIXELS)
SHAPE = (48, 40)


class GarbageError(Exception):
    """A result that is none: of another shape, type or range than promised."""


@dataclass(frozen=True)
class Target:
    """One parser with its valid files.

    Attributes
    ----------
    kind : of mutations; see ``fuzz_mutations.KINDS``.
    seeds : makes the valid files.
    run : takes a file's bytes and a folder for its own use; raises GarbageError where the result
        is not as promised.
    allowed : the errors that it may raise.
    """

    kind: str
    seeds: Callable[[], list[bytes]]
    run: Callable[[bytes, Path], None]
    allowed: tuple[type[Exception], ...] = (SkinrayError,)


def photo(seed: int = 0) -> np.ndarray:
    """Return a small picture, (48, 40, 3) uint8."""
    noise = np.random.default_rng(seed).integers(0, 256, (*SHAPE, 3), np.uint8)
    return cv2.GaussianBlur(noise, (0, 0), 2)


def saved(array: np.ndarray, kind: str, **options: Any) -> bytes:
    """Return a picture as Pillow writes it."""
    stream = io.BytesIO()
    Pillow.fromarray(array).save(stream, kind, **options)
    return stream.getvalue()


def png_files() -> list[bytes]:
    """Grey, colour, alpha, palette, 16 bit, with scale, interlaced as far as can be written."""
    picture, grey = photo(), photo()[..., 0]
    palette = io.BytesIO()
    Pillow.fromarray(picture).quantize(16).save(palette, "PNG", transparency=3)
    sixteen = cv2.imencode(".png", picture.astype(np.uint16) * 257)[1].tobytes()
    return [
        saved(picture, "PNG", dpi=(25_400, 25_400)), saved(grey, "PNG"), palette.getvalue(),
        sixteen,
        saved(np.dstack([picture, grey]), "PNG"), saved(grey > 99, "PNG"),
        saved(grey.astype(np.uint16) * 257, "PNG"),
    ]  # fmt: skip


def jpeg_files() -> list[bytes]:
    """Baseline, progressive, grey, CMYK, turned by EXIF, with restart markers."""
    picture = photo()
    exif = Pillow.Exif()
    exif[0x0112] = 6
    cmyk = io.BytesIO()
    Pillow.fromarray(picture).convert("CMYK").save(cmyk, "JPEG")
    return [
        saved(picture, "JPEG", dpi=(300, 300)), saved(picture, "JPEG", progressive=True),
        saved(picture[..., 0], "JPEG"), cmyk.getvalue(), saved(picture, "JPEG", exif=exif),
        saved(picture, "JPEG", restart_marker_blocks=1, subsampling=2),
    ]  # fmt: skip


def tiff_files() -> list[bytes]:
    """Every compression, strips and tiles, depths, planes, byte orders, BigTIFF, stacks."""
    picture = photo()
    found = []
    ways: list[tuple[np.ndarray, dict[str, Any]]] = [
        (picture, {"compression": one, "rowsperstrip": 16})
        for one in ("none", "lzw", "zlib", "packbits", "jpeg")
    ]
    ways += [
        (picture, {"tile": (16, 16), "compression": "zlib", "predictor": True}),
        (picture.astype(np.uint16) * 257, {"byteorder": ">"}),
        (picture, {"bigtiff": True, "resolution": (1e4, 1e4), "resolutionunit": "CENTIMETER"}),
        (np.moveaxis(picture, -1, 0), {"planarconfig": "separate"}),
        (picture, {"imagej": True, "resolution": (2, 2), "metadata": {"unit": "um"}}),
    ]
    for array, options in ways:
        stream = io.BytesIO()
        if "bigtiff" in options or "byteorder" in options:
            own = {k: options.pop(k) for k in ("bigtiff", "byteorder") if k in options}
            tifffile.imwrite(stream, array, photometric="rgb", **own, **options)
        else:
            tifffile.imwrite(stream, array, photometric="rgb", **options)
        found.append(stream.getvalue())
    grey = io.BytesIO()
    tifffile.imwrite(grey, picture[..., 0] > 99, photometric="minisblack", extratags=[])
    return [*found, grey.getvalue()]


def ome_files() -> list[bytes]:
    """OME-TIFF: tiled with scale, channels as pages, significant bits."""
    picture, found = photo(), []
    scale = {"PhysicalSizeX": 0.25, "PhysicalSizeY": 0.25}
    for array, options in (
        (picture, {"photometric": "rgb", "tile": (16, 16), "metadata": {"axes": "YXS", **scale}}),
        (np.moveaxis(picture, -1, 0), {"photometric": "minisblack", "metadata": {"axes": "CYX"}}),
        (
            picture.astype(np.uint16) * 16,
            {"photometric": "rgb", "metadata": {"SignificantBits": 12}},
        ),
    ):
        stream = io.BytesIO()
        tifffile.imwrite(stream, array, ome=True, **options)  # type: ignore[arg-type]
        found.append(stream.getvalue())
    return found


def run_image(data: bytes, folder: Path) -> None:
    """Decode; a picture has the promised shape, and a scale is a microscope's."""
    image = decode_image(data, "case", READ)
    pixels = image.pixels
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3:
        raise GarbageError(f"{pixels.dtype} {pixels.shape}")
    if not 0 < pixels.shape[0] * pixels.shape[1] <= MOST_PIXELS:
        raise GarbageError(f"size {pixels.shape}")
    if image.um_per_px is not None and not is_plausible(image.um_per_px):
        raise GarbageError(f"scale {image.um_per_px}")


def mask_files() -> list[bytes]:
    """Masks and drawn lines in every format."""
    line = np.zeros(SHAPE, np.uint8)
    cv2.polylines(line, [np.array([(0, 20), (15, 26), (39, 18)])], False, 255, 3)
    area = np.zeros(SHAPE, np.uint8)
    area[24:] = 255
    layer = np.dstack([line, line, line, line])
    tiff = io.BytesIO()
    tifffile.imwrite(tiff, line, photometric="minisblack", compression="zlib")
    return [
        saved(line, "PNG"), saved(area, "PNG"), saved(line > 0, "PNG"), saved(layer, "PNG"),
        saved(area // 255, "PNG"), saved(line, "JPEG"), tiff.getvalue(),
    ]  # fmt: skip


def run_mask(data: bytes, folder: Path) -> None:
    """Read as a mask, and as a boundary line that becomes a dermis."""
    path = written(folder / "mask", data)
    mask = read_mask(path, READ)
    if mask.dtype != bool or mask.ndim != 2 or not 0 < mask.size <= MOST_PIXELS:
        raise GarbageError(f"{mask.dtype} {mask.shape}")
    with suppress(SkinrayError):  # most masks are no line
        run_boundary(path, mask.shape)


def run_boundary(path: Path, shape: tuple[int, int]) -> None:
    """Read a boundary, and fill its dermis."""
    line = read_boundary(path, shape, READ)
    if line.dtype != np.float64 or line.ndim != 2 or line.shape[1] != 2 or len(line) < 2:
        raise GarbageError(f"{line.dtype} {line.shape}")
    if not np.isfinite(line).all():
        raise GarbageError("a boundary at no place")
    dermis = dermis_from_boundary(line, shape, "bottom")
    if dermis.dtype != bool or dermis.shape != shape or dermis.all() or not dermis.any():
        raise GarbageError(f"dermis {dermis.dtype} {dermis.shape} {dermis.mean()}")


def geojson_files() -> list[bytes]:
    """Lines as QuPath and others export them."""
    lines = {"type": "MultiLineString", "coordinates": [[[5, 4], [9, 30.5]], [[20, 2], [21, 44]]]}
    line = {"type": "LineString", "coordinates": [[0, 20], [15.5, 26.25], [22, 22], [40, 18]]}
    feature = {"type": "Feature", "id": "a", "geometry": line, "properties": {"name": "edge"}}
    return [
        json.dumps(value).encode()
        for value in (
            line, lines, feature, [feature], {"type": "FeatureCollection", "features": [feature]},
            {"type": "GeometryCollection", "geometries": [line]},
        )
    ]  # fmt: skip


def run_geojson(data: bytes, folder: Path) -> None:
    """Read as nerves, and as the boundary."""
    path = written(folder / "lines.geojson", data)
    nerves = read_nerves(path, SHAPE, READ)
    if nerves.dtype != bool or nerves.shape != SHAPE:
        raise GarbageError(f"{nerves.dtype} {nerves.shape}")
    with suppress(SkinrayError):  # several lines are nerves, but no boundary
        run_boundary(path, SHAPE)


def manifest_files() -> list[bytes]:
    """Manifests with every column, in the separators of several countries."""
    head = "image,subject,group,nerves,dermis,boundary,dermis_side,count,second_count,um_per_px"
    rows = "0.png,s0,A,n.png,d.png,,,3,4,0.5\n1.png,s1,B,n.png,,b.geojson,bottom,1,,\n"
    whole = f"{head}\n{rows}"
    return [
        whole.encode(), whole.replace(",", ";").replace("0.5", "0,5").encode("utf-8-sig"),
        whole.replace(",", "\t").encode("utf-16"), b'image\r\n"0.png"\r\n1.png\r\n',
    ]  # fmt: skip


def run_manifest(data: bytes, folder: Path) -> None:
    """Read for training, and for scoring; no file outside of the folder is named."""
    for name in ("0.png", "1.png", "n.png", "d.png", "b.geojson"):
        if not (folder / name).exists():
            (folder / name).write_bytes(b"x")
    path = written(folder / "manifest.csv", data)
    refused: SkinrayError | None = None
    try:
        for biopsy in read_manifest(folder).biopsies:
            within(folder, biopsy.image, biopsy.nerves, biopsy.dermis, biopsy.boundary)
            if biopsy.um_per_px is not None and not is_plausible(biopsy.um_per_px):
                raise GarbageError(f"scale {biopsy.um_per_px}")
    except SkinrayError as error:
        refused = error
    for entry in manifest_entries(LocalStore(), str(path)):
        if entry.problem is None:
            within(folder, Path(entry.path))
    if refused is not None:
        raise refused


def within(folder: Path, *paths: Path | None) -> None:
    """Raise where a path leads out of the folder."""
    for path in paths:
        if path is not None and not path.resolve().is_relative_to(folder.resolve()):
            raise GarbageError("a path leads out of the cohort")


def points_files() -> list[bytes]:
    """Corrections as the page sends them."""
    return [b"[[3.5, 4], [20, 39]]", b"[]", b"[[0,0],[1.25e1,3],[-0.5,1]]"]


def run_points(data: bytes, folder: Path) -> None:
    """Read corrections."""
    points = parse_points(data.decode("utf-8", "replace"), SHAPE)
    sound = points.dtype == np.float64 and points.ndim == 2 and points.shape[1] == 2
    if not sound or not np.isfinite(points).all() or (points > np.array(SHAPE)).any():
        raise GarbageError(f"{points.dtype} {points.shape}")


def settings_files() -> list[bytes]:
    """Return settings of a service, as they are written; whole recipes take long to read."""
    service = ServiceSettings(timeout_s=1e-4, labels="a: b")
    some = ServeSettings(bundle="bundle", service=service), ServeSettings(bundle="ä")
    return [to_yaml(one).encode() for one in some]


def run_settings(data: bytes, folder: Path) -> None:
    """Read a file of settings."""
    from_yaml(ServeSettings, written(folder / "settings.yaml", data))


def written(path: Path, data: bytes) -> Path:
    """Write a case where a parser takes a path."""
    path.write_bytes(data)
    return path


TARGETS: dict[str, Target] = {
    "png": Target("png", png_files, run_image),
    "jpeg": Target("bytes", jpeg_files, run_image),
    "tiff": Target("tiff", tiff_files, run_image),
    "ome-tiff": Target("tiff", ome_files, run_image),
    "mask": Target("png", mask_files, run_mask),
    "geojson": Target("text", geojson_files, run_geojson),
    "manifest": Target("text", manifest_files, run_manifest),
    "points": Target("text", points_files, run_points),
    "settings": Target("text", settings_files, run_settings),
}


@cache
def seeds(name: str) -> list[bytes]:
    """Return the valid files of a target; made once in a process."""
    return TARGETS[name].seeds()
