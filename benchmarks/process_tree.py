"""CPU time of this process and all that it started, read at every change of a file (Linux)."""

from __future__ import annotations

import os
import threading
from collections import defaultdict
from pathlib import Path
from types import TracebackType
from typing import Self

POLL_S = 0.05


def tree_cpu_seconds(root: int | None = None, proc: Path = Path("/proc")) -> float:
    """Return the CPU seconds used so far by process ``root`` (this one) and its descendants."""
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
    waiting, total = [os.getpid() if root is None else root], 0
    while waiting:
        pid = waiting.pop()
        total += ticks.get(pid, 0)
        waiting += children[pid]
    return total / os.sysconf("SC_CLK_TCK")


class CpuAtChange:
    """Notes the tree's CPU time whenever a file is written anew, while the block runs.

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
