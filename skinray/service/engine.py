"""What processes images behind the service: the interface, and an engine in this process."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from skinray.config.kinds import Stage
from skinray.errors import NotReadyError
from skinray.learning.bundle import Bundle
from skinray.learning.bundle.info import BundleInfo
from skinray.models.predict import Gone
from skinray.service.answers.request import AnswerT, Want

T = TypeVar("T")


class Engine(Protocol):
    """Answers for images, from any number of processes.

    Methods may raise :class:`BusyError` where the engine has limits of its own.
    """

    @property
    def info(self) -> BundleInfo:
        """The bundle in service now; another one may follow, but of the same kind."""

    async def answer(
        self, pixels: NDArray[np.uint8], um_per_px: float | None, want: Want[AnswerT]
    ) -> AnswerT:
        """Return what is wanted of an image, (H, W, 3) uint8 RGB, at a scale (None: unknown).

        The bundle must be of the kind that the wish is for.
        """

    async def stage_map(
        self, stage: Stage, pixels: NDArray[np.uint8], um_per_px: float | None
    ) -> NDArray[np.float32]:
        """Return one network's map of an image, (H, W) float32, probability."""

    async def check_ready(self) -> None:
        """Return if every network answers; raise NotReadyError if one does not."""


class LocalEngine:
    """Works in threads of this process; all networks process an image at the same time.

    Parameters
    ----------
    bundle : the loaded networks.
    threads : images processed at once; more wait.
    """

    def __init__(self, bundle: Bundle, threads: int = 1) -> None:
        self._bundle = bundle
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="engine")
        # For all networks but the first, which runs in the image's own thread.
        beside = max(1, threads * (len(bundle.stages) - 1))
        self._beside = ThreadPoolExecutor(beside, thread_name_prefix="engine-beside")

    @property
    def info(self) -> BundleInfo:
        """The bundle in service now."""
        return self._bundle.info

    async def answer(
        self, pixels: NDArray[np.uint8], um_per_px: float | None, want: Want[AnswerT]
    ) -> AnswerT:
        """Return what is wanted of one image; see :class:`Engine`."""
        bundle = self._bundle  # a subclass may replace it while this image waits for a thread

        def work(gone: Gone) -> AnswerT:
            first, *others = bundle.stages.items()
            begun = {
                stage: self._beside.submit(model.map, pixels, um_per_px, gone)
                for stage, model in others
            }
            maps = {first[0]: first[1].map(pixels, um_per_px, gone)}
            maps |= {stage: future.result() for stage, future in begun.items()}
            return want.answer(bundle.info, pixels, maps, um_per_px, bundle.backend)

        return await self._run(work)

    async def stage_map(
        self, stage: Stage, pixels: NDArray[np.uint8], um_per_px: float | None
    ) -> NDArray[np.float32]:
        """Return one network's map of an image; see :class:`Engine`."""
        model = self._bundle.stages[stage]
        return await self._run(lambda gone: model.map(pixels, um_per_px, gone))

    async def check_ready(self) -> None:
        """Let every network answer once, alongside the images in progress."""
        await check_networks(self._bundle)

    def close(self) -> None:
        """Finish the images in progress and drop those that wait."""
        self._threads.shutdown(wait=True, cancel_futures=True)
        self._beside.shutdown(wait=True)

    async def _run(self, work: Callable[[Gone], T]) -> T:
        # If a client leaves while its image waits, the work never begins; if later, no further
        # pass of a network does.
        left = threading.Event()
        try:
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self._threads, work, left.is_set)
        except asyncio.CancelledError:
            left.set()
            raise


async def check_networks(bundle: Bundle) -> None:
    """Let every network answer once; NotReadyError if one does not."""
    for name, model in bundle.stages.items():
        try:
            sound = await asyncio.to_thread(model.answers)
        except Exception as error:
            raise NotReadyError(f"{name} network fails: {type(error).__name__}") from error
        if not sound:
            raise NotReadyError(f"{name} network gives values that are not finite")
