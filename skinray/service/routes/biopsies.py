"""``POST /v1/biopsies``: one image in, its count out, in the form that the client accepts."""

from __future__ import annotations

import json
from typing import Annotated, Any

from fastapi import APIRouter, Request, Response

from skinray.service.answers.biopsies import BiopsyCount, CountWant
from skinray.service.answers.request import THRESHOLDS
from skinray.service.problems import responses
from skinray.service.routes.form import SCALE, SCALE_SCHEMA
from skinray.service.routes.one_image import (
    JSON,
    PNG,
    PNG_CONTENT,
    REFUSALS,
    Desk,
    form_body,
    include_query,
    negotiate,
    split_list,
)

GEOJSON = "application/geo+json"
EXTRAS = ("maps", "image", "boundary", "sweep")
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
        "description": "The count, in the format that `Accept` names",
        "content": {
            GEOJSON: {"schema": {"type": "object"}, "example": GEOJSON_EXAMPLE},
            PNG: PNG_CONTENT,
        },
    }
}


def biopsies_router(desk: Desk) -> APIRouter:
    """Return the route that counts on one image file."""
    router = APIRouter(tags=["biopsies"])

    @router.post(
        "/v1/biopsies",
        response_model=BiopsyCount,
        responses={**ANSWERS, **responses("bad_um_per_px", *REFUSALS)},
        openapi_extra=form_body(um_per_px=SCALE_SCHEMA),
        summary="Count the nerve crossings of one biopsy",
    )
    async def count_biopsy(
        request: Request, include: Annotated[str, include_query(EXTRAS)] = ""
    ) -> Response:
        """Send a PNG, JPEG or TIFF image as the form field `image`.

        The count, the coordinates (rows and columns of the upright image) and the length of
        the boundary equal those that `skinray score` finds with the same bundle. Lengths in
        millimetres need a scale: the form field `um_per_px`, or the scale stored in the file.
        `Accept` picks the count as JSON, points and boundary as GeoJSON for QuPath, or the
        image with all of them drawn on it as PNG.
        """
        kind = negotiate(request.headers.get("accept"), (JSON, GEOJSON, PNG))
        extras = split_list(include, kind)
        want = CountWant(
            geojson=kind == GEOJSON,
            overlay=kind == PNG,
            maps="maps" in extras,
            image="image" in extras,
            boundary="boundary" in extras,
            sweep=THRESHOLDS if "sweep" in extras else (),
        )
        answer = await desk.answer(request, want, (SCALE,))
        return await desk.decoder.run(respond, kind, answer)  # type: ignore[no-any-return]

    return router


def respond(kind: str, answer: BiopsyCount) -> Response:
    """Return an answer as the media type asked for."""
    headers = {"Vary": "Accept"}
    if kind == PNG:
        return Response(answer.overlay_png, media_type=PNG, headers=headers)
    if kind == GEOJSON:
        return Response(json.dumps(answer.geojson), media_type=GEOJSON, headers=headers)
    return Response(answer.model_dump_json(), media_type=JSON, headers=headers)
