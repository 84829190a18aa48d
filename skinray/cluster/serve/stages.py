"""The stages behind the ingress, each with replicas of its own: the networks, then the last one."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Iterator, Sequence
from time import perf_counter
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from skinray.cluster.malloc import keep_freed_memory
from skinray.cluster.ray_internals import replica_on_loopback
from skinray.cluster.serve.batches import Batches
from skinray.cluster.serve.bundles import BundleCache, BundleRef, load_named_stage
from skinray.cluster.serve.metrics import RayMeter
from skinray.config.kinds import Kind, Stage
from skinray.config.scoring import BackendName, ServeSettings
from skinray.crossings.maps import threshold_map
from skinray.errors import BundleError
from skinray.learning.bundle.info import BundleInfo
from skinray.learning.bundle.networks import StageModel, joined
from skinray.models.predict import Gone
from skinray.service.answers.request import AnswerT, Want

# The last stage of each kind of image.
LAST: dict[Kind, str] = {"biopsy": "crossing", "photo": "mask"}
LOG = logging.getLogger("ray.serve")


class Seen(NamedTuple):
    """One image for a network: bundle, (H, W, 3) uint8 pixels, scale and threshold.

    ``gone`` says whether nobody waits for its map any more.
    """

    ref: BundleRef
    pixels: NDArray[np.uint8]
    um_per_px: float | None
    threshold: float | None = None
    gone: Gone = lambda: False


class Mapped(NamedTuple):
    """What a network found in an image: its map, (H, W), and what computed it."""

    values: NDArray[Any]
    backend: BackendName


# What became of the images of a batch, by position.
Results = dict[int, Mapped | Exception]


class NetworkStage:
    """The network of one stage."""

    def __init__(self, settings: ServeSettings, ref: BundleRef, stage: Stage) -> None:
        keep_freed_memory()
        replica_on_loopback()
        torch.set_num_threads(settings.threads)
        self._stage = stage
        self._models = BundleCache(lambda ref: load_named_stage(ref, stage, settings.backend))
        self._meter = RayMeter()
        self._batches = Batches(self._forward, settings.batch_size, settings.batch_wait_s, stage)
        try:
            self._models.get(ref)
        except BundleError as error:  # the service may be using another bundle by now
            LOG.warning("%s stage starts without a bundle: %s", stage, error)

    async def map(
        self,
        ref: BundleRef,
        pixels: NDArray[np.uint8],
        um_per_px: float | None,
        threshold: float | None = None,
    ) -> Mapped:
        """Return the map of an image, (H, W), from the bundle that ``ref`` names.

        It is float32 probability, or with a threshold uint8, 1 above it: a quarter of the bytes
        to send to the next stage.
        """
        left = threading.Event()
        try:
            return await self._batches.result(Seen(ref, pixels, um_per_px, threshold, left.is_set))
        except asyncio.CancelledError:  # the client has left
            left.set()
            raise

    async def ready(self, ref: BundleRef) -> bool:
        """Load the bundle if necessary, and say whether its network answers."""
        return await asyncio.to_thread(lambda: self._models.get(ref).answers())

    async def check_health(self) -> None:
        """Raise if the network in use cannot answer; Serve then replaces the replica."""
        model = self._models.latest()
        if model is not None and not await asyncio.to_thread(model.answers):
            raise RuntimeError(f"{self._stage} network gives values that are not finite")

    def _forward(self, batch: Sequence[Seen]) -> Iterator[Results]:
        start = perf_counter()
        for results in forward(self._models, batch):
            for _ in results:
                self._meter.stage(self._stage, (perf_counter() - start) / len(results))
            yield results
            start = perf_counter()


def forward(models: BundleCache[StageModel], batch: Sequence[Seen]) -> Iterator[Results]:
    """Yield the maps of a batch by position, those of each pass as soon as it is done.

    Images of the same bundle, size and scale share a pass; all others have one to themselves. If a
    pass fails, its images are tried one by one, so that each gets only its own error. Pure, except
    that bundles may be loaded.
    """
    together: dict[Any, list[int]] = {}
    for place, seen in enumerate(batch):
        key = (seen.ref, seen.pixels.shape, seen.pixels.dtype, seen.um_per_px)
        together.setdefault(key, []).append(place)
    for places in together.values():
        yield from _passed(models, batch, places)


def _passed(
    models: BundleCache[StageModel], batch: Sequence[Seen], places: Sequence[int]
) -> Iterator[Results]:
    first = batch[places[0]]

    def gone() -> bool:
        return all(batch[place].gone() for place in places)

    try:
        pixels, model = [batch[place].pixels for place in places], models.get(first.ref)
        maps = model.maps(pixels, first.um_per_px, gone)
        found = [
            Mapped(_wanted(one, batch[place]), model.backend)
            for place, one in zip(places, maps, strict=True)
        ]
    except Exception as error:  # whatever it is, it is the answer for this image
        if len(places) == 1:
            yield {places[0]: error}
            return
        for place in places:
            yield from _passed(models, batch, [place])
    else:
        yield dict(zip(places, found, strict=True))


def _wanted(probability: NDArray[np.float32], seen: Seen) -> NDArray[Any]:
    if seen.threshold is None:
        return probability
    return threshold_map(probability, seen.threshold).view(np.uint8)


class LastStage:
    """From the maps to the answer; it holds no network and no state.

    ``name`` is that of the stage, for metrics and messages.
    """

    def __init__(self, name: str) -> None:
        keep_freed_memory()
        replica_on_loopback()
        self._name, self._meter = name, RayMeter()

    async def answer(
        self,
        info: BundleInfo,
        pixels: NDArray[np.uint8] | None,
        um_per_px: float | None,
        want: Want[AnswerT],
        *maps: Mapped,
    ) -> AnswerT:
        """Return what is wanted of an image from its maps, in the order of ``info.stages``."""
        start = perf_counter()
        by_stage = {stage: one.values for stage, one in zip(info.stages, maps, strict=True)}
        used = joined(one.backend for one in maps)
        answer = await asyncio.to_thread(want.answer, info, pixels, by_stage, um_per_px, used)
        self._meter.stage(self._name, perf_counter() - start)
        return answer

    async def ready(self) -> bool:
        """Answer."""
        return True
