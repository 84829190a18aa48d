"""The front in Ray's proxy, around a stand-in for the proxy and the replica behind it."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
import uvicorn

from benchmarks.stand_in import drawn_image
from skinray.config.scoring import ServiceSettings
from skinray.service.app import create_app
from skinray.service.engine import LocalEngine
from skinray.service.middleware import limits
from skinray.service.middleware.front import Front, middlewares
from skinray.service.middleware.limits import MAX_HEADER_BYTES, MAX_HEADERS
from tests.support.service.asgi_driver import Exchange, GatedEngine, form
from tests.support.service.image_files import as_file

BODY = form(as_file(drawn_image()))
TOKEN = "a-token-for-these-tests-alone"  # noqa: S105


class Proxy:
    """Does what Ray's proxy does: it takes the whole body, and hands it on as it comes.

    ``taken`` are the bytes that it has taken, ``dies`` is whether the replica dies in work, and
    ``says`` what the proxy answers by itself, as status and headers.
    """

    def __init__(self, app: Any, dies: bool = False, says: tuple[int, list[Any]] | None = None):
        self.app, self.dies, self.says = app, dies, says
        self.taken = 0
        self.scope: dict[str, Any] = {}

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.scope = scope
        if self.says is not None:
            status, headers = self.says
            await send({"type": "http.response.start", "status": status, "headers": headers})
            await send({"type": "http.response.body", "body": b"Internal: /home/lab"})
            return
        queue: asyncio.Queue[Any] = asyncio.Queue()

        async def take() -> None:
            while True:
                message = await receive()
                self.taken += len(message.get("body", b""))
                await queue.put(message)
                if message["type"] == "http.disconnect":
                    return

        async def sent(message: Any) -> None:
            if message["type"] == "http.response.start":
                # As Ray's own middleware: the id again.
                names = dict(scope["headers"])
                again = (b"x-request-id", names[b"x-request-id"])
                message = {**message, "headers": [*message["headers"], again]}
            await send(message)

        taking = asyncio.create_task(take())
        try:
            await asyncio.sleep(0.05)  # the replica hears of it a little later
            if not self.dies:
                await self.app(scope, queue.get, sent)
        finally:
            taking.cancel()


def fronted(bundle: Any, tmp_path: Any, **settings: Any) -> tuple[Proxy, Front]:
    tokens = tmp_path / "tokens"
    tokens.write_text(TOKEN)
    app = create_app(LocalEngine(bundle), ServiceSettings(tokens=str(tokens), **settings))
    proxy = Proxy(app)
    return proxy, Front(proxy)


def ids(exchange: Exchange) -> list[str]:
    return exchange.answer_headers.getlist("x-request-id")


def ask(app: Any, *body: bytes, **changes: Any) -> Exchange:
    return asyncio.run(Exchange([*body], **changes).through(app))


ADMITTED = {"Authorization": f"Bearer {TOKEN}", "Content-Length": "1"}


def test_an_admitted_request_is_answered_as_ever(bundle: Any, tmp_path: Any) -> None:
    proxy, app = fronted(bundle, tmp_path)
    found = ask(app, BODY[:100], BODY[100:], headers=ADMITTED)
    assert (found.status, found.json["count"]) == (200, 2)
    assert proxy.taken == len(BODY)
    assert len(ids(found)) == 1
    assert "connection" not in found.answer_headers
    live = ask(app, b"", path="/v2/health/live", method="GET")
    assert (live.status, live.json) == (200, {"live": True})


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Content-Length": "999"}, 401),
        ({**ADMITTED, "Authorization": "Bearer wrong", "Content-Length": "999"}, 401),
        ({**ADMITTED, "Content-Length": "9999999"}, 413),
        ({"Transfer-Encoding": "chunked"}, 401),
    ],
)
def test_nothing_of_a_refused_body_reaches_the_proxy(
    bundle: Any, tmp_path: Any, headers: dict[str, str], status: int
) -> None:
    proxy, app = fronted(bundle, tmp_path, max_body_bytes=5000)
    found = ask(app, *[b"x" * 1000] * 9, headers=headers)
    assert found.status == status
    assert proxy.taken == 0
    assert found.drained == 9  # so that the client sees the answer
    assert found.answer_headers["connection"] == "close"
    assert found.json["request_id"] == ids(found)[0]


def test_nothing_of_a_waiting_body_reaches_the_proxy(bundle: Any) -> None:
    async def run() -> None:
        engine = GatedEngine(bundle)
        proxy = Proxy(create_app(engine, ServiceSettings(max_in_flight=1, max_queued=1)))
        app = Front(proxy)
        first, second = (
            Exchange([BODY], {"Content-Length": "1"}),
            Exchange([BODY], {"Content-Length": "1"}),
        )
        tasks = [asyncio.create_task(one.through(app)) for one in (first, second)]
        while engine.begun == 0:
            await asyncio.sleep(0.002)
        await asyncio.sleep(0.05)
        assert proxy.taken == len(BODY)
        engine.gate.set()
        await asyncio.gather(*tasks)
        assert [one.status for one in (first, second)] == [200, 200]
        assert proxy.taken == 2 * len(BODY)

    asyncio.run(run())


@pytest.mark.parametrize(
    "headers",
    [{f"X-{n}": "y" for n in range(MAX_HEADERS)}, {"X-Long": "y" * MAX_HEADER_BYTES}],
)
@pytest.mark.parametrize("front", [True, False])
def test_headers_are_bounded_before_the_token_is_read(
    bundle: Any, tmp_path: Any, headers: dict[str, str], front: bool
) -> None:
    proxy, app = fronted(bundle, tmp_path)
    found = ask(app if front else proxy.app, b"x", headers={**headers, "Content-Length": "1"})
    assert (found.status, found.json["reason"]) == (431, "too_many_headers")
    assert str(MAX_HEADERS) in found.json["detail"]
    assert len(ids(found)) == 1
    assert proxy.scope == {}  # the proxy never saw it
    few = ask(app, b"x", headers={"X-Long": "y" * 20_000, "Content-Length": "1"})
    assert few.status == 401


def test_a_long_query_counts_as_well(bundle: Any, tmp_path: Any) -> None:
    _, app = fronted(bundle, tmp_path)
    found = ask(app, b"", method="GET", path="/", query=b"a" * MAX_HEADER_BYTES)
    assert found.status == 431


@pytest.mark.parametrize("given", ["a b", "x" * 129, "<b>", ""])
@pytest.mark.parametrize(
    ("path", "status"), [("/v2/health/live", 200), ("/nowhere", 401), ("/v1/biopsies", 401)]
)
def test_a_bad_request_id_is_replaced_for_the_proxy_too(
    bundle: Any, tmp_path: Any, given: str, path: str, status: int
) -> None:
    proxy, app = fronted(bundle, tmp_path)
    method = "POST" if path == "/v1/biopsies" else "GET"
    found = ask(app, b"", path=path, method=method, headers={"X-Request-ID": given})
    (made,) = ids(found)
    assert (found.status, made != given, len(made)) == (status, True, 32)
    assert [v for k, v in proxy.scope["headers"] if k == b"x-request-id"] == [made.encode()]
    good = ask(app, b"", path=path, method=method, headers={"X-Request-ID": "mine-7"})
    assert ids(good) == ["mine-7"]


@pytest.mark.parametrize(
    ("says", "status", "reason"),
    [
        ((503, [(b"retry-after", b"7")]), 503, "busy"),
        ((408, []), 504, "timeout"),
        ((404, []), 503, "not_ready"),
        ((500, []), 503, "interrupted"),
    ],
)
def test_what_the_proxy_says_becomes_a_problem_report(
    says: tuple[int, list[Any]], status: int, reason: str
) -> None:
    found = ask(Front(Proxy(None, says=says)), b"", path="/v1/biopsies")
    assert (found.status, found.json["reason"]) == (status, reason)
    assert found.answer_headers["content-type"] == "application/problem+json"
    assert "lab" not in str(found.messages)
    assert found.json["request_id"] == ids(found)[0]
    if status == 503:
        assert found.answer_headers["retry-after"] == ("7" if reason == "busy" else "2")


def test_a_request_that_no_replica_began_can_be_sent_again() -> None:
    app = Front(Proxy(None, says=(408, [])))
    found = ask(app, BODY, headers={"Content-Length": "1"})
    assert (found.status, found.json["reason"]) == (503, "busy")
    assert found.answer_headers["retry-after"] == "2"


def test_a_replica_that_dies_in_work_is_a_503_to_repeat() -> None:
    found = ask(Front(Proxy(None, dies=True)), BODY, headers={"Content-Length": "1"})
    assert (found.status, found.json["reason"]) == (503, "interrupted")
    assert found.answer_headers["retry-after"] == "2"
    assert "send it again" in found.json["detail"]
    assert len(ids(found)) == 1


def test_clients_cannot_change_the_proxys_limits(bundle: Any, tmp_path: Any) -> None:
    proxy, app = fronted(bundle, tmp_path)
    names = ("X-Request-Timeout-Seconds", "X-Request-Disconnect-Disabled")
    ask(app, b"", path="/", method="GET", headers=dict.fromkeys(names, "-1"))
    assert not {name.lower().encode() for name in names} & {k for k, _ in proxy.scope["headers"]}


@pytest.fixture(scope="module")
def address(bundle: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A real server as Ray's proxy starts it, with the front; yields its address and the proxy."""
    before = dict(uvicorn.config.HTTP_PROTOCOLS)
    (front,) = middlewares()
    proxy, _ = fronted(bundle, tmp_path_factory.mktemp("front"))
    server = uvicorn.Server(uvicorn.Config(front.cls(proxy), lifespan="off", log_config=None))
    listening = socket.create_server(("127.0.0.1", 0))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
    thread.start()
    while not server.started:
        time.sleep(0.01)
    yield listening.getsockname(), proxy
    server.should_exit = True
    thread.join(20)
    uvicorn.config.HTTP_PROTOCOLS.update(before)


def heard(connection: socket.socket) -> bytes:
    """Return what comes until the server closes the connection."""
    answer = b""
    try:
        while piece := connection.recv(65536):
            answer += piece
    except ConnectionResetError:
        pass
    return answer


def test_a_huge_body_without_a_token_goes_nowhere(
    address: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "LINGER_S", 0.5)
    place, proxy = address
    before = proxy.taken
    head = b"POST /v1/biopsies HTTP/1.1\r\nHost: here\r\nContent-Length: 999999999999\r\n\r\n"
    with socket.create_connection(place, timeout=20) as connection:
        connection.sendall(head + bytes(1000))
        answer = connection.recv(65536)
        try:
            while True:  # a sender that never stops is cut off
                connection.sendall(bytes(1 << 20))
        except OSError:
            pass
    assert answer.startswith(b"HTTP/1.1 401 ")
    assert proxy.taken == before


def test_headers_without_end_are_cut_off(address: Any) -> None:
    place, _ = address
    with socket.create_connection(place, timeout=20) as connection:
        sent = 0
        try:
            connection.sendall(b"GET / HTTP/1.1\r\nHost: here\r\n")
            while sent < 50_000_000:
                connection.sendall(b"X-A: " + b"y" * 10_000 + b"\r\n")
                sent += 10_007
        except OSError:
            pass
        assert sent < 20_000_000  # what the sockets' own buffers hold, not what is sent
        assert heard(connection)[:13] in (b"", b"HTTP/1.1 400 ", b"HTTP/1.1 431 ")
