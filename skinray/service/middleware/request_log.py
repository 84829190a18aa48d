"""What wraps every request: its id, response headers, log line, and a catch-all for errors.

Under Ray the request has come through :mod:`skinray.service.middleware.front`, which names it and
sets the same headers on what the proxy answers by itself.
"""

from __future__ import annotations

import logging
import re
import secrets
from time import perf_counter

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from skinray.service.metrics import Meter
from skinray.service.middleware.limits import (
    BODY_WANTED,
    Exchange,
    lingering,
    refuse_headers,
)
from skinray.service.problems import INTERNAL, ProblemError, problem_response

LOG = logging.getLogger("skinray.service")
REQUEST_ID = "X-Request-ID"
SECURITY_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
}
_WELL_FORMED = re.compile(r"[A-Za-z0-9_.:-]{1,128}")
_CLIENT_LEFT = 499


def name_request(scope: Scope) -> str:
    """Return the request's id, in its state and its one header: the client's if well formed."""
    given = Headers(scope=scope).getlist(REQUEST_ID)
    sound = len(given) == 1 and _WELL_FORMED.fullmatch(given[0])
    request_id = given[0] if sound else secrets.token_hex(16)
    MutableHeaders(scope=scope)[REQUEST_ID] = request_id
    scope.setdefault("state", {})["request_id"] = request_id
    return request_id


def outgoing(send: Send, request_id: str) -> Send:
    """Return a ``send`` that gives every response its id, and rules for browsers."""

    async def with_headers(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            for name, value in {REQUEST_ID: request_id, **SECURITY_HEADERS}.items():
                headers[name] = value
            # Files that can be compared are asked for again each time; answers are never kept.
            headers.setdefault("Cache-Control", "no-cache" if "etag" in headers else "no-store")
        await send(message)

    return with_headers


def asking(scope: Scope, receive: Receive, send: Send) -> Receive:
    """Return a ``receive`` that first asks the front for the body, if there is a front."""
    if BODY_WANTED not in (scope.get("extensions") or {}):
        return receive
    asked = False

    async def ask() -> Message:
        nonlocal asked
        if not asked:
            asked = True
            await send({"type": BODY_WANTED})
        return await receive()

    return ask


class HeadAsGet:
    """ASGI middleware: HEAD gets the headers of GET, and no body (RFC 9110)."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http" or scope["method"] != "HEAD":
            await self._app(scope, receive, send)
            return

        async def headers_alone(message: Message) -> None:
            if message["type"] == "http.response.body":
                message = {**message, "body": b""}
            await send(message)

        await self._app({**scope, "method": "GET"}, receive, headers_alone)


class Envelope:
    """ASGI middleware; the outermost.

    Log lines hold request id, method, route, status and time: nothing about images or file names.
    """

    def __init__(self, app: ASGIApp, meter: Meter) -> None:
        self._app, self._meter = app, meter

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        begun = perf_counter()
        request_id = name_request(scope)
        reply = outgoing(send, request_id)
        status = 0

        async def enveloped(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await reply(message)

        try:
            refuse_headers(scope)
            await self._app(scope, asking(scope, receive, send), enveloped)
        except ProblemError as refusal:
            linger = lingering(scope, receive, enveloped, Exchange())
            await problem_response(scope, refusal)(scope, receive, linger)
        except ClientDisconnect:
            status = _CLIENT_LEFT
        except Exception:
            LOG.exception("request %s failed", request_id, extra={"request": request_id})
            if status:  # the response has begun: only the server can abort it
                raise
            error = ProblemError("internal", INTERNAL)
            await problem_response(scope, error)(scope, receive, enveloped)
        finally:
            self._log(scope, request_id, status, perf_counter() - begun)

    def _log(self, scope: Scope, request_id: str, status: int, seconds: float) -> None:
        route = str(getattr(scope.get("route"), "path", "other"))
        self._meter.request(route, status, seconds)
        reason = scope["state"].get("reason", "")
        if reason:
            self._meter.error(reason)
        line = "request %s %s %s %d %s %.0f ms"
        facts = {"request": request_id, "code": status, "seconds": round(seconds, 4)}
        values = (request_id, scope["method"], route, status, reason, 1000 * seconds)
        LOG.info(line, *values, extra=facts)
