"""What every route that takes one image does: read the form, decode, ask the engine."""

from __future__ import annotations

from dataclasses import dataclass
from time import perf_counter
from typing import TypeVar

from fastapi import Request

from skinray.learning.bundle_info import BundleInfo, Kind
from skinray.service.engine import Engine
from skinray.service.form import SCALE, Decoder, read_image_form
from skinray.service.meter import Meter
from skinray.service.problems import ProblemError
from skinray.service.want import Want

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
