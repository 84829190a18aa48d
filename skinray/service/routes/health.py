"""Whether the service lives, whether its networks answer, and what they are."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field

import skinray
from skinray.config.kinds import Kind
from skinray.service.engine import Engine, NotReadyError
from skinray.service.problems import responses
from skinray.service.routes.models import (
    Live,
    ModelMetadata,
    ModelName,
    ModelReady,
    Ready,
    ServerMetadata,
    find_model,
)

# A network that takes longer for a small grey image is as good as none.
READY_S = 30.0


def health_router(engine: Engine) -> APIRouter:
    """Return the routes of health and of what there is (Open Inference Protocol v2)."""
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
        found = find_model(name, engine.info.kind)
        return ModelMetadata(**found.model_dump(), versions=[engine.info.id])

    @router.get(
        "/v2/models/{name}/ready",
        summary="Whether a model answers",
        responses=responses("not_found", "not_ready"),
    )
    async def model_ready(name: ModelName) -> ModelReady:
        find_model(name, engine.info.kind)
        await check(engine)
        return ModelReady(name=name, ready=True)

    return router


async def check(engine: Engine) -> None:
    """Let the networks answer once; NotReadyError where one does not, or not in time."""
    try:
        async with asyncio.timeout(READY_S):
            await engine.check_ready()
    except TimeoutError:
        raise NotReadyError(f"no answer of the networks within {READY_S:g} s") from None


@dataclass
class Refusals:
    """The bundles that were named to the service and refused; whoever changes them keeps this."""

    count: int = 0
    last: str | None = None


class InService(BaseModel):
    """Which bundle answers, and whether another was refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str = Field(description="SHA-256 that names the bundle")
    kind: Kind = Field(description="what it is for: biopsies, or photographs")
    refused: int = Field(ge=0, description="bundles that this replica has refused since it began")
    refusal: str | None = Field(description="why the last one named was refused; null: it was not")


def bundle_router(engine: Engine, refusals: Refusals) -> APIRouter:
    """Return the route that tells of the bundle."""
    router = APIRouter(tags=["bundle"])

    @router.get("/v1/bundle", summary="Which bundle answers")
    async def bundle() -> InService:
        return InService(
            id=engine.info.id,
            kind=engine.info.kind,
            refused=refusals.count,
            refusal=refusals.last,
        )

    return router
