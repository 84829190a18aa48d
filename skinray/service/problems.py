"""Errors as problem reports (RFC 9457): one form, one list of reasons, no internal details."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException
from starlette.types import Scope

from skinray.errors import (
    BusyError,
    CohortError,
    LabelError,
    LostWorkError,
    NotReadyError,
    SkinrayError,
)
from skinray.images.file_errors import FileError

LOG = logging.getLogger("skinray.service")
MEDIA_TYPE = "application/problem+json"
INTERNAL = "search the service's log for this request id"
LOST = "a process of the service died while it worked on this request: send it again"

# Reason code -> status and title. Programs and metrics rely on the codes, so they never change.
REASONS: dict[str, tuple[int, str]] = {
    "bad_request": (400, "Malformed request"),
    "bad_tensor": (400, "Invalid tensor"),
    "unauthorized": (401, "A token is required"),
    "cross_site": (403, "Not allowed from another website"),
    "not_found": (404, "Not found"),
    "method_not_allowed": (405, "Method not allowed"),
    "not_acceptable": (406, "None of the accepted media types is available"),
    "slow_upload": (408, "The request took too long to arrive"),
    "wrong_bundle": (409, "The bundle in service is for another kind of image"),
    "too_many_bytes": (413, "The request is too large"),
    "unsupported_media_type": (415, "Unsupported media type"),
    "wrong_host": (421, "The service does not answer under this name"),
    "invalid_field": (422, "Invalid field"),
    "bad_um_per_px": (422, "The scale is out of range"),
    "unreadable_image": (422, "The image cannot be read"),
    "too_many_pixels": (422, "The image is too large"),
    "unfit_label": (422, "The correction cannot be used as a label"),
    "too_many_headers": (431, "The request's headers are too large"),
    "internal": (500, "Internal error"),
    "labels_unwritable": (500, "The correction cannot be stored"),
    "busy": (503, "The service is busy"),
    "interrupted": (503, "The work was interrupted"),
    "not_ready": (503, "The service is not ready"),
    "stopping": (503, "The service is stopping"),
    "timeout": (504, "Processing the image took too long"),
}


class Problem(BaseModel):
    """A problem report (RFC 9457)."""

    model_config = ConfigDict(
        extra="allow",
        json_schema_extra={
            "examples": [
                {
                    "type": "urn:skinray:problem:unreadable_image",
                    "title": "The image cannot be read",
                    "status": 422,
                    "detail": "truncated PNG, its end is missing: copy or export it again",
                    "instance": "/v1/biopsies",
                    "request_id": "5f0c0a8e7d3b4a7f9d2e6c1b8a4f3e21",
                    "reason": "unreadable_image",
                }
            ]
        },
    )

    type: str = Field(description="URN of the kind of problem")
    title: str = Field(description="the kind of problem, in words")
    status: int = Field(ge=400, le=599, description="HTTP status")
    detail: str = Field(description="what is wrong with this request, and how to fix it")
    instance: str = Field(description="path of the request")
    request_id: str = Field(description="as in the header X-Request-ID and in the service's log")
    reason: str = Field(description="code of the kind of problem, for programs")
    error: str | None = Field(None, description="the detail again, under /v2 (Open Inference)")
    errors: list[dict[str, str]] | None = Field(None, description="errors by field, where known")


class ProblemError(Exception):
    """An error to respond with; raised anywhere below the routes.

    Parameters
    ----------
    reason : a key of ``REASONS``.
    detail : what is wrong with this request, and how to fix it.
    headers : to add to the response.
    """

    def __init__(self, reason: str, detail: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(detail)
        self.reason, self.detail, self.headers = reason, detail, dict(headers or {})


def responses(*reasons: str) -> dict[int | str, dict[str, Any]]:
    """Return the error responses of a route, as FastAPI documents them."""
    found: dict[int | str, dict[str, Any]] = {}
    for reason in reasons:
        status, title = REASONS[reason]
        text = f"{found[status]['description']}; {title}" if status in found else title
        schema = {"$ref": "#/components/schemas/Problem"}
        found[status] = {"description": text, "content": {MEDIA_TYPE: {"schema": schema}}}
    return found


def problem_response(scope: Scope, error: ProblemError, **members: Any) -> JSONResponse:
    """Return the report of an error in the request of ``scope``."""
    status, title = REASONS[error.reason]
    state = scope.setdefault("state", {})
    state["reason"] = error.reason  # for the metrics and the log
    path = scope.get("path", "")
    content = {
        "type": f"urn:skinray:problem:{error.reason}",
        "title": title,
        "status": status,
        "detail": error.detail,
        "instance": path,
        "request_id": state.get("request_id", ""),
        "reason": error.reason,
        **members,
    }
    if path.startswith("/v2"):
        content["error"] = error.detail
    return JSONResponse(content, status, headers=error.headers, media_type=MEDIA_TYPE)


def to_problem(error: SkinrayError, retry_after_s: int) -> ProblemError:
    """Translate an error of a lower layer; file names and paths are left out."""
    retry = {"Retry-After": str(retry_after_s)}
    if isinstance(error, FileError):
        large = "more than the limit" in error.reason
        remedy = "crop or tile it" if large else error.remedy
        code = "too_many_pixels" if large else "unreadable_image"
        return ProblemError(code, f"{error.reason}: {remedy}")
    if isinstance(error, BusyError):
        return ProblemError("busy", "too many requests at once: try again later", retry)
    if isinstance(error, LostWorkError):
        return ProblemError("interrupted", LOST, retry)
    if isinstance(error, NotReadyError):
        return ProblemError("not_ready", str(error), retry)
    if isinstance(error, LabelError):
        return ProblemError("unfit_label", str(error))
    if isinstance(error, CohortError):
        detail = "the labels folder cannot be written: see the service's log"
        return ProblemError("labels_unwritable", detail)
    return ProblemError("internal", INTERNAL)


def install(app: FastAPI, retry_after_s: int) -> None:
    """Turn every error of the framework, the routes and the lower layers into a problem report."""

    async def on_problem(request: Request, error: Any) -> JSONResponse:
        return problem_response(request.scope, error)

    async def on_ours(request: Request, error: Any) -> JSONResponse:
        problem = to_problem(error, retry_after_s)
        if REASONS[problem.reason][0] == 500:
            LOG.error("request %s failed", request.state.request_id, exc_info=error)
        return problem_response(request.scope, problem)

    async def on_invalid(request: Request, error: Any) -> JSONResponse:
        errors = [
            {"field": ".".join(str(part) for part in one["loc"]), "message": str(one["msg"])}
            for one in error.errors()
        ]
        detail = "; ".join(f"{one['field']}: {one['message']}" for one in errors)
        problem = ProblemError("invalid_field", detail)
        return problem_response(request.scope, problem, errors=errors)

    async def on_http(request: Request, error: Any) -> JSONResponse:
        codes = {404: "not_found", 405: "method_not_allowed"}
        reason = codes.get(error.status_code, "bad_request")
        if error.status_code == 401:  # an unreadable static file: do not reveal that it exists
            reason = "not_found"
        detail = HTTPStatus(REASONS[reason][0]).description or REASONS[reason][1]
        return problem_response(request.scope, ProblemError(reason, detail, error.headers))

    app.add_exception_handler(ProblemError, on_problem)
    app.add_exception_handler(SkinrayError, on_ours)
    app.add_exception_handler(RequestValidationError, on_invalid)
    app.add_exception_handler(HTTPException, on_http)
