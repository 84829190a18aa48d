"""The doors of the service: once closed, requests inside are finished and no other enters."""

from __future__ import annotations

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from skinray.service.middleware.limits import Exchange, lingering
from skinray.service.problems import ProblemError, problem_response

STOPPING = "the service is stopping and takes no more requests: try again once it has restarted"


class Doors:
    """Counts the requests inside. Who stops the service closes them, and waits until none is left.

    It belongs to one event loop.
    """

    def __init__(self) -> None:
        self.inside, self.closed = 0, False

    def close(self) -> int:
        """Let nobody in from now on; return how many requests are still inside."""
        self.closed = True
        return self.inside


class Doorway:
    """ASGI middleware: a request that finds the doors closed gets 503, and its body is not read."""

    def __init__(self, app: ASGIApp, doors: Doors, retry_after_s: int) -> None:
        self._app, self._doors = app, doors
        self._retry = {"Retry-After": str(retry_after_s), "Connection": "close"}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let one request through, or refuse it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        if self._doors.closed:
            refusal = problem_response(scope, ProblemError("stopping", STOPPING, self._retry))
            await refusal(scope, receive, lingering(scope, receive, send, Exchange()))
            return
        self._doors.inside += 1
        try:
            await self._app(scope, receive, self._last(send))
        finally:
            self._doors.inside -= 1

    def _last(self, send: Send) -> Send:
        """Tell the client of an answer after the closing that no other comes on its connection."""

        async def last(message: Message) -> None:
            if message["type"] == "http.response.start" and self._doors.closed:
                MutableHeaders(scope=message)["Connection"] = "close"
            await send(message)

        return last
