"""The service under ten times its capacity, with the load from a second process."""

from __future__ import annotations

import argparse
import os
import tempfile
from collections import Counter
from pathlib import Path
from typing import NamedTuple

from benchmarks.measure import machine, versions, write
from benchmarks.process_tree import MostMemory, of_ray
from benchmarks.serve.load import Reply, in_second_process, percentile
from benchmarks.serve.overhead import write_image
from benchmarks.serve.running import deploy, free_port, small_config
from benchmarks.stand_in import stand_in_bundle
from skinray.cluster.session import session

TIMES, IN_FLIGHT, QUEUED = 10, 2, 4


def verdict(at_capacity: list[Reply], over: list[Reply], memory: tuple[float, float]) -> list[str]:
    """Return the rows of the table."""
    accepted = [reply.seconds for reply in over if reply.status == 200]
    refused = [reply for reply in over if reply.status == 503]
    told = sum(reply.retry_after is not None for reply in refused)
    others = len(over) - len(accepted) - len(refused)
    base = percentile([reply.seconds for reply in at_capacity], 99)
    quick = percentile([reply.seconds for reply in refused], 99)
    slow = percentile(accepted, 99)
    return [
        f"| answers that are neither a count nor 503 | {others} of {len(over)} | 0 | "
        f"{_met(others == 0)} |",
        f"| 503 with Retry-After | {told} of {len(refused)} | all | {_met(told == len(refused))} |",
        f"| answers by status (0: connection lost) | {_by_status(over)} | | |",
        f"| time of a refusal, p50 | {percentile([r.seconds for r in refused], 50):.0f} ms | | |",
        f"| time of a refusal, p99 | {quick:.0f} ms | <= 100 | {_met(quick <= 100)} |",
        f"| p99 at capacity | {base:.0f} ms | | |",
        f"| p99 of the accepted | {slow:.0f} ms | <= {2 * base:.0f} | {_met(slow <= 2 * base)} |",
        f"| accepted | {len(accepted)} | | |",
        f"| memory of all replicas and proxies, most | {memory[1]:.0f} MB | at capacity "
        f"{memory[0]:.0f} MB | |",
    ]


def _by_status(replies: list[Reply]) -> str:
    counts = Counter(reply.status for reply in replies)
    return ", ".join(f"{status}: {count}" for status, count in sorted(counts.items()))


def _met(held: bool) -> str:
    return "met" if held else "NOT met"


class Measured(NamedTuple):
    """Replies at capacity, over it and afterwards; memory in MB; images/s; size of an image."""

    at_capacity: list[Reply]
    over: list[Reply]
    after: list[Reply]
    memory: tuple[float, float]
    rate: float
    size_kb: float


def measure(layout: str, seconds: float) -> Measured:
    """Find the service's capacity, send ten times that, then a little."""
    from ray import serve

    port, lasts = free_port(), f"--seconds={seconds}"
    address = f"http://127.0.0.1:{port}"
    limits = {"max_in_flight": IN_FLIGHT, "max_queued": QUEUED}
    with tempfile.TemporaryDirectory() as scratch, session():
        folder = stand_in_bundle(Path(scratch) / "bundle")
        image = write_image(Path(scratch) / "image.jpg")
        size_kb = image.stat().st_size / 1e3
        try:
            deploy(small_config(layout, folder, port, cpus=1.0, **limits))
            in_second_process(address, image, "--clients=2", "--seconds=5")
            with MostMemory(lambda: {"service": of_ray()}) as quiet:
                full = f"--clients={IN_FLIGHT + QUEUED}"
                at_capacity = in_second_process(address, image, full, lasts)
            rate = sum(reply.status == 200 for reply in at_capacity) / seconds
            with MostMemory(lambda: {"service": of_ray()}) as busy:
                over = in_second_process(address, image, f"--rate={TIMES * rate:.1f}", lasts)
            after = in_second_process(address, image, "--clients=1", "--seconds=3")
        finally:
            serve.shutdown()
    return Measured(
        at_capacity, over, after, (quiet.most["service"], busy.most["service"]), rate, size_kb
    )


def main() -> None:
    """Measure and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=30)
    parser.add_argument("--layout", default="fused", choices=("fused", "separate"))
    options = parser.parse_args()
    before = machine()
    found = measure(options.layout, options.seconds)
    after, rate = found.after, found.rate
    proxy = "HAProxy" if os.environ.get("RAY_SERVE_ENABLE_HA_PROXY") == "1" else "Serve's own"
    alive = all(reply.status == 200 for reply in after)
    write("serve_overload" + ("_haproxy" if proxy == "HAProxy" else ""), [
        "# Ten times what the service can do", "",
        f"Layout {options.layout}, proxy: {proxy}; images of 1600x1200 (JPEG, "
        f"{found.size_kb:.0f} kB), "
        "networks of one weight a colour; "
        f"{IN_FLIGHT} images in work and {QUEUED} waiting are admitted. Capacity: as many clients "
        f"as that, one request after the other, {options.seconds:g} s: {rate:.1f} images/s. Then "
        f"{TIMES * rate:.0f} requests/s for {options.seconds:g} s, begun whether or not earlier "
        "ones are answered, from a process that shares the machine's cores.", "",
        "| | measured | asked | |", "|---|---|---|---|",
        *verdict(found.at_capacity, found.over, found.memory),
        f"| answers afterwards | {len(after)} of {len(after)} right away | all | {_met(alive)} |"
        if alive else "| answers afterwards | not all | all | NOT met |", "",
        f"Before: {before}. After: {machine()}. {versions('ray', 'torch', 'fastapi')}.",
    ])  # fmt: skip


if __name__ == "__main__":
    main()
