"""The Open Inference Protocol v2: health, models, and inference on decoded pixels."""

from __future__ import annotations

import json
from collections.abc import Mapping
from time import perf_counter
from typing import Any

import numpy as np
from fastapi import APIRouter, Request, Response
from numpy.typing import NDArray
from pydantic import ValidationError

from skinray.config.scoring import ServiceSettings
from skinray.crossings.detect import CrossingsRecord
from skinray.learning.bundle.info import BundleInfo
from skinray.service.answers.biopsies import CountWant
from skinray.service.answers.photos import SkinWant
from skinray.service.engine import Engine
from skinray.service.metrics import Meter
from skinray.service.problems import ProblemError, responses
from skinray.service.routes.form import Decoder, checked_scale
from skinray.service.routes.models import Model, ModelName, find_model
from skinray.service.routes.tensors import (
    Array,
    InferRequest,
    InferResponse,
    bad,
    read_inputs,
    write_output,
)

HEADER_LENGTH = "Inference-Header-Content-Length"


class Inference:
    """Inference on the models of one engine."""

    def __init__(
        self, engine: Engine, settings: ServiceSettings, decoder: Decoder, meter: Meter
    ) -> None:
        self._engine, self._decoder, self._meter = engine, decoder, meter
        self._max_values = 3 * settings.max_pixels

    def router(self) -> APIRouter:
        """Return the route of inference."""
        router = APIRouter(tags=["open inference protocol"])
        router.add_api_route(
            "/v2/models/{name}/infer",
            self.infer,
            methods=["POST"],
            response_model=InferResponse,
            responses={**ANSWERS, **responses(*REFUSALS)},
            openapi_extra=BODY,
            summary="Run a model on an image",
        )
        return router

    async def infer(self, request: Request, name: ModelName) -> Response:
        """Send the image as a tensor UINT8 [height, width, 3], RGB, upright.

        Values come as JSON, nested or flat, or as bytes after the JSON part, whose length the
        header `Inference-Header-Content-Length` then names. Outputs come as bytes where the
        parameter `binary_data` of an output, or `binary_data_output` of the request, is true.
        An output of unknown value (lengths in mm without a scale) has the shape [0].
        """
        model = find_model(name, self._engine.info.kind)
        length = request.headers.get(HEADER_LENGTH)
        body = await request.body()
        wish, inputs = await self._decoder.run(parse, body, length, model, self._max_values)
        wanted = [output.name for output in wish.outputs] or [spec.name for spec in model.outputs]
        unknown = set(wanted) - {spec.name for spec in model.outputs}
        if unknown or len(set(wanted)) < len(wanted):
            raise bad(f"outputs: name each of {[spec.name for spec in model.outputs]} at most once")
        if "image" not in inputs:
            raise bad("input image is missing")
        scale = None
        if "um_per_px" in inputs:
            scale = checked_scale(float(inputs["um_per_px"][0]))
        found = await self._outputs(name, inputs["image"], scale)
        work = (model, self._engine.info, wish, {key: found[key] for key in wanted})
        return await self._decoder.run(compose, *work)  # type: ignore[no-any-return]

    async def _outputs(
        self, name: str, pixels: NDArray[np.uint8], um_per_px: float | None
    ) -> dict[str, Array]:
        self._decoder.refuse_too_large(pixels, um_per_px, self._engine.info)
        self._meter.image(pixels.shape[0] * pixels.shape[1])
        begun = perf_counter()
        stage = next((one for one in self._engine.info.stages if one == name), None)
        if stage is not None:
            values = await self._engine.stage_map(stage, pixels, um_per_px)
            self._meter.stage("map", perf_counter() - begun)
            return {"probability": values}
        if self._engine.info.kind == "photo":
            skin = await self._engine.answer(pixels, um_per_px, SkinWant(array=True))
            self._meter.covered(skin.area.skin_fraction)
            found: dict[str, Array] = {"skin": np.asarray(skin.array)}
        else:
            counted = await self._engine.answer(pixels, um_per_px, CountWant())
            self._meter.counted(counted.count.count)
            found = count_tensors(counted.count)
        self._meter.stage("answer", perf_counter() - begun)
        return found


def count_tensors(count: CrossingsRecord) -> dict[str, Array]:
    """Return the outputs of the model ``biopsies``; what is unknown is empty."""

    def one(value: float | None) -> Array:
        return np.array([] if value is None else [value], np.float64)

    return {
        "count": np.array([count.count], np.int64),
        "points": np.array(count.points, np.float64).reshape(-1, 2),
        "boundary_px": one(count.boundary_px),
        "boundary_mm": one(count.boundary_mm),
        "density_per_mm": one(count.density_per_mm),
    }


def parse(
    body: bytes, length: str | None, model: Model, max_values: int
) -> tuple[InferRequest, Mapping[str, Array]]:
    """Read a request for inference: its JSON part and its tensors.

    Parameters
    ----------
    length : bytes of the JSON part, as the header states it; None: all.
    model : that it is for.
    max_values : of a tensor.

    Raises
    ------
    ProblemError
        The JSON part or a tensor does not fit.
    """
    size = len(body)
    if length is not None:
        sound = length.isascii() and length.isdigit() and len(length) < 20
        if not sound or int(length) > len(body):
            raise ProblemError("bad_request", f"{HEADER_LENGTH} is no part of the body's length")
        size = int(length)
    try:
        wish = InferRequest.model_validate(json.loads(body[:size], parse_constant=_no_number))
    except ValidationError as error:
        places = {".".join(map(str, one["loc"][:3])) or "body" for one in error.errors()}
        detail = f"the JSON part does not fit at {', '.join(sorted(places))}"
        raise ProblemError("bad_request", detail) from None
    except (ValueError, RecursionError):
        raise ProblemError("bad_request", "the JSON part is no JSON") from None
    inputs = {spec.name: spec for spec in model.inputs}
    return wish, read_inputs(wish.inputs, body[size:], inputs, max_values)


def compose(
    model: Model, info: BundleInfo, wish: InferRequest, found: Mapping[str, Array]
) -> Response:
    """Return the answer of a model as JSON, with bytes after it where they are asked for."""
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


def _no_number(name: ModelName) -> float:
    raise ValueError(f"{name} is no JSON")


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
    "name": "Inference-Header-Content-Length",
    "in": "header",
    "required": False,
    "description": "bytes of the JSON part, where tensors follow it as bytes",
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
