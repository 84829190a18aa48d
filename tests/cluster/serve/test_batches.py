"""A replica's batches: which images share a pass, and who gets which answer, when."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from benchmarks.stand_in import bundle_of, drawn_image, stand_in_bundle
from skinray.cluster.serve.batches import Batches
from skinray.cluster.serve.bundles import BundleCache, BundleRef
from skinray.cluster.serve.stages import Mapped, Seen, forward
from skinray.config.images import PredictSettings
from skinray.config.recipes import demo
from skinray.config.scoring import ServeSettings
from skinray.config.training import ModelSettings
from skinray.errors import BundleError, ImageError
from skinray.learning.bundle import load
from skinray.learning.bundle.networks import StageModel
from skinray.models.predict import STACK_TOLERANCE

# Marked "ray" because the modules import it; only the last test needs a session.
pytestmark = [
    pytest.mark.ray,
    pytest.mark.timeout(60),
]

REF = BundleRef("bundle", "1")
SMALL, WIDE = (48, 64), (40, 80)


class Recorder(nn.Module):
    """Records the shape of each pass and fails if an image has a blue pixel; its map is red."""

    def __init__(self) -> None:
        super().__init__()
        self.passes: list[tuple[int, ...]] = []

    def forward(self, images: Tensor) -> Tensor:
        self.passes.append(tuple(images.shape))
        if (images[:, 2] == 1).any():
            raise ValueError("blue")
        return (images[:, :1] - 0.5) * 60


def stage_of(network: nn.Module, **settings: Any) -> StageModel:
    return StageModel((network,), 0.5, PredictSettings(**settings), torch.device("cpu"))


def results_of(model: StageModel, batch: Sequence[Seen]) -> dict[int, Any]:
    """Return all results of a batch by position; each position must come once."""
    found: dict[int, Any] = {}
    for results in forward(BundleCache(lambda _: model), batch):
        assert not found.keys() & results.keys()
        found |= {at: one.values if isinstance(one, Mapped) else one for at, one in results.items()}
    assert sorted(found) == list(range(len(batch)))
    return found


def noise(seed: int, size: tuple[int, int] = SMALL) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 255, (*size, 3), np.uint8)


# which images share a pass


def test_images_of_the_same_size_and_scale_share_a_pass() -> None:
    network = Recorder()
    sizes = (SMALL, WIDE, SMALL, (30, 30), WIDE, SMALL)
    batch = [Seen(REF, noise(seed, size), 0.5) for seed, size in enumerate(sizes)]
    batch.append(Seen(REF, noise(9), 0.25))  # the same size, but at another scale
    found = results_of(stage_of(network), batch)
    assert network.passes == [(3, 3, *SMALL), (2, 3, *WIDE), (1, 3, 30, 30), (1, 3, 24, 32)]
    for place, seen in enumerate(batch[:-1]):  # each gets its own map, in the order of the batch
        assert np.array_equal(found[place] > 0.5, seen.pixels[..., 0] >= 128)


def test_tiles_at_the_same_position_share_a_pass() -> None:
    network = Recorder()
    model = stage_of(network, max_pixels=4096, tile_px=64, overlap_px=32)
    batch = [Seen(REF, noise(seed, (96, 96)), 0.5) for seed in range(3)]
    found = results_of(model, batch)
    assert network.passes == [(3, 3, 64, 64)] * 4
    for place, seen in enumerate(batch):
        assert np.array_equal(found[place] > 0.5, seen.pixels[..., 0] >= 128)


@pytest.mark.parametrize("mirrored", [1, 4])
def test_a_stack_keeps_its_order_mirrored_and_resampled(mirrored: int) -> None:
    model = stage_of(nn.Conv2d(3, 1, 3, padding=1), mirrored=mirrored)
    images = [noise(seed) for seed in range(4)]
    maps = model.maps(images, 1.0)
    for image, found in zip(images, maps, strict=True):
        np.testing.assert_allclose(found, model.map(image, 1.0), atol=1e-5)
    assert len({found.tobytes() for found in maps}) == 4


def test_each_request_has_its_own_threshold() -> None:
    pixels = noise(0)
    found = results_of(
        stage_of(nn.Conv2d(3, 1, 1)),
        [Seen(REF, pixels, 0.5), Seen(REF, pixels, 0.5, 0.4), Seen(REF, pixels, 0.5, 0.6)],
    )
    assert found[0].dtype == np.float32
    assert found[1].dtype == found[2].dtype == np.uint8
    assert np.array_equal(found[1], found[0] > 0.4)
    assert np.array_equal(found[2], found[0] > 0.6)


# how much a stack may change a probability


def test_batching_is_off_by_default_and_its_cost_is_documented() -> None:
    assert ServeSettings(bundle="b").batch_size == 1
    told = str(ServeSettings.model_fields["batch_size"].description)
    assert f"up to {STACK_TOLERANCE:g} on a CPU" in told


def test_a_batch_of_one_gives_exactly_the_map_of_the_image_alone(tmp_path: Path) -> None:
    unet = ModelSettings(name="unet", options={"features": 4, "depth": 3})
    model = load(bundle_of(tmp_path / "bundle", unet, unet), "cpu").stages["nerve"]
    for seed, scale in ((0, 0.5), (1, 0.4)):
        found = results_of(model, [Seen(REF, noise(seed), scale)])
        assert np.array_equal(found[0], model.map(noise(seed), scale))


@pytest.mark.parametrize("arm", ["nerve", "dermis"])
@pytest.mark.parametrize("threads", [1, 2])
def test_the_demos_networks_keep_within_tolerance(arm: str, threads: int, tmp_path: Path) -> None:
    before = torch.get_num_threads()
    torch.manual_seed(0)
    torch.set_num_threads(threads)
    try:
        settings = demo()
        nerve, dermis = settings.nerve.main.model, settings.dermis.main.model
        model = load(bundle_of(tmp_path / "bundle", nerve, dermis), "cpu").stages[arm]  # type: ignore[index]
        images = [drawn_image(seed, (96, 128)) for seed in range(4)]
        maps = model.maps(images, 0.5)
        apart = [np.abs(m - model.map(i, 0.5)).max() for i, m in zip(images, maps, strict=True)]
        assert max(apart) <= STACK_TOLERANCE
        assert len({found.tobytes() for found in maps}) == 4
    finally:
        torch.set_num_threads(before)


# errors


def test_one_bad_image_fails_alone() -> None:
    network, bad = Recorder(), noise(1)
    bad[5, 5, 2] = 255
    wrong = noise(2)[..., 0]  # not an RGB image
    batch = [Seen(REF, pixels, 0.5) for pixels in (noise(0), bad, wrong, noise(3))]
    found = results_of(stage_of(network), batch)
    assert isinstance(found[1], ValueError)
    assert isinstance(found[2], ImageError)
    for place in (0, 3):
        assert np.array_equal(found[place] > 0.5, batch[place].pixels[..., 0] >= 128)


def test_a_missing_bundle_fails_only_its_own_requests() -> None:
    model = stage_of(Recorder())

    def loaded(ref: BundleRef) -> StageModel:
        if ref != REF:
            raise BundleError("gone")
        return model

    gone = replace(REF, id="2")
    batch = [Seen(ref, noise(0), 0.5) for ref in (gone, REF, gone)]
    found = {
        place: one for part in forward(BundleCache(loaded), batch) for place, one in part.items()
    }
    assert [isinstance(found[place], BundleError) for place in range(3)] == [True, False, True]


# when answers are sent


def test_an_answer_is_sent_before_its_batch_is_finished() -> None:
    go_on = threading.Event()

    def work(batch: Sequence[str]) -> Iterator[dict[int, str]]:
        yield {1: batch[1].upper()}
        assert go_on.wait(20)  # set only once the first answer is out
        yield {0: batch[0].upper()}

    async def go() -> None:
        batches: Batches[str, str] = Batches(work, 2, 5.0, "test")
        slow, quick = (asyncio.create_task(batches.result(item)) for item in "ab")
        try:
            assert await asyncio.wait_for(quick, 10) == "B"
            assert not slow.done()
        finally:
            go_on.set()
        assert await slow == "A"

    asyncio.run(go())


def test_a_small_image_is_answered_before_a_large_one_in_its_batch() -> None:
    go_on = threading.Event()

    class Waits(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            if images.shape[2:] == WIDE:
                assert go_on.wait(20)
            return images[:, :1]

    model = stage_of(Waits())

    async def go() -> None:
        held = BundleCache(lambda _: model)
        batches: Batches[Seen, Any] = Batches(lambda b: forward(held, b), 3, 5.0, "test")
        seen = [Seen(REF, noise(at, size), 0.5) for at, size in enumerate((SMALL, WIDE, SMALL))]
        first, large, last = (asyncio.create_task(batches.result(one)) for one in seen)
        try:
            await asyncio.wait_for(asyncio.gather(first, last), 10)
            assert not large.done()
        finally:
            go_on.set()
        assert (await large).values.shape == WIDE

    asyncio.run(go())


def test_errors_go_to_their_own_requests_and_work_continues() -> None:
    def work(batch: Sequence[int]) -> Iterator[dict[int, Any]]:
        for place, item in enumerate(batch):
            if item == 9:
                raise RuntimeError("broke off")
            yield {place: ValueError(item) if item % 2 else item}

    async def go() -> None:
        batches: Batches[int, int] = Batches(work, 4, 0.5, "test")
        ask = [batches.result(item) for item in (0, 1, 9, 2)]
        first, second, third, fourth = await asyncio.gather(*ask, return_exceptions=True)
        assert (first, str(second)) == (0, "1")
        assert (type(second), type(third), type(fourth)) == (ValueError, RuntimeError, RuntimeError)
        assert await asyncio.wait_for(batches.result(4), 10) == 4

    asyncio.run(go())


def test_batches_are_limited_and_later_requests_form_the_next_one() -> None:
    taken: list[list[int]] = []
    begun, go_on = threading.Event(), threading.Event()

    def work(batch: Sequence[int]) -> Iterator[dict[int, int]]:
        taken.append(list(batch))
        begun.set()
        assert go_on.wait(20)
        yield {place: -item for place, item in enumerate(batch)}

    async def go() -> None:
        batches: Batches[int, int] = Batches(work, 3, 0.0, "test")
        tasks = [asyncio.create_task(batches.result(0))]
        await asyncio.to_thread(begun.wait, 10)
        tasks += [asyncio.create_task(batches.result(item)) for item in range(1, 6)]
        await asyncio.sleep(0)
        tasks[2].cancel()  # its client has given up
        await asyncio.sleep(0)
        go_on.set()
        found = await asyncio.gather(*tasks, return_exceptions=True)
        assert [one for one in found if isinstance(one, int)] == [0, -1, -3, -4, -5]
        assert taken == [[0], [1, 3], [4, 5]]

    asyncio.run(go())


def test_a_batch_waits_a_limited_time_for_more() -> None:
    def work(batch: Sequence[int]) -> Iterator[dict[int, int]]:
        yield dict.fromkeys(range(len(batch)), len(batch))

    async def go() -> None:
        alone: Batches[int, int] = Batches(work, 4, 0.01, "test")
        assert await asyncio.wait_for(alone.result(0), 10) == 1
        filling: Batches[int, int] = Batches(work, 2, 30.0, "test")
        first = asyncio.create_task(filling.result(0))
        await asyncio.sleep(0.05)
        assert await asyncio.wait_for(asyncio.gather(first, filling.result(1)), 10) == [2, 2]

    asyncio.run(go())


# the deployment itself


def test_a_stage_in_this_process_answers_in_batches(tmp_path: Path, ray_session: Any) -> None:
    from skinray.cluster.serve.stages import NetworkStage
    from skinray.learning.bundle.info import read_info

    bundle = stand_in_bundle(tmp_path / "bundle")
    ref, images = BundleRef.of(bundle, read_info(bundle)), [drawn_image(at) for at in range(4)]

    async def go() -> None:
        settings = ServeSettings(bundle=str(bundle), batch_size=4, batch_wait_s=5)
        stage = NetworkStage(settings, ref, "nerve")
        asked = [stage.map(ref, image, 0.5) for image in images[:3]]
        *maps, error = await asyncio.gather(
            *asked, stage.map(ref, images[3][..., 0], 0.5), return_exceptions=True
        )
        assert isinstance(error, ImageError)
        model = load(bundle, "cpu").stages["nerve"]
        for image, found in zip(images, maps, strict=False):
            np.testing.assert_allclose(found.values, model.map(image, 0.5), atol=1e-5)
            assert found.backend == "eager"

    asyncio.run(go())
