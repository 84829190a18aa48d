"""`skinray serve` as a process of its own: where it listens, what it says, and how it stops."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import psutil
import pytest
import requests

from benchmarks.serve.running import free_port
from benchmarks.serve.stops import OwnService, measure
from benchmarks.stand_in import stand_in_bundle
from tests.support.served import png, post

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(900)]
ROOT = Path(__file__).parents[3]
MAPPED = "::ffff:"  # how a socket of both families names an address of IPv4


def long_work() -> bytes:
    """An image that keeps the service busy for seconds."""
    rng = np.random.default_rng(0)
    blots = rng.integers(0, 255, (400, 500, 3), dtype=np.uint8)
    return png(cv2.resize(blots, (5000, 4000), interpolation=cv2.INTER_NEAREST))


@pytest.fixture(scope="module")
def image() -> bytes:
    return long_work()


def words(folder: Path, *more: str) -> list[str]:
    bundle = stand_in_bundle(folder / "bundle")
    return ["serve", "--bundle", str(bundle), "--port", str(free_port()), *more]


class Asked(threading.Thread):
    """One request in a thread of its own."""

    def __init__(self, service: OwnService, image: bytes, token: str = "") -> None:
        super().__init__()
        self.said: Any = None
        self.ask = lambda: post(service.address, image, timeout=300, token=token)
        self.start()

    def run(self) -> None:
        try:
            self.said = self.ask()
        except requests.ConnectionError as error:
            self.said = error

    def answer(self) -> Any:
        self.join()
        return self.said


def in_work(service: OwnService) -> None:
    """Wait until what was sent before is in progress: the service has answered something since."""
    time.sleep(0.5)
    assert requests.get(f"{service.address}/v2/health/live", timeout=60).json() == {"live": True}
    time.sleep(0.5)


def check_stop(service: OwnService, number: int, image: bytes, token: str = "") -> str:
    """Stop it with a request in progress and another too late; return what it said."""
    first = Asked(service, image, token)
    in_work(service)
    late: list[Asked] = []
    timer = threading.Timer(0.7, lambda: late.append(Asked(service, image, token)))
    timer.start()
    code = service.stop(number)
    timer.join()
    answer = first.answer()
    assert answer.status_code == 200, answer
    assert {"count", "points", "bundle"} <= set(answer.json())
    refused = late[0].answer()
    if not isinstance(refused, requests.ConnectionError):
        assert (refused.status_code, refused.json()["reason"]) == (503, "stopping")
        assert refused.headers["content-type"] == "application/problem+json"
    assert code == 0, service.said()
    assert [one.name() for one in service.left()] == []
    return service.said()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_lets_the_request_in_progress_finish_and_leaves_nothing(
    tmp_path: Path, image: bytes, number: int
) -> None:
    with OwnService(words(tmp_path, "--without-tokens"), tmp_path / "log") as service:
        said = check_stop(service, number, image)
    assert said.splitlines()[-1] == "Press Ctrl-C to stop."  # the end is quiet


def test_the_second_signal_stops_at_once(tmp_path: Path, image: bytes) -> None:
    with OwnService(words(tmp_path, "--without-tokens"), tmp_path / "log") as service:
        asked = [Asked(service, image) for _ in range(6)]  # more than it can do in that time
        in_work(service)
        service.process.send_signal(signal.SIGTERM)
        time.sleep(1)
        assert service.process.poll() is None
        assert service.stop(signal.SIGTERM) == 1
        assert "stopped at once by a second signal" in service.said()
        assert [one.name() for one in service.left()] == []
        answers = [one.answer() for one in asked]
    assert any(isinstance(one, requests.ConnectionError) for one in answers)


def entry() -> list[str]:
    """The container's command: what Docker runs without a shell, so that signals reach Python."""
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    lines = [line.split(" ", 1) for line in text.splitlines() if " " in line]
    found = {word: json.loads(rest) for word, rest in lines if word in ("ENTRYPOINT", "CMD")}
    return [*found["ENTRYPOINT"], *found["CMD"]]


def first_process() -> list[str]:
    """Return what makes a command the first process of its own, as in a container."""
    prefix = ["unshare", "--user", "--map-root-user", "--pid", "--fork", "--mount-proc"]
    try:
        subprocess.run([*prefix, "true"], check=True, capture_output=True, timeout=30)
    except (OSError, subprocess.SubprocessError):
        pytest.skip("this machine allows no process namespace without root")
    return prefix


def test_the_containers_command_stops_as_the_first_process(tmp_path: Path, image: bytes) -> None:
    program, *options = entry()
    assert (program, options[0]) == ("skinray", "serve")
    for name, value in (
        ("--host", "127.0.0.1"),
        ("--port", str(free_port())),
        ("--bundle", str(stand_in_bundle(tmp_path / "bundle"))),
    ):
        options[options.index(name) + 1] = value
    python = "import sys; from skinray.cli import main; sys.argv[0] = 'skinray'; main()"
    command = [*first_process(), sys.executable, "-c", python]
    state = tmp_path / "state"
    with OwnService(options, tmp_path / "log", command, XDG_STATE_HOME=str(state)) as service:
        token = (state / "skinray" / "tokens").read_text().strip()
        unshare = psutil.Process(service.process.pid)
        (python_in_it,) = unshare.children()
        service.process.send_signal = python_in_it.send_signal  # type: ignore[method-assign]
        check_stop(service, signal.SIGTERM, image, token)


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[OwnService, str]]:
    """A service with a token and the log as JSON; and the token."""
    folder = tmp_path_factory.mktemp("guarded")
    state = folder / "state"
    env = {"XDG_STATE_HOME": str(state), "SKINRAY_LOG": "json", "SKINRAY_RUN_ID": "ward-3"}
    with OwnService(words(folder, "--layout", "separate"), folder / "log", **env) as service:
        yield service, (state / "skinray" / "tokens").read_text().strip()


def test_every_socket_is_on_loopback(guarded: tuple[OwnService, str]) -> None:
    service, _ = guarded
    own = psutil.Process(service.process.pid)
    places = set()
    for one in [own, *own.children(recursive=True)]:
        with suppress(psutil.NoSuchProcess):  # a worker without work has ended
            places |= {
                (one.name(), socket.laddr.ip.removeprefix(MAPPED))
                for socket in one.net_connections("inet")
                if socket.status in (psutil.CONN_LISTEN, psutil.CONN_NONE) and socket.laddr
            }
    names = {name for name, _ in places}
    assert {"gcs_server", "raylet"} <= names
    assert any(name.startswith("ray::Dashboard") for name in names)
    assert any(name.startswith("ray::ServeReplica") for name in names)
    assert {place for place in places if not ip_address(place[1]).is_loopback} == set()


def test_prometheus_reads_the_metrics_with_a_token(guarded: tuple[OwnService, str]) -> None:
    service, token = guarded
    url = f"{service.address}/metrics"
    assert requests.get(url, timeout=60).status_code == 401
    bearer = {"Authorization": f"Bearer {token}"}
    assert post(service.address, long_work(), timeout=300, token=token).status_code == 200
    wanted = ("ray_skinray_requests_total{", 'stage="nerve"', 'stage="crossing"')
    until = time.monotonic() + 90  # each process sends them every ten seconds
    while True:
        page = requests.get(url, headers=bearer, timeout=60)
        assert page.status_code == 200
        if all(one in page.text for one in wanted) or time.monotonic() > until:
            break
        time.sleep(2)
    assert [one for one in wanted if one not in page.text] == []
    assert page.headers["content-type"].startswith("text/plain; version=0.0.4")
    from prometheus_client.parser import text_string_to_metric_families

    families = list(text_string_to_metric_families(page.text))
    assert len(families) == len({family.name for family in families}) > 3
    assert {family.name.startswith("ray_skinray_") for family in families} == {True}


def test_the_log_is_pure_json_from_the_first_line_to_the_last(
    guarded: tuple[OwnService, str],
) -> None:
    """Runs last: it stops the service."""
    service, token = guarded
    sent = requests.post(
        f"{service.address}/v1/biopsies",
        headers={"Authorization": f"Bearer {token}", "X-Request-ID": "mine-1"},
        files={"image": ("p.png", b"no image")},
        timeout=60,
    )
    assert sent.status_code == 422
    assert service.stop(signal.SIGTERM) == 0
    lines = [json.loads(line) for line in service.said().splitlines()]
    assert {line["run"] for line in lines} == {"ward-3"}
    (mine,) = [line for line in lines if line.get("request") == "mine-1"]
    assert (mine["code"], mine["logger"]) == (422, "skinray.service")
    assert lines[0]["message"] == "began"
    assert (lines[-1]["message"], lines[-1]["code"]) == ("ended", 0)
    assert token not in service.said()
    assert any("stopping" in line["message"] for line in lines)


@pytest.mark.chaos
def test_no_request_is_lost_or_answered_twice_through_stops_and_starts() -> None:
    found = measure(requests_=24, stops=3)
    assert sum(found.in_work) > 0
    assert found.sound, found
