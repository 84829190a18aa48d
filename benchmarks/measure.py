"""Shared by the benchmarks: timing in turn, in CPU time, and the machine's name."""

from __future__ import annotations

import datetime
import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from skinray.learning.provenance import hardware

RESULTS = Path(__file__).parent / "results"


def interleaved(
    contenders: dict[str, Callable[[int], object]], repeats: int
) -> dict[str, list[float]]:
    """Time each contender on inputs 0 to ``repeats`` - 1, in turn, in ms of CPU time.

    Whatever slows the machine down slows all contenders, so ratios stay valid. A first round is
    not counted.
    """
    times: dict[str, list[float]] = {name: [] for name in contenders}
    for repeat in range(-1, repeats):
        for name, run in contenders.items():
            begin = time.process_time()
            run(max(repeat, 0))
            if repeat >= 0:
                times[name].append((time.process_time() - begin) * 1e3)
    return times


def median_row(name: str, times: Sequence[float]) -> str:
    """Return a table row: name, median, lower and upper quartile, repeats."""
    low, middle, high = statistics.quantiles(times, n=4)
    return f"| {name} | {middle:.1f} | {low:.1f} - {high:.1f} | {len(times)} |"


def machine() -> str:
    """Return processor and GPUs, system, load of the last minute, and date."""
    today = datetime.datetime.now(tz=datetime.UTC).date().isoformat()
    return f"{hardware()}, {platform.system()}, load {os.getloadavg()[0]:.1f}; {today}"


def versions(*packages: str) -> str:
    """Return the packages with their versions, after Python's."""
    named = [f"{package} {version(package)}" for package in packages]
    return ", ".join([f"Python {platform.python_version()}", *named])


def recorded(name: str) -> list[dict[str, Any]]:
    """Return the runs that earlier calls recorded in ``results/<name>.jsonl``."""
    path = RESULTS / f"{name}.jsonl"
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    return [json.loads(line) for line in lines]


def record(name: str, run: dict[str, Any], key: Sequence[str]) -> list[dict[str, Any]]:
    """Print a run and record it, in place of an earlier one with the same ``key``; return all."""
    print(json.dumps(run), flush=True)
    others = [one for one in recorded(name) if any(one[part] != run[part] for part in key)]
    RESULTS.mkdir(exist_ok=True)
    text = "".join(f"{json.dumps(one)}\n" for one in [*others, run])
    (RESULTS / f"{name}.jsonl").write_text(text, encoding="utf-8")
    return [*others, run]


def figure(name: str, what: str, value: float, unit: str, asked: str = "") -> None:
    """Record the figure of a benchmark for ``docs/performance.md``; it replaces the one before.

    Parameters
    ----------
    name : of the result file.
    asked : the limit beside it, with its verdict; empty: none.
    """
    run = {
        "benchmark": name, "what": what, "value": round(value, 4), "unit": unit, "asked": asked,
        "machine": machine(),
    }  # fmt: skip
    record("figures", run, ["benchmark", "what"])


def write(name: str, lines: Sequence[str]) -> Path:
    """Print the result and write it to ``results/<name>.md``."""
    text = "\n".join(lines) + "\n"
    print(text)
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.md"
    path.write_text(text, encoding="utf-8")
    return path
