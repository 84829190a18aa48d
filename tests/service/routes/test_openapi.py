"""The service's description of itself holds: for a reader, and against drawn-up requests."""

from __future__ import annotations

import re
import threading
from contextlib import suppress

import pytest
import schemathesis
from fastapi import FastAPI
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from hypothesis.errors import Unsatisfiable
from jsonschema import Draft202012Validator
from schemathesis import GenerationMode
from schemathesis.specs.openapi.checks import positive_data_acceptance
from stand_in import drawn_image

from skinray.config.scoring import ServiceSettings
from skinray.learning.bundle import Bundle
from skinray.service.app import create_app
from skinray.service.engine import LocalEngine
from tests.support.service.image_files import as_file

PATHS = {
    "/v1/biopsies": {"post"},
    "/v1/bundle": {"get"},
    "/v1/labels": {"get", "post"},
    "/v1/photos": {"post"},
    "/v2": {"get"},
    "/v2/health/live": {"get"},
    "/v2/health/ready": {"get"},
    "/v2/models/{name}": {"get"},
    "/v2/models/{name}/ready": {"get"},
    "/v2/models/{name}/infer": {"post"},
}


@pytest.fixture(scope="module")
def app(bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> FastAPI:
    """The service with a folder for labels."""
    folder = tmp_path_factory.mktemp("labels") / "cohort"
    limits = ServiceSettings(max_body_bytes=100_000, max_pixels=20_000, labels=str(folder))
    return create_app(LocalEngine(bundle), limits)


@pytest.fixture(scope="module")
def photo_app(skin_bundle: Bundle) -> FastAPI:
    """The service of a bundle for photographs."""
    return create_app(
        LocalEngine(skin_bundle), ServiceSettings(max_body_bytes=100_000, max_pixels=20_000)
    )


FILES = [as_file(drawn_image(size=(20, 30))), as_file(drawn_image(), "jpeg")]
schemathesis.openapi.format("binary", st.sampled_from(FILES) | st.binary(max_size=64))

OPERATIONS = [(path, method) for path, methods in PATHS.items() for method in sorted(methods)]
# Crossings within the image, and tensors that fill their shape, do not come by chance.
HARD_TO_GUESS = ("/v1/labels", "/v2/models/{name}/infer")
MODES = (GenerationMode.POSITIVE, GenerationMode.NEGATIVE)


def draw_up_requests(
    app: FastAPI, path: str, method: str, mode: GenerationMode, how: settings
) -> list[int]:
    """Send requests drawn from the description; each answer must be one that it allows."""
    operation = schemathesis.openapi.from_asgi("/openapi.json", app)[path][method]
    statuses: list[int] = []

    @settings(how, deadline=None, suppress_health_check=list(HealthCheck), database=None)
    @given(case=operation.as_strategy(generation_mode=mode))
    def check(case: schemathesis.Case) -> None:
        # No schema can say which bytes are an image: a refusal of sound requests is allowed.
        response = case.call_and_validate(excluded_checks=[positive_data_acceptance])
        statuses.append(response.status_code)
        assert response.headers["x-request-id"]

    with suppress(Unsatisfiable):  # an operation without any part to draw up wrongly
        check()
    return statuses


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(("path", "method"), OPERATIONS)
def test_drawn_up_requests_get_what_is_described(app, path, method, mode):
    few = settings(max_examples=10, derandomize=True, phases=[Phase.generate])
    sent = draw_up_requests(app, path, method, mode, few)
    assert sent or mode == GenerationMode.NEGATIVE


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(("path", "method"), OPERATIONS)
def test_a_service_of_photographs_answers_as_described(photo_app, path, method, mode):
    few = settings(max_examples=10, derandomize=True, phases=[Phase.generate])
    sent = draw_up_requests(photo_app, path, method, mode, few)
    assert sent or mode == GenerationMode.NEGATIVE


@pytest.mark.slow
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(("path", "method"), OPERATIONS)
def test_many_drawn_up_requests_get_what_is_described(app, photo_app, path, method, mode):
    asked = photo_app if path == "/v1/photos" else app
    sent = draw_up_requests(asked, path, method, mode, settings(max_examples=100))
    if mode == GenerationMode.POSITIVE and path not in HARD_TO_GUESS:
        assert 200 in sent


def test_every_route_is_described(client):
    paths = client.get("/openapi.json").json()["paths"]
    assert {path: set(operations) for path, operations in paths.items()} == PATHS


def test_every_error_is_a_problem_report(client):
    document = client.get("/openapi.json").json()
    assert "HTTPValidationError" not in document["components"]["schemas"]
    for path, operations in document["paths"].items():
        for operation in operations.values():
            for status, response in operation["responses"].items():
                if int(status) >= 400:
                    content = response["content"]["application/problem+json"]["schema"]
                    assert content == {"$ref": "#/components/schemas/Problem"}, (path, status)


def test_references_lead_somewhere(client):
    text = client.get("/openapi.json").text
    schemas = client.get("/openapi.json").json()["components"]["schemas"]
    names = set(re.findall(r'"\$ref": ?"#/components/schemas/([^"]+)"', text))
    assert (
        {"Problem", "BiopsyCount", "PhotoSkin", "InferRequest", "InputTensor"}
        <= names
        <= set(schemas)
    )


def test_examples_are_what_is_described(client):
    schemas = client.get("/openapi.json").json()["components"]["schemas"]
    found = 0
    for name, one in schemas.items():
        whole = {"$ref": f"#/components/schemas/{name}", "components": {"schemas": schemas}}
        for example in one.get("examples", []):
            Draft202012Validator(whole).validate(example)
            found += 1
    assert found == 3


def test_answers_are_what_is_described(client):
    schemas = client.get("/openapi.json").json()["components"]["schemas"]
    whole = {"$ref": "#/components/schemas/BiopsyCount", "components": {"schemas": schemas}}
    for query in ("", "?include=maps,image,boundary,sweep"):
        files = {"image": as_file(drawn_image())}
        answer = client.post("/v1/biopsies" + query, files=files).json()
        Draft202012Validator(whole).validate(answer)


def test_answers_on_photographs_are_what_is_described(photo_client):
    schemas = photo_client.get("/openapi.json").json()["components"]["schemas"]
    whole = {"$ref": "#/components/schemas/PhotoSkin", "components": {"schemas": schemas}}
    for query in ("", "?include=maps,image,sweep", "?threshold=.7"):
        files = {"image": as_file(drawn_image())}
        answer = photo_client.post("/v1/photos" + query, files=files).json()
        Draft202012Validator(whole).validate(answer)


def test_the_description_for_readers_needs_no_other_place(client):
    page = client.get("/docs")
    places = re.findall(r'(?:src|href)="([^"]+)"', page.text)
    assert places == ["docs/swagger-ui.css", "docs/swagger-ui-bundle.js", "docs/start.js"]
    assert "<style" not in page.text
    assert not re.search(r"<script>|\son\w+=|style=", page.text)  # the policy forbids them
    for place in places:
        response = client.get(f"/{place}")
        assert response.status_code == 200
        kind = "text/css" if place.endswith("css") else "text/javascript"
        assert response.headers["content-type"].startswith(kind)
    assert not re.search(
        r"@import|url\(\s*['\"]?(https?:)?//", client.get("/docs/swagger-ui.css").text
    )
    assert "SwaggerUIBundle" in client.get("/docs/swagger-ui-bundle.js").text
    start = client.get("/docs/start.js").text
    assert 'url: "openapi.json"' in start
    assert "validatorUrl: null" in start
    assert client.get("/docs/other.js").status_code == 404


def test_the_page_is_served(client):
    page = client.get("/")
    assert page.headers["content-type"].startswith("text/html")
    assert page.text == client.get("/static/index.html").text


def test_the_application_ends_its_threads(bundle):
    def decoding() -> set[threading.Thread]:
        return {thread for thread in threading.enumerate() if thread.name.startswith("decode")}

    before = decoding()
    with TestClient(create_app(LocalEngine(bundle))) as client:
        assert client.post("/v1/biopsies", files={"image": as_file(drawn_image())}).is_success
        assert decoding() > before
    assert decoding() == before
