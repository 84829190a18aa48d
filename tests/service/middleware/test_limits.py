"""What the service refuses unread, what it lets wait, and for how long."""

from __future__ import annotations

import asyncio

import pytest

from benchmarks.stand_in import drawn_image
from skinray.config.scoring import ServiceSettings
from skinray.service.app import create_app
from skinray.service.metrics import Meter
from skinray.service.middleware import limits
from tests.support.service.asgi_driver import Exchange, GatedEngine, Notes, form
from tests.support.service.image_files import as_file

BODY = form(as_file(drawn_image()))


async def forever() -> None:
    await asyncio.Event().wait()


async def until(condition) -> None:
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.002)


def refused(exchange: Exchange, status: int, reason: str) -> None:
    assert (exchange.status, exchange.json["reason"]) == (status, reason)
    assert exchange.json["request_id"] == exchange.answer_headers["x-request-id"]


def test_two_run_one_waits_and_the_next_is_refused_unread(bundle):
    async def run() -> None:
        engine, notes = GatedEngine(bundle), Notes()
        settings = ServiceSettings(max_in_flight=2, max_queued=1, retry_after_s=7)
        app = create_app(engine, settings, notes)
        accepted = [Exchange([BODY]) for _ in range(3)]
        tasks = [asyncio.create_task(one.through(app)) for one in accepted]
        await until(lambda: engine.begun == 2)
        assert [one.read for one in accepted] == [1, 1, 0]  # waiting requests are not read yet
        extra = await Exchange([BODY]).through(app)
        refused(extra, 503, "busy")
        assert extra.answer_headers["retry-after"] == "7"
        assert (extra.read, extra.drained) == (0, 1)
        engine.gate.set()
        await asyncio.gather(*tasks)
        assert [one.status for one in accepted] == [200, 200, 200]
        assert engine.most == 2
        assert max(told[1:] for told in notes.told if told[0] == "load") == (2, 1)
        assert [told for told in notes.told if told[0] == "load"][-1] == ("load", 0, 0)
        again = await Exchange([BODY]).through(app)
        assert again.status == 200  # every slot is free again

    asyncio.run(run())


def test_health_and_pages_answer_under_full_load(bundle):
    async def run() -> None:
        engine = GatedEngine(bundle)
        app = create_app(engine, ServiceSettings(max_in_flight=1, max_queued=0))
        task = asyncio.create_task(Exchange([BODY]).through(app))
        await until(lambda: engine.begun == 1)
        for path in ("/v2/health/live", "/v2/health/ready", "/", "/openapi.json"):
            assert (await Exchange([b""], path=path, method="GET").through(app)).status == 200
        refused(await Exchange([BODY]).through(app), 503, "busy")
        engine.gate.set()
        assert (await task).status == 200

    asyncio.run(run())


def test_a_stated_length_beyond_the_limit_is_refused_unread(bundle):
    async def run() -> None:
        app = create_app(GatedEngine(bundle), ServiceSettings(max_body_bytes=2000))
        exchange = Exchange([b"x" * 700] * 3, {"Content-Length": "2001"})
        refused(await exchange.through(app), 413, "too_many_bytes")
        assert exchange.read == 0
        assert exchange.drained == 3

    asyncio.run(run())


@pytest.mark.parametrize("path", ["/v1/biopsies", "/v2/models/biopsies/infer", "/v1/labels"])
def test_a_body_that_grows_beyond_the_limit_is_refused_at_that_point(bundle, path):
    async def run() -> None:
        app = create_app(GatedEngine(bundle), ServiceSettings(max_body_bytes=2000))
        exchange = Exchange([BODY[:700]] * 6, path=path)
        refused(await exchange.through(app), 413, "too_many_bytes")
        assert exchange.read == 3

    asyncio.run(run())


def test_a_client_that_expects_100_continue_is_not_read_from(bundle):
    async def run() -> None:
        app = create_app(GatedEngine(bundle), ServiceSettings(max_body_bytes=2000))
        headers = {"Content-Length": "9999", "Expect": "100-continue"}
        exchange = await Exchange([b"x" * 999] * 2, headers).through(app)
        refused(exchange, 413, "too_many_bytes")
        assert (exchange.read, exchange.drained) == (0, 0)

    asyncio.run(run())


def test_reading_on_after_a_refusal_is_bounded(bundle, monkeypatch):
    monkeypatch.setattr(limits, "LINGER_S", 0.05)

    async def run() -> None:
        app = create_app(GatedEngine(bundle), ServiceSettings(max_body_bytes=2000))
        exchange = await Exchange([b"x", forever], {"Content-Length": "9999"}).through(app)
        refused(exchange, 413, "too_many_bytes")
        assert exchange.messages[-1] == {
            "type": "http.response.body", "body": b"", "more_body": False
        }  # fmt: skip

    asyncio.run(run())


def test_requests_time_out_while_processed_and_while_sent(bundle, monkeypatch):
    monkeypatch.setattr(limits, "LINGER_S", 0.05)

    async def run() -> None:
        engine = GatedEngine(bundle)
        app = create_app(engine, ServiceSettings(max_in_flight=1, timeout_s=0.4))
        works = asyncio.create_task(Exchange([BODY]).through(app))
        await until(lambda: engine.begun == 1)
        refused(await works, 504, "timeout")
        assert engine.working == 0
        slow = await Exchange([BODY[:50], forever]).through(app)
        refused(slow, 408, "slow_upload")
        engine.gate.set()
        assert (await Exchange([BODY]).through(app)).status == 200

    asyncio.run(run())


def test_a_request_that_waited_in_vain_may_be_sent_again():
    async def run() -> None:
        gate, begun = asyncio.Event(), asyncio.Event()

        async def holds_on(scope, receive, send) -> None:
            """Keep the slot even when cancelled."""
            begun.set()
            try:
                await gate.wait()
            except asyncio.CancelledError:
                await gate.wait()
                raise

        settings = ServiceSettings(max_in_flight=1, max_queued=1, timeout_s=0.1)
        app = limits.Limits(holds_on, settings, Meter())
        works = asyncio.create_task(Exchange([BODY]).through(app))
        await begun.wait()
        waits = await Exchange([BODY]).through(app)
        assert (waits.status, waits.json["reason"], waits.read) == (503, "busy", 0)
        assert waits.answer_headers["retry-after"] == "2"
        gate.set()
        await works

    asyncio.run(run())


def test_work_ends_when_its_client_leaves(bundle):
    async def run() -> None:
        engine, notes = GatedEngine(bundle), Notes()
        app = create_app(engine, ServiceSettings(max_in_flight=1, max_queued=0), notes)

        async def begun() -> None:
            await until(lambda: engine.working == 1)

        exchange = await Exchange([BODY], then=begun).through(app)
        assert exchange.messages == []
        assert engine.working == 0
        assert ("request", "/v1/biopsies", 499) in notes.told
        engine.gate.set()
        assert (await Exchange([BODY]).through(app)).status == 200

    asyncio.run(run())


def test_a_server_that_stops_ends_the_work_as_well(bundle):
    async def run() -> None:
        engine = GatedEngine(bundle)
        task = asyncio.create_task(Exchange([BODY]).through(create_app(engine)))
        await until(lambda: engine.working == 1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert engine.working == 0

    asyncio.run(run())


def test_a_client_that_disconnects_frees_its_slot(bundle):
    async def run() -> None:
        engine, notes = GatedEngine(bundle), Notes()
        engine.gate.set()
        app = create_app(engine, ServiceSettings(max_in_flight=1, max_queued=0), notes)

        async def leaves() -> None:
            return None

        exchange = await Exchange([BODY[:50], leaves]).through(app)
        assert exchange.messages == []
        assert ("request", "/v1/biopsies", 499) in notes.told
        assert (await Exchange([BODY]).through(app)).status == 200

    asyncio.run(run())
