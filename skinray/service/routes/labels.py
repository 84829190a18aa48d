"""``/v1/labels``: corrected counts, stored as labels for training."""

from __future__ import annotations

from pathlib import Path

from fastapi import APIRouter, Request

from skinray.config.base import parse_number
from skinray.service.labels.save import LabelsInfo, labels_info, save_label
from skinray.service.labels.store import LabelAnswer
from skinray.service.problems import ProblemError, responses
from skinray.service.routes.form import SCALE, SCALE_SCHEMA
from skinray.service.routes.one_image import Desk, form_body

_NAMES = ("subject", "reader", "original_name")
_FIELDS = (SCALE, "points", "nerve_threshold", *_NAMES)
_FORM = form_body(
    ["points"],
    um_per_px=SCALE_SCHEMA,
    points={
        "type": "string",
        "contentMediaType": "application/json",
        "description": "the corrected crossings: [[row, column], ...]",
        "examples": ["[[611.5, 402.25], [640, 1190.75]]"],
    },
    nerve_threshold={
        "type": "number",
        "exclusiveMinimum": 0,
        "exclusiveMaximum": 1,
        "description": "the threshold that was corrected; default: the bundle's own",
    },
    subject={"type": "string", "description": "whose skin it is, if known"},
    reader={"type": "string", "description": "who corrected or reviewed the count"},
    original_name={
        "type": "string",
        "description": "the image file's name, to find it again; kept only if it is sent",
    },
)
_REFUSALS = (
    "bad_request", "cross_site", "not_found", "slow_upload", "wrong_bundle", "too_many_bytes",
    "unsupported_media_type",
    "invalid_field", "bad_um_per_px", "unreadable_image", "too_many_pixels", "unfit_label",
    "internal", "labels_unwritable", "busy", "timeout",
)  # fmt: skip


def labels_router(desk: Desk, labels: str | None) -> APIRouter:
    """Return the routes that describe the labels folder and store in it; None: there is none."""
    router = APIRouter(tags=["labels"])
    folder = Path(labels) if labels is not None and desk.kind.labels else None

    @router.get(
        "/v1/labels",
        summary="Whether corrections are stored",
        responses=responses("labels_unwritable"),
    )
    async def info() -> LabelsInfo:
        return await labels_info(folder)

    @router.post(
        "/v1/labels",
        summary="Store a corrected count as a label",
        responses=responses(*_REFUSALS),
        openapi_extra=_FORM,
    )
    async def save(request: Request) -> LabelAnswer:
        """Send the image as for `/v1/biopsies`, with the corrected crossings.

        Crossings that are all the model's own are a review: the label is stored as corrected.
        `subject`, `reader` and `original_name` are plain names of at most 100 characters.
        """
        _refuse_other_sites(request)
        form = await desk.form(request, "biopsy", _FIELDS)
        if folder is None:
            raise ProblemError(
                "not_found", "this service stores no labels: start it with a labels folder"
            )
        if "points" not in form.fields:
            raise ProblemError("invalid_field", "points: give [[row, column], ...] in pixels")
        image, scale = await desk.image(form)
        threshold = _threshold(form.fields.get("nerve_threshold"))
        return await save_label(
            desk.engine, folder, image.pixels, scale, form.fields["points"],
            threshold, *(form.fields.get(name) for name in _NAMES),
        )  # fmt: skip

    return router


def _refuse_other_sites(request: Request) -> None:
    """Keep a page of another website, open in the same browser, from storing labels here."""
    if request.headers.get("sec-fetch-site", "none") in ("cross-site", "same-site"):
        raise ProblemError("cross_site", "labels can only be stored from the service's own page")


def _threshold(text: str | None) -> float | None:
    if text is None:
        return None
    try:
        value = parse_number(text)
    except ValueError:
        value = 0.0
    if not 0 < value < 1:
        raise ProblemError("invalid_field", "nerve_threshold: give a number between 0 and 1")
    return value
