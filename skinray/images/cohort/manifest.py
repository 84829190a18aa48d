"""A cohort: a folder with ``manifest.csv``, one row per image of a biopsy, with its labels."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from skinray.config.images import ReadSettings
from skinray.errors import CohortError
from skinray.files import sha256_of
from skinray.images.augment import Sample
from skinray.images.cohort.dermis_fill import SIDES, dermis_from_boundary
from skinray.images.cohort.labels import match_shape, read_boundary, read_nerves
from skinray.images.cohort.polylines import NoLineError
from skinray.images.cohort.rows import Biopsy, Cohort
from skinray.images.cohort.scan import scan_cohort
from skinray.images.file_errors import UnfitLabelError, refuse_problems
from skinray.images.read import read_image, read_mask

T = TypeVar("T")


def read_manifest(root: Path) -> Cohort:
    """Read the manifest of the cohort folder ``root``; files must exist but are not decoded.

    Raises CohortError if the table has problems; the message lists each with row, file, reason and
    remedy.
    """
    scan = scan_cohort(root)
    refuse_problems(root, scan.problems)
    return scan.sound


def load_sample(biopsy: Biopsy, settings: ReadSettings) -> Sample:
    """Read an image with its nerve and dermis masks.

    Raises
    ------
    ImageError
        The image cannot be read.
    LabelError
        A label is missing, cannot be read, or does not match the image.
    """
    image = read_image(biopsy.image, biopsy.reading(settings)).pixels
    shape = (image.shape[0], image.shape[1])
    return Sample(
        image=image,
        masks={
            "nerve": load_nerves(biopsy, shape, settings).astype(np.uint8),
            "dermis": load_dermis(biopsy, shape, settings).astype(np.uint8),
        },
    )


def load_nerves(
    biopsy: Biopsy, shape: tuple[int, int], settings: ReadSettings
) -> NDArray[np.bool_]:
    """Read the nerve label as (H, W) bool; LabelError if there is none or it is unusable."""
    path = biopsy.nerves
    if path is None:
        raise UnfitLabelError(
            biopsy.name, "no nerve label", "enter its file in the manifest's column nerves"
        )
    chosen = biopsy.classes.get("nerves")

    def read() -> NDArray[np.bool_]:
        try:
            return read_nerves(path, shape, settings, chosen=chosen)
        except NoLineError:
            if biopsy.count != 0:
                raise
            return np.zeros(shape, bool)  # the expert says so too

    return _of_subject(biopsy, read)


def load_dermis(
    biopsy: Biopsy, shape: tuple[int, int], settings: ReadSettings
) -> NDArray[np.bool_]:
    """Read the dermis as (H, W) bool, from its mask or else by filling a side of the boundary."""
    return _of_subject(biopsy, lambda: _dermis(biopsy, shape, settings))


def _dermis(biopsy: Biopsy, shape: tuple[int, int], settings: ReadSettings) -> NDArray[np.bool_]:
    if biopsy.dermis is not None:
        mask = read_mask(biopsy.dermis, settings, biopsy.classes.get("dermis"))
        return match_shape(mask, shape, biopsy.dermis)
    if biopsy.boundary is None:
        raise UnfitLabelError(
            biopsy.name,
            "neither a dermis mask nor a boundary line",
            "enter its file in the manifest's column dermis or boundary",
        )
    if biopsy.dermis_side is None:
        raise UnfitLabelError(biopsy.name, "no dermis_side", f"enter {SIDES} in the dermis")
    line = read_boundary(biopsy.boundary, shape, settings, biopsy.classes.get("boundary"))
    return dermis_from_boundary(line, shape, biopsy.dermis_side, source=str(biopsy.boundary))


def _of_subject(biopsy: Biopsy, load: Callable[[], T]) -> T:
    """Add the subject to the error of a label."""
    try:
        return load()
    except UnfitLabelError as error:
        reason = f"{error.reason} (subject {biopsy.subject})"
        raise UnfitLabelError(error.file, reason, error.remedy) from None


def fingerprint(cohort: Cohort) -> str:
    """Return the SHA-256 of all that training sees: names, subjects, labels and file contents.

    It does not depend on the order of the rows or on where the folder is.
    """
    digest = hashlib.sha256()
    for biopsy in sorted(cohort.biopsies, key=lambda biopsy: biopsy.name):
        facts = [
            biopsy.name,
            biopsy.subject,
            biopsy.group,
            biopsy.dermis_side,
            biopsy.count,
            biopsy.second_count,
            biopsy.um_per_px,
        ]
        for path in (biopsy.image, biopsy.nerves, biopsy.dermis, biopsy.boundary):
            facts.append(None if path is None else _file_sha256(path))
        facts += [] if biopsy.source is None else [biopsy.source]
        facts += [] if biopsy.bits is None else [f"bits: {biopsy.bits}"]
        facts += [f"{column}: {chosen}" for column, chosen in sorted(biopsy.classes.items())]
        digest.update(json.dumps(facts).encode() + b"\n")
    return digest.hexdigest()


def image_hashes(cohort: Cohort) -> frozenset[str]:
    """Return the SHA-256 of the image files; CohortError if one cannot be read."""
    return frozenset(_file_sha256(biopsy.image) for biopsy in cohort.biopsies)


def _file_sha256(path: Path) -> str:
    try:
        return sha256_of(path)
    except OSError as error:
        raise CohortError(
            f"{path}: cannot be read ({error.strerror}): restore it or correct the manifest"
        ) from None
