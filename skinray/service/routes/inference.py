"""The Open Inference Protocol v2: inference on decoded pixels, and how it is documented."""

from __future__ import annotations

import json
from collections.abc import Mapping
from time import perf_counter
from typing import Any

import numpy as np
from fastapi import APIRouter, Request, Response
from numpy.typing import NDArray
from pydantic import ValidationError

from skinray.learning.bundle.info import BundleInfo
from skinray.service.problems import ProblemError, responses
from skinray.service.routes.form import checked_scale
from skinray.service.routes.kinds import Model, ModelName, ModelVersion, refuse_other_version
from skinray.service.routes.one_image import Desk
from skinray.service.routes.tensors import (
    Array,
    InferRequest,
    InferResponse,
    bad,
    read_inputs,
    write_output,
)

HEADER_LENGTH = "Inference-Header-Content-Length"
_EXAMPLE = {
    "inputs": [
        {
            "name": "image",
            "shape": [2, 2, 3],
            "datatype": "UINT8",
            "data": [255, 255, 255, 120, 60, 30, 255, 255, 255, 120, 60, 30],
        },
        {"name": "um_per_px", "shape": [1], "datatype": "FP64", "data": [0.5]},
    ],
    "outputs": [{"name": "count"}, {"name": "points"}],
}
_HEADER = {
    "name": HEADER_LENGTH,
    "in": "header",
    "required": False,
    "description": "length of the JSON part in bytes, if tensors follow it as bytes",
    "schema": {"type": "integer", "minimum": 0},
}
BODY: dict[str, Any] = {
    "parameters": [_HEADER],
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": {"$ref": f"#/components/schemas/{InferRequest.__name__}"},
                "example": _EXAMPLE,
            },
            "application/octet-stream": {"schema": {"type": "string", "format": "binary"}},
        },
    },
}
ANSWERS: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The outputs asked for",
        "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
    }
}
REFUSALS = (
    "bad_request", "bad_tensor", "not_found", "slow_upload", "too_many_bytes", "bad_um_per_px",
    "too_many_pixels", "internal", "busy", "timeout",
)  # fmt: skip


def inference_router(desk: Desk, max_pixels: int) -> APIRouter:
    """Return the route that runs a model on an image of at most ``max_pixels``."""
    router = APIRouter(tags=["open inference protocol"])

    @router.post(
        "/v2/models/{name}/infer",
        response_model=InferResponse,
        responses={**ANSWERS, **responses(*REFUSALS)},
        openapi_extra=BODY,
        summary="Run a model on an image",
    )
    async def infer(request: Request, name: ModelName) -> Response:
        """Send the image as a tensor UINT8 [height, width, 3], RGB, upright.

        Values are sent as JSON, nested or flat, or as bytes after the JSON part, whose length the
        header `Inference-Header-Content-Length` then gives. Outputs are returned as bytes if the
        parameter `binary_data` of an output, or `binary_data_output` of the request, is true.
        An output of unknown value (lengths in mm without a scale) has the shape [0].
        """
        model = desk.kind.model(name)
        length = request.headers.get(HEADER_LENGTH)
        work = (await request.body(), length, model, 3 * max_pixels)
        wish, inputs = await desk.decoder.run(parse, *work)
        wanted = [output.name for output in wish.outputs] or [spec.name for spec in model.outputs]
        unknown = set(wanted) - {spec.name for spec in model.outputs}
        if unknown or len(set(wanted)) < len(wanted):
            raise bad(f"outputs: name each of {[spec.name for spec in model.outputs]} at most once")
        if "image" not in inputs:
            raise bad("input image is missing")
        scale = None
        if "um_per_px" in inputs:
            scale = checked_scale(float(inputs["um_per_px"][0]))
        found = await run_model(desk, name, inputs["image"], scale)
        answer = (model, desk.engine.info, wish, {key: found[key] for key in wanted})
        return await desk.decoder.run(compose, *answer)  # type: ignore[no-any-return]

    @router.post(
        "/v2/models/{name}/versions/{version}/infer",
        response_model=InferResponse,
        responses={**ANSWERS, **responses(*REFUSALS)},
        openapi_extra=BODY,
        summary="Run a version of a model on an image",
    )
    async def infer_version(request: Request, name: ModelName, version: ModelVersion) -> Response:
        """Do as without a version, if the bundle in service has this one."""
        desk.kind.model(name)
        refuse_other_version(version, desk.engine.info.id)
        return await infer(request, name)

    return router


async def run_model(
    desk: Desk, name: str, pixels: NDArray[np.uint8], um_per_px: float | None
) -> dict[str, Array]:
    """Return all outputs of a model: one stage's map, or what the whole image gives."""
    desk.decoder.refuse_too_large(pixels, um_per_px, desk.engine.info)
    desk.meter.image(pixels.shape[0] * pixels.shape[1])
    begun = perf_counter()
    stage = next((one for one in desk.engine.info.stages if one == name), None)
    if stage is not None:
        values = await desk.engine.stage_map(stage, pixels, um_per_px)
        desk.meter.stage("map", perf_counter() - begun)
        return {"probability": values}
    want = await desk.decoder.run(desk.kind.want.about, pixels)
    answer = await desk.engine.answer(pixels, um_per_px, want)
    answer.measure(desk.meter)
    desk.meter.stage("answer", perf_counter() - begun)
    return answer.tensors()  # type: ignore[no-any-return]


def parse(
    body: bytes, length: str | None, model: Model, max_values: int
) -> tuple[InferRequest, Mapping[str, Array]]:
    """Read a request for inference: its JSON part and its tensors.

    Parameters
    ----------
    length : of the JSON part in bytes, from the header; None: the whole body.
    model : that the request is for.
    max_values : the most that a tensor may have.

    Raises
    ------
    ProblemError
        The JSON part or a tensor is invalid.
    """
    size = len(body)
    if length is not None:
        sound = length.isascii() and length.isdigit() and len(length) < 20
        if not sound or int(length) > len(body):
            raise ProblemError("bad_request", f"{HEADER_LENGTH}: not a length within the body")
        size = int(length)
    try:
        wish = InferRequest.model_validate(json.loads(body[:size], parse_constant=_no_number))
    except ValidationError as error:
        places = {".".join(map(str, one["loc"][:3])) or "body" for one in error.errors()}
        detail = f"invalid JSON part: check {', '.join(sorted(places))}"
        raise ProblemError("bad_request", detail) from None
    except (ValueError, RecursionError):
        raise ProblemError("bad_request", "the JSON part is not valid JSON") from None
    inputs = {spec.name: spec for spec in model.inputs}
    return wish, read_inputs(wish.inputs, body[size:], inputs, max_values)


def compose(
    model: Model, info: BundleInfo, wish: InferRequest, found: Mapping[str, Array]
) -> Response:
    """Return the outputs of a model as JSON, followed by bytes if those are asked for."""
    everything = wish.parameters.get("binary_data_output") is True
    binary = {one.name: one.parameters.get("binary_data", everything) for one in wish.outputs}
    specs = {spec.name: spec for spec in model.outputs}
    outputs, tail = [], []
    for name, values in found.items():
        head, data = write_output(specs[name], values, binary.get(name, everything) is True)
        outputs.append(head)
        if data is not None:
            tail.append(data)
    content: dict[str, Any] = {"model_name": model.name, "model_version": info.id}
    if wish.id is not None:
        content["id"] = wish.id
    text = json.dumps({**content, "outputs": outputs}).encode()
    if not tail:
        return Response(text, media_type="application/json")
    headers = {HEADER_LENGTH: str(len(text))}
    return Response(b"".join([text, *tail]), media_type="application/octet-stream", headers=headers)


def _no_number(name: str) -> float:
    raise ValueError(f"{name} is not valid JSON")
