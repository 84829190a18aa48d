"""``POST /v1/photos``: one photograph in, its skin out, in the form that the client accepts."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request, Response

from skinray.service.answers.photos import PhotoSkin, SkinAnswer, SkinWant
from skinray.service.answers.request import THRESHOLDS
from skinray.service.problems import responses
from skinray.service.routes.form import IMAGE_SCHEMA
from skinray.service.routes.one_image import (
    JSON,
    PNG,
    REFUSALS,
    Desk,
    list_pattern,
    negotiate,
    split_list,
)

EXTRAS = ("maps", "image", "sweep")
Picture = Literal["mask", "cutout"]

FORM = {
    "required": True,
    "content": {
        "multipart/form-data": {
            "schema": {
                "type": "object",
                "required": ["image"],
                "additionalProperties": False,
                "properties": {"image": IMAGE_SCHEMA},
            }
        }
    },
}
ANSWERS: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The skin, in the form that `Accept` names",
        "content": {PNG: {"schema": {"type": "string", "format": "binary"}}},
    }
}


def photos_router(desk: Desk) -> APIRouter:
    """Return the route that finds the skin in one photograph."""
    router = APIRouter(tags=["photographs"])

    @router.post(
        "/v1/photos",
        response_model=PhotoSkin,
        responses={**ANSWERS, **responses(*REFUSALS)},
        openapi_extra={"requestBody": FORM},
        summary="Find the skin in one photograph",
    )
    async def find_skin(
        request: Request,
        picture: Annotated[
            Picture,
            Query(
                alias="as",
                description="which picture `Accept: image/png` gives: the mask, 255 on skin, or "
                "the photograph cut out, clear where there is no skin",
                examples=["cutout"],
            ),
        ] = "mask",
        threshold: Annotated[
            float | None,
            Query(
                gt=0,
                lt=1,
                description="probability from which on it is skin; without it, the bundle's own",
                examples=[0.6],
            ),
        ] = None,
        include: Annotated[
            str,
            Query(
                pattern=list_pattern(EXTRAS),
                description="parted by commas: " + ", ".join(EXTRAS) + "; with JSON alone",
                examples=["maps,sweep"],
            ),
        ] = "",
    ) -> Response:
        """Send a PNG, JPEG or TIFF photograph as the form field `image`.

        The mask and the area are those that `skinray score` finds with the same bundle, in
        pixels of the upright photograph. `Accept` picks the area and the mask as run lengths
        (JSON), or a picture (PNG), which `as` chooses. Nothing of the file's own metadata (EXIF,
        place, camera) is in any answer or in the log.
        """
        kind = negotiate(request.headers.get("accept"), (JSON, PNG))
        answer, sha256 = await desk.answer(request, wanted(kind, picture, threshold, include), ())
        desk.meter.covered(answer.area.skin_fraction)
        work = (kind, picture, answer, sha256, request.state.request_id)
        return await desk.decoder.run(respond, *work)  # type: ignore[no-any-return]

    return router


def wanted(kind: str, picture: Picture, threshold: float | None, include: str) -> SkinWant:
    """Return what an answer of this media type takes; extras go with JSON alone."""
    extras = split_list(include, kind)
    return SkinWant(
        runs=kind == JSON,
        mask=kind == PNG and picture == "mask",
        cutout=kind == PNG and picture == "cutout",
        maps="maps" in extras,
        image="image" in extras,
        sweep=THRESHOLDS if "sweep" in extras else (),
        threshold=threshold,
    )


def respond(
    kind: str, picture: Picture, answer: SkinAnswer, image_sha256: str, request_id: str
) -> Response:
    """Return an answer as the media type asked for."""
    headers = {"Vary": "Accept"}
    if kind == PNG:
        drawn = answer.mask_png if picture == "mask" else answer.cutout_png
        return Response(drawn, media_type=PNG, headers=headers)
    text = PhotoSkin.from_answer(answer, image_sha256, request_id).model_dump_json()
    return Response(text, media_type=JSON, headers=headers)
