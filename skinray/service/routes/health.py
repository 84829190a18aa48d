"""Whether the service runs and its networks answer, which models it has, and which bundle."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Annotated

from fastapi import APIRouter
from fastapi.responses import PlainTextResponse
from pydantic import BaseModel, ConfigDict, Field

import skinray
from skinray.config.kinds import Kind
from skinray.errors import NotReadyError
from skinray.service.engine import Engine
from skinray.service.metrics import Meter
from skinray.service.problems import responses
from skinray.service.routes.kinds import (
    Model,
    ModelName,
    ModelVersion,
    ServedKind,
    refuse_other_version,
)

# A network that takes longer for a small grey image is out of order.
READY_S = 30.0
# What Prometheus calls its text format.
EXPOSITION = "text/plain; version=0.0.4"


class ServerMetadata(BaseModel):
    """The service itself."""

    name: str
    version: str
    extensions: list[str]


class Live(BaseModel):
    """Whether the process answers at all."""

    live: bool


class Ready(BaseModel):
    """Whether every network answers."""

    ready: bool


class ModelReady(Ready):
    """Whether one model answers."""

    name: str


class ModelMetadata(Model):
    """A model and the bundle behind it."""

    versions: list[str] = Field(description="SHA-256 of the bundle")
    platform: str = Field("skinray_bundle", description="what runs it")


class InService(BaseModel):
    """Which bundle answers, and whether another was refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str = Field(description="SHA-256 of the bundle")
    kind: Kind = Field(description="what it is for: biopsies or photographs")
    um_per_px: float | None = Field(
        description="scale of its training, micrometres per pixel; null: unknown"
    )
    synthetic: bool = Field(description="whether it was trained on images that skinray drew alone")
    limits_of_agreement: Annotated[list[float], Field(min_length=2, max_length=2)] | None = Field(
        description="between which errors 95 of 100 counts lay in its cross-validation, crossings "
        "per image; null: not measured"
    )
    refused: int = Field(ge=0, description="bundles that this replica has refused since it started")
    refusal: str | None = Field(
        description="why the most recently named bundle was refused; null: it was not"
    )


@dataclass
class Refusals:
    """The bundles that were refused, kept by whatever changes the engine's bundle."""

    count: int = 0
    last: str | None = None


def bundle_router(engine: Engine, refusals: Refusals) -> APIRouter:
    """Return the route that names the bundle in service."""
    router = APIRouter(tags=["bundle"])

    @router.get("/v1/bundle", summary="Which bundle answers")
    async def bundle() -> InService:
        info = engine.info
        limits = info.limits_of_agreement
        return InService(
            id=info.id,
            kind=info.kind,
            um_per_px=info.um_per_px,
            synthetic=info.synthetic,
            limits_of_agreement=None if limits is None else list(limits),
            refused=refusals.count,
            refusal=refusals.last,
        )

    return router


def metrics_router(meter: Meter) -> APIRouter:
    """Return the route that Prometheus reads."""
    router = APIRouter()

    @router.get("/metrics", include_in_schema=False)
    async def metrics() -> PlainTextResponse:
        return PlainTextResponse(await meter.exposition(), media_type=EXPOSITION)

    return router


def health_router(engine: Engine, kind: ServedKind) -> APIRouter:
    """Return the routes of health and of the models (Open Inference Protocol v2)."""
    router = APIRouter(tags=["open inference protocol"])

    @router.get("/v2", summary="The service")
    async def server() -> ServerMetadata:
        return ServerMetadata(
            name="skinray", version=skinray.__version__, extensions=["binary_tensor_data"]
        )

    @router.get("/v2/health/live", summary="Whether the process answers")
    async def live() -> Live:
        return Live(live=True)

    @router.get(
        "/v2/health/ready",
        summary="Whether every network answers",
        responses=responses("not_ready"),
    )
    async def ready() -> Ready:
        await check(engine)
        return Ready(ready=True)

    @router.get("/v2/models/{name}", summary="A model", responses=responses("not_found"))
    async def model(name: ModelName) -> ModelMetadata:
        return ModelMetadata(**kind.model(name).model_dump(), versions=[engine.info.id])

    @router.get(
        "/v2/models/{name}/ready",
        summary="Whether a model answers",
        responses=responses("not_found", "not_ready"),
    )
    async def model_ready(name: ModelName) -> ModelReady:
        kind.model(name)
        await check(engine)
        return ModelReady(name=name, ready=True)

    @router.get(
        "/v2/models/{name}/versions/{version}",
        summary="A version of a model",
        responses=responses("not_found"),
    )
    async def model_version(name: ModelName, version: ModelVersion) -> ModelMetadata:
        found = await model(name)
        refuse_other_version(version, engine.info.id)
        return found

    @router.get(
        "/v2/models/{name}/versions/{version}/ready",
        summary="Whether a version of a model answers",
        responses=responses("not_found", "not_ready"),
    )
    async def version_ready(name: ModelName, version: ModelVersion) -> ModelReady:
        kind.model(name)
        refuse_other_version(version, engine.info.id)
        return await model_ready(name)

    return router


async def check(engine: Engine) -> None:
    """Let the networks answer once; NotReadyError if one does not, or not in time."""
    try:
        async with asyncio.timeout(READY_S):
            await engine.check_ready()
    except TimeoutError:
        raise NotReadyError(f"the networks gave no answer within {READY_S:g} s") from None
