"""What all image routes share: the form and the image in it, the answer, and its media type.

The media type is negotiated from ``Accept`` before anything is read; then the :class:`Desk` reads
the form, decodes the image and asks the engine.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import Any

from fastapi import Query, Request

from skinray.config.kinds import Kind
from skinray.images.read import Image
from skinray.service.answers.request import AnswerT, Want
from skinray.service.engine import Engine
from skinray.service.metrics import Meter
from skinray.service.problems import ProblemError
from skinray.service.routes.form import (
    IMAGE_SCHEMA,
    ImageDecoder,
    ImageForm,
    read_image_form,
)
from skinray.service.routes.kinds import ServedKind

JSON, PNG = "application/json", "image/png"
PNG_CONTENT: dict[str, Any] = {"schema": {"type": "string", "format": "binary"}}
REFUSALS = (
    "bad_request", "not_acceptable", "slow_upload", "wrong_bundle", "too_many_bytes",
    "unsupported_media_type", "invalid_field", "unreadable_image", "too_many_pixels", "internal",
    "busy", "timeout",
)  # fmt: skip


def negotiate(accept: str | None, offered: Sequence[str]) -> str:
    """Return the best of ``offered``; its order decides between equals.

    Parameters
    ----------
    accept : the request's header; None or empty: anything goes.

    Raises
    ------
    ProblemError
        ``not_acceptable``, if the client accepts none of them.
    """
    ranges = [_range(part) for part in (accept or "*/*").split(",") if part.strip()]
    best = max(offered, key=lambda kind: _quality(kind, ranges))
    if _quality(best, ranges) <= 0:
        raise ProblemError("not_acceptable", f"accept one of {', '.join(offered)}")
    return best


def _range(part: str) -> tuple[str, float]:
    """Split ``text/html; q=.5`` into media range and quality; an invalid quality counts as 0."""
    kind, *parameters = (piece.strip().lower() for piece in part.split(";"))
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip() == "q":
            try:
                return kind, min(1.0, max(0.0, float(value)))
            except ValueError:
                return kind, 0.0
    return kind, 1.0


def _quality(kind: str, ranges: Sequence[tuple[str, float]]) -> float:
    """Return the quality of the most specific range that includes ``kind``; 0 if none does."""
    for wanted in (kind, f"{kind.split('/')[0]}/*", "*/*"):
        found = [quality for name, quality in ranges if name == wanted]
        if found:
            return max(found)
    return 0.0


def include_query(extras: tuple[str, ...]) -> Any:
    """Return the query parameter ``include``: a comma-separated list of extras."""
    one = f"({'|'.join(extras)})"
    return Query(
        pattern=f"^({one}(,{one})*)?$",
        description=f"comma-separated list of {', '.join(extras)}; only with JSON",
        examples=["maps,sweep"],
    )


def split_list(text: str, kind: str) -> set[str]:
    """Return the words of ``include``; ProblemError if the media type cannot hold them."""
    words = set(filter(None, text.split(",")))
    if words and kind != JSON:
        raise ProblemError("invalid_field", f"include: only possible with {JSON}")
    return words


def form_body(required: Sequence[str] = (), **fields: dict[str, Any]) -> dict[str, Any]:
    """Return the OpenAPI of a multipart body: the file ``image``, and fields by their schemas."""
    schema = {
        "type": "object",
        "required": ["image", *required],
        "additionalProperties": False,
        "properties": {"image": IMAGE_SCHEMA, **fields},
    }
    return {
        "requestBody": {"required": True, "content": {"multipart/form-data": {"schema": schema}}}
    }


@dataclass(frozen=True)
class Desk:
    """Takes in one image and hands out its answer."""

    engine: Engine
    kind: ServedKind
    decoder: ImageDecoder
    meter: Meter

    async def answer(
        self, request: Request, want: Want[AnswerT], fields: tuple[str, ...] = ()
    ) -> AnswerT:
        """Return what is wanted of the image in a form.

        Parameters
        ----------
        fields : that the form may contain in addition to the image.

        Raises
        ------
        ProblemError, SkinrayError
            The bundle is for other images, or the form or its image is invalid.
        """
        image, scale = await self.image(await self.form(request, want.kind, fields))
        want = await self.decoder.run(want.about, image.pixels, image.sha256)
        begun = perf_counter()
        answer = await self.engine.answer(image.pixels, scale, want)
        self.meter.stage("answer", perf_counter() - begun)
        answer.measure(self.meter)
        return answer

    async def form(self, request: Request, kind: Kind, fields: tuple[str, ...]) -> ImageForm:
        """Read the form; ProblemError if the bundle in service is for another kind of image."""
        self.kind.refuse_other(kind)
        return await read_image_form(request, fields)

    async def image(self, form: ImageForm) -> tuple[Image, float | None]:
        """Decode the image; its scale is that of the form or else of the file, None if unknown."""
        image = await self.decoder.decode(form.data)
        scale = image.um_per_px if form.um_per_px is None else form.um_per_px
        self.decoder.refuse_too_large(image.pixels, scale, self.engine.info)
        return image, scale
