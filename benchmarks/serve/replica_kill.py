"""Correct answers under steady load while replicas of the service are killed, with one retry."""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import signal
import tempfile
from pathlib import Path

import psutil

from benchmarks.measure import machine, versions, write
from benchmarks.serve.load import Reply, closed_loop, percentile
from benchmarks.serve.running import deploy, free_port, small_config
from benchmarks.stand_in import drawn_image, stand_in_bundle
from skinray.cluster.session import session
from skinray.learning.bundle import load
from skinray.scoring.overlays import encode_png

ASKED = 0.999
REPLICAS = {"fused": ("Fused",), "separate": ("Ingress", "NerveStage", "DermisStage")}


def replicas(name: str) -> list[psutil.Process]:
    """Return the processes of a deployment's replicas, children of this one."""
    title = f"ray::ServeReplica:skinray:{name}"
    found = []
    for process in psutil.Process().children(recursive=True):
        try:
            if " ".join(process.cmdline()).startswith(title):
                found.append(process)
        except psutil.Error:
            continue
    return found


async def kill_by_turns(layout: str, seconds: float, pause_s: float, seed: int) -> list[str]:
    """Kill -9 one replica after the other; only where another of its kind is there."""
    rng, killed = random.Random(seed), []
    until = asyncio.get_running_loop().time() + seconds - pause_s
    while asyncio.get_running_loop().time() < until:
        await asyncio.sleep(pause_s)
        name = REPLICAS[layout][len(killed) % len(REPLICAS[layout])]
        alive = await asyncio.to_thread(replicas, name)
        if len(alive) > 1:
            os.kill(rng.choice(alive).pid, signal.SIGKILL)
            killed.append(name)
    return killed


async def under_kills(
    address: str, image: bytes, layout: str, seconds: float, pause_s: float, seed: int
) -> tuple[list[Reply], list[str]]:
    """Return the replies, and the deployments that a replica was killed of."""
    load_ = closed_loop(address, image, 2, seconds, retries=1)
    return tuple(  # type: ignore[return-value]
        await asyncio.gather(load_, kill_by_turns(layout, seconds, pause_s, seed))
    )


def measure(
    layout: str, seconds: float, pause_s: float, seed: int = 0
) -> tuple[list[Reply], int, list[str]]:
    """Return the replies, how many were right, and what was killed."""
    from ray import serve

    port, pixels = free_port(), drawn_image(0, (240, 320), 5)
    with tempfile.TemporaryDirectory() as scratch, session():
        folder = stand_in_bundle(Path(scratch) / "bundle")
        expected = load(folder, "cpu").predict(pixels, 0.5).crossings.points.tolist()
        try:
            deploy(small_config(layout, folder, port, replicas=2, cpus=0.25))
            address = f"http://127.0.0.1:{port}"
            replies, killed = asyncio.run(
                under_kills(address, encode_png(pixels), layout, seconds, pause_s, seed)
            )
        finally:
            serve.shutdown()
    right = sum(reply.status == 200 and reply.points == expected for reply in replies)
    return replies, right, killed


def row(layout: str, seconds: float, pause_s: float) -> str:
    """Measure a layout and return its row."""
    replies, right, killed = measure(layout, seconds, pause_s)
    share = right / len(replies)
    met = "met" if share >= ASKED else "NOT met"
    again = sum(reply.attempts > 1 for reply in replies)
    slow = percentile([reply.seconds for reply in replies], 99)
    return (
        f"| {layout} | {len(killed)} | {right} of {len(replies)} | {100 * share:.2f} % | {again} | "
        f"{slow:.0f} | >= 99.9 % | {met} |"
    )


def main() -> None:
    """Measure both layouts and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=90)
    parser.add_argument("--pause", type=float, default=15, help="between two kills, in s")
    parser.add_argument("--layouts", nargs="+", default=list(REPLICAS), choices=list(REPLICAS))
    options = parser.parse_args()
    before = machine()
    rows = [row(layout, options.seconds, options.pause) for layout in options.layouts]
    write("serve_replica_kill", [
        "# Replicas killed under steady load", "",
        f"Two replicas of each deployment, two clients for {options.seconds:g} s, kill -9 of one "
        f"replica every {options.pause:g} s. A client tries once more where no count comes back; "
        "right is a count with the coordinates that the bundle gives in one process.", "",
        "| layout | kills | right | share | tried twice | p99, ms | asked | |",
        "|---|---|---|---|---|---|---|---|", *rows, "",
        f"Before: {before}. After: {machine()}. {versions('ray', 'torch', 'fastapi')}.",
    ])  # fmt: skip


if __name__ == "__main__":
    main()
