"""The service behind a real server: refusals arrive complete, even while the client still sends."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx2
import pytest
import uvicorn

from benchmarks.stand_in import drawn_image
from skinray.config.scoring import ServiceSettings
from skinray.service.app import create_app
from skinray.service.engine import LocalEngine
from tests.support.service.asgi_driver import BOUNDARY, form
from tests.support.service.image_files import as_file

FILE = as_file(drawn_image(size=(300, 400)))
SETTINGS = ServiceSettings(max_in_flight=1, max_queued=1, max_body_bytes=3_000_000)


@pytest.fixture(scope="module")
def address(bundle) -> Iterator[tuple[str, int]]:
    """Host and port of a server in its own thread."""
    app = create_app(LocalEngine(bundle), SETTINGS)
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_config=None))
    listening = socket.create_server(("127.0.0.1", 0))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
    thread.start()
    while not server.started:
        time.sleep(0.01)
    yield listening.getsockname()
    server.should_exit = True
    thread.join(20)
    assert not thread.is_alive()


def test_a_client_that_keeps_sending_still_receives_the_refusal(address):
    head = (
        f"POST /v1/biopsies HTTP/1.1\r\nHost: here\r\nContent-Length: 9000000\r\n"
        f"Content-Type: multipart/form-data; boundary={BOUNDARY}\r\n\r\n"
    )
    with socket.create_connection(address, timeout=20) as connection:
        connection.sendall(head.encode())
        connection.sendall(bytes(9_000_000))
        connection.sendall(
            b"GET /v2/health/live HTTP/1.1\r\nHost: here\r\nConnection: close\r\n\r\n"
        )
        answer = b""
        while piece := connection.recv(65536):
            answer += piece
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert b'"reason":"too_many_bytes"' in answer
    assert b'{"live":true}' in answer  # and the connection can be used for the next request


def test_of_many_requests_at_once_each_is_counted_or_told_to_retry(address):
    url = f"http://{address[0]}:{address[1]}/v1/biopsies"

    def ask(_: int) -> tuple[int, object]:
        response = client.post(url, files={"image": FILE})
        if response.status_code == 503:
            return 503, response.headers["retry-after"]
        return response.status_code, response.json()["count"]

    with httpx2.Client(timeout=20) as client:
        with ThreadPoolExecutor(16) as threads:
            answers = list(threads.map(ask, range(48)))
        assert set(answers) <= {(200, 2), (503, "2")}
        assert (200, 2) in answers
        assert client.post(url, files={"image": FILE}).json()["count"] == 2


def test_a_client_that_disconnects_does_no_harm(address):
    body = form(FILE)
    head = (
        f"POST /v1/biopsies HTTP/1.1\r\nHost: here\r\nContent-Length: {len(body)}\r\n"
        f"Content-Type: multipart/form-data; boundary={BOUNDARY}\r\n\r\n"
    )
    for _ in range(5):
        with socket.create_connection(address, timeout=20) as connection:
            connection.sendall(head.encode() + body[: len(body) // 2])
    url = f"http://{address[0]}:{address[1]}/v1/biopsies"
    deadline = time.monotonic() + 20
    status = 0
    with httpx2.Client(timeout=20) as client:
        while status != 200 and time.monotonic() < deadline:
            status = client.post(url, files={"image": FILE}).status_code
    assert status == 200
