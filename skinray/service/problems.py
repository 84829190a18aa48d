"""Errors as problem reports (RFC 9457): one form, one list of reasons, no inner workings."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException
from starlette.types import Scope

from skinray.errors import CohortError, LabelError, SkinrayError
from skinray.images.file_errors import FileError
from skinray.service.engine import BusyError, NotReadyError

MEDIA_TYPE = "application/problem+json"

# Reason code -> status and title. Codes are what programs and metrics go by; they stay.
REASONS: dict[str, tuple[int, str]] = {
    "bad_request": (400, "The request cannot be understood"),
    "bad_tensor": (400, "A tensor does not fit"),
    "unauthorized": (401, "A token is needed"),
    "cross_site": (403, "Another website's page may not do this"),
    "not_found": (404, "There is no such resource"),
    "method_not_allowed": (405, "The resource does not take this method"),
    "not_acceptable": (406, "None of the accepted media types can be given"),
    "slow_upload": (408, "The request took too long to arrive"),
    "wrong_bundle": (409, "The bundle in service is for other images"),
    "too_many_bytes": (413, "The request is too large"),
    "unsupported_media_type": (415, "The body has another media type than asked for"),
    "invalid_field": (422, "A field does not fit"),
    "bad_um_per_px": (422, "The scale is none of a microscope"),
    "unreadable_image": (422, "The image cannot be read"),
    "too_many_pixels": (422, "The image is too large"),
    "unfit_label": (422, "The correction does not fit"),
    "internal": (500, "The service failed"),
    "labels_unwritable": (500, "The correction cannot be stored"),
    "busy": (503, "The service has too much to do"),
    "not_ready": (503, "The service cannot answer now"),
    "timeout": (504, "The image took too long"),
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

    type: str = Field(description="names the kind of problem")
    title: str = Field(description="the kind of problem, in words")
    status: int = Field(ge=400, le=599, description="HTTP status")
    detail: str = Field(description="what is wrong with this request, and what mends it")
    instance: str = Field(description="path of the request")
    request_id: str = Field(description="as in the header X-Request-ID and in the service's log")
    reason: str = Field(description="code of the kind of problem, for programs")
    error: str | None = Field(None, description="the detail again, below /v2 (Open Inference)")
    errors: list[dict[str, str]] | None = Field(None, description="field by field, where known")


class ProblemError(Exception):
    """An error to answer with; raised anywhere below the routes.

    Parameters
    ----------
    reason : a key of ``REASONS``.
    detail : what is wrong with this request, and what mends it.
    headers : to send along.
    """

    def __init__(self, reason: str, detail: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(detail)
        self.reason, self.detail, self.headers = reason, detail, dict(headers or {})


def responses(*reasons: str) -> dict[int | str, dict[str, Any]]:
    """Return what FastAPI documents of the reasons a route may answer with."""
    found: dict[int | str, dict[str, Any]] = {}
    for reason in reasons:
        status, title = REASONS[reason]
        text = f"{found[status]['description']}; {title}" if status in found else title
        schema = {"$ref": "#/components/schemas/Problem"}
        found[status] = {"description": text, "content": {MEDIA_TYPE: {"schema": schema}}}
    return found


def problem_response(scope: Scope, error: ProblemError, **members: Any) -> JSONResponse:
    """Return the report of an error on the request of ``scope``."""
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
    """Translate an error of the layers below; file names and places on disk stay here."""
    retry = {"Retry-After": str(retry_after_s)}
    if isinstance(error, FileError):
        large = "more than the limit" in error.reason
        remedy = "crop or tile it" if large else error.remedy
        code = "too_many_pixels" if large else "unreadable_image"
        return ProblemError(code, f"{error.reason}: {remedy}")
    if isinstance(error, BusyError):
        return ProblemError("busy", "all places are taken: send it again later", retry)
    if isinstance(error, NotReadyError):
        return ProblemError("not_ready", str(error), retry)
    if isinstance(error, LabelError):
        return ProblemError("unfit_label", str(error))
    if isinstance(error, CohortError):
        return ProblemError("labels_unwritable", "the labels folder cannot take it: see the log")
    return ProblemError("internal", "see the service's log under this request id")


def install(app: FastAPI) -> None:
    """Answer every error of the framework and of the routes with a problem report."""

    async def on_problem(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, ProblemError)  # noqa: S101 - registered for it alone
        return problem_response(request.scope, error)

    async def on_invalid(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, RequestValidationError)  # noqa: S101 - registered for it alone
        errors = [
            {"field": ".".join(str(part) for part in one["loc"]), "message": str(one["msg"])}
            for one in error.errors()
        ]
        detail = "; ".join(f"{one['field']}: {one['message']}" for one in errors)
        problem = ProblemError("invalid_field", detail)
        return problem_response(request.scope, problem, errors=errors)

    async def on_http(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, HTTPException)  # noqa: S101 - registered for it alone
        codes = {404: "not_found", 405: "method_not_allowed"}
        reason = codes.get(error.status_code, "bad_request")
        if error.status_code == 401:  # static files without permission: none of theirs to tell
            reason = "not_found"
        detail = HTTPStatus(REASONS[reason][0]).description or REASONS[reason][1]
        return problem_response(request.scope, ProblemError(reason, detail, error.headers))

    app.add_exception_handler(ProblemError, on_problem)
    app.add_exception_handler(RequestValidationError, on_invalid)
    app.add_exception_handler(HTTPException, on_http)
