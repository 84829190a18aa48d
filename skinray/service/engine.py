"""What answers behind the service: one interface, and the engine that works in this process."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from skinray.config.kinds import Stage
from skinray.errors import SkinrayError
from skinray.learning.bundle import Bundle
from skinray.learning.bundle.info import BundleInfo
from skinray.service.answers.request import Want

A = TypeVar("A")
T = TypeVar("T")


class NotReadyError(SkinrayError):
    """A network that cannot answer; the message says which, and why."""


class BusyError(SkinrayError):
    """No place for one more request just now; the client may come again soon."""


class Engine(Protocol):
    """Answers for images; how many processes stand behind it is its own matter.

    Methods may raise :class:`BusyError` where the engine has limits of its own.
    """

    @property
    def info(self) -> BundleInfo:
        """The bundle that answers now."""

    async def answer(self, pixels: NDArray[np.uint8], um_per_px: float | None, want: Want[A]) -> A:
        """Return what is wanted of an image, (H, W, 3) uint8 RGB, at a scale (None: unknown).

        The bundle must be of the kind that the wish is for.
        """

    async def stage_map(
        self, stage: Stage, pixels: NDArray[np.uint8], um_per_px: float | None
    ) -> NDArray[np.float32]:
        """Return one network's map of an image, (H, W) float32, probability."""

    async def check_ready(self) -> None:
        """Return where every network answers; NotReadyError where one does not."""


class LocalEngine:
    """Works in threads of this process; all networks see an image at the same time.

    Parameters
    ----------
    bundle : the loaded networks.
    threads : images worked on at once; more wait.
    """

    def __init__(self, bundle: Bundle, threads: int = 1) -> None:
        self._bundle = bundle
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="engine")
        # For the networks beside the first, which works in the image's own thread.
        beside = max(1, threads * (len(bundle.stages) - 1))
        self._beside = ThreadPoolExecutor(beside, thread_name_prefix="engine-beside")

    @property
    def info(self) -> BundleInfo:
        """The bundle that answers now."""
        return self._bundle.info

    async def answer(self, pixels: NDArray[np.uint8], um_per_px: float | None, want: Want[A]) -> A:
        """Return what is wanted of one image; see :class:`Engine`."""

        def work() -> A:
            first, *others = self._bundle.stages.items()
            begun = {
                stage: self._beside.submit(model.map, pixels, um_per_px) for stage, model in others
            }
            maps = {first[0]: first[1].map(pixels, um_per_px)}
            maps |= {stage: future.result() for stage, future in begun.items()}
            return want.answer(self.info, pixels, maps, um_per_px)

        return await self._run(work)

    async def stage_map(
        self, stage: Stage, pixels: NDArray[np.uint8], um_per_px: float | None
    ) -> NDArray[np.float32]:
        """Return one network's map of an image; see :class:`Engine`."""
        model = self._bundle.stages[stage]
        return await self._run(lambda: model.map(pixels, um_per_px))

    async def check_ready(self) -> None:
        """Let every network answer once, beside the images in work."""
        for name, model in self._bundle.stages.items():
            try:
                sound = await asyncio.to_thread(model.answers)
            except Exception as error:
                raise NotReadyError(f"{name} network fails: {type(error).__name__}") from error
            if not sound:
                raise NotReadyError(f"{name} network gives values that are not finite")

    def close(self) -> None:
        """Finish the images in work; those that wait are given up."""
        self._threads.shutdown(wait=True, cancel_futures=True)
        self._beside.shutdown(wait=True)

    async def _run(self, work: Callable[[], T]) -> T:
        # A client that gives up while it waits takes its work along: the future is cancelled.
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)
