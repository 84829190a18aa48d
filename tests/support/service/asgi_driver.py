"""Requests sent directly to an ASGI application, and engines that a test can stop."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from starlette.datastructures import Headers

from skinray.learning.bundle import Bundle
from skinray.learning.bundle.info import BundleInfo
from skinray.service.answers.request import Want
from skinray.service.engine import LocalEngine

BOUNDARY = "parted"


def form(data: bytes, **fields: str) -> bytes:
    """A multipart body with the file ``image`` and fields."""
    parts = [
        f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'.encode()
        for name, value in fields.items()
    ]
    head = 'Content-Disposition: form-data; name="image"; filename="a"'
    parts += [f"--{BOUNDARY}\r\n{head}\r\n\r\n".encode(), data, b"\r\n"]
    return b"".join([*parts, f"--{BOUNDARY}--\r\n".encode()])


@dataclass
class Exchange:
    """One request and its response.

    Attributes
    ----------
    body : the pieces to send; a function among them is awaited, then the client leaves.
    then : what the client does once everything is sent, before it leaves; by default it stays.
    read : pieces that the application read before its response began.
    """

    body: list[bytes | Callable[[], Awaitable[None]]]
    headers: dict[str, str] = field(default_factory=dict)
    path: str = "/v1/biopsies"
    method: str = "POST"
    query: bytes = b""
    then: Callable[[], Awaitable[Any]] = lambda: asyncio.Event().wait()
    read: int = 0
    drained: int = 0
    messages: list[dict[str, Any]] = field(default_factory=list)

    async def through(self, app: Any) -> Exchange:
        headers = {"content-type": f"multipart/form-data; boundary={BOUNDARY}", **self.headers}
        scope = {
            "type": "http", "http_version": "1.1", "method": self.method, "path": self.path,
            "raw_path": self.path.encode(), "query_string": self.query, "root_path": "",
            "scheme": "http", "server": ("here", 80), "client": ("there", 1), "state": {},
            "headers": [(k.lower().encode(), v.encode()) for k, v in headers.items()],
        }  # fmt: skip
        await app(scope, self._receive, self._send)
        return self

    @property
    def status(self) -> int:
        return self.messages[0]["status"]

    @property
    def answer_headers(self) -> Headers:
        return Headers(raw=self.messages[0]["headers"])

    @property
    def json(self) -> Any:
        return json.loads(b"".join(message.get("body", b"") for message in self.messages[1:]))

    async def _receive(self) -> dict[str, Any]:
        taken = self.read + self.drained
        if taken == len(self.body):
            await self.then()
            return {"type": "http.disconnect"}
        piece = self.body[taken]
        if not isinstance(piece, bytes):
            await piece()
            return {"type": "http.disconnect"}
        if self.messages:
            self.drained += 1
        else:
            self.read += 1
        return {"type": "http.request", "body": piece, "more_body": taken + 1 < len(self.body)}

    async def _send(self, message: dict[str, Any]) -> None:
        self.messages.append(message)


class GatedEngine:
    """Starts work immediately and finishes it when the gate opens."""

    def __init__(self, bundle: Bundle) -> None:
        self._inner = LocalEngine(bundle)
        self.gate = asyncio.Event()
        self.begun = self.most = self.working = 0

    @property
    def info(self) -> BundleInfo:
        return self._inner.info

    async def answer(self, pixels: np.ndarray, um_per_px: float | None, want: Want[Any]) -> Any:
        self.begun += 1
        self.working += 1
        self.most = max(self.most, self.working)
        try:
            await self.gate.wait()
            return await self._inner.answer(pixels, um_per_px, want)
        finally:
            self.working -= 1

    async def stage_map(self, stage: Any, pixels: np.ndarray, um_per_px: float | None) -> Any:
        await self.gate.wait()
        return await self._inner.stage_map(stage, pixels, um_per_px)

    async def check_ready(self) -> None:
        await self._inner.check_ready()


class FailingEngine(GatedEngine):
    """Raises the given error from every method."""

    def __init__(self, bundle: Bundle, error: Exception) -> None:
        super().__init__(bundle)
        self._error = error

    async def answer(self, pixels: np.ndarray, um_per_px: float | None, want: Want[Any]) -> Any:
        raise self._error

    async def check_ready(self) -> None:
        raise self._error


class Notes:
    """A meter that keeps what it receives."""

    def __init__(self) -> None:
        self.told: list[tuple[Any, ...]] = []

    def request(self, route: str, status: int, seconds: float) -> None:
        assert seconds >= 0
        self.told.append(("request", route, status))

    def error(self, reason: str) -> None:
        self.told.append(("error", reason))

    def stage(self, stage: str, seconds: float) -> None:
        assert seconds >= 0
        self.told.append(("stage", stage))

    def load(self, in_flight: int, queued: int) -> None:
        self.told.append(("load", in_flight, queued))

    def image(self, pixels: int) -> None:
        self.told.append(("image", pixels))

    def counted(self, count: int) -> None:
        self.told.append(("counted", count))

    def covered(self, skin_fraction: float) -> None:
        self.told.append(("covered", skin_fraction))
