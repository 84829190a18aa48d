"""``/v1/labels``: corrections of a count, stored where a training takes them from."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from fastapi import APIRouter, Request

from skinray.config.scoring import ServiceSettings
from skinray.service.engine import Engine
from skinray.service.labels.save import LabelAnswer, LabelsInfo, labels_info, save_label
from skinray.service.problems import ProblemError, responses
from skinray.service.routes.form import IMAGE_SCHEMA, SCALE, SCALE_SCHEMA, Decoder, read_image_form
from skinray.service.routes.one_image import refuse_other_kind

_FIELDS = (SCALE, "points", "nerve_threshold", "subject")
_FORM = {
    "required": True,
    "content": {
        "multipart/form-data": {
            "schema": {
                "type": "object",
                "required": ["image", "points"],
                "additionalProperties": False,
                "properties": {
                    "image": IMAGE_SCHEMA,
                    "um_per_px": SCALE_SCHEMA,
                    "points": {
                        "type": "string",
                        "contentMediaType": "application/json",
                        "description": "the crossings as they should be: [[row, column], ...]",
                        "examples": ["[[611.5, 402.25], [640, 1190.75]]"],
                    },
                    "nerve_threshold": {
                        "type": "number",
                        "exclusiveMinimum": 0,
                        "exclusiveMaximum": 1,
                        "description": "the one the correction began from; none: the bundle's",
                    },
                    "subject": {"type": "string", "description": "whose skin it is, if known"},
                },
            }
        }
    },
}
_REFUSALS = (
    "bad_request", "cross_site", "not_found", "slow_upload", "wrong_bundle", "too_many_bytes",
    "unsupported_media_type",
    "invalid_field", "bad_um_per_px", "unreadable_image", "too_many_pixels", "unfit_label",
    "internal", "labels_unwritable", "busy", "timeout",
)  # fmt: skip


def labels_router(engine: Engine, settings: ServiceSettings, decoder: Decoder) -> APIRouter:
    """Return the routes that tell of the labels folder and store in it."""
    router = APIRouter(tags=["labels"])
    folder = None if settings.labels is None else Path(settings.labels)

    @router.get("/v1/labels", summary="Whether corrections are stored", responses=_told())
    async def info() -> LabelsInfo:
        return await labels_info(folder if engine.info.kind == "biopsy" else None)

    @router.post(
        "/v1/labels",
        summary="Store a corrected count as a label",
        responses=responses(*_REFUSALS),
        openapi_extra={"requestBody": _FORM},
    )
    async def save(request: Request) -> LabelAnswer:
        """Send the image as for `/v1/biopsies`, with the crossings as they should be."""
        _refuse_other_sites(request)
        refuse_other_kind(engine.info, "biopsy")
        form = await read_image_form(request, _FIELDS)
        if folder is None:
            raise ProblemError("not_found", "this service stores no labels: start it with a folder")
        if "points" not in form.fields:
            raise ProblemError("invalid_field", "points: give [[row, column], ...] in pixels")
        image = await decoder.decode(form.data)
        scale = image.um_per_px if form.um_per_px is None else form.um_per_px
        decoder.refuse_too_large(image.pixels, scale, engine.info)
        return await save_label(
            engine, folder, image.pixels, scale, form.fields["points"],
            _threshold(form.fields.get("nerve_threshold")), form.fields.get("subject"),
        )  # fmt: skip

    return router


def _refuse_other_sites(request: Request) -> None:
    """Keep a page of another website, open in the same browser, from storing labels here."""
    if request.headers.get("sec-fetch-site", "none") in ("cross-site", "same-site"):
        raise ProblemError("cross_site", "labels are stored from the service's own page")


def _threshold(text: str | None) -> float | None:
    if text is None:
        return None
    try:
        value = float(text) if len(text) < 40 else math.nan
    except ValueError:
        value = math.nan
    if not 0 < value < 1:
        raise ProblemError("invalid_field", "nerve_threshold: give a number between 0 and 1")
    return value


def _told() -> dict[int | str, dict[str, Any]]:
    return responses("labels_unwritable")
