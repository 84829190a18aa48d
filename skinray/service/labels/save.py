"""Corrections as labels: a corrected count becomes a row of a training cohort."""

from __future__ import annotations

import asyncio
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from skinray.crossings.density import to_mm
from skinray.errors import LabelError
from skinray.service.engine import Engine
from skinray.service.labels.masks import make_label
from skinray.service.labels.store import (
    LabelAnswer,
    Review,
    checked_name,
    count_labels,
    store_label,
)

MAX_POINTS = 2000  # an image at 20x has a few dozen


class LabelsInfo(BaseModel):
    """Whether corrections can be stored."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    enabled: bool = Field(description="whether the service has a labels folder")
    images: int = Field(ge=0, description="labelled images in it")


async def labels_info(folder: Path | None) -> LabelsInfo:
    """Describe the labels folder; None: there is none."""
    if folder is None:
        return LabelsInfo(enabled=False, images=0)
    return LabelsInfo(enabled=True, images=await asyncio.to_thread(count_labels, folder))


async def save_label(
    engine: Engine,
    folder: Path,
    pixels: NDArray[np.uint8],
    um_per_px: float | None,
    points: str,
    nerve_threshold: float | None = None,
    subject: str | None = None,
    reader: str | None = None,
    original_name: str | None = None,
) -> LabelAnswer:
    """Make the masks of a corrected count and store them.

    Parameters
    ----------
    engine : whose maps were corrected.
    folder : the labels; a cohort that ``skinray train-cv`` takes.
    pixels : (H, W, 3) uint8 RGB.
    um_per_px : scale of the image, None if unknown.
    points : JSON list of [row, column]: the corrected crossings.
    nerve_threshold : the one that the person chose; None: the bundle's own.
    subject : whose skin it is, if known.
    reader : who corrected or reviewed the count, if named.
    original_name : of the client's image file, if it is to be kept.

    Raises
    ------
    LabelError
        A field is invalid, or no masks can have these crossings.
    CohortError
        The folder cannot be written, or holds a manifest that is not the service's own.
    """
    to_mm(0, um_per_px)
    checked_name(subject, "subject")
    review = Review(engine.info.id, reader, original_name).checked()
    corrected = parse_points(points, (pixels.shape[0], pixels.shape[1]))
    settings = engine.info.counting
    if nerve_threshold is not None:
        if not 0 < nerve_threshold < 1:
            raise LabelError(f"nerve_threshold is {nerve_threshold:g}: give one between 0 and 1")
        settings = settings.override({"nerve_threshold": nerve_threshold})
    scale = engine.info.um_per_px if um_per_px is None else um_per_px
    nerve, dermis = await asyncio.gather(
        engine.stage_map("nerve", pixels, um_per_px), engine.stage_map("dermis", pixels, um_per_px)
    )

    def work() -> LabelAnswer:
        label = make_label(nerve, dermis, corrected, settings, scale)
        return store_label(folder, pixels, label, um_per_px, review, subject)

    return await asyncio.to_thread(work)


def parse_points(text: str, shape: tuple[int, int]) -> NDArray[np.float64]:
    """Read a JSON list of [row, column] within an image of (height, width), as (N, 2).

    Raises
    ------
    LabelError
        It is not such a list, has more than ``MAX_POINTS``, or a point outside the image.
    """
    try:
        values = json.loads(text)
    except (ValueError, RecursionError):
        raise LabelError("points is not valid JSON: give [[row, column], ...]") from None
    if not isinstance(values, list) or not all(_is_place(value) for value in values):
        raise LabelError("points is not a list of points: give [[row, column], ...] in pixels")
    if len(values) > MAX_POINTS:
        raise LabelError(f"{len(values)} points: an image may have at most {MAX_POINTS} crossings")
    points = np.array(values, np.float64).reshape(-1, 2)
    outside = (points < -0.5).any(axis=1) | (points > np.array(shape) - 0.5).any(axis=1)
    if outside.any():
        row, column = points[outside][0]
        raise LabelError(
            f"the point at row {row:g}, column {column:g} is outside the image "
            f"({shape[1]}x{shape[0]}): give pixels of the upright image"
        )
    return np.clip(points, 0, np.array(shape) - 1)


def _is_place(value: Any) -> bool:
    return (
        isinstance(value, list)
        and len(value) == 2
        and all(type(number) in (int, float) and _is_finite(number) for number in value)
    )


def _is_finite(number: float) -> bool:
    try:
        return math.isfinite(number)
    except OverflowError:  # an integer beyond any float
        return False
