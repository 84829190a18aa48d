"""``POST /v1/biopsies``: counts equal to those of the bundle, in three forms; and every refusal."""

from __future__ import annotations

import base64
import hashlib
import logging

import numpy as np
import pytest
from fastapi.testclient import TestClient

from benchmarks.stand_in import drawn_image
from skinray.config.scoring import ServiceSettings
from skinray.crossings.detect import CrossingsRecord
from skinray.images.doubts import NO_TISSUE
from skinray.images.read import decode_image
from skinray.scoring.geojson import to_geojson
from skinray.scoring.overlays import overlay
from skinray.service.answers.request import THRESHOLDS
from skinray.service.app import create_app
from skinray.service.engine import LocalEngine
from tests.support.service.image_files import FORMATS, as_file, from_png

URL = "/v1/biopsies"
SIZES = ((96, 128), (150, 97), (300, 260))


def post(client, data, accept=None, query="", **fields):
    headers = {} if accept is None else {"Accept": accept}
    files = {"image": ("secret name.png", data)}
    return client.post(URL + query, files=files, data=fields, headers=headers)


def problem(response, status, reason):
    """Check that a response is a complete problem report, and return its detail."""
    report = response.json()
    assert response.headers["content-type"] == "application/problem+json"
    assert (response.status_code, report["status"], report["reason"]) == (status, status, reason)
    assert report["type"] == f"urn:skinray:problem:{reason}"
    assert report["title"]
    assert report["instance"] == response.url.path
    assert report["request_id"] == response.headers["x-request-id"]
    assert "secret" not in response.text
    return report["detail"]


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("size", SIZES)
def test_counts_are_those_of_the_bundle(client, bundle, kind, size):
    data = as_file(drawn_image(sum(size), size, nerves=3), kind)
    image = decode_image(data, kind)
    found = bundle.predict(image.pixels, image.um_per_px).crossings
    answer = post(client, data).json()
    extra = {
        name: answer.pop(name) for name in list(answer) if name not in CrossingsRecord.model_fields
    }
    assert CrossingsRecord.model_validate(answer) == CrossingsRecord.of(found, image.um_per_px)
    assert kind == "grey png" or answer["count"] == 3  # grey has no red, hence no nerves
    assert extra["bundle"] == bundle.info.id
    assert extra["image_sha256"] == hashlib.sha256(data).hexdigest()
    assert extra["nerve_threshold"] == 0.5
    assert extra["backend"] == "eager"


def test_the_field_overrides_the_scale_of_the_file(client, bundle):
    data = as_file(drawn_image(), "ome-tiff")
    assert post(client, data).json()["um_per_px"] == 0.25
    answer = post(client, data, um_per_px="0.5").json()
    found = bundle.predict(drawn_image(), 0.5).crossings
    assert answer["um_per_px"] == 0.5
    assert answer["boundary_mm"] == found.boundary_mm
    assert answer["density_per_mm"] == found.density_per_mm


def test_without_a_scale_there_are_no_millimetres(client):
    answer = post(client, as_file(drawn_image())).json()
    assert [answer[name] for name in ("um_per_px", "boundary_mm", "density_per_mm")] == [None] * 3


def test_geojson(client, bundle):
    response = post(client, as_file(drawn_image()), "application/geo+json")
    found = bundle.predict(drawn_image()).crossings
    assert response.headers["content-type"] == "application/geo+json"
    assert response.json() == to_geojson(found.points, found.dermis)


def test_overlay(client, bundle):
    response = post(client, as_file(drawn_image()), "image/png")
    seen = bundle.predict(drawn_image())
    found = seen.crossings
    drawn = overlay(drawn_image(), seen.nerve > 0.5, found.boundary, found.points)
    assert response.headers["content-type"] == "image/png"
    assert np.array_equal(from_png(response.content), drawn)


def test_extras(client, bundle):
    image = drawn_image(nerves=4)
    bare = post(client, as_file(image)).json()
    full = post(client, as_file(image), query="?include=maps,image,boundary,sweep").json()
    seen = bundle.predict(image)
    pictures = {
        "nerve_png": np.rint(seen.nerve * 255),
        "dermis_png": np.rint(seen.dermis * 255),
        "boundary_png": seen.crossings.boundary * 255,
        "image_png": image,
    }
    for name, wanted in pictures.items():
        assert bare[name] is None
        assert np.array_equal(from_png(base64.b64decode(full[name])), wanted), name
    assert bare["sweep"] is None
    assert [point["nerve_threshold"] for point in full["sweep"]] == list(THRESHOLDS)
    assert full["sweep"][9] == {"nerve_threshold": 0.5, "count": 4, "points": full["points"]}


def test_bad_images(client):
    sound = as_file(drawn_image())
    for data, words in (
        (b"", "empty"),
        (b"GIF89a", "not a PNG, JPEG or TIFF"),
        (sound[:-20], "truncated PNG"),
        (sound[:60] + b"?" + sound[61:], "damaged PNG"),
    ):
        detail = problem(post(client, data), 422, "unreadable_image")
        assert words in detail
        assert detail.count(": ") == 1  # reason and remedy, no file name


def test_an_image_of_too_many_pixels(client):
    detail = problem(post(client, as_file(drawn_image(size=(700, 700)))), 422, "too_many_pixels")
    assert "700x700" in detail
    assert "read." not in detail


@pytest.mark.parametrize(
    "text", ["0", "-1", "nan", "inf", "25", "0.001", "x", "", "1" * 99, "1_0", "٣", "0x1", "1,5"]
)
def test_scales_out_of_range(client, text):
    response = post(client, as_file(drawn_image()), um_per_px=text)
    problem(response, 422, "bad_um_per_px")


def test_invalid_forms(client):
    data = as_file(drawn_image())
    problem(post(client, data, colour="red"), 422, "invalid_field")
    problem(client.post(URL, files={"photo": ("secret", data)}), 422, "invalid_field")
    problem(client.post(URL, files={"x": (None, "1")}), 422, "invalid_field")
    problem(client.post(URL, files={"um_per_px": (None, "1")}), 422, "invalid_field")
    twice = [("image", (None, "1")), ("um_per_px", (None, ".5")), ("um_per_px", (None, ".5"))]
    problem(client.post(URL, files=twice), 422, "invalid_field")
    problem(client.post(URL, json={"image": 1}), 415, "unsupported_media_type")
    problem(client.post(URL), 415, "unsupported_media_type")
    kind = {"Content-Type": "multipart/form-data"}
    problem(client.post(URL, content=b"x", headers=kind), 400, "bad_request")
    kind = {"Content-Type": "multipart/form-data; boundary=b"}
    problem(client.post(URL, content=b"no boundary", headers=kind), 400, "bad_request")
    two = [("image", ("a", data)), ("image", ("b", data))]
    problem(client.post(URL, files=two), 400, "bad_request")


@pytest.mark.parametrize("query", ["?include=map", "?include=maps,", "?include=maps;sweep"])
def test_unknown_extras(client, query):
    detail = problem(post(client, as_file(drawn_image()), query=query), 422, "invalid_field")
    assert "include" in detail


def test_extras_are_for_json_only(client):
    response = post(client, as_file(drawn_image()), "image/png", "?include=maps")
    problem(response, 422, "invalid_field")


def test_unavailable_media_type(client):
    detail = problem(post(client, b"", "text/html"), 406, "not_acceptable")
    assert "application/geo+json" in detail


def test_unknown_places_and_methods(client):
    problem(client.get("/v1/nothing"), 404, "not_found")
    problem(client.get("/static/nothing.js"), 404, "not_found")
    response = client.get(URL)
    problem(response, 405, "method_not_allowed")
    assert response.headers["allow"] == "POST"


def test_logs_contain_ids_and_no_names(client, caplog):
    caplog.set_level(logging.DEBUG, "skinray")
    response = post(client, as_file(drawn_image()))
    post(client, b"broken")
    lines = [record.getMessage() for record in caplog.records if record.name == "skinray.service"]
    assert len(lines) == 2
    assert f"request {response.headers['x-request-id']} POST {URL} 200" in lines[0]
    assert f"POST {URL} 422 unreadable_image" in lines[1]
    assert "secret" not in "".join(lines)


def test_the_answer_warns_before_it_is_believed(client):
    plain = post(client, as_file(drawn_image()), um_per_px="0.5").json()
    assert plain["warnings"] == []
    far = post(client, as_file(drawn_image()), um_per_px="1.5").json()
    assert len(far["warnings"]) == 1
    assert "1.5 um per pixel" in far["warnings"][0]
    blank = post(client, as_file(np.full((96, 128, 3), 235, np.uint8)), um_per_px="0.5").json()
    assert blank["density_per_mm"] is None
    assert blank["warnings"][0] == NO_TISSUE
    tensor = {"name": "image", "shape": [96, 128, 3], "datatype": "UINT8", "data": [235] * 36864}
    scale = {"name": "um_per_px", "shape": [1], "datatype": "FP64", "data": [0.5]}
    asked = client.post("/v2/models/biopsies/infer", json={"inputs": [tensor, scale]}).json()
    values = {one["name"]: one["data"] for one in asked["outputs"]}
    assert values["density_per_mm"] == []


@pytest.mark.parametrize(
    ("method", "path", "known"),
    [
        ("POST", f"{URL}?includes=maps", "use include"),
        ("POST", "/v1/photos?um_per_px=1", "use as, threshold, include"),
        ("POST", "/v1/labels?x", "this address takes none"),
        ("GET", "/v1/bundle?x=1", "this address takes none"),
        ("GET", "/v2/health/live?x=1&y=2", "this address takes none"),
        ("POST", "/v2/models/nerve/infer?a=b", "this address takes none"),
    ],
)
def test_unknown_query_parameters_are_refused(client, method, path, known):
    files = {"image": as_file(drawn_image())} if method == "POST" else None
    response = client.request(method, path, files=files)
    assert (response.status_code, response.json()["reason"]) == (422, "invalid_field")
    assert response.json()["detail"].removeprefix("unknown query parameter").startswith(": ")
    assert response.json()["detail"].endswith(known)


def test_links_to_the_page_may_carry_anything(client):
    for path in ("/?utm=1", "/docs?x", "/static/main.js?v=2", "/favicon.ico?v"):
        assert client.get(path).status_code == 200


def test_enlarging_has_a_limit_of_its_own(bundle):
    """A small file at a coarse scale would cost as much as a huge image."""
    limits = ServiceSettings(max_pixels=1_000_000, max_resampled_pixels=50_000)
    with TestClient(create_app(LocalEngine(bundle), limits)) as client:
        data = as_file(drawn_image())  # 12,288 pixels; 49,152 and 110,592 once enlarged
        assert post(client, data, um_per_px="1").status_code == 200
        detail = problem(post(client, data, um_per_px="1.5"), 422, "too_many_pixels")
        assert "limit of 0.05" in detail
        large = as_file(drawn_image(size=(300, 400)))  # not enlarged: max_pixels alone counts
        assert post(client, large, um_per_px="0.5").status_code == 200
        assert post(client, large, um_per_px="0.2").status_code == 200


def test_a_scale_that_makes_an_image_huge_is_refused(client):
    """300x260 px at 20 um per pixel are 125 megapixels at the networks' .5: more than the limit."""
    data = as_file(drawn_image(0, (300, 260)))
    detail = problem(post(client, data, um_per_px="20"), 422, "too_many_pixels")
    assert "125 megapixels" in detail
    assert detail.endswith("more than the limit of 0.4: correct um_per_px, or send a part")
    saved = client.post(
        "/v1/labels", files={"image": ("a", data)}, data={"um_per_px": "20", "points": "[]"}
    )
    assert saved.json()["reason"] in ("too_many_pixels", "not_found")  # none are stored here
    tensor = {
        "name": "image", "shape": [300, 260, 3], "datatype": "UINT8", "data": [0] * 300 * 260 * 3,
    }  # fmt: skip
    scale = {"name": "um_per_px", "shape": [1], "datatype": "FP64", "data": [20.0]}
    for name in ("nerve", "biopsies"):
        asked = client.post(f"/v2/models/{name}/infer", json={"inputs": [tensor, scale]})
        assert (asked.status_code, asked.json()["reason"]) == (422, "too_many_pixels")
    assert post(client, data, um_per_px="0.5").status_code == 200
