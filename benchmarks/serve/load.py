"""A load generator: sends one image at a rate, or from several clients, and records each answer."""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

import aiohttp

ROOT = Path(__file__).parents[2]


class Reply(NamedTuple):
    """One request: HTTP status (0: no answer), seconds, points found, Retry-After, attempts."""

    status: int
    seconds: float
    points: list[list[float]] | None
    retry_after: str | None
    attempts: int


async def ask(client: aiohttp.ClientSession, address: str, image: bytes, retries: int = 0) -> Reply:
    """Send one image; again at once, up to ``retries`` times, where no count comes back."""
    began, attempt = time.perf_counter(), 0
    while True:
        attempt += 1
        form = aiohttp.FormData()
        form.add_field("image", image, filename="image", content_type="application/octet-stream")
        form.add_field("um_per_px", "0.5")
        status, body, retry_after = 0, None, None
        try:
            async with client.post(f"{address}/v1/biopsies", data=form) as response:
                status, retry_after = response.status, response.headers.get("Retry-After")
                body = await response.json(content_type=None)
        except (aiohttp.ClientError, OSError, TimeoutError, ValueError):
            status = 0
        if status == 200 or attempt > retries:
            points = body.get("points") if isinstance(body, dict) else None
            return Reply(status, time.perf_counter() - began, points, retry_after, attempt)


async def closed_loop(
    address: str, image: bytes, clients: int, seconds: float, retries: int = 0
) -> list[Reply]:
    """Let a number of clients send one request after the other."""
    until = time.perf_counter() + seconds
    async with _session() as session:

        async def client() -> list[Reply]:
            replies = []
            while time.perf_counter() < until:
                replies.append(await ask(session, address, image, retries))
            return replies

        of_all = await asyncio.gather(*(client() for _ in range(clients)))
        return [reply for replies in of_all for reply in replies]


async def open_loop(
    address: str, image: bytes, rate: float, seconds: float, retries: int = 0
) -> list[Reply]:
    """Start ``rate`` requests per second, however many are unanswered."""
    tasks, began = [], time.perf_counter()
    async with _session() as session:
        for number in range(int(rate * seconds)):
            await asyncio.sleep(max(0.0, began + number / rate - time.perf_counter()))
            tasks.append(asyncio.create_task(ask(session, address, image, retries)))
        return list(await asyncio.gather(*tasks))


def _session() -> aiohttp.ClientSession:
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0), timeout=aiohttp.ClientTimeout(total=120)
    )


def percentile(values: list[float], percent: int) -> float:
    """Return a percentile in ms of times in s; nan of fewer than two."""
    if len(values) < 2:
        return float("nan")
    return statistics.quantiles(values, n=100, method="inclusive")[percent - 1] * 1e3


def in_second_process(address: str, image: Path, *options: str) -> list[Reply]:
    """Run this file as a program and return what it noted."""
    import subprocess

    command = [sys.executable, "-m", "benchmarks.serve.load", "--address", address]
    command += ["--image", str(image), *options]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
    return [Reply(*values) for values in json.loads(done.stdout)]


def main() -> None:
    """Read options, send the load, print the replies as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--address", required=True)
    parser.add_argument("--image", type=Path, required=True)
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--rate", type=float, help="requests per second")
    parser.add_argument("--clients", type=int, default=1, help="if no rate is given")
    parser.add_argument("--retries", type=int, default=0)
    options = parser.parse_args()
    image = options.image.read_bytes()
    shared: tuple[Any, ...] = (options.seconds, options.retries)
    if options.rate:
        work = open_loop(options.address, image, options.rate, *shared)
    else:
        work = closed_loop(options.address, image, options.clients, *shared)
    print(json.dumps([list(reply) for reply in asyncio.run(work)]))


if __name__ == "__main__":
    main()
