"""The stages behind the ingress, each a deployment of its own: networks, then what ends it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator, Sequence
from time import perf_counter
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from skinray.cluster.malloc import keep_freed_memory
from skinray.cluster.serve.batches import Batches
from skinray.cluster.serve.bundles import BundleRef, Held, load_named_stage
from skinray.cluster.serve.metrics import RayMeter
from skinray.config.kinds import Kind, Stage
from skinray.config.scoring import ServeSettings
from skinray.crossings.maps import threshold_map
from skinray.errors import BundleError
from skinray.learning.bundle.info import BundleInfo
from skinray.learning.bundle.networks import StageModel
from skinray.service.answers.request import Want

A = TypeVar("A")
# What has become of images of a batch, by place in it: a map, or what was raised.
Results = dict[int, NDArray[Any] | Exception]
LOG = logging.getLogger("ray.serve")


class Seen(NamedTuple):
    """One image on its way through a network: bundle, (H, W, 3) uint8 pixels, scale, threshold."""

    ref: BundleRef
    pixels: NDArray[np.uint8]
    um_per_px: float | None
    threshold: float | None = None


class NetworkStage:
    """One network of the bundle; there is a class of it for each."""

    stage: Stage

    def __init__(self, settings: ServeSettings, ref: BundleRef) -> None:
        keep_freed_memory()
        torch.set_num_threads(settings.threads)
        self._models = Held(lambda ref: load_named_stage(ref, self.stage))
        self._meter = RayMeter()
        self._batches = Batches(
            self._forward, settings.batch_size, settings.batch_wait_s, self.stage
        )
        try:
            self._models.get(ref)
        except BundleError as error:  # the service may have moved on to another bundle
            LOG.warning("%s stage starts without a bundle: %s", self.stage, error)

    async def map(
        self,
        ref: BundleRef,
        pixels: NDArray[np.uint8],
        um_per_px: float | None,
        threshold: float | None = None,
    ) -> NDArray[Any]:
        """Return the map of an image, (H, W), made by the bundle that is named.

        It is float32 probability; with a threshold, 1 above it as uint8: a quarter of the bytes
        on the way to the next stage.
        """
        return await self._batches.result(Seen(ref, pixels, um_per_px, threshold))

    async def ready(self, ref: BundleRef) -> bool:
        """Load the bundle if it is not, and say whether its network answers."""
        return await asyncio.to_thread(lambda: self._models.get(ref).answers())

    async def check_health(self) -> None:
        """Raise where the network in use cannot answer: Serve then replaces the replica."""
        model = self._models.latest()
        if model is not None and not await asyncio.to_thread(model.answers):
            raise RuntimeError(f"{self.stage} network gives values that are not finite")

    def _forward(self, batch: Sequence[Seen]) -> Iterator[Results]:
        begun = perf_counter()
        for results in forward(self._models, batch):
            for _ in results:
                self._meter.stage(self.stage, (perf_counter() - begun) / len(results))
            yield results
            begun = perf_counter()


def forward(models: Held[StageModel], batch: Sequence[Seen]) -> Iterator[Results]:
    """Yield the maps of a batch by place in it, those of each pass as soon as it is done.

    Images of one bundle, size and scale share a pass; all others go alone. Where a pass fails,
    its images are tried one by one, so that an error is that of its own image. Pure but for
    bundles that are loaded on the way.
    """
    together: dict[Any, list[int]] = {}
    for place, seen in enumerate(batch):
        key = (seen.ref, seen.pixels.shape, seen.pixels.dtype, seen.um_per_px)
        together.setdefault(key, []).append(place)
    for places in together.values():
        yield from _passed(models, batch, places)


def _passed(
    models: Held[StageModel], batch: Sequence[Seen], places: Sequence[int]
) -> Iterator[Results]:
    first = batch[places[0]]
    try:
        pixels = [batch[place].pixels for place in places]
        maps = models.get(first.ref).maps(pixels, first.um_per_px)
        found = [_wanted(one, batch[place]) for place, one in zip(places, maps, strict=True)]
    except Exception as error:  # whatever it is, it is this image's answer
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


class NerveStage(NetworkStage):
    """The nerve network."""

    stage: Stage = "nerve"


class DermisStage(NetworkStage):
    """The dermis network."""

    stage: Stage = "dermis"


class SkinStage(NetworkStage):
    """The network of photographs."""

    stage: Stage = "skin"


class LastStage:
    """From the maps to the answer; it knows no network, and holds nothing."""

    name: str

    def __init__(self) -> None:
        keep_freed_memory()
        self._meter = RayMeter()

    async def answer(
        self,
        info: BundleInfo,
        pixels: NDArray[np.uint8] | None,
        um_per_px: float | None,
        want: Want[A],
        *maps: NDArray[Any],
    ) -> A:
        """Return what is wanted of an image, on its maps in the order of ``info.stages``."""
        begun = perf_counter()
        by_stage = dict(zip(info.stages, maps, strict=True))
        answer = await asyncio.to_thread(want.answer, info, pixels, by_stage, um_per_px)
        self._meter.stage(self.name, perf_counter() - begun)
        return answer

    async def ready(self) -> bool:
        """Answer."""
        return True


class CrossingStage(LastStage):
    """Finds the crossings on both maps of a biopsy."""

    name = "crossing"


class MaskStage(LastStage):
    """Makes the mask of the skin from the map of a photograph."""

    name = "mask"


# Of the deployments of the separate layout.
NETWORKS: dict[Stage, type[NetworkStage]] = {
    "nerve": NerveStage,
    "dermis": DermisStage,
    "skin": SkinStage,
}
LAST: dict[Kind, type[LastStage]] = {"biopsy": CrossingStage, "photo": MaskStage}
