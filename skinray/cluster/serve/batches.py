"""Batches of one replica's requests; each is answered as soon as its own result is ready.

``serve.batch`` would answer none until the whole batch is done, and one failure would fail all.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Generic, TypeVar

T = TypeVar("T")
R = TypeVar("R")


class Batches(Generic[T, R]):
    """Collects requests and lets one thread process them, a batch at a time.

    Parameters
    ----------
    work : yields the results of a batch by position, each a value or an exception, in the order
        in which they are ready; each position once.
    most : requests in a batch. Those that arrive while the thread is busy form the next one.
    wait_s : how long to wait for a batch to fill, once the thread is free.
    name : of the thread.
    """

    def __init__(
        self,
        work: Callable[[Sequence[T]], Iterable[Mapping[int, R | Exception]]],
        most: int,
        wait_s: float,
        name: str,
    ) -> None:
        self._work, self._most, self._wait_s = work, most, wait_s
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=name)
        self._waiting: deque[tuple[T, asyncio.Future[R]]] = deque()
        self._came = asyncio.Event()
        self._working: asyncio.Task[None] | None = None

    async def result(self, item: T) -> R:
        """Return the result of one item or raise its exception; may be cancelled while it waits."""
        loop = asyncio.get_running_loop()
        mine: asyncio.Future[R] = loop.create_future()
        self._waiting.append((item, mine))
        self._came.set()
        if self._working is None or self._working.done():
            self._working = loop.create_task(self._process())
        return await mine

    async def _process(self) -> None:
        loop = asyncio.get_running_loop()
        while self._waiting:
            await self._filled()
            taken = [self._waiting.popleft() for _ in range(min(self._most, len(self._waiting)))]
            batch = [(item, mine) for item, mine in taken if not mine.cancelled()]
            if batch:
                await loop.run_in_executor(self._thread, self._compute, batch, loop)

    async def _filled(self) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(self._wait_s):
                while len(self._waiting) < self._most:
                    self._came.clear()
                    await self._came.wait()

    def _compute(
        self, batch: Sequence[tuple[T, asyncio.Future[R]]], loop: asyncio.AbstractEventLoop
    ) -> None:
        try:
            for results in self._work([item for item, _ in batch]):
                for place, result in results.items():
                    loop.call_soon_threadsafe(_settle, batch[place][1], result)
        except Exception as error:  # the work failed: all without a result get the error
            for _, mine in batch:
                loop.call_soon_threadsafe(_settle, mine, error)


def _settle(mine: asyncio.Future[R], result: R | Exception) -> None:
    if mine.done():  # its client has given up, or it was settled before
        return
    if isinstance(result, Exception):
        mine.set_exception(result)
    else:
        mine.set_result(result)
