"""The engine in this process: limited threads, networks that fail, and shutdown."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import dataclass, field, replace

import numpy as np
import pytest
import torch

from benchmarks.stand_in import drawn_image
from skinray.errors import NotReadyError
from skinray.service.answers.biopsies import CountWant
from skinray.service.engine import LocalEngine


@dataclass
class Stage:
    """A stage that counts the images in it at once, or does not answer."""

    inner: object
    backend: str = "eager"
    sound: bool = True
    error: Exception | None = None
    inside: int = 0
    most: int = 0
    calls: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)
    gate: threading.Event = field(default_factory=threading.Event)

    def map(self, image, um_per_px, gone=lambda: False):
        with self.lock:
            self.calls += 1
            self.inside += 1
            self.most = max(self.most, self.inside)
        assert self.gate.wait(20)
        with self.lock:
            self.inside -= 1
        return self.inner.map(image, um_per_px, gone)

    def answers(self):
        if self.error is not None:
            raise self.error
        return self.sound


class Tiles:
    """A stage that counts the passes of its network, and stops at each until the gate opens."""

    backend = "eager"

    def __init__(self, inner):
        self.begun, self.gate = 0, threading.Event()
        inner.networks[0].eval()
        passes = self

        class Slow(torch.nn.Module):
            def forward(self, image):
                passes.begun += 1
                assert passes.gate.wait(20)
                return inner.networks[0](image)

        self.map = replace(inner, networks=(Slow(),)).map


def changed(bundle, **stages):
    """The bundle with some stages replaced."""
    return replace(bundle, stages={**bundle.stages, **stages})


async def until(condition) -> None:
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.002)


def test_images_at_once_are_limited_and_cancelled_ones_are_skipped(bundle):
    async def run() -> None:
        nerve = Stage(bundle.stages["nerve"])
        engine = LocalEngine(changed(bundle, nerve=nerve), threads=2)
        tasks = [
            asyncio.create_task(engine.answer(drawn_image(), None, CountWant())) for _ in range(6)
        ]
        await until(lambda: nerve.inside == 2)
        tasks[5].cancel()
        await asyncio.gather(tasks[5], return_exceptions=True)
        nerve.gate.set()
        answers = await asyncio.gather(*tasks[:5])
        assert {answer.count for answer in answers} == {2}
        assert (nerve.most, nerve.calls) == (2, 5)
        engine.close()

    asyncio.run(run())


def test_no_tile_begins_once_nobody_waits(bundle):
    async def run() -> None:
        nerve, dermis = (Tiles(bundle.stages[name]) for name in ("nerve", "dermis"))
        engine = LocalEngine(changed(bundle, nerve=nerve, dermis=dermis))
        image = drawn_image(size=(600, 600))  # 100 tiles
        work = asyncio.create_task(engine.answer(image, None, CountWant()))
        await until(lambda: nerve.begun == dermis.begun == 1)
        work.cancel()
        await asyncio.gather(work, return_exceptions=True)
        nerve.gate.set()
        dermis.gate.set()
        again = await engine.answer(drawn_image(), None, CountWant())  # in the same thread
        assert again.count == 2
        assert (nerve.begun, dermis.begun) == (2, 2)
        engine.close()

    asyncio.run(run())


def test_both_networks_process_an_image_at_the_same_time(bundle):
    async def run() -> None:
        nerve, dermis = (Stage(bundle.stages[name]) for name in ("nerve", "dermis"))
        engine = LocalEngine(changed(bundle, nerve=nerve, dermis=dermis))
        answer = asyncio.create_task(engine.answer(drawn_image(), None, CountWant()))
        await until(lambda: nerve.inside == dermis.inside == 1)
        nerve.gate.set()
        dermis.gate.set()
        assert (await answer).count == 2
        engine.close()

    asyncio.run(run())


def test_stage_maps_are_those_of_the_bundle(bundle):
    engine = LocalEngine(bundle)
    for stage in ("nerve", "dermis"):
        found = asyncio.run(engine.stage_map(stage, drawn_image(), 0.7))
        assert np.array_equal(found, bundle.stages[stage].map(drawn_image(), 0.7))
    engine.close()


def test_ready(bundle):
    asyncio.run(LocalEngine(bundle).check_ready())
    for changes, words in (
        ({"sound": False}, "dermis network gives values that are not finite"),
        ({"error": RuntimeError("CUDA error at /dev/x")}, "dermis network fails: RuntimeError"),
    ):
        engine = LocalEngine(changed(bundle, dermis=Stage(bundle.stages["dermis"], **changes)))
        with pytest.raises(NotReadyError) as caught:
            asyncio.run(engine.check_ready())
        assert str(caught.value) == words
