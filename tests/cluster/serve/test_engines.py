"""One image on its way through the stages, which are fakes here."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.stand_in import drawn_image, stand_in_bundle
from skinray.cluster.serve.bundles import BundleCache, BundleRef, load_named_stage, named_info
from skinray.cluster.serve.engines import RayEngine
from skinray.cluster.serve.stages import Seen, forward
from skinray.errors import BundleError, BusyError, LostWorkError, NotReadyError
from skinray.learning.bundle.info import read_info
from skinray.service.answers.biopsies import CountWant
from skinray.service.answers.photos import SkinWant
from tests.support.photo_bundles import photo_bundle
from tests.support.served import blind_bundle

pytestmark = pytest.mark.ray


@dataclass
class Method:
    """Stands in for one method of a deployment's handle: a call starts immediately."""

    work: Callable[..., Awaitable[Any]]
    calls: list[tuple[Any, ...]] = field(default_factory=list)
    tasks: list[asyncio.Task[Any]] = field(default_factory=list)

    def remote(self, *args: Any) -> asyncio.Task[Any]:
        self.calls.append(args)
        self.tasks.append(asyncio.ensure_future(self.work(*args)))  # type: ignore[arg-type]
        return self.tasks[-1]


class Handle:
    """Stands in for a deployment's handle."""

    def __init__(self, **methods: Callable[..., Awaitable[Any]]) -> None:
        for name, work in methods.items():
            setattr(self, name, Method(work))


async def yes(*_: Any) -> bool:
    return True


async def no(*_: Any) -> bool:
    return False


async def never(*_: Any) -> bool:
    await asyncio.sleep(3600)
    return True


async def broken(*_: Any) -> bool:
    raise ValueError("x")


@pytest.fixture
def ref(tmp_path: Path) -> BundleRef:
    bundle = stand_in_bundle(tmp_path / "bundle")
    return BundleRef.of(bundle, read_info(bundle))


def engine(nerve: Handle, dermis: Handle, last: Handle, ref: BundleRef) -> RayEngine:
    return RayEngine({"nerve": nerve, "dermis": dermis}, last, ref, ready_timeout_s=0.2)


def test_both_networks_run_at_once_and_nothing_is_awaited_in_between(
    ray_session: Any, ref: BundleRef
) -> None:
    async def go() -> None:
        both = asyncio.Barrier(2)

        async def meet(*_: Any) -> str:
            await both.wait()  # passes only if the other network was asked as well
            return "map"

        async def join(*args: Any) -> str:
            return "-".join([await args[4], await args[5]])

        handles = Handle(map=meet), Handle(map=meet), Handle(answer=join)
        work = engine(*handles, ref).answer(drawn_image(), 0.5, CountWant())
        assert await asyncio.wait_for(work, 20) == "map-map"
        (nerve,), (dermis,) = handles[0].map.calls, handles[1].map.calls
        # One image, put once; and each call names the bundle.
        assert nerve[:3] == dermis[:3]
        assert nerve[0] == ref
        # A count needs only where the nerves are, and no image: nothing more is sent.
        threshold = read_info(Path(ref.path)).crossings.nerve_threshold
        assert (nerve[3], dermis[3]) == (threshold, None)
        assert handles[2].answer.calls[0][1] is None

    asyncio.run(go())


def test_probabilities_and_image_are_sent_only_if_needed(ray_session: Any, ref: BundleRef) -> None:
    async def go() -> None:
        async def join(*args: Any) -> str:
            return f"{await args[4]}-{await args[5]}"

        handles = Handle(map=yes), Handle(map=yes), Handle(answer=join)
        for want in (CountWant(maps=True, image=True), CountWant(sweep=(0.5,), overlay=True)):
            await engine(*handles, ref).answer(drawn_image(), 0.5, want)
            assert handles[0].map.calls[-1][3] is None
            assert handles[2].answer.calls[-1][1] == handles[0].map.calls[-1][1]

    asyncio.run(go())


def test_a_photograph_passes_through_its_one_network(ray_session: Any, tmp_path: Path) -> None:
    async def go() -> None:
        folder = photo_bundle(tmp_path / "photos")
        skin, last = Handle(map=yes, ready=yes), Handle(answer=yes, ready=no)
        ref = BundleRef.of(folder, read_info(folder))
        one = RayEngine({"skin": skin}, last, ref, ready_timeout_s=0.2)
        assert await one.answer(drawn_image(), None, SkinWant())
        ((named, image, _, threshold),) = skin.map.calls
        assert (named, threshold) == (ref, None)
        ((_, drawn, _, want, probability),) = last.answer.calls
        assert (drawn, want) == (image, SkinWant())
        assert await probability
        with pytest.raises(NotReadyError, match="mask"):
            await one.check_ready()

    asyncio.run(go())


def test_a_map_above_a_threshold_is_a_mask(ref: BundleRef) -> None:
    models, image = BundleCache(lambda ref: load_named_stage(ref, "nerve", "eager")), drawn_image()
    (maps,) = forward(models, [Seen(ref, image, 0.5), Seen(ref, image, 0.5, 0.3)])
    probability, mask = maps[0].values, maps[1].values
    assert mask.dtype == np.uint8
    assert np.array_equal(mask, probability > 0.3)
    assert 0 < mask.sum() < mask.size


def test_a_full_stage_is_busy(ray_session: Any, ref: BundleRef) -> None:
    from ray.serve.exceptions import BackPressureError

    async def full(*_: Any) -> None:
        raise BackPressureError(3, 3)

    async def go() -> None:
        handle = Handle(map=full)
        with pytest.raises(BusyError):
            await engine(handle, handle, handle, ref).stage_map("nerve", drawn_image(), None)

    asyncio.run(go())


@pytest.mark.parametrize("dead", ["nerve", "crossing"])
def test_a_replica_that_dies_in_work_can_be_asked_again(
    ray_session: Any, ref: BundleRef, dead: str
) -> None:
    from ray.exceptions import ActorDiedError, RayTaskError

    async def dies(*_: Any) -> None:
        raise ActorDiedError

    async def joins(*args: Any) -> None:
        try:
            await args[4]
        except ActorDiedError as error:  # as Ray passes on what an input died of
            raise RayTaskError("answer", "trace", error) from None

    async def go() -> None:
        nerve = Handle(map=dies if dead == "nerve" else yes)
        last = Handle(answer=joins if dead == "nerve" else dies)
        with pytest.raises(LostWorkError):
            await engine(nerve, Handle(map=yes), last, ref).answer(drawn_image(), 1, CountWant())

    asyncio.run(go())


def test_all_stages_stop_when_the_client_leaves(ray_session: Any, ref: BundleRef) -> None:
    async def go() -> None:
        begun = asyncio.Event()

        async def works(*_: Any) -> None:
            begun.set()
            await never()

        nerve, dermis, last = Handle(map=works), Handle(map=works), Handle(answer=never)
        work = asyncio.create_task(
            engine(nerve, dermis, last, ref).answer(drawn_image(), 1, CountWant())
        )
        await begun.wait()
        work.cancel()
        await asyncio.gather(work, return_exceptions=True)
        await asyncio.sleep(0)
        for method in (nerve.map, dermis.map, last.answer):
            assert [task.cancelled() for task in method.tasks] == [True]

    asyncio.run(go())


@pytest.mark.parametrize(
    ("answer", "reason"), [(no, "not finite"), (never, "no answer within 0.2 s"), (broken, "fails")]
)
@pytest.mark.parametrize("sick", ["nerve", "dermis", "crossing"])
def test_readiness_fails_with_any_stage(
    answer: Callable[..., Awaitable[Any]], reason: str, sick: str, ref: BundleRef
) -> None:
    async def go() -> None:
        stages = [
            Handle(ready=answer if name == sick else yes)
            for name in ("nerve", "dermis", "crossing")
        ]
        with pytest.raises(NotReadyError, match=f"{sick}.*{reason}"):
            await engine(*stages, ref).check_ready()
        await engine(Handle(ready=yes), Handle(ready=yes), Handle(ready=yes), ref).check_ready()

    asyncio.run(go())


def test_a_bundle_that_no_stage_can_load_is_refused(ref: BundleRef, tmp_path: Path) -> None:
    async def go() -> None:
        other = blind_bundle(tmp_path / "other")
        sick, well = Handle(ready=no), Handle(ready=yes)
        one = engine(sick, well, well, ref)
        with pytest.raises(BundleError, match="the previous bundle stays in use"):
            await one.take(BundleRef.of(other, read_info(other)))
        assert one.info.id == ref.id

    asyncio.run(go())


def test_two_bundles_are_cached_and_the_least_recently_used_is_dropped() -> None:
    loaded: list[str] = []

    def note(ref: BundleRef) -> str:
        loaded.append(ref.path)
        return ref.path.upper()

    held = BundleCache(note)
    a, b, c = (BundleRef(name, name) for name in "abc")
    assert held.latest() is None
    assert [held.get(one) for one in (a, b, a, c, a, b)] == ["A", "B", "A", "C", "A", "B"]
    assert loaded == ["a", "b", "c", "b"]
    assert held.latest() == "B"


def test_cached_bundles_can_be_used_while_another_is_loaded() -> None:
    begun, go_on = threading.Event(), threading.Event()

    def slow(ref: BundleRef) -> str:
        if ref.path == "new":
            begun.set()
            assert go_on.wait(20)
        return ref.path

    held, old = BundleCache(slow), BundleRef("old", "1")
    held.get(old)
    loading = threading.Thread(target=held.get, args=(BundleRef("new", "2"),))
    loading.start()
    assert begun.wait(20)
    assert (held.get(old), held.latest()) == ("old", "old")
    go_on.set()
    loading.join(20)
    assert held.latest() == "new"


def test_a_stage_loads_only_the_bundle_that_is_named(ref: BundleRef, tmp_path: Path) -> None:
    assert load_named_stage(ref, "nerve", "eager").answers()
    blind_bundle(tmp_path / "bundle")  # replaces the first
    for attempt in (lambda: named_info(ref), lambda: load_named_stage(ref, "nerve", "eager")):
        with pytest.raises(BundleError, match="not the one in service"):
            attempt()
