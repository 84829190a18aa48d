"""What answers behind the service's HTTP: stages in other replicas, or all in this one."""

from __future__ import annotations

import asyncio
from typing import Any, Protocol, TypeVar

import numpy as np
import ray
from numpy.typing import NDArray
from ray.serve.exceptions import BackPressureError

from skinray.cluster.serve.bundles import BundleRef, named_info
from skinray.cluster.serve.stages import LAST
from skinray.config.kinds import Stage
from skinray.errors import BundleError
from skinray.learning.bundle import load
from skinray.learning.bundle.info import BundleInfo
from skinray.service.answers.request import Want
from skinray.service.engine import BusyError, Engine, LocalEngine, NotReadyError

A = TypeVar("A")


class ChangingEngine(Engine, Protocol):
    """An engine whose bundle can be changed while it answers."""

    @property
    def ref(self) -> BundleRef:
        """Where the bundle lies that answers now."""

    async def take(self, ref: BundleRef) -> None:
        """Answer from this bundle from now on; BundleError, and no change, where it is unfit.

        Its hashes have been checked. Requests under way end with the bundle they began with.
        """


class RayEngine:
    """Sends each image to the stages; all networks see it at the same time.

    Parameters
    ----------
    networks : handles of the deployments, by stage.
    last : handle of the deployment that makes the answer of their maps.
    ready_timeout_s : in which every stage must answer a probe.
    """

    def __init__(
        self, networks: dict[Stage, Any], last: Any, ref: BundleRef, ready_timeout_s: float
    ) -> None:
        self._networks, self._last = networks, last
        self._ready_timeout_s = ready_timeout_s
        # One name for both: a request reads it once, and never sees half a change.
        self._serving = (ref, named_info(ref))

    @property
    def ref(self) -> BundleRef:
        """Where the bundle lies that answers now."""
        return self._serving[0]

    @property
    def info(self) -> BundleInfo:
        """The bundle that answers now."""
        return self._serving[1]

    async def answer(self, pixels: NDArray[np.uint8], um_per_px: float | None, want: Want[A]) -> A:
        """Return what is wanted of one image; see :class:`skinray.service.engine.Engine`."""
        ref, info = self._serving
        image = ray.put(pixels)
        thresholds = want.thresholds(info)
        maps = [
            self._networks[stage].map.remote(ref, image, um_per_px, thresholds.get(stage))
            for stage in info.stages
        ]
        drawn = image if want.pixels else None
        # The maps go from stage to stage by themselves: nothing is awaited until the end.
        result = self._last.answer.remote(info, drawn, um_per_px, want, *maps)
        return await _ended(result)  # type: ignore[no-any-return]

    async def stage_map(
        self, stage: Stage, pixels: NDArray[np.uint8], um_per_px: float | None
    ) -> NDArray[np.float32]:
        """Return one network's map of an image."""
        ref, _ = self._serving
        result = self._networks[stage].map.remote(ref, ray.put(pixels), um_per_px)
        return await _ended(result)  # type: ignore[no-any-return]

    async def check_ready(self) -> None:
        """Ask every stage; NotReadyError where one does not answer in time."""
        await self._probe(self._serving[0])

    async def take(self, ref: BundleRef) -> None:
        """Change over, once every network has loaded the bundle and answered with it."""
        info = await asyncio.to_thread(named_info, ref)
        try:
            await self._probe(ref)
        except NotReadyError as error:
            raise BundleError(f"{ref.path}: {error}; the bundle before goes on") from error
        self._serving = (ref, info)

    async def _probe(self, ref: BundleRef) -> None:
        probes: dict[str, Any] = {
            name: stage.ready.remote(ref) for name, stage in self._networks.items()
        }
        probes[LAST[self.info.kind].name] = self._last.ready.remote()
        outcomes = await asyncio.gather(
            *(self._outcome(name, probe) for name, probe in probes.items())
        )
        if problems := [outcome for outcome in outcomes if outcome]:
            raise NotReadyError("; ".join(problems))

    async def _outcome(self, stage: str, probe: Any) -> str | None:
        try:
            async with asyncio.timeout(self._ready_timeout_s):
                sound = await probe
        except TimeoutError:
            return f"{stage} stage gives no answer within {self._ready_timeout_s:g} s"
        except Exception as error:
            return f"{stage} stage fails: {type(getattr(error, 'cause', error)).__name__}"
        return None if sound else f"{stage} network gives values that are not finite"


async def _ended(response: Any) -> Any:
    try:
        return await response
    except BackPressureError:
        raise BusyError("a stage has no place for one more image") from None


class FusedEngine:
    """All stages in this process; each bundle has an engine of its own until it is idle."""

    def __init__(self, ref: BundleRef, threads: int) -> None:
        self._threads = threads
        self._ref, self._engine = ref, self._load(ref)

    @property
    def ref(self) -> BundleRef:
        """Where the bundle lies that answers now."""
        return self._ref

    @property
    def info(self) -> BundleInfo:
        """The bundle that answers now."""
        return self._engine.info

    async def answer(self, pixels: NDArray[np.uint8], um_per_px: float | None, want: Want[A]) -> A:
        """Return what is wanted of one image; see :class:`skinray.service.engine.Engine`."""
        return await self._engine.answer(pixels, um_per_px, want)

    async def stage_map(
        self, stage: Stage, pixels: NDArray[np.uint8], um_per_px: float | None
    ) -> NDArray[np.float32]:
        """Return one network's map of an image."""
        return await self._engine.stage_map(stage, pixels, um_per_px)

    async def check_ready(self) -> None:
        """Let every network answer once; NotReadyError where one does not."""
        await self._engine.check_ready()

    async def take(self, ref: BundleRef) -> None:
        """Change over, once every network has answered; the old engine ends its images."""
        engine = await asyncio.to_thread(self._load, ref)
        try:
            await engine.check_ready()
        except NotReadyError as error:
            raise BundleError(f"{ref.path}: {error}; the bundle before goes on") from error
        self._ref, self._engine = ref, engine

    def _load(self, ref: BundleRef) -> LocalEngine:
        named_info(ref)
        return LocalEngine(load(ref.path), self._threads)
