"""Every route needs a token, except liveness and the pages' files; no log contains a token."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.routing import APIRoute
from fastapi.testclient import TestClient

from benchmarks.stand_in import drawn_image
from skinray.config.scoring import ServiceSettings
from skinray.service.app import PAGE, create_app
from skinray.service.engine import LocalEngine
from skinray.service.middleware import limits
from tests.support.service.asgi_driver import Exchange, GatedEngine, Notes, form
from tests.support.service.image_files import as_file

ANNA, BEN = "anna-canary-" + "a1" * 16, "ben-canary-" + "b2" * 16
BODY = form(as_file(drawn_image()))
OPEN = {"/favicon.ico", "/v2/health/live", "/", "/docs", "/docs/start.js", "/docs/swagger-ui.css"}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "tokens"
    path.write_text(f"{ANNA}\n{BEN}\n")
    return path


@pytest.fixture
def guarded(bundle: Any, file: Path, tmp_path: Path) -> Iterator[TestClient]:
    settings = ServiceSettings(tokens=str(file), labels=str(tmp_path / "labels"))
    with TestClient(create_app(LocalEngine(bundle), settings)) as client:
        yield client


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def routes(client: TestClient) -> list[tuple[str, str]]:
    """Every route of the application with its methods, also those not in its OpenAPI."""
    found = [
        (method, route.path.replace("{name}", "nerve"))
        for route in client.app.routes  # type: ignore[attr-defined]
        if hasattr(route, "methods")
        for method in route.methods
    ]
    described = client.app.openapi()["paths"]  # type: ignore[attr-defined]
    found += [
        (method.upper(), path.replace("{name}", "nerve"))
        for path, operations in described.items()
        for method in operations
    ]
    return sorted(set(found))


def test_every_route_except_the_open_ones_needs_a_token(guarded: TestClient) -> None:
    asked = [
        (method, path)
        for method, path in routes(guarded)
        if guarded.request(method, path).status_code == 401
    ]
    expected = [
        (method, path)
        for method, path in routes(guarded)
        if path not in OPEN or method not in ("GET", "HEAD")
    ]
    assert asked == expected
    paths = {path for _, path in asked}
    assert paths >= {"/openapi.json", "/v1/biopsies", "/v1/labels", "/v2", "/v2/health/ready"}
    for method, path in expected:
        answer = guarded.request(method, path, headers=bearer(ANNA))
        assert answer.status_code != 401, (method, path)


@pytest.mark.parametrize(
    "path",
    ["/nowhere", "/static/", "/static/none.js", "/static/../v1/labels", "//v1/labels",
     "/static/%2e%2e/api.py", "/v2/health/live/", "/v2/health/live/../ready", "/docs/other.js",
     "/v2/health/LIVE", "/v2/health/live%00", "/v2/health/live;/../../../v1/labels"],
)  # fmt: skip
def test_paths_that_are_not_listed_as_open_need_a_token(guarded: TestClient, path: str) -> None:
    assert guarded.get(path).status_code == 401


def test_the_pages_files_need_no_token(guarded: TestClient) -> None:
    names = [f.relative_to(PAGE).as_posix() for f in PAGE.rglob("*") if f.is_file()]
    assert "main.js" in names
    for path in ["/", "/docs", "/docs/start.js", *(f"/static/{name}" for name in names)]:
        assert guarded.get(path).status_code == 200, path
        assert guarded.post(path).status_code == 401, path


def test_each_of_several_tokens_is_accepted(guarded: TestClient) -> None:
    for token in (ANNA, BEN):
        for header in (f"Bearer {token}", f"bearer {token}", f"BEARER  {token} "):
            assert guarded.get("/v2", headers={"Authorization": header}).status_code == 200


@pytest.mark.parametrize(
    "header",
    ["", "Bearer", "Bearer ", f"Bearer {ANNA[:-1]}", f"Bearer {ANNA}1", f"Bearer {ANNA.upper()}",
     f"Basic {ANNA}", ANNA, f"Token {ANNA}", f"Bearer{ANNA}", f"Bearer {ANNA},{BEN}",
     f"Bearer {ANNA} {BEN}", f'Bearer "{ANNA}"', f"Bearer\t{ANNA}"],
)  # fmt: skip
def test_only_a_token_in_the_right_scheme_is_accepted(guarded: TestClient, header: str) -> None:
    answer = guarded.get("/v2", headers={"Authorization": header})
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"] == 'Bearer realm="skinray", error="invalid_token"'
    report = answer.json()
    assert report["reason"] == "unauthorized"
    assert report["type"] == "urn:skinray:problem:unauthorized"
    assert answer.headers["content-type"] == "application/problem+json"
    assert "canary" not in answer.text.lower()
    assert "canary" not in str(answer.headers).lower()


def test_a_missing_token_is_requested(guarded: TestClient) -> None:
    answer = guarded.get("/v1/labels")
    assert answer.headers["www-authenticate"] == 'Bearer realm="skinray"'
    assert "Authorization: Bearer" in answer.json()["detail"]
    assert answer.json()["request_id"] == answer.headers["x-request-id"]
    for elsewhere in (f"/v2?token={ANNA}", f"/v2?access_token={ANNA}"):
        assert guarded.get(elsewhere).status_code == 401
    assert guarded.get("/v2", headers={"Cookie": f"token={ANNA}"}).status_code == 401


def test_two_authorization_headers_are_refused(guarded: TestClient) -> None:
    headers = [("Authorization", f"Bearer {ANNA}"), ("Authorization", f"Bearer {BEN}")]
    assert guarded.get("/v2", headers=headers).status_code == 401


def test_tokens_change_without_a_restart(guarded: TestClient, file: Path) -> None:
    assert guarded.get("/v2", headers=bearer(ANNA)).status_code == 200
    file.write_text(f"{BEN}\n")
    assert guarded.get("/v2", headers=bearer(ANNA)).status_code == 401
    assert guarded.get("/v2", headers=bearer(BEN)).status_code == 200


def test_an_unauthorised_body_is_not_read_and_takes_no_slot(
    bundle: Any, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "LINGER_S", 0.05)

    async def run() -> None:
        engine, notes = GatedEngine(bundle), Notes()
        settings = ServiceSettings(max_in_flight=1, max_queued=0, tokens=str(file))
        app = create_app(engine, settings, notes)
        stranger = await Exchange([b"x" * 100] * 3).through(app)
        assert (stranger.status, stranger.read, stranger.drained) == (401, 0, 3)
        assert not [told for told in notes.told if told[0] == "load"]
        assert ("error", "unauthorized") in notes.told
        engine.gate.set()
        known = await Exchange([BODY], bearer(BEN)).through(app)
        assert known.status == 200

    asyncio.run(run())


def test_a_websocket_is_closed(bundle: Any, file: Path) -> None:
    async def run() -> None:
        app = create_app(LocalEngine(bundle), ServiceSettings(tokens=str(file)))
        sent: list[Any] = []

        async def receive() -> Any:
            return {"type": "websocket.connect"}

        async def send(message: Any) -> None:
            sent.append(message)

        scope = {"type": "websocket", "path": "/v2/health/live", "headers": [], "app": app}
        await app(scope, receive, send)
        assert sent == [{"type": "websocket.close", "code": 1008}]

    asyncio.run(run())


def test_the_same_paths_are_open_behind_a_prefix(bundle: Any, file: Path) -> None:
    settings = ServiceSettings(tokens=str(file))
    app = create_app(LocalEngine(bundle), settings)
    client = TestClient(app, root_path="/lab", base_url="http://testserver")
    assert client.get("/lab/v2/health/live").status_code == 200
    assert client.get("/lab/v2").status_code == 401


def test_no_log_at_any_level_contains_a_token(
    guarded: TestClient, file: Path, caplog: pytest.LogCaptureFixture, capfd: Any
) -> None:
    with caplog.at_level(logging.DEBUG):
        logging.getLogger("skinray.service").setLevel(logging.DEBUG)
        for token in (ANNA, ANNA + "x", "wrong-canary-token"):
            for headers in (bearer(token), {"Authorization": token}):
                guarded.get("/v2", headers=headers)
                guarded.post("/v1/biopsies", headers=headers, files={"image": b"none"})
                guarded.get(f"/nowhere?token={token}", headers=headers)
        file.write_text(f"{BEN}\nbroken canary line with spaces\n")
        guarded.get("/v2", headers=bearer(BEN))
    ours = [r for r in caplog.records if r.name.startswith("skinray")]
    assert len(ours) > 15
    assert [r.getMessage() for r in ours if "canary" in r.getMessage() + str(r.args)] == []
    said = capfd.readouterr()
    assert "canary" not in said.out + said.err


def test_openapi_says_which_routes_need_a_token(guarded: TestClient, client: TestClient) -> None:
    document = guarded.get("/openapi.json", headers=bearer(ANNA)).json()
    assert document["components"]["securitySchemes"]["token"]["scheme"] == "bearer"
    assert document["security"] == [{"token": []}]
    for path, operations in document["paths"].items():
        for operation in operations.values():
            live = path == "/v2/health/live"
            assert operation.get("security") == ([] if live else None)
            assert ("401" in operation["responses"]) is not live
    assert "security" not in client.get("/openapi.json").json()


def test_every_route_of_the_application_was_tried(guarded: TestClient) -> None:
    own = {r.path for r in guarded.app.routes if isinstance(r, APIRoute)}  # type: ignore[attr-defined]
    tried = {path for _, path in routes(guarded)}
    assert {path.replace("{name}", "nerve") for path in own} <= tried
