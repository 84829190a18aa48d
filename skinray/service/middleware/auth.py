"""Who may ask: every route needs a token, except those that reveal nothing about the lab.

A service without tokens checks instead by which name it is called.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from starlette.types import ASGIApp, Receive, Scope, Send

from skinray.service.middleware.limits import Exchange, lingering
from skinray.service.middleware.tokens import Tokens
from skinray.service.problems import ProblemError, problem_response, responses

LIVE = "/v2/health/live"
FAVICON = "/favicon.ico"  # browsers ask for it without being told to
SCHEME = "token"
LOOPBACK_NAMES = ("localhost", "127.0.0.1", "::1")
WRONG_HOST = (
    "this service needs no token, so it answers only at localhost or 127.0.0.1: use such an "
    "address, name the host in service.hosts, or serve with tokens"
)
# NAME or [IPv6 address], with or without a port.
_HOST = re.compile(r"(?:\[([0-9a-f:.]+)\]|([^:\[\]]+))(?::[0-9]+)?")
REMEDY = "send the header Authorization: Bearer TOKEN, with a token from the service's operator"


class Guard:
    """ASGI middleware: admits requests with a token, and all requests for the open paths.

    It runs before the limits, so an unauthorised request takes up no slot and is not read.
    """

    def __init__(self, app: ASGIApp, tokens: Tokens, open_paths: frozenset[str]) -> None:
        self._app, self._tokens, self._open = app, tokens, open_paths

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it."""
        if scope["type"] == "lifespan" or self._is_allowed(scope):
            await self._app(scope, receive, send)
        elif scope["type"] == "http":
            exchange = Exchange()
            refusal = problem_response(scope, _refusal(scope))
            await refusal(scope, receive, lingering(scope, receive, send, exchange))
        else:
            await send({"type": "websocket.close", "code": 1008})

    def _is_allowed(self, scope: Scope) -> bool:
        if scope["type"] == "http" and scope["method"] in ("GET", "HEAD"):
            root = scope.get("root_path", "")
            path = scope["path"]
            below = path[len(root) :] if root and path.startswith(f"{root}/") else path
            if below in self._open:
                return True
        token = _bearer(scope)
        return token is not None and self._tokens.admits(token)


class OwnHost:
    """ASGI middleware for a service without tokens: it answers under its own names only.

    Otherwise a website could give its own name the address 127.0.0.1, and so its page in a browser
    on this machine could read from the service (DNS rebinding).

    Parameters
    ----------
    hosts : names that are allowed besides those of loopback; any port.
    """

    def __init__(self, app: ASGIApp, hosts: Iterable[str] = ()) -> None:
        self._app = app
        self._hosts = {host.strip("[]").lower() for host in (*LOOPBACK_NAMES, *hosts)}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it."""
        if scope["type"] == "lifespan" or self._is_own(scope):
            await self._app(scope, receive, send)
        elif scope["type"] == "http":
            refusal = problem_response(scope, ProblemError("wrong_host", WRONG_HOST))
            await refusal(scope, receive, lingering(scope, receive, send, Exchange()))
        else:
            await send({"type": "websocket.close", "code": 1008})

    def _is_own(self, scope: Scope) -> bool:
        values = _headers(scope, b"host")
        parts = _HOST.fullmatch(values[0].decode("latin-1").lower()) if len(values) == 1 else None
        return parts is not None and (parts[1] or parts[2]) in self._hosts


def _headers(scope: Scope, wanted: bytes = b"authorization") -> list[bytes]:
    return [value for name, value in scope["headers"] if name.lower() == wanted]


def _bearer(scope: Scope) -> bytes | None:
    """Return the request's one token; None if there is none, more than one, or another scheme."""
    values = _headers(scope)
    if len(values) != 1:
        return None
    scheme, _, token = values[0].partition(b" ")
    return token.strip(b" ") or None if scheme.lower() == b"bearer" else None


def _refusal(scope: Scope) -> ProblemError:
    if not _headers(scope):
        return ProblemError(
            "unauthorized", f"no token: {REMEDY}", {"WWW-Authenticate": 'Bearer realm="skinray"'}
        )
    wrong = {"WWW-Authenticate": 'Bearer realm="skinray", error="invalid_token"'}
    return ProblemError("unauthorized", f"invalid token: {REMEDY}", wrong)


def open_paths(page: Path, docs: Iterable[str]) -> frozenset[str]:
    """Return what needs no token: liveness, and the files of both pages.

    A page must load before it can ask for a token; its files are public and hold no data.
    """
    files = (file.relative_to(page).as_posix() for file in page.rglob("*") if file.is_file())
    return frozenset({LIVE, "/", FAVICON, *docs, *(f"/static/{name}" for name in files)})


def describe(document: dict[str, Any]) -> None:
    """Add to an OpenAPI document that every operation except liveness needs a token."""
    schemes = document.setdefault("components", {}).setdefault("securitySchemes", {})
    schemes[SCHEME] = {
        "type": "http",
        "scheme": "bearer",
        "description": "a token of this service, from its operator",
    }
    document["security"] = [{SCHEME: []}]
    for path, operations in document["paths"].items():
        for operation in operations.values():
            if path == LIVE:
                operation["security"] = []
                continue
            for status, response in responses("unauthorized").items():
                operation["responses"][str(status)] = response
