"""``POST /v1/photos``: one photograph in, its skin out, in the form that the client accepts."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request, Response
from pydantic import BeforeValidator

from skinray.config.base import parse_number
from skinray.service.answers.photos import PhotoSkin, SkinWant
from skinray.service.answers.request import THRESHOLDS
from skinray.service.problems import responses
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

EXTRAS = ("maps", "image", "sweep")
PictureName = Literal["mask", "cutout"]
ANSWERS: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The skin, in the format that `Accept` names",
        "content": {PNG: PNG_CONTENT},
    }
}


def photos_router(desk: Desk) -> APIRouter:
    """Return the route that finds the skin in one photograph."""
    router = APIRouter(tags=["photographs"])

    @router.post(
        "/v1/photos",
        response_model=PhotoSkin,
        responses={**ANSWERS, **responses(*REFUSALS)},
        openapi_extra=form_body(),
        summary="Find the skin in one photograph",
    )
    async def find_skin(
        request: Request,
        picture: Annotated[
            PictureName,
            Query(
                alias="as",
                description="which picture `Accept: image/png` returns: the mask, 255 on skin, or "
                "the cut-out photograph, transparent where there is no skin",
                examples=["cutout"],
            ),
        ] = "mask",
        threshold: Annotated[
            float | None,
            BeforeValidator(lambda text: text if text is None else parse_number(text)),
            Query(
                gt=0,
                lt=1,
                description="lowest probability that counts as skin; default: the bundle's own",
                examples=[0.6],
            ),
        ] = None,
        include: Annotated[str, include_query(EXTRAS)] = "",
    ) -> Response:
        """Send a PNG, JPEG or TIFF photograph as the form field `image`.

        The mask and the area equal those that `skinray score` finds with the same bundle, in
        pixels of the upright photograph. `Accept` picks the area and the mask as run lengths
        (JSON), or a picture (PNG), which `as` chooses. The file's own metadata (EXIF, place,
        camera) never appears in an answer or in the log.
        """
        kind = negotiate(request.headers.get("accept"), (JSON, PNG))
        extras = split_list(include, kind)
        want = SkinWant(
            request_id=request.state.request_id,
            runs=kind == JSON,
            mask=kind == PNG and picture == "mask",
            cutout=kind == PNG and picture == "cutout",
            maps="maps" in extras,
            image="image" in extras,
            sweep=THRESHOLDS if "sweep" in extras else (),
            threshold=threshold,
        )
        answer = await desk.answer(request, want)
        return await desk.decoder.run(respond, kind, answer)  # type: ignore[no-any-return]

    return router


def respond(kind: str, answer: PhotoSkin) -> Response:
    """Return an answer as the media type asked for."""
    headers = {"Vary": "Accept"}
    if kind == PNG:
        return Response(answer.mask_png or answer.cutout_png, media_type=PNG, headers=headers)
    return Response(answer.model_dump_json(), media_type=JSON, headers=headers)
