"""A folder of labels that grows by one image per correction and is a valid cohort at any time.

An image is named after the SHA-256 of its pixels, never after a client's file name: if a file is
sent again in another format, it is the same image and its row is replaced.
"""

from __future__ import annotations

import csv
import fcntl
import hashlib
import io
import os
import re
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from skinray.errors import CohortError, LabelError
from skinray.files import whole
from skinray.images.cohort.csv_table import MANIFEST
from skinray.learning.provenance import now
from skinray.service.labels.masks import LabelMasks

COLUMNS = ("image", "subject", "nerves", "dermis", "count", "um_per_px")
# Columns that an earlier version did not write.
PROVENANCE = ("source", "bundle", "reader", "reviewed_at", "original_name")
_OWN_IMAGE = re.compile(r"images/[0-9a-f]{64}\.png")
FOLDERS = ("images", "nerves", "dermis")
LOCK = ".manifest.lock"
MAX_NAME = 100
_FORMULA = ("=", "+", "-", "@", "＝", "＋", "－", "＠")  # spreadsheets execute such a cell


@dataclass(frozen=True)
class Review:
    """Who saved a label, and on what: the label's provenance.

    Attributes
    ----------
    bundle : SHA-256 of the bundle that drew the label which the person corrected or confirmed.
    reader : the person, if named.
    original_name : the image file's name at the client, if the client wants it kept.
    """

    bundle: str
    reader: str | None = None
    original_name: str | None = None

    def checked(self) -> Self:
        """Return it with plain names; LabelError if one is not."""
        return replace(
            self,
            reader=checked_name(self.reader, "reader"),
            original_name=checked_name(self.original_name, "original_name"),
        )


class LabelAnswer(BaseModel):
    """A label that was stored."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    image: str = Field(description="name in the labels folder, from the pixels' SHA-256")
    subject: str = Field(description="as given, or the image's own name")
    count: int = Field(ge=0, description="crossings of the label")
    um_per_px: float | None = Field(description="scale stored; null: unknown")
    replaced: bool = Field(description="whether the image already had a label")
    images: int = Field(ge=1, description="labelled images in the folder")


def store_label(
    folder: Path,
    pixels: NDArray[np.uint8],
    label: LabelMasks,
    um_per_px: float | None,
    review: Review,
    subject: str | None = None,
) -> LabelAnswer:
    """Write an image with its masks, then its row of the manifest.

    The row says that a person corrected the label (``source``), also where every point of the model
    was kept: the person has looked at it.

    Parameters
    ----------
    folder : the cohort; created if it is missing.
    pixels : (H, W, 3) uint8 RGB.
    review : where the label comes from.
    subject : whose skin it is; None: unknown, the image counts as a subject of its own.

    Raises
    ------
    LabelError
        The subject, the reader or the original name is not a plain name.
    CohortError
        The folder's manifest is not one that this function wrote, or cannot be written.
    """
    name = f"{pixels_sha256(pixels)}.png"
    subject, review = checked_name(subject, "subject"), review.checked()
    row = {
        "image": f"images/{name}",
        "subject": subject or f"images/{name}",
        "nerves": f"nerves/{name}",
        "dermis": f"dermis/{name}",
        "count": str(len(label.points)),
        "um_per_px": "" if um_per_px is None else repr(float(um_per_px)),
        "source": "corrected",
        "bundle": review.bundle,
        "reader": review.reader or "",
        "reviewed_at": now(),
        "original_name": review.original_name or "",
    }
    try:
        for part in FOLDERS:
            (folder / part).mkdir(parents=True, exist_ok=True)
        with _locked(folder):
            columns, rows = _read(folder)
            image = folder / row["image"]
            if not image.exists():
                _replace(image, _png(pixels[..., ::-1]))
            _replace(folder / row["nerves"], _png(label.nerves.astype(np.uint8) * 255))
            _replace(folder / row["dermis"], _png(label.dermis.astype(np.uint8) * 255))
            old = rows.get(row["image"])
            rows[row["image"]] = (old or dict.fromkeys(columns, "")) | row
            _replace(folder / MANIFEST, _table(columns, rows))
    except OSError as error:
        raise CohortError(
            f"labels cannot be written ({error.strerror}): ask the operator to check the labels "
            "folder's free space and permissions"
        ) from error
    return LabelAnswer(
        image=row["image"],
        subject=row["subject"],
        count=len(label.points),
        um_per_px=um_per_px,
        replaced=old is not None,
        images=len(rows),
    )


def count_labels(folder: Path) -> int:
    """Return how many images the folder holds; CohortError if the manifest is not our own."""
    return len(_read(folder)[1])


def pixels_sha256(pixels: NDArray[np.uint8]) -> str:
    """Return the SHA-256 of an image's size and pixels."""
    digest = hashlib.sha256(f"{pixels.shape[0]}x{pixels.shape[1]};".encode())
    digest.update(np.ascontiguousarray(pixels).data)
    return digest.hexdigest()


def checked_name(text: str | None, field: str) -> str | None:
    """Return the name in a field, normalised; None if it is empty, LabelError if it is invalid."""
    name = unicodedata.normalize("NFC", (text or "").strip())
    if not name:
        return None
    if len(name) > MAX_NAME or not name.isprintable() or name.startswith(_FORMULA):
        raise LabelError(
            f"{field} is not a plain name: give at most {MAX_NAME} printable characters, not "
            f"beginning with {' '.join(_FORMULA)}"
        )
    return name


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Hold the folder's lock against other threads and processes; it ends with this process."""
    with (folder / LOCK).open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _read(folder: Path) -> tuple[list[str], dict[str, dict[str, str]]]:
    """Return the manifest's columns and its rows by image; additional columns are kept.

    Columns that an earlier version did not write are added. Its own labels are corrections too.
    """
    path = folder / MANIFEST
    if not path.exists():
        return [*COLUMNS, *PROVENANCE], {}
    with path.open(newline="", encoding="utf-8-sig") as file:
        reader = csv.DictReader(file)
        columns = list(reader.fieldnames or ())
        rows = {row.get("image") or "": row for row in reader}
    if not set(COLUMNS) <= set(columns) or any(None in row for row in rows.values()):
        raise CohortError(
            "the labels folder holds a manifest that is not the service's own: ask the operator to "
            "start the service with another labels folder"
        )
    added = [name for name in PROVENANCE if name not in columns]
    for image, row in rows.items():
        row |= dict.fromkeys(added, "")
        if "source" in added and _OWN_IMAGE.fullmatch(image):
            row["source"] = "corrected"
    return [*columns, *added], rows


def _table(columns: list[str], rows: dict[str, dict[str, str]]) -> bytes:
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows.values())
    return text.getvalue().encode()


def _png(pixels: NDArray[np.uint8]) -> bytes:
    done, data = cv2.imencode(".png", pixels, [cv2.IMWRITE_PNG_COMPRESSION, 3])
    if not done:
        raise CohortError("the image is too large for its label to be written as PNG")
    return data.tobytes()


def _replace(path: Path, data: bytes) -> None:
    """Write a file whole; the lock is held, so nobody else uses the temporary name."""
    with whole(path) as part, part.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
