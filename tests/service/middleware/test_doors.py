"""Closed doors: who is inside is served to the end, and nobody else comes in."""

from __future__ import annotations

import asyncio

from benchmarks.stand_in import drawn_image
from skinray.service.app import create_app
from skinray.service.middleware.doors import Doors
from tests.support.service.asgi_driver import Exchange, GatedEngine, form
from tests.support.service.image_files import as_file

BODY = form(as_file(drawn_image()))


async def begun(engine: GatedEngine) -> None:
    while not engine.begun:
        await asyncio.sleep(0.01)


def test_a_request_inside_is_answered_whole_after_the_doors_have_closed(bundle):
    async def go():
        engine, doors = GatedEngine(bundle), Doors()
        app = create_app(engine, doors=doors)
        first = asyncio.create_task(Exchange([BODY]).through(app))
        await begun(engine)
        assert doors.close() == 1
        late = await Exchange([BODY]).through(app)
        assert doors.inside == 1  # the one refused is not waited for
        engine.gate.set()
        return await first, late, doors

    first, late, doors = asyncio.run(go())
    assert (first.status, first.json["count"]) == (200, 2)
    assert first.answer_headers["connection"] == "close"
    assert doors.inside == 0
    assert (late.status, late.json["reason"], late.read) == (503, "stopping", 0)
    assert late.answer_headers["content-type"] == "application/problem+json"
    assert late.answer_headers["retry-after"].isdigit()
    assert late.answer_headers["connection"] == "close"
    assert late.answer_headers["x-request-id"] == late.json["request_id"]


def test_a_request_that_fails_inside_is_not_waited_for_either(bundle):
    async def go():
        engine, doors = GatedEngine(bundle), Doors()
        app = create_app(engine, doors=doors)
        task = asyncio.create_task(Exchange([BODY]).through(app))
        await begun(engine)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        return doors.close()

    assert asyncio.run(go()) == 0


def test_open_doors_keep_connections(client):
    assert "connection" not in client.get("/v2/health/live").headers
