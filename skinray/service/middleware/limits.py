"""Limits on load: headers, bytes, images at once, images waiting, and time.

A request is accepted or refused by its headers, before its body is read. So a refusal costs next to
nothing and is immediate, however busy the networks are.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from skinray.config.scoring import ServiceSettings
from skinray.service.metrics import Meter
from skinray.service.problems import ProblemError, problem_response

# If a connection is closed while the client still sends, the client may never see the response.
# So what arrives is read and discarded for this long.
LINGER_S = 2.0
BODIES = frozenset({"POST", "PUT", "PATCH"})
# ASGI extension: with it in the scope, the service sends a message of this type before it reads.
BODY_WANTED = "skinray.body_wanted"
# A request line and its headers; browsers and common clients send less than 4 KiB.
MAX_HEADER_BYTES = 32 << 10
MAX_HEADERS = 100


@dataclass
class Exchange:
    """How far a request and its response have come."""

    size: int = 0
    whole: bool = False
    started: bool = False
    arrived: asyncio.Event = field(default_factory=asyncio.Event)


def refuse_headers(scope: Scope) -> None:
    """Raise ProblemError if a request has too many headers, or too large ones."""
    headers = scope["headers"]
    size = len(scope.get("raw_path") or b"") + len(scope["query_string"])
    size += sum(len(name) + len(value) + 4 for name, value in headers)
    if len(headers) > MAX_HEADERS or size > MAX_HEADER_BYTES:
        raise ProblemError(
            "too_many_headers",
            f"send at most {MAX_HEADERS} headers and {MAX_HEADER_BYTES} bytes before the body",
        )


class Limits:
    """ASGI middleware for requests with a body; others pass through."""

    def __init__(self, app: ASGIApp, settings: ServiceSettings, meter: Meter) -> None:
        self._app, self._settings, self._meter = app, settings, meter
        self._places = asyncio.Semaphore(settings.max_in_flight)
        self._running = self._waiting = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Accept one request, now or after a wait, or refuse it."""
        if scope["type"] != "http" or scope["method"] not in BODIES:
            await self._app(scope, receive, send)
            return
        exchange = Exchange()
        counted = self._counted(receive, exchange)
        linger = lingering(scope, receive, send, exchange)
        try:
            self._check_headers(scope)
            deadline = asyncio.get_running_loop().time() + self._settings.timeout_s
            await self._enter(deadline)
            try:
                await self._run(scope, counted, linger, exchange, deadline)
            finally:
                self._running -= 1
                self._places.release()
                self._tell()
        except ProblemError as error:
            await problem_response(scope, error)(scope, counted, linger)

    def _check_headers(self, scope: Scope) -> None:
        headers = Headers(scope=scope)
        encoding = headers.get("content-encoding", "identity").strip().lower()
        if encoding not in ("", "identity"):
            raise ProblemError(
                "unsupported_media_type",
                "the body is compressed (Content-Encoding): send it as it is",
                {"Accept-Encoding": "identity"},
            )
        stated = headers.get("content-length", "")
        if stated.isascii() and stated.isdigit() and int(stated) > self._settings.max_body_bytes:
            raise self._too_large()

    def _too_large(self) -> ProblemError:
        return ProblemError(
            "too_many_bytes", f"send at most {self._settings.max_body_bytes} bytes per request"
        )

    async def _enter(self, deadline: float) -> None:
        """Wait for a slot; ProblemError if too many wait already, or it takes too long."""
        retry = {"Retry-After": str(self._settings.retry_after_s)}
        busy = ProblemError("busy", "too many requests at once: try again later", retry)
        most = self._settings.max_in_flight + self._settings.max_queued
        if self._running + self._waiting >= most:
            raise busy
        self._waiting += 1
        self._tell()
        try:
            async with asyncio.timeout_at(deadline):
                await self._places.acquire()
            self._running += 1
        except TimeoutError:
            raise busy from None
        finally:
            self._waiting -= 1
        self._tell()

    async def _run(
        self, scope: Scope, receive: Receive, send: Send, exchange: Exchange, deadline: float
    ) -> None:
        try:
            async with asyncio.timeout_at(deadline) as limit, _client_there(receive, exchange):
                await self._app(scope, receive, send)
        except TimeoutError:
            if exchange.started or not limit.expired():
                raise
            seconds = f"{self._settings.timeout_s:g} s"
            if not exchange.whole:
                detail = f"the request did not arrive within {seconds}"
                raise ProblemError("slow_upload", detail) from None
            detail = f"no answer within {seconds}: send a smaller image, or raise timeout_s"
            raise ProblemError("timeout", detail) from None

    def _counted(self, receive: Receive, exchange: Exchange) -> Receive:
        async def counted() -> Message:
            message = await receive()
            if message["type"] == "http.request":
                exchange.size += len(message.get("body", b""))
                exchange.whole = not message.get("more_body", False)
                if exchange.whole:
                    exchange.arrived.set()
                if exchange.size > self._settings.max_body_bytes:
                    raise self._too_large()
            return message

        return counted

    def _tell(self) -> None:
        self._meter.load(self._running, self._waiting)


@asynccontextmanager
async def _client_there(receive: Receive, exchange: Exchange) -> AsyncIterator[None]:
    """Cancel the block if the client leaves before its answer; ClientDisconnect then."""
    working, left = asyncio.current_task(), False

    async def watch() -> None:
        nonlocal left
        await exchange.arrived.wait()  # until then, whoever reads the body sees it
        while (await receive())["type"] != "http.disconnect":
            pass
        if working is not None and not exchange.started:
            left = True
            working.cancel()

    watching = asyncio.create_task(watch())
    try:
        yield
    except asyncio.CancelledError:
        if not left or working is None or working.uncancel() > 0:
            raise  # the server or the limit on time ends it
        raise ClientDisconnect from None
    finally:
        watching.cancel()


def lingering(scope: Scope, receive: Receive, send: Send, exchange: Exchange) -> Send:
    """Return a ``send`` that reads on after an early response, before the connection closes."""
    expects_continue = Headers(scope=scope).get("expect", "").lower() == "100-continue"
    elsewhere = BODY_WANTED in (scope.get("extensions") or {})  # the front reads on

    async def linger(message: Message) -> None:
        exchange.started = True
        last = message["type"] == "http.response.body" and not message.get("more_body", False)
        if not last or exchange.whole or expects_continue or elsewhere:
            await send(message)
            return
        await send({**message, "more_body": True})
        try:
            async with asyncio.timeout(LINGER_S):
                while (await receive()).get("more_body", False):
                    pass
        except TimeoutError:
            pass
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    return linger
