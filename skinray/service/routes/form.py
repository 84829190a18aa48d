"""The multipart form of an image, read into memory; and the image in it, decoded."""

from __future__ import annotations

import asyncio
import math
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from time import perf_counter
from typing import Any

import numpy as np
from fastapi import Request
from numpy.typing import NDArray
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser

from skinray.config.base import parse_number
from skinray.config.images import ReadSettings
from skinray.config.scoring import ServiceSettings
from skinray.errors import ImageError
from skinray.images.cohort.common_scale import refuse_too_large
from skinray.images.pixel_size import MAX_UM_PER_PX, MIN_UM_PER_PX, is_plausible
from skinray.images.read import Image, decode_image
from skinray.learning.bundle.info import BundleInfo
from skinray.service.metrics import Meter
from skinray.service.problems import ProblemError

# What messages call the image: clients' file names stay out of answers and logs.
SOURCE = "image"
SCALE = "um_per_px"  # a field of the form
_MAX_FIELDS = 8
_MAX_FIELD_BYTES = 1 << 20

SCALE_SCHEMA: dict[str, Any] = {
    "type": "number",
    "minimum": MIN_UM_PER_PX,
    "maximum": MAX_UM_PER_PX,
    "description": "micrometres per pixel; default: the scale stored in the file, if any",
}
IMAGE_SCHEMA: dict[str, Any] = {
    "type": "string",
    "contentMediaType": "application/octet-stream",
    "format": "binary",
    "description": "a PNG, JPEG, TIFF or OME-TIFF file",
}


class _InMemory(MultiPartParser):
    """Keeps files in memory instead of on disk; the limit on bytes bounds them."""

    spool_max_size = 1 << 40


@dataclass(frozen=True)
class ImageForm:
    """A form as received: the file's bytes, the scale that the client gave, other fields."""

    data: bytes
    um_per_px: float | None
    fields: dict[str, str]


async def read_image_form(request: Request, known: tuple[str, ...] = ()) -> ImageForm:
    """Read a multipart body with one file ``image``, and fields with the names ``known``.

    Raises
    ------
    ProblemError
        The body is not such a form, or a field is missing, unknown, repeated or no scale.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "multipart/form-data":
        raise ProblemError("unsupported_media_type", "send multipart/form-data")
    try:
        parser = _InMemory(
            request.headers,
            request.stream(),
            max_files=1,
            max_fields=_MAX_FIELDS,
            max_part_size=_MAX_FIELD_BYTES,
        )
        form = await parser.parse()
    except MultiPartException as error:
        raise ProblemError("bad_request", f"the form cannot be read: {error.message}") from None
    fields: dict[str, str] = {}
    data: bytes | None = None
    for name, value in form.multi_items():
        if name in fields or (name == "image" and data is not None):
            raise ProblemError("invalid_field", "the form contains a field twice")
        if isinstance(value, UploadFile):
            if name != "image":
                raise ProblemError("invalid_field", "send the file in a field named image")
            data = value.file.read()
            value.file.close()
        elif name in known:
            fields[name] = value
        else:
            names = ", ".join(("image", *known))
            raise ProblemError("invalid_field", f"unknown field in the form: use {names}")
    if data is None:
        raise ProblemError("invalid_field", "image: send the file in a field named image")
    scale = fields.pop(SCALE, None)
    return ImageForm(data, None if scale is None else parse_scale(scale), fields)


def parse_scale(text: str) -> float:
    """Read micrometres per pixel; ProblemError if no microscope has such a scale."""
    try:
        return checked_scale(parse_number(text))
    except ValueError:
        return checked_scale(math.nan)


def checked_scale(um_per_px: float) -> float:
    """Return the scale; ProblemError if no microscope has it."""
    if not is_plausible(um_per_px):
        raise ProblemError(
            "bad_um_per_px",
            f"um_per_px: give micrometres per pixel, {MIN_UM_PER_PX:g} to {MAX_UM_PER_PX:g}",
        )
    return um_per_px


class ImageDecoder:
    """Decodes images in a few threads, away from the event loop."""

    def __init__(self, settings: ServiceSettings, meter: Meter) -> None:
        self._read = ReadSettings(max_pixels=settings.max_pixels)
        self._meter = meter
        self._most_resampled = min(settings.max_pixels, settings.max_resampled_pixels)
        self._most = settings.decode_threads
        self._threads: ThreadPoolExecutor | None = None

    async def decode(self, data: bytes) -> Image:
        """Decode a file; SkinrayError if it is not a complete image within the limits."""
        begun = perf_counter()
        image: Image = await self.run(decode_image, data, SOURCE, self._read)
        self._meter.stage("decode", perf_counter() - begun)
        self._meter.image(image.pixels.shape[0] * image.pixels.shape[1])
        return image

    def refuse_too_large(
        self, pixels: NDArray[np.uint8], um_per_px: float | None, info: BundleInfo
    ) -> None:
        """Raise ProblemError if an image exceeds the limit once enlarged for the networks.

        Enlarging adds cost and no information: a small file could keep the networks busy for long.
        """
        try:
            refuse_too_large(pixels.shape, um_per_px, info.um_per_px, self._most_resampled)
        except ImageError as error:
            most = f"more than the limit of {self._most_resampled / 1e6:g}"
            detail = f"{str(error).partition(':')[0]}, {most}: correct um_per_px, or send a part"
            raise ProblemError("too_many_pixels", detail) from None

    async def run(self, work: Any, *arguments: Any) -> Any:
        """Do other work on images or tensors in the same threads."""
        if self._threads is None:  # not started yet, or closed and used again
            self._threads = ThreadPoolExecutor(self._most, thread_name_prefix="decode")
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, work, *arguments)

    def close(self) -> None:
        """Stop the threads once their work is done."""
        if self._threads is not None:
            self._threads.shutdown(wait=True, cancel_futures=True)
            self._threads = None
