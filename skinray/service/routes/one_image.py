"""What every route that takes one image does: read the form, decode, ask the engine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import TypeVar

from fastapi import Request

from skinray.config.kinds import Kind
from skinray.learning.bundle.info import BundleInfo
from skinray.service.answers.request import Want
from skinray.service.engine import Engine
from skinray.service.metrics import Meter
from skinray.service.problems import ProblemError
from skinray.service.routes.form import SCALE, Decoder, read_image_form

A = TypeVar("A")
JSON, PNG = "application/json", "image/png"
REFUSALS = (
    "bad_request", "not_acceptable", "slow_upload", "wrong_bundle", "too_many_bytes",
    "unsupported_media_type", "invalid_field", "unreadable_image", "too_many_pixels", "internal",
    "busy", "timeout",
)  # fmt: skip
# What to do with an image that the bundle in service is not for.
_INSTEAD: dict[Kind, str] = {
    "biopsy": "the bundle in service counts nerves in biopsies (POST /v1/biopsies): send "
    "photographs to a service whose bundle is for photographs",
    "photo": "the bundle in service finds skin in photographs (POST /v1/photos): send biopsies to "
    "a service whose bundle is for biopsies",
}


@dataclass(frozen=True)
class Desk:
    """Takes in one image and gives out its answer."""

    engine: Engine
    decoder: Decoder
    meter: Meter

    async def answer(
        self, request: Request, want: Want[A], fields: tuple[str, ...] = (SCALE,)
    ) -> tuple[A, str]:
        """Return what is wanted of the image in a form, and the SHA-256 of its file.

        Parameters
        ----------
        fields : that the form may hold beside the image.

        Raises
        ------
        ProblemError, SkinrayError
            The bundle is for other images, or the form or its image do not fit.
        """
        refuse_other_kind(self.engine.info, want.kind)
        form = await read_image_form(request, fields)
        image = await self.decoder.decode(form.data)
        scale = image.um_per_px if form.um_per_px is None else form.um_per_px
        self.decoder.refuse_too_large(image.pixels, scale, self.engine.info)
        begun = perf_counter()
        answer = await self.engine.answer(image.pixels, scale, want)
        self.meter.stage("answer", perf_counter() - begun)
        return answer, image.sha256


def refuse_other_kind(info: BundleInfo, kind: Kind) -> None:
    """Raise ProblemError where the bundle is for other images."""
    if info.kind != kind:
        raise ProblemError("wrong_bundle", _INSTEAD[info.kind])


def list_pattern(words: tuple[str, ...]) -> str:
    """Return the pattern of a list of words parted by commas, or of nothing."""
    one = f"({'|'.join(words)})"
    return f"^({one}(,{one})*)?$"


def split_list(text: str, kind: str) -> set[str]:
    """Return the words of ``include``; ProblemError where the media type has no place for them."""
    words = set(filter(None, text.split(",")))
    if words and kind != JSON:
        raise ProblemError("invalid_field", f"include: goes with {JSON} alone")
    return words


def negotiate(accept: str | None, offered: Sequence[str]) -> str:
    """Return the best of ``offered``; its order decides between equals.

    Parameters
    ----------
    accept : the request's header; None or empty: anything goes.

    Raises
    ------
    ProblemError
        ``not_acceptable``, if the client takes none of them.
    """
    ranges = [_range(part) for part in (accept or "*/*").split(",") if part.strip()]
    best = max(offered, key=lambda kind: _quality(kind, ranges))
    if _quality(best, ranges) <= 0:
        raise ProblemError("not_acceptable", f"accept one of {', '.join(offered)}")
    return best


def _range(part: str) -> tuple[str, float]:
    """Split ``text/html; q=.5`` into media range and quality; one that is no number counts 0."""
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
    """Return the quality of the most specific range that holds ``kind``; 0: none does."""
    for wanted in (kind, f"{kind.split('/')[0]}/*", "*/*"):
        found = [quality for name, quality in ranges if name == wanted]
        if found:
            return max(found)
    return 0.0
