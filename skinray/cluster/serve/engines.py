"""The engines behind the service's HTTP: stages in other replicas, or all in this one."""

from __future__ import annotations

import asyncio
from typing import Any, Protocol

import numpy as np
import ray
from numpy.typing import NDArray
from ray.exceptions import ObjectLostError, RayActorError, RayTaskError, WorkerCrashedError
from ray.serve.exceptions import BackPressureError, DeploymentUnavailableError

from skinray.cluster.serve.bundles import BundleRef, backend_of, named_info
from skinray.cluster.serve.stages import LAST
from skinray.config.kinds import Stage
from skinray.config.scoring import BackendChoice
from skinray.errors import BundleError, BusyError, LostWorkError, NotReadyError
from skinray.learning.bundle import Bundle, load
from skinray.learning.bundle.info import BundleInfo
from skinray.service.answers.request import AnswerT, Want
from skinray.service.engine import Engine, LocalEngine, check_networks


class ChangingEngine(Engine, Protocol):
    """An engine whose bundle can be replaced while it answers."""

    @property
    def ref(self) -> BundleRef:
        """The bundle in service now."""

    async def take(self, ref: BundleRef) -> None:
        """Use this bundle from now on; BundleError, and no change, if it does not work.

        Its hashes have been checked. Requests in progress finish with the bundle they began with.
        """


class RayEngine:
    """Sends each image to the stages; all networks process it at the same time.

    Parameters
    ----------
    networks : handles of the deployments, by stage.
    last : handle of the deployment that turns their maps into the answer.
    ready_timeout_s : within which every stage must answer a probe.
    """

    def __init__(
        self, networks: dict[Stage, Any], last: Any, ref: BundleRef, ready_timeout_s: float
    ) -> None:
        self._networks, self._last = networks, last
        self._ready_timeout_s = ready_timeout_s
        # One attribute for both: a request reads it once and never sees half a change.
        self._serving = (ref, named_info(ref))

    @property
    def ref(self) -> BundleRef:
        """The bundle in service now."""
        return self._serving[0]

    @property
    def info(self) -> BundleInfo:
        """The description of the bundle in service now."""
        return self._serving[1]

    async def answer(
        self, pixels: NDArray[np.uint8], um_per_px: float | None, want: Want[AnswerT]
    ) -> AnswerT:
        """Return what is wanted of one image; see :class:`skinray.service.engine.Engine`."""
        ref, info = self._serving
        image = ray.put(pixels)
        thresholds = want.thresholds(info)
        maps = [
            self._networks[stage].map.remote(ref, image, um_per_px, thresholds.get(stage))
            for stage in info.stages
        ]
        drawn = image if want.pixels else None
        # Ray passes the maps from stage to stage: nothing is awaited until the end.
        result = self._last.answer.remote(info, drawn, um_per_px, want, *maps)
        return await _ended(result, *maps)  # type: ignore[no-any-return]

    async def stage_map(
        self, stage: Stage, pixels: NDArray[np.uint8], um_per_px: float | None
    ) -> NDArray[np.float32]:
        """Return one network's map of an image."""
        ref, _ = self._serving
        result = self._networks[stage].map.remote(ref, ray.put(pixels), um_per_px)
        return (await _ended(result)).values  # type: ignore[no-any-return]

    async def check_ready(self) -> None:
        """Ask every stage; NotReadyError if one does not answer in time."""
        await self._probe(self._serving[0])

    async def take(self, ref: BundleRef) -> None:
        """Switch over as soon as every network has loaded the bundle and answered with it."""
        info = await asyncio.to_thread(named_info, ref)
        try:
            await self._probe(ref)
        except NotReadyError as error:
            raise BundleError(f"{ref.path}: {error}; the previous bundle stays in use") from error
        self._serving = (ref, info)

    async def _probe(self, ref: BundleRef) -> None:
        probes: dict[str, Any] = {
            name: stage.ready.remote(ref) for name, stage in self._networks.items()
        }
        probes[LAST[self.info.kind]] = self._last.ready.remote()
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


async def _ended(response: Any, *before: Any) -> Any:
    """Return the result of a response that needs those ``before`` it; end all if the client left.

    Raises
    ------
    BusyError
        A stage has no room.
    LostWorkError
        A replica died in work.
    """
    try:
        return await response
    except asyncio.CancelledError:
        for one in (response, *before):
            one.cancel()
        raise
    except BackPressureError:
        raise BusyError("a stage cannot take another image now") from None
    except (RayActorError, WorkerCrashedError, ObjectLostError, DeploymentUnavailableError):
        raise LostWorkError("a stage's replica died while it worked on the image") from None
    except RayTaskError as error:  # the last stage, whose input was lost
        if isinstance(error.cause, RayActorError | WorkerCrashedError | ObjectLostError):
            raise LostWorkError("a stage's replica died before the last stage began") from None
        raise


class FusedEngine(LocalEngine):
    """All stages in this process."""

    def __init__(self, ref: BundleRef, threads: int, backend: BackendChoice) -> None:
        super().__init__(_load(ref, backend), threads)
        self.ref, self._backend = ref, backend

    async def take(self, ref: BundleRef) -> None:
        """Switch over as soon as every network has answered."""
        bundle = await asyncio.to_thread(_load, ref, self._backend)
        try:
            await check_networks(bundle)
        except NotReadyError as error:
            raise BundleError(f"{ref.path}: {error}; the previous bundle stays in use") from error
        self.ref, self._bundle = ref, bundle


def _load(ref: BundleRef, backend: BackendChoice) -> Bundle:
    return load(ref.path, backend=backend_of(ref, named_info(ref), backend))
