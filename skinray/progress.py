"""Progress with the time left: a bar in a terminal, lines in a log."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

LOG_EVERY_S = 15.0
# Called with title, done, total, and the state: "running", "done" or "stopped".
Listener = Callable[[str, int, int, str], None]
_LISTENERS: list[Listener] = []


@contextmanager
def listening(listener: Listener) -> Iterator[None]:
    """Call ``listener`` about all progress in this process while the block runs."""
    _LISTENERS.append(listener)
    try:
        yield
    finally:
        _LISTENERS.remove(listener)


def clock(seconds: float) -> str:
    """Return seconds as ``mm:ss`` or ``h:mm:ss``."""
    whole = round(seconds)
    hours, rest = divmod(whole, 3600)
    text = f"{rest // 60:02d}:{rest % 60:02d}"
    return f"{hours}:{text}" if hours else text


class Steps:
    """Shows how many of a number of equal steps are done, and the time left."""

    def __init__(
        self,
        title: str,
        total: int,
        console: Console | None = None,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self.title, self.total, self.done = title, max(1, total), 0
        self._now = now
        self.console = console or Console()
        self._began = self._printed = self._now()
        self._first: tuple[int, float] | None = None
        self._bar: Progress | None = None
        self._task: TaskID | None = None

    def __enter__(self) -> Self:
        self._began = self._printed = self._now()
        if self.console.is_terminal:
            self._bar = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                TimeElapsedColumn(),
                TextColumn("{task.fields[note]}"),
                console=self.console,
            )
            self._task = self._bar.add_task(self.title, total=self.total, note="")
            self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._bar.stop()
        took = clock(self._now() - self._began)
        state = "done" if error is None else "stopped"
        self._notify(state)
        self.console.print(f"{self.title}: {state} in {took}", highlight=False)

    def resize(self, total: int) -> None:
        """Set the number of steps, if it was not known at the start."""
        self.total = max(1, total)
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, total=self.total)

    def tell(self, done: int, total: int) -> None:
        """Set both numbers at once: the signature of every ``progress`` callback in skinray."""
        self.resize(total)
        self.set(done)

    def set(self, done: int, note: str = "") -> None:
        """Report that ``done`` of the steps are done.

        The time left is shown from the second report on: the first steps also include the time
        for workers to start, or were done by an earlier run.
        """
        self.done = done
        self._notify("running")
        now, text = self._now(), note
        if done and self._first is None:
            self._first = (done, now)
        elif self._first is not None and done > self._first[0]:
            before, then = self._first
            left = (now - then) / (done - before) * (self.total - done)
            text = f"{note} ETA {clock(left)}".strip()
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, completed=done, note=text)
        elif now - self._printed >= LOG_EVERY_S:
            self._printed = now
            share = 100 * done / self.total
            line = f"{self.title}: {share:.0f} %, {text}".removesuffix(", ")
            self.console.print(line, highlight=False)

    def _notify(self, state: str) -> None:
        for listener in _LISTENERS:
            listener(self.title, self.done, self.total, state)


@contextmanager
def bar(title: str, total: int | None = None) -> Iterator[Callable[[int, int], None]]:
    """Show progress while the block runs; yields ``tell(done, total)``."""
    with Steps(title, total or 1) as steps:
        yield steps.tell
