"""``POST /v1/biopsies``: one image in, its count out, in the form that the client accepts."""

from __future__ import annotations

import json
from time import perf_counter
from typing import Annotated, Any, Literal, get_args

from fastapi import APIRouter, Query, Request, Response

from skinray.service.accept import negotiate
from skinray.service.answer import THRESHOLDS, Answer, Want
from skinray.service.engine import Engine
from skinray.service.form import IMAGE_SCHEMA, SCALE_SCHEMA, Decoder, read_image_form
from skinray.service.meter import Meter
from skinray.service.problems import ProblemError, responses
from skinray.service.records import BiopsyCount

JSON, GEOJSON, PNG = "application/json", "application/geo+json", "image/png"
Extra = Literal["maps", "image", "boundary", "sweep"]
EXTRAS: tuple[str, ...] = get_args(Extra)
_EXTRAS_PATTERN = f"^(({'|'.join(EXTRAS)})(,({'|'.join(EXTRAS)}))*)?$"

FORM = {
    "required": True,
    "content": {
        "multipart/form-data": {
            "schema": {
                "type": "object",
                "required": ["image"],
                "additionalProperties": False,
                "properties": {"image": IMAGE_SCHEMA, "um_per_px": SCALE_SCHEMA},
            }
        }
    },
}
GEOJSON_EXAMPLE = {
    "type": "FeatureCollection",
    "features": [
        {
            "type": "Feature",
            "geometry": {"type": "Point", "coordinates": [402.75, 612.0]},
            "properties": {
                "objectType": "annotation",
                "name": "Crossing 1",
                "classification": {"name": "Crossing", "color": [230, 0, 30]},
            },
        }
    ],
}
ANSWERS: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The count, in the form that `Accept` names",
        "content": {
            GEOJSON: {"schema": {"type": "object"}, "example": GEOJSON_EXAMPLE},
            PNG: {"schema": {"type": "string", "format": "binary"}},
        },
    }
}
REFUSALS = (
    "bad_request", "not_acceptable", "slow_upload", "too_many_bytes", "unsupported_media_type",
    "invalid_field", "bad_um_per_px", "unreadable_image", "too_many_pixels", "internal", "busy",
    "timeout",
)  # fmt: skip


def biopsies_router(engine: Engine, decoder: Decoder, meter: Meter) -> APIRouter:
    """Return the route that counts on one image file."""
    router = APIRouter(tags=["biopsies"])

    @router.post(
        "/v1/biopsies",
        response_model=BiopsyCount,
        responses={**ANSWERS, **responses(*REFUSALS)},
        openapi_extra={"requestBody": FORM},
        summary="Count the nerve crossings of one biopsy",
    )
    async def count_biopsy(
        request: Request,
        include: Annotated[
            str,
            Query(
                pattern=_EXTRAS_PATTERN,
                description="parted by commas: " + ", ".join(EXTRAS) + "; with JSON alone",
                examples=["maps,sweep"],
            ),
        ] = "",
    ) -> Response:
        """Send a PNG, JPEG or TIFF image as the form field `image`.

        The count, the coordinates (rows and columns of the upright image) and the length of
        the boundary are those that `skinray score` finds with the same bundle. Lengths in
        millimetres need a scale: the field `um_per_px`, or the file's own statement.
        `Accept` picks the count as JSON, points and boundary as GeoJSON for QuPath, or the
        picture with all of them drawn on it as PNG.
        """
        kind = negotiate(request.headers.get("accept"), (JSON, GEOJSON, PNG))
        form = await read_image_form(request)
        image = await decoder.decode(form.data)
        scale = image.um_per_px if form.um_per_px is None else form.um_per_px
        decoder.refuse_too_large(image.pixels, scale, engine.info)
        begun = perf_counter()
        answer = await engine.answer(image.pixels, scale, wanted(kind, include))
        meter.stage("answer", perf_counter() - begun)
        meter.counted(answer.count.count)
        return await decoder.run(respond, kind, answer, image.sha256)  # type: ignore[no-any-return]

    return router


def wanted(kind: str, include: str) -> Want:
    """Return what an answer of this media type takes; extras go with JSON alone."""
    extras = set(filter(None, include.split(",")))
    if extras and kind != JSON:
        raise ProblemError("invalid_field", f"include: goes with {JSON} alone")
    return Want(
        json=kind == JSON,
        geojson=kind == GEOJSON,
        overlay=kind == PNG,
        maps="maps" in extras,
        image="image" in extras,
        boundary="boundary" in extras,
        sweep=THRESHOLDS if "sweep" in extras else (),
    )


def respond(kind: str, answer: Answer, image_sha256: str) -> Response:
    """Return an answer as the media type asked for."""
    headers = {"Vary": "Accept"}
    if kind == PNG:
        return Response(answer.overlay_png, media_type=PNG, headers=headers)
    if kind == GEOJSON:
        return Response(json.dumps(answer.geojson), media_type=GEOJSON, headers=headers)
    text = BiopsyCount.from_answer(answer, image_sha256).model_dump_json()
    return Response(text, media_type=JSON, headers=headers)
