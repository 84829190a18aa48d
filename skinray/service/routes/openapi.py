"""The service's OpenAPI description, and a page that shows it without any outside resource."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

from fastapi import APIRouter, FastAPI, Request
from fastapi.openapi.utils import get_openapi
from fastapi.responses import FileResponse, HTMLResponse, Response
from pydantic.json_schema import models_json_schema

import skinray
from skinray.service.middleware import auth
from skinray.service.problems import Problem, ProblemError, responses
from skinray.service.routes.tensors import InferRequest

DESCRIPTION = (
    "Counts nerve fibres that cross the dermal-epidermal boundary in skin biopsies, or finds skin "
    "in clinical photographs. The bundle in service is for one of them; `/v1/bundle` says which. "
    "Errors are problem reports (RFC 9457) with a `reason` for programs; every response has "
    "one `X-Request-ID`. Requests refused with `Retry-After` gave no result: send them again."
)
_FRAMEWORKS_OWN = ("HTTPValidationError", "ValidationError")
# The package that contains Swagger UI's two files.
_CARRIER = "fastapi_offline"
_ASSETS = {
    "swagger-ui-bundle.js": "text/javascript",
    "swagger-ui.css": "text/css",
}
# The paths of the documentation page; what it shows, /openapi.json, is not one of them.
PAGES = ("/docs", "/docs/start.js", *(f"/docs/{name}" for name in _ASSETS))
# Its own files are kept with those of the main page.
_FILES = Path(__file__).parents[1] / "page"


def refuse_unknown_query(request: Request) -> None:
    """Raise ProblemError if the address has a query parameter that the route does not describe."""
    route = request.scope["route"]
    if not route.include_in_schema:
        return  # a page: links to it may carry anything
    known = [one.alias for one in route.dependant.query_params]
    if any(name not in known for name in request.query_params):
        use = f"use {', '.join(known)}" if known else "this address takes none"
        raise ProblemError("invalid_field", f"unknown query parameter: {use}")


def install(app: FastAPI, guarded: bool = False) -> None:
    """Add the types that FastAPI does not see to the application's description.

    ``guarded`` : every route except liveness needs a token.
    """

    def describe() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = describe_app(app)
            if guarded:
                auth.describe(app.openapi_schema)
        return app.openapi_schema

    app.openapi = describe  # type: ignore[method-assign]


def describe_app(app: FastAPI) -> dict[str, Any]:
    """Return the OpenAPI of an application; problem reports replace FastAPI's own errors."""
    document = get_openapi(
        title="skinray", version=skinray.__version__, description=DESCRIPTION, routes=app.routes
    )
    _, extra = models_json_schema(
        [(Problem, "validation"), (InferRequest, "validation")],
        ref_template="#/components/schemas/{model}",
    )
    schemas = document.setdefault("components", {}).setdefault("schemas", {})
    schemas.update(extra["$defs"])
    for name in _FRAMEWORKS_OWN:
        schemas.pop(name, None)
    for path in document["paths"].values():
        for operation in path.values():
            invalid = operation["responses"].get("422", {})
            if "HTTPValidationError" in str(invalid):
                del operation["responses"]["422"]
            for status, response in responses("invalid_field").items():
                operation["responses"].setdefault(str(status), response)
    return document


def docs_router() -> APIRouter:
    """Return the routes of ``/docs`` and its files; nothing is loaded from elsewhere."""
    router = APIRouter(include_in_schema=False)

    @router.get("/docs")
    async def page() -> HTMLResponse:
        return HTMLResponse((_FILES / "docs.html").read_text(encoding="utf-8"))

    @router.get("/docs/start.js")
    async def start() -> Response:
        text = (_FILES / "docs.js").read_text(encoding="utf-8")
        return Response(text, media_type="text/javascript")

    @router.get("/docs/{name}")
    async def asset(name: str) -> FileResponse:
        if name not in _ASSETS:
            raise ProblemError("not_found", "no such file")
        return FileResponse(assets_folder() / name, media_type=_ASSETS[name])

    return router


def assets_folder() -> Path:
    """Return the folder of Swagger UI's files; the package is not imported."""
    spec = find_spec(_CARRIER)
    if spec is None or not spec.submodule_search_locations:
        raise ProblemError("not_found", "this page is not installed: read /openapi.json")
    return Path(next(iter(spec.submodule_search_locations))) / "static"
