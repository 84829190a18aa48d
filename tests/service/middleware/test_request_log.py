"""Request ids, response headers, unexpected errors, and what the meter receives."""

from __future__ import annotations

import asyncio
import re

import pytest

from benchmarks.stand_in import drawn_image
from skinray.errors import BundleError, BusyError, LostWorkError, NotReadyError, ResourcesError
from skinray.service.app import create_app
from tests.support.service.asgi_driver import Exchange, FailingEngine, GatedEngine, Notes, form
from tests.support.service.image_files import as_file

BODY = form(as_file(drawn_image()))


def ask(app, **changes) -> Exchange:
    return asyncio.run(Exchange(**{"body": [BODY], **changes}).through(app))


@pytest.mark.parametrize("given", ["a", "01J-x_y.z:7", "f" * 128])
def test_a_valid_request_id_is_kept(client, given):
    for path in ("/v2/health/live", "/nowhere"):
        response = client.get(path, headers={"X-Request-ID": given})
        assert response.headers["x-request-id"] == given


@pytest.mark.parametrize("given", ["", "a b", "f" * 129, "<b>", "a;b", "ü".encode()])
def test_an_invalid_request_id_is_replaced(client, given):
    made = client.get("/v2/health/live", headers={"X-Request-ID": given}).headers["x-request-id"]
    assert re.fullmatch("[0-9a-f]{32}", made)


@pytest.mark.parametrize("path", ["/", "/docs", "/openapi.json", "/static/index.html", "/nowhere"])
def test_every_response_has_the_security_headers(client, path):
    headers = client.get(path).headers
    policy = dict(
        part.strip().split(" ", 1) for part in headers["content-security-policy"].split(";")
    )
    assert policy["default-src"] == "'none'"
    assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"
    assert policy["img-src"] == "'self' blob: data:"
    assert policy["frame-ancestors"] == "'none'"
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"


@pytest.mark.parametrize(
    ("path", "rule"),
    [("/", "no-store"), ("/v1/bundle", "no-store"), ("/nowhere", "no-store"),
     ("/openapi.json", "no-store"), ("/static/main.js", "no-cache"), ("/favicon.ico", "no-cache")],
)  # fmt: skip
def test_answers_are_never_kept_and_files_compared_each_time(client, path, rule):
    assert client.get(path).headers["cache-control"] == rule


def test_counts_and_refusals_are_never_kept(client):
    for data in (as_file(drawn_image()), b"no image"):
        response = client.post("/v1/biopsies", files={"image": data})
        assert response.headers["cache-control"] == "no-store"


def test_the_icon_that_browsers_ask_for(client):
    icon = client.get("/favicon.ico")
    assert icon.headers["content-type"] == "image/svg+xml"
    assert icon.content == client.get("/static/icon.svg").content


def test_an_unexpected_error_reveals_only_the_request_id(bundle, caplog):
    error = RuntimeError("tensor of /home/lab/secret.pt")
    exchange = ask(create_app(FailingEngine(bundle, error)))
    assert (exchange.status, exchange.json["reason"]) == (500, "internal")
    assert "secret" not in str(exchange.messages)
    logged = [record for record in caplog.records if record.levelname == "ERROR"]
    assert len(logged) == 1
    assert exchange.json["request_id"] in logged[0].getMessage()
    assert logged[0].exc_info[1] is error


@pytest.mark.parametrize("error", [BundleError("/srv/b: altered"), ResourcesError("no GPU")])
def test_our_errors_that_no_client_can_fix_are_internal(bundle, error, caplog):
    exchange = ask(create_app(FailingEngine(bundle, error)))
    assert (exchange.status, exchange.json["reason"]) == (500, "internal")
    assert "/srv" not in str(exchange.messages)
    assert [record.exc_info[1] for record in caplog.records if record.exc_info] == [error]


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (BusyError("full"), "busy"),
        (NotReadyError("no"), "not_ready"),
        (LostWorkError("died"), "interrupted"),
    ],
)
def test_an_engine_that_is_busy_or_not_ready(bundle, error, reason):
    exchange = ask(create_app(FailingEngine(bundle, error)))
    assert (exchange.status, exchange.json["reason"]) == (503, reason)
    assert exchange.answer_headers["retry-after"] == "2"


def test_what_the_meter_receives(bundle):
    async def run() -> Notes:
        notes, engine = Notes(), GatedEngine(bundle)
        engine.gate.set()
        app = create_app(engine, meter=notes)
        await Exchange([BODY]).through(app)
        await Exchange([form(b"no image")]).through(app)
        await Exchange([b""], path="/v2/models/nerve", method="GET").through(app)
        await Exchange([b""], path="/random", method="GET").through(app)
        return notes

    told = asyncio.run(run()).told
    assert [one for one in told if one[0] != "load"] == [
        ("stage", "decode"),
        ("image", 96 * 128),
        ("stage", "answer"),
        ("counted", 2),
        ("request", "/v1/biopsies", 200),
        ("request", "/v1/biopsies", 422),
        ("error", "unreadable_image"),
        ("request", "/v2/models/{name}", 200),
        ("request", "other", 404),
        ("error", "not_found"),
    ]


@pytest.mark.parametrize("path", ["/", "/v2/health/live", "/v1/bundle", "/static/main.js"])
def test_head_has_the_headers_of_get_and_no_body(client, path):
    whole, head = client.get(path), client.head(path)
    assert head.status_code == whole.status_code == 200
    assert head.content == b""
    for name in ("content-type", "cache-control", "content-security-policy"):
        assert head.headers[name] == whole.headers[name]
    assert client.head("/v1/biopsies").status_code == 405


@pytest.mark.parametrize("encoding", ["gzip", "br", "deflate, gzip"])
def test_a_compressed_body_is_refused(client, encoding):
    sent = client.post("/v1/biopsies", content=b"\x1f\x8b", headers={"Content-Encoding": encoding})
    assert sent.status_code == 415
    assert "Content-Encoding" in sent.json()["detail"]
    same = client.post("/v1/biopsies", content=b"", headers={"Content-Encoding": "identity"})
    assert "compressed" not in same.json()["detail"]
