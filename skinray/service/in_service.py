"""``GET /v1/bundle``: which bundle answers, and whether another was refused."""

from __future__ import annotations

from dataclasses import dataclass

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field

from skinray.learning.bundle_info import Kind
from skinray.service.engine import Engine


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
