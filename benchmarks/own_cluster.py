"""A Ray cluster of separate processes on this machine's loopback: each part can be killed alone.

It has its own token, ports and folder, and ends only the processes that it started.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import psutil

ROOT = Path(__file__).parents[1]
START_S = 120
# One for all clusters of a process, because Ray keeps the first that it sees.
TOKEN = secrets.token_hex(32)
STORE_BYTES = 200_000_000
# Otherwise Ray takes 127.0.0.1 for a mistake and listens on the machine's network address.
LOOPBACK = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
# `ray start` lets no node on loopback join; Ray's own tests join it in this way.
# Otherwise each node starts as many processes as it has CPUs before any is needed.
WITHOUT_PRESTART = {"RAY_prestart_worker_first_driver": "0", "RAY_enable_worker_prestart": "0"}
NODE = """
import signal, sys
from ray._private.node import Node
from ray._private.parameter import RayParams
address, cpus, (gpus, store) = sys.argv[1], float(sys.argv[2]), map(int, sys.argv[3:])
Node(
    RayParams(
        node_ip_address="127.0.0.1", redis_address=address, gcs_address=address, num_cpus=cpus,
        num_gpus=gpus, object_store_memory=store, min_worker_port=0, max_worker_port=0,
        dashboard_port=None, dashboard_agent_listen_port=0,
    ),
    head=False, shutdown_at_exit=True, spawn_reaper=False,
)
signal.pause()
"""
# Prints how many nodes are alive, and how many of them have GPUs, whenever that changes.
WATCH = """
import json, logging, time, ray
ray.init(log_to_driver=False, logging_level=logging.ERROR)
before = None
while True:
    alive = [node for node in ray.nodes() if node["Alive"]]
    seen = {"nodes": len(alive), "gpus": sum(bool(n["Resources"].get("GPU")) for n in alive)}
    if seen != before:
        print(json.dumps({"at": time.time(), **seen}), flush=True)
    before = seen
    time.sleep(0.25)
"""


@dataclass(frozen=True)
class Node:
    """One node: the process that holds its raylet, agents and workers as children."""

    process: subprocess.Popen[str]

    def parts(self) -> list[psutil.Process]:
        """Return all its processes, itself last."""
        own = psutil.Process(self.process.pid)
        return [*own.children(recursive=True), own]

    def part(self, name: str) -> psutil.Process:
        """Return its ``raylet`` or ``gcs_server``."""
        return next(part for part in self.parts() if part.name() == name)

    def workers(self) -> list[psutil.Process]:
        """Return its processes that run tasks and actors."""
        return [p for p in self.parts() if title(p).startswith("ray::") and "Agent" not in title(p)]

    def kill(self) -> None:
        """Kill all of it at once, as a power cut does."""
        end(self.parts())


class OwnCluster:
    """A head node, and nodes added to it; a context."""

    def __init__(self, head_cpus: int = 0, autoscaling: dict[str, Any] | None = None) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="ray-"))
        self.head_cpus, self.autoscaling = head_cpus, autoscaling
        self.address = f"127.0.0.1:{free_port()}"
        self.env = {
            **os.environ, "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": TOKEN,
            "RAY_USAGE_STATS_ENABLED": "0", **LOOPBACK, **WITHOUT_PRESTART,
        }  # fmt: skip
        self.head_env: dict[str, str] = {}
        self.log = (self.folder / "nodes.log").open("a", encoding="utf-8")
        self.watched = self.folder / "watched.jsonl"
        self.head: Node | None = None
        self.nodes: list[Node] = []
        self.watcher: subprocess.Popen[str] | None = None

    def __enter__(self) -> Self:
        options = ["--head", "--node-ip-address=127.0.0.1",
                   f"--port={self.address.partition(':')[2]}",
                   f"--ray-client-server-port={free_port(32_000)}",
                   "--include-dashboard=false", f"--temp-dir={self.folder / 'ray'}"]  # fmt: skip
        if self.autoscaling is not None:
            config = self.folder / "autoscaler.yaml"
            config.write_text(json.dumps(self.autoscaling), encoding="utf-8")
            options.append(f"--autoscaling-config={config}")
        self.head = Node(self._ray(options))
        try:
            self.wait(lambda: _listens(self.address), START_S, "the head node")
            with self.watched.open("w", encoding="utf-8") as seen:
                self.watcher = self._start([sys.executable, "-c", WATCH], self.driver_env, seen)
            self.wait(lambda: self.seen("nodes"), START_S, "the watcher")
        except BaseException:
            print(self.said())
            self.__exit__()
            raise
        return self

    def __exit__(self, *error: object) -> None:
        ours = [n.process for n in (*self.nodes, self.head) if n is not None]
        ours += [self.watcher] if self.watcher is not None else []
        parts = []
        for process in ours:
            if process.poll() is None:
                parts += Node(process).parts()
        end(parts)
        self.log.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    @property
    def driver_env(self) -> dict[str, str]:
        """Environment of a job of this cluster."""
        return {**self.env, "RAY_ADDRESS": self.address}

    def add_node(self, cpus: float, gpus: int = 0) -> Node:
        """Add a node and wait until the cluster has it."""
        before = self.seen("nodes")[-1]
        command = [sys.executable, "-c", NODE, self.address, str(cpus), str(gpus), str(STORE_BYTES)]
        node = Node(self._start(command, self.env, self.log))
        self.nodes.append(node)
        self.wait(lambda: self.seen("nodes")[-1] > before, START_S, "a node")
        return node

    def gcs(self) -> psutil.Process:
        """Return the head node's control service."""
        if self.head is None:
            raise RuntimeError("the cluster has not been started")
        return self.head.part("gcs_server")

    def seen(self, what: str) -> list[int]:
        """Return how many ``nodes`` or ``gpus`` there were, each time that anything changed."""
        lines = self.watched.read_text(encoding="utf-8").splitlines()
        # Ray prints warnings among them.
        return [json.loads(line)[what] for line in lines if line.startswith("{")]

    def wait(self, seen: Callable[[], Any], seconds: float, what: str) -> float:
        """Wait for something to be seen; return how long that took."""
        began = time.monotonic()
        while not seen():
            if self.head is None or self.head.process.poll() is not None:
                raise RuntimeError(f"the head node ended before {what}: {self.said()}")
            if time.monotonic() - began > seconds:
                raise RuntimeError(f"timed out waiting for {what}: {self.said()}")
            time.sleep(0.2)
        return time.monotonic() - began

    def said(self) -> str:
        """Return the last that the nodes printed."""
        return (self.folder / "nodes.log").read_text(encoding="utf-8")[-3000:]

    def _ray(self, options: list[str]) -> subprocess.Popen[str]:
        command = [
            sys.executable, "-m", "ray.scripts.scripts", "start", "--block",
            f"--num-cpus={self.head_cpus}", "--num-gpus=0",
            f"--object-store-memory={STORE_BYTES}", "--min-worker-port=0", "--max-worker-port=0",
            "--dashboard-agent-listen-port=0", *options,
        ]  # fmt: skip
        return self._start(command, self.env | self.head_env, self.log)

    def _start(self, command: list[str], env: dict[str, str], out: Any) -> subprocess.Popen[str]:
        return subprocess.Popen(command, env=env, stdout=out, stderr=self.log, cwd=ROOT, text=True)


def end(processes: list[psutil.Process]) -> None:
    """Kill processes and wait until they are gone."""
    for process in processes:
        try:
            process.kill()
        except psutil.NoSuchProcess:
            continue
    psutil.wait_procs(processes, timeout=20)


def title(process: psutil.Process) -> str:
    """Return a process's command line; nothing of one that is gone."""
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


def free_port(least: int = 20_000) -> int:
    """Return a free port of loopback outside the ranges that Ray takes for itself."""
    for port in range(least + os.getpid() % 5000, least + 12_000):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise RuntimeError(f"no free port of loopback from {least} on")


def _listens(address: str) -> bool:
    host, _, port = address.partition(":")
    try:
        socket.create_connection((host, int(port)), timeout=1).close()
    except OSError:
        return False
    return True
