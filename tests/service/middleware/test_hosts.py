"""Without tokens the service answers under its own names only, against DNS rebinding."""

from __future__ import annotations

import pytest
from fastapi.testclient import TestClient

from skinray.config.scoring import ServiceSettings
from skinray.service.app import create_app
from skinray.service.engine import LocalEngine


@pytest.fixture(scope="module")
def tokenless(bundle):
    settings = ServiceSettings(without_tokens=True, hosts=("lab-7", "::2"))
    engine = LocalEngine(bundle)
    with TestClient(create_app(engine, settings), raise_server_exceptions=False) as client:
        yield client
    engine.close()


@pytest.mark.parametrize(
    "host",
    ["localhost", "localhost:8000", "LocalHost:1", "127.0.0.1", "127.0.0.1:8000", "[::1]",
     "[::1]:8000", "lab-7", "LAB-7:80", "[::2]:80"],
)  # fmt: skip
def test_own_names_pass_with_any_port(tokenless, host):
    assert tokenless.get("/v2/health/live", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize("path", ["/", "/v1/bundle", "/v2/health/live", "/metrics", "/static/x"])
@pytest.mark.parametrize(
    "host",
    ["evil.example", "evil.example:8000", "localhost.evil.example", "127.0.0.1.evil.example",
     "evil.example:localhost", "127.0.0.2", "[::3]", "::1", "localhost:", "", "user@localhost"],
)  # fmt: skip
def test_other_names_are_refused_on_every_path(tokenless, host, path):
    answer = tokenless.get(path, headers={"Host": host})
    assert answer.status_code == 421
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["reason"] == "wrong_host"
    assert "evil" not in answer.text
    assert answer.headers["x-request-id"] == answer.json()["request_id"]


def test_a_post_is_refused_before_its_body_is_read(tokenless):
    answer = tokenless.post("/v1/biopsies", content=b"x" * 9, headers={"Host": "evil.example"})
    assert answer.json()["reason"] == "wrong_host"


def test_two_names_are_none(tokenless):
    answer = tokenless.get(
        "/v2/health/live", headers=[("Host", "localhost"), ("Host", "evil.example")]
    )
    assert answer.status_code == 421


def test_with_tokens_any_name_passes(bundle, tmp_path):
    tokens = tmp_path / "tokens"
    tokens.write_text("t" * 40 + "\n")
    engine = LocalEngine(bundle)
    with TestClient(create_app(engine, ServiceSettings(tokens=str(tokens)))) as client:
        assert client.get("/v2/health/live", headers={"Host": "evil.example"}).status_code == 200
        assert client.get("/metrics").status_code == 401
    engine.close()
