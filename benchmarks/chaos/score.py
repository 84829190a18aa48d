"""Faults of a scoring: what is promised, and how each fault is caused."""

from __future__ import annotations

import os
import random
import signal
import time
from pathlib import Path
from typing import Any

import psutil

from benchmarks.chaos.jobs import Job, scored
from benchmarks.chaos.lab import Happened, Lab, enlarge, small_disk
from benchmarks.own_cluster import ROOT, Node, OwnCluster

FROZEN_S = 8
# Room for a part of the results: the disk is full in the middle.
SMALL_KIB, LARGE_KIB = 1200, 64_000
NODE_CPUS = 2


def worker_killed(lab: Lab, rng: random.Random) -> Happened:
    """Kill -9 of a worker that scores."""
    return _one_killed(lab, rng, "ray::Scorer")


def claims_killed(lab: Lab, rng: random.Random) -> Happened:
    """Kill -9 of the actor that knows who computes which content."""
    return _one_killed(lab, rng, "ray::Claims")


def _one_killed(lab: Lab, rng: random.Random, kind: str) -> Happened:
    out = lab.scratch() / "out"
    with lab.score(out) as job:
        job.advance(rng.randint(2, 8))
        victim = job.worker(kind)
        logs = set(_logs(out))
        victim.kill()
        # The actor's work leaves no trace; a worker's replacement scores an image.
        recovery = job.advance(1) if kind == "ray::Claims" else _replaced(job, out, logs)
        job.end()
    return Happened(scored(out) == lab.calm_scored, "continued on its own", recovery)


def _replaced(job: Job, out: Path, logs: set[str]) -> float:
    """Wait until a process that was not there before has scored an image, or all is done."""
    return job.wait_until(
        lambda: set(_logs(out)) - logs or job.process.poll() in job.done, "the replacement"
    )


def driver_killed(lab: Lab, rng: random.Random) -> Happened:
    """Kill -9 of the driver."""
    out = lab.scratch() / "out"
    with lab.score(out) as job:
        job.advance(rng.randint(2, 12))
        time.sleep(rng.uniform(0, 0.5))
        job.kill()
    done = job.progress()
    return _resumed(lab, out, f"{done} parts kept by --resume")


def _resumed(lab: Lab, out: Path, what: str, **env: Any) -> Happened:
    kept = {part: part.read_bytes() for part in (out / "parts").glob("*.parquet")}
    with lab.score(out, "--resume", **env) as job:
        recovery = job.advance(1)
        job.end()
    again = [part for part, data in kept.items() if part.read_bytes() != data]
    return Happened(scored(out) == lab.calm_scored and not again, what, recovery)


def disk_full(lab: Lab, rng: random.Random) -> Happened:
    """Score onto a disk that is too small."""
    with small_disk(lab.scratch(), SMALL_KIB + rng.randint(0, 400)) as disk:
        out = disk / "out"
        log = lab.scratch() / "log"
        with lab.score(out, log=log) as job:
            job.end(code=1)
        said = job.said()
        if "No space left" not in said or "Traceback" in said:
            return Happened(False, f"ended, but did not say why: {said[-200:]}")
        done = job.progress()
        enlarge(disk, LARGE_KIB)
        return _resumed(lab, out, f"said why and ended; {done} parts kept by --resume", log=log)


def clock_jumps(lab: Lab, rng: random.Random) -> Happened:
    """Set the clock back by an hour in all Python processes of the job."""
    out = lab.scratch() / "out"
    with lab.score(out, env=jumping(time.time() + rng.uniform(12, 20))) as job:
        job.end()
    return Happened(scored(out) == lab.calm_scored, "not noticed")


def jumping(at: float) -> dict[str, str]:
    """Return an environment in which the clock is set back by an hour at a moment."""
    paths = [str(ROOT / "benchmarks" / "chaos" / "clock"), os.environ.get("PYTHONPATH", "")]
    return {
        **os.environ, "CHAOS_JUMP_AT": str(at), "CHAOS_JUMP_S": "3600",
        "PYTHONPATH": os.pathsep.join(path for path in paths if path),
    }  # fmt: skip


def raylet_killed(lab: Lab, rng: random.Random) -> Happened:
    """Kill -9 of the raylet of one of two nodes."""
    return _node_hit(lab, rng, lambda node: node.part("raylet").kill())


def node_killed(lab: Lab, rng: random.Random) -> Happened:
    """Kill -9 of every process of one of two nodes at once."""
    return _node_hit(lab, rng, lambda node: node.kill())


def node_frozen(lab: Lab, rng: random.Random) -> Happened:
    """Stop all processes of one of two nodes for a while, as a network that hangs does."""

    def freeze(node: Node) -> None:
        parts = node.parts()
        for sign in (signal.SIGSTOP, signal.SIGCONT):
            for part in parts:
                try:
                    part.send_signal(sign)
                except psutil.NoSuchProcess:
                    continue
            if sign == signal.SIGSTOP:
                time.sleep(FROZEN_S)

    return _node_hit(lab, rng, freeze, lost=False)


def _node_hit(lab: Lab, rng: random.Random, hit: Any, lost: bool = True) -> Happened:
    out = lab.scratch() / "out"
    with OwnCluster() as cluster:
        nodes = [cluster.add_node(NODE_CPUS) for _ in range(2)]
        with lab.score(out, env=cluster.driver_env) as job:
            job.advance(rng.randint(2, 6))
            logs, began = set(_logs(out)), time.monotonic()
            hit(rng.choice(nodes))
            hitting = time.monotonic() - began
            recovery = hitting + _replaced(job, out, logs) if lost else job.advance(1)
            job.end()
    what = "its actor was started on the other node" if lost else "waited, and continued"
    return Happened(scored(out) == lab.calm_scored, what, recovery)


def gcs_killed(lab: Lab, rng: random.Random) -> Happened:
    """Kill -9 of the head node's control service; the job is submitted again to a new cluster."""
    out = lab.scratch() / "out"
    with OwnCluster() as cluster:
        for _ in range(2):
            cluster.add_node(NODE_CPUS)
        with lab.score(out, env=cluster.driver_env) as job:
            job.advance(rng.randint(2, 6))
            cluster.gcs().kill()
            ended = _ends(job)
    done = job.progress()
    with OwnCluster() as cluster:
        cluster.add_node(NODE_CPUS)
        what = f"job {ended}; {done} parts kept by --resume on a new cluster"
        return _resumed(lab, out, what, env=cluster.driver_env)


def _ends(job: Job) -> str:
    """Wait for a job that lost its cluster; end it if it does not end on its own."""
    until = time.monotonic() + 90
    while job.process.poll() is None:
        if time.monotonic() > until:
            job.kill()
            return "ended by hand after 90 s"
        time.sleep(0.5)
    return f"ended with code {job.process.returncode}"


def _logs(out: Path) -> list[str]:
    return [log.name for log in (out / "computed").glob("*.log")]
