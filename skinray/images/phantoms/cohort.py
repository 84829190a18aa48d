"""A cohort of phantoms, written as a folder that skinray reads like a laboratory's own."""

from __future__ import annotations

import csv
import json
import math
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any, TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

from skinray.config.biopsies import PhantomSettings
from skinray.errors import CohortError, SettingsError
from skinray.files import whole
from skinray.images.cohort.csv_table import COLUMNS, MANIFEST
from skinray.images.cohort.polylines import MIDDLE
from skinray.images.phantoms.phantom import Phantom, check_request, graft_phantom, make_phantom
from skinray.images.phantoms.slides import read_slides
from skinray.images.phantoms.windows import Window, choose_windows

FOLDERS = ("images", "nerves", "dermis", "boundary", "crossings")
_MARK = "phantom.json"
_SHEET_IMAGES = 12
_WORTH_PROCESSES = 8
T = TypeVar("T")


def write_cohort(
    out: Path,
    images: int,
    seed: int = 0,
    size: tuple[int, int] = (1600, 1200),
    tissue: Path | None = None,
    settings: PhantomSettings | None = None,
    subjects: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Write ``images`` phantoms with labels, manifest and contact sheet to ``out``.

    Parameters
    ----------
    size : width and height of every image, in pixels.
    tissue : folder of real tiles to draw the nerves on (see ``slides``); an image's subject is
        then its section, so use folds of images. None: drawn skin.
    subjects : how many subjects the images are assigned to; none: as many per image as in the
        paper (24 for 94), and at least 6.
    progress : called with the number of images written and the total.

    Returns the path of ``manifest.csv``.

    Raises
    ------
    SettingsError : fewer than one image, too small a size, or a negative seed.
    CohortError : ``out`` holds anything but an earlier phantom cohort, or ``tissue`` is not a
        folder of coded tiles or has no suitable window. Nothing is written then.
    """
    if images < 1:
        raise SettingsError(f"{images} phantoms: ask for at least 1")
    check_request(seed, size)
    settings = settings or PhantomSettings()
    wanted = subjects or max(min(images, 6), round(images * 24 / 94))
    settings = settings.override({"subjects": max(1, wanted)})
    _refuse_strangers(out)
    rows: list[dict[str, Any]] = []
    thumbnails: list[NDArray[np.uint8]] = []
    make: Callable[[int], Phantom] = partial(make_phantom, settings, seed, size=size)
    if tissue is not None:
        rng = np.random.default_rng([seed, images, 4])
        windows = choose_windows(rng, read_slides(tissue), size, images)
        make = partial(_graft, settings, seed, windows)
    _claim(out)
    for row, thumbnail in _each(partial(_make_and_write, out, make), images):
        rows.append(row)
        thumbnails += [thumbnail] if len(thumbnails) < _SHEET_IMAGES else []
        if progress:
            progress(len(rows), images)
    cv2.imwrite(str(out / "contact_sheet.png"), _sheet(thumbnails)[..., ::-1])
    facts = {"seed": seed, "size": list(size), "settings": settings.model_dump(mode="json")}
    (out / _MARK).write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
    return _write_manifest(out, rows)


def _refuse_strangers(out: Path) -> None:
    """Raise CohortError if ``out`` holds anything but an earlier phantom cohort."""
    if out.exists() and (not out.is_dir() or (any(out.iterdir()) and not (out / _MARK).exists())):
        raise CohortError(
            f"{out}: is neither empty nor a phantom cohort: choose another folder for the phantoms"
        )


def _claim(out: Path) -> None:
    """Make the folders, and empty those of an earlier phantom cohort."""
    out.mkdir(parents=True, exist_ok=True)
    (out / _MARK).write_text("{}\n", encoding="utf-8")
    (out / MANIFEST).unlink(missing_ok=True)
    for folder in FOLDERS:
        (out / folder).mkdir(exist_ok=True)
        for old in (out / folder).iterdir():
            old.unlink()


def _graft(settings: PhantomSettings, seed: int, windows: list[Window], index: int) -> Phantom:
    return graft_phantom(settings, seed, index, windows[index])


def _each(make: Callable[[int], T], images: int) -> Iterator[T]:
    """Call ``make`` for every image, in several processes if that is faster."""
    workers = min(os.cpu_count() or 1, images)
    done = 0
    if workers > 1 and images >= _WORTH_PROCESSES:
        try:
            with ProcessPoolExecutor(
                workers, get_context("spawn"), cv2.setNumThreads, (1,)
            ) as pool:
                for result in pool.map(make, range(images)):
                    yield result
                    done += 1
        except BrokenProcessPool:
            # New processes cannot import a script without a main guard.
            pass
    yield from map(make, range(done, images))


def _make_and_write(
    out: Path, make: Callable[[int], Phantom], index: int
) -> tuple[dict[str, Any], NDArray[np.uint8]]:
    phantom = make(index)
    return write_phantom(out, f"phantom_{index:04d}", phantom), _thumbnail(phantom)


def write_phantom(out: Path, name: str, phantom: Phantom) -> dict[str, Any]:
    """Write one phantom's files under ``out`` and return its row of the manifest."""
    _write_png(out / "images" / f"{name}.png", phantom.image[..., ::-1])
    _write_png(out / "nerves" / f"{name}.png", phantom.nerve_label.astype(np.uint8) * 255)
    _write_png(out / "dermis" / f"{name}.png", phantom.dermis_label.astype(np.uint8) * 255)
    line = phantom.boundary_label[np.r_[0 : len(phantom.boundary_label) - 1 : 4, -1]]
    _write_geojson(out / "boundary" / f"{name}.geojson", "LineString", line)
    _write_geojson(out / "crossings" / f"{name}.geojson", "MultiPoint", phantom.crossings[:, ::-1])
    row = {
        "image": f"images/{name}.png",
        "subject": phantom.subject,
        "group": phantom.group,
        "nerves": f"nerves/{name}.png",
        "dermis": f"dermis/{name}.png",
        "boundary": f"boundary/{name}.geojson",
        "dermis_side": _side(phantom),
        "count": phantom.count,
        "second_count": phantom.second_count,
        "um_per_px": phantom.um_per_px,
        "source": "phantom",
    }
    return row | ({"window": phantom.window} if phantom.window else {})


def _side(phantom: Phantom) -> str:
    """Return where the dermis lies: the bottom, or else the point farthest inside it."""
    dermis = phantom.dermis_label
    if dermis[-1].all() and not dermis[0].any():
        return "bottom"
    inside = cv2.distanceTransform(np.pad(dermis, 1).astype(np.uint8), cv2.DIST_L2, 3)[1:-1, 1:-1]
    row, column = np.unravel_index(int(inside.argmax()), inside.shape)
    return f"{column},{row}"


def _write_png(path: Path, pixels: NDArray[np.uint8]) -> None:
    """Write with weak compression, which is fast."""
    if not cv2.imwrite(str(path), pixels, [cv2.IMWRITE_PNG_COMPRESSION, 1]):
        raise CohortError(f"{path}: cannot be written: check free space and permissions")


def _write_geojson(path: Path, kind: str, points: NDArray[np.float64]) -> None:
    """Write x, y in pixels from the image's outer corner, as GeoJSON for images has them."""
    geometry = {"type": kind, "coordinates": np.round(points + MIDDLE, 2).tolist()}
    feature = {"type": "Feature", "properties": {}, "geometry": geometry}
    text = json.dumps({"type": "FeatureCollection", "features": [feature]})
    path.write_text(text + "\n", encoding="utf-8")


def _write_manifest(out: Path, rows: list[dict[str, Any]]) -> Path:
    path = out / MANIFEST
    with whole(path) as part, part.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, list(rows[0]) if rows else COLUMNS)
        writer.writeheader()
        writer.writerows(rows)
    return path


def _thumbnail(phantom: Phantom, width_px: int = 520) -> NDArray[np.uint8]:
    """Return the image, and beside it the truth: nerves blue, boundary green, crossings red."""
    shown = phantom.image.copy()
    scale = shown.shape[1] / width_px
    shown[phantom.nerve_truth] = (40, 80, 255)
    line = [np.round(phantom.boundary_line).astype(np.int32)]
    cv2.polylines(shown, line, False, (0, 170, 60), max(1, round(1.5 * scale)), cv2.LINE_AA)
    for row, column in np.round(phantom.crossings).astype(int):
        cv2.circle(shown, (int(column), int(row)), round(5 + 2 * scale), (230, 20, 20), -1)
    pair = np.hstack([phantom.image, shown])
    height = round(width_px * pair.shape[0] / phantom.image.shape[1])
    return np.asarray(cv2.resize(pair, (2 * width_px, height), interpolation=cv2.INTER_AREA))


def _sheet(thumbnails: list[NDArray[np.uint8]], columns: int = 2) -> NDArray[np.uint8]:
    """Arrange thumbnails in a grid on white."""
    if not thumbnails:
        return np.full((8, 8, 3), 255, np.uint8)
    height, width = np.max([thumbnail.shape[:2] for thumbnail in thumbnails], axis=0) + 8
    rows = math.ceil(len(thumbnails) / columns)
    sheet = np.full((rows * height, columns * width, 3), 255, np.uint8)
    for place, thumbnail in enumerate(thumbnails):
        top, left = place // columns * height + 4, place % columns * width + 4
        sheet[top : top + thumbnail.shape[0], left : left + thumbnail.shape[1]] = thumbnail
    return sheet
