"""Scoring and training jobs in their own processes, to be disturbed, and their results."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pyarrow.parquet as pq

from benchmarks.own_cluster import ROOT, title
from skinray.cli.options import NOT_LEARNED
from skinray.report.biopsies.results import RunResults

LIMIT_S = 400


class Job(ABC):
    """A running script of the repository; a context that leaves no process behind.

    Attributes
    ----------
    done : exit codes of a job that did all its work.
    """

    command: tuple[str, ...] = ()
    done: tuple[int, ...] = (0,)

    def __init__(
        self, out: Path | str, log: Path, options: list[str], env: dict[str, str] | None = None
    ) -> None:
        self.out, self.log, self.began = out, log, time.time()
        with log.open("a", encoding="utf-8") as said:
            self.process = subprocess.Popen(
                [sys.executable, *self.command, "--out", str(out), *options],
                stdout=said, stderr=subprocess.STDOUT, cwd=ROOT, env=env or {**os.environ},
            )  # fmt: skip

    def __enter__(self) -> Job:
        return self

    def __exit__(self, *error: object) -> None:
        if self.process.poll() is None:
            self.kill()

    @abstractmethod
    def progress(self) -> int:
        """Return how much is stored so far."""

    def wait_until(self, seen: Callable[[], Any], what: str) -> float:
        """Wait for something to be seen while the job runs; return how long that took."""
        began = time.monotonic()
        while not seen():
            if self.process.poll() is not None and not seen():
                raise RuntimeError(f"the job ended before {what}: {self.said()}")
            if time.monotonic() - began > LIMIT_S:
                raise RuntimeError(f"timed out waiting for {what}: {self.said()}")
            time.sleep(0.05)
        return time.monotonic() - began

    def advance(self, by: int) -> float:
        """Wait until so much more is stored, or the job is done; return how long that took."""
        goal = self.progress() + by
        return self.wait_until(
            lambda: self.progress() >= goal or self.process.poll() in self.done,
            f"{by} further results",
        )

    def workers(self) -> list[psutil.Process]:
        """Return the worker processes of the job's own Ray, without its agents."""
        try:
            found = psutil.Process(self.process.pid).children(recursive=True)
        except psutil.Error:
            return []
        return [p for p in found if title(p).startswith("ray::") and "Agent" not in title(p)]

    def worker(self, kind: str) -> psutil.Process:
        """Wait for a worker whose title starts like this, and return it."""
        found: list[psutil.Process] = []

        def seen() -> bool:
            found[:] = [p for p in self.workers() if title(p).startswith(kind)]
            return bool(found)

        self.wait_until(seen, kind)
        return found[0]

    def kill(self) -> None:
        """Kill the driver alone, and wait until nothing works for it any more."""
        ours = self.workers()  # its agents follow by themselves, when they notice
        os.kill(self.process.pid, signal.SIGKILL)
        self.process.wait()
        _, left = psutil.wait_procs(ours, timeout=60)
        if left:
            raise RuntimeError(f"still alive a minute after their driver: {left}")

    def said(self) -> str:
        """Return the last that the job printed."""
        return self.log.read_text(encoding="utf-8")[-3000:]

    def end(self, code: int | None = None) -> None:
        """Wait for the job's end; RuntimeError if it has another exit code, or is not done."""
        expected = self.done if code is None else (code,)
        try:
            found = self.process.wait(timeout=LIMIT_S)
        except subprocess.TimeoutExpired:
            raise RuntimeError(f"does not end: {self.said()}") from None
        if found not in expected:
            raise RuntimeError(f"ended with {found} and not {expected}: {self.said()}")


class Scoring(Job):
    """``jobs/score_cohort.py``."""

    command = ("jobs/score_cohort.py",)

    def progress(self) -> int:
        """Return the number of committed parts."""
        return len(list((Path(self.out) / "parts").glob("*.parquet")))


class Training(Job):
    """``jobs/train_cv.py``. Its small networks train for too short a time to learn."""

    command = ("jobs/train_cv.py",)
    done = (0, NOT_LEARNED)

    def progress(self) -> int:
        """Return the number of trained epochs, those trained again too."""
        return sum(epochs_of(Path(self.out)).values())


def epochs_of(out: Path) -> dict[str, int]:
    """Return the trained epochs by trial."""
    logs = out.glob("trials/*/epochs.jsonl")
    return {log.parent.name: len(log.read_text(encoding="utf-8").splitlines()) for log in logs}


def scored(out: Path) -> dict[str, Any]:
    """Return all results of a scoring run: the tables, and every picture to the byte."""
    found: dict[str, Any] = {
        name: pq.read_table(out / f"{name}.parquet").to_pylist() for name in ("counts", "crossings")
    }
    for kind in ("overlays", "geojson"):
        for path in sorted((out / kind).rglob("*")):
            if path.is_file():
                found[str(path.relative_to(out))] = path.read_bytes()
    return found


# Of a trial that was interrupted, the crops are those since it was resumed.
HOW_FAST = ("seconds", "images_per_s", "waited_for_data_s", "crops_streamed")


def trained(out: Path) -> dict[str, Any]:
    """Return everything that a training run measured; not when and how fast."""
    return tables(RunResults.load(out))


def tables(results: RunResults) -> dict[str, Any]:
    """Return what a training run measured; not when and how fast."""
    whole = json.loads(results.model_dump_json())
    kept = ("counts", "folds", "arms", "component_counts", "curves")
    return {key: whole[key] for key in kept} | {
        "trials": [
            {k: v for k, v in trial.items() if k not in HOW_FAST} for trial in whole["trials"]
        ]
    }
