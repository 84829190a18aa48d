"""Requests through many stops and starts of `skinray serve`: none lost, none answered twice."""

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any, Self

import psutil
import requests

from benchmarks.measure import machine, versions, write
from benchmarks.serve.running import free_port
from benchmarks.stand_in import drawn_image, stand_in_bundle
from skinray.scoring.overlays import encode_png

ROOT = Path(__file__).parents[2]
COMMAND = [sys.executable, "-c", "from skinray.cli import main; main()"]
START_S, STOP_S, GONE_S = 400, 180, 20
PATIENCE_S = 150
NERVES = 5
# Ray gives its own processes half a minute to start, which a busy machine may exceed.
PATIENT_RAY = {"RAY_raylet_start_wait_time_s": "180", "RAY_agent_register_timeout_ms": "180000"}


class OwnService:
    """`skinray serve` as a process of its own; a context, which kills what is left of it.

    Parameters
    ----------
    words : of the command, after `skinray`; the port is found in them.
    log : file for its standard output and error.
    """

    def __init__(
        self, words: list[str], log: Path, command: list[str] | None = None, **env: str
    ) -> None:
        self.port, self.log = int(words[words.index("--port") + 1]), log
        self.address = f"http://127.0.0.1:{self.port}"
        unwanted = ("RAY_ADDRESS", "SKINRAY_TOKENS_FILE", "SKINRAY_LOG")
        kept = {k: v for k, v in os.environ.items() if k not in unwanted}
        with log.open("a") as said:
            self.process = subprocess.Popen(
                [*(command or COMMAND), *words], stdout=said, stderr=said, cwd=ROOT,
                env=kept | PATIENT_RAY | env, start_new_session=True,
            )  # fmt: skip
        self.family: list[psutil.Process] = []

    def __enter__(self) -> Self:
        try:
            until = time.monotonic() + START_S
            while f"{self.address}/docs" not in self.said():
                if self.process.poll() is not None or time.monotonic() > until:
                    raise RuntimeError(f"the service did not start: {self.said()}")
                time.sleep(0.2)
        except BaseException:
            self.__exit__()
            raise
        self.family = psutil.Process(self.process.pid).children(recursive=True)
        return self

    def __exit__(self, *error: object) -> None:
        if self.process.poll() is None:
            self.family += psutil.Process(self.process.pid).children(recursive=True)
            self.process.kill()
            self.process.wait()
        for one in self.left(0):
            one.kill()

    def said(self) -> str:
        """Return all that it has written."""
        return self.log.read_text(encoding="utf-8")

    def stop(self, number: int) -> int:
        """Send a signal to it alone, as a container does; return its exit code."""
        self.family = psutil.Process(self.process.pid).children(recursive=True)
        self.process.send_signal(number)
        return self.process.wait(timeout=STOP_S)

    def left(self, seconds: float = GONE_S) -> list[psutil.Process]:
        """Return its processes that outlive it by so many seconds."""
        return list(psutil.wait_procs(self.family, timeout=seconds)[1])


@dataclass
class Attempts:
    """What became of each attempt of each request, by its id: `r17-2` is the third of r17."""

    begun: dict[str, float] = field(default_factory=dict)
    outcome: dict[str, str] = field(default_factory=dict)
    open: set[str] = field(default_factory=set)

    def send(self, address: str, name: str, image: bytes) -> bool:
        """Send one request; return whether it was answered, whole and right."""
        self.begun[name] = time.time()
        self.open.add(name)
        self.outcome[name] = self._sent(address, name, image)
        self.open.discard(name)
        return self.outcome[name] == "answered"

    def _sent(self, address: str, name: str, image: bytes) -> str:
        try:
            answer = requests.post(
                f"{address}/v1/biopsies",
                files={"image": ("image.png", image, "image/png")},
                data={"um_per_px": "0.5"},
                headers={"X-Request-ID": name},
                timeout=PATIENCE_S,
            )
        except requests.exceptions.ChunkedEncodingError:
            return "half an answer"
        except requests.ConnectionError as error:
            return "no connection" if "refused" in str(error) else "cut off"
        except requests.RequestException as error:
            return type(error).__name__
        if answer.status_code == 200:
            return "answered" if answer.json()["count"] == NERVES else "wrong"
        if answer.status_code == 503:
            return str(answer.json()["reason"])
        return str(answer.status_code)


@dataclass(frozen=True)
class Outcome:
    """What a run found; the lists name attempts."""

    outcomes: dict[str, int]
    lost: list[str]
    twice: list[str]
    unanswered: list[str]
    in_work: list[int]
    codes: list[int]
    left: list[str]
    impure: list[str]
    seconds: list[float]

    @property
    def sound(self) -> bool:
        """Whether every promise was kept."""
        bad = self.lost or self.twice or self.unanswered or self.left or self.impure
        return not bad and not any(self.codes)


def measure(requests_: int, stops: int, clients: int = 3) -> Outcome:
    """Send requests from several clients, each until it is answered, while the service restarts."""
    image = encode_png(drawn_image(0, (1200, 1600), NERVES))
    attempts, numbers, done = Attempts(), count(), threading.Event()
    codes, left, in_work, stopped, seconds = [], [], [], [], []
    port = free_port()
    address = f"http://127.0.0.1:{port}"

    def client() -> None:
        while not done.is_set() and (number := next(numbers)) < requests_:
            for attempt in count():
                if attempts.send(address, f"r{number}-{attempt}", image) or done.is_set():
                    break
                time.sleep(0.5)

    def answered() -> int:
        return sum(one == "answered" for one in list(attempts.outcome.values()))

    threads = [threading.Thread(target=client) for _ in range(clients)]
    with tempfile.TemporaryDirectory() as scratch:
        log, bundle = Path(scratch) / "log", stand_in_bundle(Path(scratch) / "bundle")
        words = ["serve", "--bundle", str(bundle), "--port", str(port), "--without-tokens"]
        try:
            for one in range(stops + 1):
                logged = Path(scratch) / f"log-{one}"
                with OwnService(words, logged, SKINRAY_LOG="json") as service:
                    if one == 0:
                        for thread in threads:
                            thread.start()
                    share = requests_ * (one + 1) // (stops + 1)
                    until = time.monotonic() + PATIENCE_S + requests_
                    while answered() < share and time.monotonic() < until:
                        time.sleep(0.01)
                    if one == stops:
                        for thread in threads:
                            thread.join(PATIENCE_S)
                    in_work.append(len(attempts.open))
                    stopped.append(time.time())
                    codes.append(service.stop((signal.SIGTERM, signal.SIGINT)[one % 2]))
                    seconds.append(time.time() - stopped[-1])
                    left += [str(process) for process in service.left()]
                with log.open("a", encoding="utf-8") as all_:
                    all_.write(service.said())
        finally:
            done.set()
        return _found(attempts, log, requests_, stopped, in_work[:-1], codes, left, seconds)


def _found(
    attempts: Attempts, log: Path, requests_: int, stopped: list[float], in_work: list[int],
    codes: list[int], left: list[str], seconds: list[float],
) -> Outcome:  # fmt: skip
    served: Counter[str] = Counter()
    impure = []
    for line in log.read_text(encoding="utf-8").splitlines():
        try:
            record: dict[str, Any] = json.loads(line)
        except ValueError:
            impure.append(line)
            continue
        if record.get("code") == 200 and re.fullmatch(r"r\d+-\d+", record.get("request", "")):
            served[record["request"]] += 1
    answered = {name for name, one in attempts.outcome.items() if one == "answered"}
    per_request = Counter(name.partition("-")[0] for name in answered)
    fair = {"answered", "no connection", "stopping", "busy", "not_ready"}
    lost = [
        f"{name}: {one}"
        for name, one in attempts.outcome.items()
        # After a signal a connection may be closed before a byte of an answer, as if refused.
        if one not in fair and not (one == "cut off" and _late(attempts.begun[name], stopped))
    ]
    lost += [f"{name}: served, but not received" for name in served if name not in answered]
    twice = [name for name, many in (served + per_request).items() if many > 1]
    wanted = {f"r{number}" for number in range(requests_)}
    return Outcome(
        dict(Counter(attempts.outcome.values())), lost, twice, sorted(wanted - set(per_request)),
        in_work, codes, left, impure, seconds,
    )  # fmt: skip


def _late(begun: float, stopped: list[float]) -> bool:
    """Whether an attempt began while the service was stopping."""
    return any(0 <= begun - at <= STOP_S for at in stopped)


def main() -> None:
    """Measure and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=500)
    parser.add_argument("--stops", type=int, default=20)
    parser.add_argument("--clients", type=int, default=3)
    options = parser.parse_args()
    before = machine()
    found = measure(options.requests, options.stops, options.clients)
    print(found)
    refused = sum(
        found.outcomes.get(one, 0) for one in ("no connection", "stopping", "cut off", "not_ready")
    )
    met = "met" if found.sound else "NOT met"
    write("serve_stops", [
        "# Stops and starts under requests", "",
        f"{options.clients} clients send {options.requests} requests (1600x1200) to `skinray "
        f"serve`, each until it is answered, through {options.stops} stops and starts by SIGTERM "
        "and SIGINT in turns. Lost: begun before the signal and neither answered nor refused with "
        "503, or answered by the service and not received. Twice: answered more than once.", "",
        "| requests | stops | in work at a signal | refused and sent again | lost | twice | "
        "longest stop, s | exit codes | processes left | asked | |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
        f"| {options.requests} | {options.stops} | {sum(found.in_work)} | {refused} | "
        f"{len(found.lost)} | {len(found.twice)} | {max(found.seconds):.0f} | "
        f"{sorted(set(found.codes))} | {len(found.left)} | none lost, none twice | {met} |", "",
        f"Before: {before}. After: {machine()}. {versions('ray', 'torch', 'fastapi')}.",
    ])  # fmt: skip


if __name__ == "__main__":
    main()
