"""CPU time and memory of a process and all its descendants (Linux)."""

from __future__ import annotations

import os
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil

POLL_S = 0.05


@dataclass(frozen=True)
class Memory:
    """Bytes that processes hold: resident, and with shared pages dealt out among their holders."""

    rss: int = 0
    pss: int = 0


def tree_cpu_seconds(root: int | None = None, proc: Path = Path("/proc")) -> float:
    """Return the CPU seconds used so far by process ``root`` (this one) and its descendants."""
    return sum(ticks for _, ticks in _tree(root, proc)) / os.sysconf("SC_CLK_TCK")


def tree_memory(root: int | None = None, proc: Path = Path("/proc")) -> Memory:
    """Return the memory that process ``root`` (this one) and its descendants hold now."""
    rss = pss = 0
    for pid, _ in _tree(root, proc):
        try:
            lines = (proc / str(pid) / "smaps_rollup").read_text().splitlines()
        except OSError:  # it ended meanwhile
            continue
        kib = {line.split(":")[0]: line.split()[1] for line in lines if line.endswith(" kB")}
        rss += int(kib.get("Rss", 0)) << 10
        pss += int(kib.get("Pss", 0)) << 10
    return Memory(rss, pss)


def _tree(root: int | None, proc: Path) -> Iterator[tuple[int, int]]:
    """Yield each process of the tree, with the ticks of CPU that it has used."""
    children: dict[int, list[int]] = defaultdict(list)
    ticks: dict[int, int] = {}
    for stat in proc.glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:  # it ended meanwhile
            continue
        pid = int(stat.parent.name)
        children[int(fields[1])].append(pid)
        # User and system time, its own and that of children that have ended.
        ticks[pid] = sum(map(int, fields[11:15]))
    waiting = [os.getpid() if root is None else root]
    while waiting:
        pid = waiting.pop()
        yield pid, ticks.get(pid, 0)
        waiting += children[pid]


class CpuAtChange:
    """Records the tree's CPU time whenever a file is rewritten, while the block runs.

    Attributes
    ----------
    seconds : CPU seconds at each change, in order.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.seconds: list[float] = []
        self._over = threading.Event()
        self._watcher = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Self:
        self._watcher.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._over.set()
        self._watcher.join()

    def _watch(self) -> None:
        seen: int | None = None
        while not self._over.wait(POLL_S):
            try:
                changed = self.path.stat().st_mtime_ns
            except OSError:
                continue
            if changed != seen:
                seen = changed
                self.seconds.append(tree_cpu_seconds())


class MostMemory:
    """Notes the most memory that groups of processes hold while the block runs.

    Attributes
    ----------
    most : MB of each group, without the pages that its processes share.
    """

    def __init__(self, groups: Callable[[], dict[str, list[psutil.Process]]]) -> None:
        self.groups, self.most = groups, dict[str, float]()
        self._over = threading.Event()
        self._watcher = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Self:
        self._watcher.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._watcher.join()

    def _watch(self) -> None:
        while not self._over.wait(0.5):
            for name, processes in self.groups().items():
                held = 0
                for process in processes:
                    with suppress(psutil.Error):
                        info = process.memory_info()
                        held += info.rss - info.shared
                self.most[name] = max(self.most.get(name, 0.0), held / 1e6)


def of_ray() -> list[psutil.Process]:
    """Return the processes of the Ray that this process has started."""
    found = []
    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.Error):
            if " ".join(process.cmdline()).startswith("ray::"):
                found.append(process)
    return found
