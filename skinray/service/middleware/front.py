"""The very front of the service, in the process of the HTTP server: Ray's proxy.

The proxy passes on whatever a client sends to the service's replica, which keeps it in memory even
if the request is refused. So nothing of a body is taken from the connection before the service asks
for it, and everything that the proxy answers by itself becomes a problem report.

Ray's proxy calls :func:`middlewares` if its environment has ``SETTING`` = ``FRONT``.
"""

from __future__ import annotations

import asyncio
from typing import Any

import uvicorn.config
from starlette.datastructures import Headers, MutableHeaders
from starlette.middleware import Middleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from skinray.service.middleware.limits import BODY_WANTED, Exchange, lingering, refuse_headers
from skinray.service.middleware.request_log import SECURITY_HEADERS, name_request, outgoing
from skinray.service.problems import LOST, REASONS, ProblemError, problem_response

SETTING = "RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH"
FRONT = "skinray.service.middleware.front:middlewares"
# With these a client could switch off the proxy's limits.
PROXYS_OWN = frozenset({b"x-request-timeout-seconds", b"x-request-disconnect-disabled"})
RETRY_AFTER_S = "2"
# What the proxy answers by itself, by status; every other error means that the replica died.
PROXYS_REFUSALS = {
    # The service takes every path, so it is not there (yet).
    404: ("not_ready", "no service answers at this address: it is starting, or has another path"),
    408: ("timeout", "no answer in time: send a smaller image"),
    503: ("busy", "too many requests at once: try again later"),
}


def middlewares() -> list[Middleware]:
    """Return the front for Ray's proxy, which starts its server next.

    That server would take the faster of its two parsers, httptools, which keeps headers of any
    size in memory; h11 closes the connection after 16 KiB of unfinished ones.
    """
    uvicorn.config.HTTP_PROTOCOLS["auto"] = uvicorn.config.HTTP_PROTOCOLS["h11"]
    return [Middleware(Front)]


class Front:
    """ASGI middleware around Ray's proxy; the outermost of all."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass one request on, or refuse it; answer for a replica that died."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = name_request(scope)
        gate = _Gate(scope, receive)
        linger = lingering(scope, receive, outgoing(send, request_id), gate.exchange)

        async def refuse(error: ProblemError) -> None:
            await problem_response(scope, error)(scope, receive, closing)

        async def closing(message: Message) -> None:
            if message["type"] == "http.response.start" and not gate.exchange.whole:
                # Else a client could send on forever after its answer.
                MutableHeaders(scope=message)["Connection"] = "close"
            await linger(message)

        try:
            refuse_headers(scope)
        except ProblemError as error:
            await refuse(error)
            return
        headers = scope["headers"]
        scope["headers"] = [pair for pair in headers if pair[0].lower() not in PROXYS_OWN]
        scope["extensions"] = {**scope.get("extensions", {}), BODY_WANTED: {}}
        reply = _Reply(closing, gate)
        await self._app(scope, gate.receive, reply.send)
        missing = reply.missing()
        if missing is not None:
            await refuse(missing)


class _Gate:
    """Takes nothing of a body from the connection before it is opened."""

    def __init__(self, scope: Scope, receive: Receive) -> None:
        self._receive = receive
        self._open = asyncio.Event()
        headers = Headers(scope=scope)
        empty = headers.get("content-length", "0") == "0" and "transfer-encoding" not in headers
        self.exchange = Exchange(whole=empty)
        if empty:
            self.open()

    @property
    def opened(self) -> bool:
        """Whether the service has asked for the body; without a body, always."""
        return self._open.is_set()

    def open(self) -> None:
        """Let the body through."""
        self._open.set()

    async def receive(self) -> Message:
        """Return the next part of the body, as soon as it may be read."""
        await self._open.wait()
        message = await self._receive()
        if message["type"] == "http.disconnect" or not message.get("more_body", False):
            self.exchange.whole = True
        return message


class _Reply:
    """Passes on what the service answers; holds back what the proxy says by itself."""

    def __init__(self, send: Send, gate: _Gate) -> None:
        self._send, self._gate = send, gate
        self._begun = False
        self._held: Message | None = None

    async def send(self, message: Message) -> None:
        """Take one message of the proxy."""
        if message["type"] == BODY_WANTED:
            self._gate.open()
        elif self._held is None:
            if message["type"] == "http.response.start":
                ours = any(name in Headers(raw=message["headers"]) for name in SECURITY_HEADERS)
                if message["status"] >= 400 and not ours:
                    self._held = message
                    return
                self._begun = True
            await self._send(message)

    def missing(self) -> ProblemError | None:
        """Return what to answer if the service did not; None if it did."""
        if self._begun:
            return None
        retry = {"Retry-After": RETRY_AFTER_S}
        if self._held is None:
            return ProblemError("interrupted", LOST, retry)
        status = self._held["status"]
        other = ("interrupted", LOST) if status >= 500 else ("bad_request", "refused by the proxy")
        if status == 408 and not self._gate.opened:
            status = 503  # no replica was free, so nothing was begun
        reason, detail = PROXYS_REFUSALS.get(status, other)
        given: dict[str, Any] = dict(Headers(raw=self._held["headers"]))
        if "retry-after" in given:
            retry = {"Retry-After": given["retry-after"]}
        return ProblemError(reason, detail, retry if REASONS[reason][0] == 503 else None)
