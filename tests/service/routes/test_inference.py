"""The Open Inference Protocol v2: JSON, nested or flat, bytes after JSON, and refusals."""

from __future__ import annotations

import asyncio
import json
import math

import numpy as np
import pytest

import skinray
from benchmarks.stand_in import drawn_image
from skinray.errors import NotReadyError
from skinray.service.app import create_app
from tests.support.service.asgi_driver import Exchange, FailingEngine

LENGTH = "Inference-Header-Content-Length"
IMAGE = drawn_image(size=(40, 60))


def image_input(pixels=IMAGE, **changes):
    tensor = {"name": "image", "shape": list(pixels.shape), "datatype": "UINT8"}
    return {**tensor, "data": pixels.tolist(), **changes}


def scale_input(value=0.5):
    return {"name": "um_per_px", "shape": [1], "datatype": "FP64", "data": [value]}


def infer(client, model, *inputs, **members):
    return client.post(f"/v2/models/{model}/infer", json={"inputs": list(inputs), **members})


def tensors(response):
    """Outputs by name as arrays, from JSON and from bytes."""
    size = int(response.headers.get(LENGTH, len(response.content)))
    content = json.loads(response.content[:size])
    tail, found = response.content[size:], {}
    kinds = {"INT64": "<i8", "FP64": "<f8", "FP32": "<f4", "UINT8": "u1"}
    for output in content["outputs"]:
        kind = np.dtype(kinds[output["datatype"]])
        if "data" in output:
            values = np.array(output["data"], kind)
        else:
            count = output["parameters"]["binary_data_size"]
            values, tail = np.frombuffer(tail[:count], kind), tail[count:]
        found[output["name"]] = values.reshape(output["shape"])
    assert tail == b""
    return content, found


def refused(response, status, reason):
    report = response.json()
    assert (response.status_code, report["reason"]) == (status, reason)
    assert report["error"] == report["detail"]
    return report["detail"]


@pytest.mark.parametrize("um_per_px", [None, 0.5, 0.8])
def test_counts_are_those_of_the_bundle(client, bundle, um_per_px):
    inputs = [image_input()] + ([] if um_per_px is None else [scale_input(um_per_px)])
    content, found = tensors(infer(client, "biopsies", *inputs, id="7"))
    wanted = bundle.predict(IMAGE, um_per_px).crossings
    head = (content["model_name"], content["model_version"], content["id"])
    assert head == ("biopsies", bundle.info.id, "7")
    assert wanted.count == 2
    assert found["count"].tolist() == [2]
    assert np.array_equal(found["points"], wanted.points)
    assert found["boundary_px"].tolist() == [wanted.boundary_px]
    known = um_per_px is not None
    assert found["boundary_mm"].tolist() == ([wanted.boundary_mm] if known else [])
    assert found["density_per_mm"].tolist() == ([wanted.density_per_mm] if known else [])


@pytest.mark.parametrize("stage", ["nerve", "dermis"])
@pytest.mark.parametrize("data", [IMAGE.tolist(), IMAGE.ravel().tolist()], ids=["nested", "flat"])
def test_maps_are_those_of_the_bundle(client, bundle, stage, data):
    _, found = tensors(infer(client, stage, image_input(data=data), scale_input()))
    assert np.array_equal(found["probability"], bundle.stages[stage].map(IMAGE, 0.5))


@pytest.mark.parametrize("everything", [True, False])
def test_binary_inputs_and_outputs(client, bundle, everything):
    wish = {"name": "probability"} if everything else {
        "name": "probability", "parameters": {"binary_data": True}
    }  # fmt: skip
    image = image_input(data=None, parameters={"binary_data_size": IMAGE.nbytes})
    scale = {**scale_input(), "data": None, "parameters": {"binary_data_size": 8}}
    request = {
        "inputs": [image, scale],
        "outputs": [wish],
        "parameters": {"binary_data_output": everything},
    }
    text = json.dumps(request).encode()
    body = text + IMAGE.tobytes() + np.array([0.5], "<f8").tobytes()
    headers = {LENGTH: str(len(text)), "Content-Type": "application/octet-stream"}
    response = client.post("/v2/models/nerve/infer", content=body, headers=headers)
    assert response.headers["content-type"] == "application/octet-stream"
    content, found = tensors(response)
    assert content["outputs"][0]["parameters"] == {"binary_data_size": 4 * 40 * 60}
    assert np.array_equal(found["probability"], bundle.stages["nerve"].map(IMAGE, 0.5))


def test_requested_outputs_keep_their_order_with_some_as_bytes(client, bundle):
    wishes = [{"name": "points", "parameters": {"binary_data": True}}, {"name": "count"}]
    response = infer(client, "biopsies", image_input(), outputs=wishes)
    content, found = tensors(response)
    assert [output["name"] for output in content["outputs"]] == ["points", "count"]
    assert np.array_equal(found["points"], bundle.predict(IMAGE).crossings.points)
    assert content["outputs"][1]["data"] == [2]


BAD_TENSORS = {
    "no image": [scale_input()],
    "unknown": [image_input(), {**scale_input(), "name": "zoom"}],
    "twice": [image_input(), image_input()],
    "type": [image_input(datatype="FP32")],
    "rank": [image_input(shape=[40, 180])],
    "grey": [image_input(shape=[40, 180, 1])],
    "empty": [image_input(shape=[0, 60, 3], data=[])],
    "short": [image_input(data=[1, 2, 3])],
    "ragged": [image_input(data=[[[1, 2, 3]], [[1, 2]]])],
    "nested otherwise": [image_input(data=IMAGE.swapaxes(0, 1).tolist())],
    "text": [image_input(data=["1"] * IMAGE.size)],
    "fractions": [image_input(data=[0.5] * IMAGE.size)],
    "booleans": [image_input(data=[True] * IMAGE.size)],
    "too high": [image_input(data=[256] * IMAGE.size)],
    "negative": [image_input(data=[-1] * IMAGE.size)],
    "huge": [image_input(data=[1 << 70] * IMAGE.size)],
    "nothing": [image_input(data=None)],
    "half in bytes": [image_input(parameters={"binary_data_size": IMAGE.nbytes})],
    "bytes that are not there": [
        image_input(data=None, parameters={"binary_data_size": IMAGE.nbytes})
    ],
    "negative size": [image_input(data=None, parameters={"binary_data_size": -1})],
    "scale of two": [image_input(), {**scale_input(), "shape": [2], "data": [1, 1]}],
}


@pytest.mark.parametrize("inputs", BAD_TENSORS.values(), ids=BAD_TENSORS)
def test_invalid_tensors(client, inputs):
    refused(infer(client, "biopsies", *inputs), 400, "bad_tensor")


def test_other_refusals(client):
    refused(infer(client, "skin", image_input()), 404, "not_found")
    refused(infer(client, "biopsies", image_input(), scale_input(0)), 422, "bad_um_per_px")
    large = image_input(shape=[1000, 1000, 3], data=[])
    refused(infer(client, "biopsies", large), 422, "too_many_pixels")
    for outputs in ([{"name": "mask"}], [{"name": "count"}] * 2):
        refused(infer(client, "biopsies", image_input(), outputs=outputs), 400, "bad_tensor")
    refused(infer(client, "biopsies"), 400, "bad_tensor")
    assert "inputs" in refused(infer(client, "biopsies", 7), 400, "bad_request")


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"\xff", b"[" * 100_000, b'{"inputs": NaN}'])
def test_invalid_bodies(client, body):
    refused(client.post("/v2/models/nerve/infer", content=body), 400, "bad_request")


@pytest.mark.parametrize("length", ["-1", "x", "99999", "9" * 30, "1.0"])
def test_invalid_lengths(client, length):
    response = client.post("/v2/models/nerve/infer", content=b"{}", headers={LENGTH: length})
    refused(response, 400, "bad_request")


def test_too_many_bytes(client):
    text = json.dumps({"inputs": [image_input()]}).encode()
    headers = {LENGTH: str(len(text))}
    response = client.post("/v2/models/nerve/infer", content=text + b"more", headers=headers)
    assert "4 bytes follow" in refused(response, 400, "bad_tensor")


def test_a_scale_that_json_cannot_express(client):
    text = json.dumps({"inputs": [scale_input(math.nan)]}).encode()
    refused(client.post("/v2/models/nerve/infer", content=text), 400, "bad_request")


def test_server_and_model_metadata(client, bundle):
    server = client.get("/v2").json()
    assert server["version"] == skinray.__version__
    assert server["extensions"] == ["binary_tensor_data"]
    for name in ("biopsies", "nerve", "dermis"):
        model = client.get(f"/v2/models/{name}").json()
        assert (model["name"], model["versions"]) == (name, [bundle.info.id])
        assert model["inputs"][0] == {"name": "image", "datatype": "UINT8", "shape": [-1, -1, 3]}
        assert client.get(f"/v2/models/{name}/ready").json() == {"name": name, "ready": True}
        found = infer(client, name, image_input()).json()["outputs"]
        kinds = [(output["name"], output["datatype"]) for output in found]
        assert kinds == [(output["name"], output["datatype"]) for output in model["outputs"]]
    refused(client.get("/v2/models/skin"), 404, "not_found")
    refused(client.get("/v2/models/skin/ready"), 404, "not_found")


def test_health(client, bundle):
    assert client.get("/v2/health/live").json() == {"live": True}
    assert client.get("/v2/health/ready").json() == {"ready": True}
    app = create_app(FailingEngine(bundle, NotReadyError("nerve network fails")))
    for path in ("/v2/health/ready", "/v2/models/nerve/ready"):
        exchange = asyncio.run(Exchange([b""], path=path, method="GET").through(app))
        assert (exchange.status, exchange.json["reason"]) == (503, "not_ready")
        assert exchange.json["error"] == "nerve network fails"
    live = asyncio.run(Exchange([b""], path="/v2/health/live", method="GET").through(app))
    assert live.status == 200


def test_a_photo_bundle_has_models_of_its_own(photo_client, skin_bundle):
    found = skin_bundle.predict(IMAGE)
    for name, output in (("photos", "skin"), ("skin", "probability")):
        model = photo_client.get(f"/v2/models/{name}").json()
        assert (model["name"], model["versions"]) == (name, [skin_bundle.info.id])
        assert [one["name"] for one in model["inputs"]] == ["image"]
        assert [one["name"] for one in model["outputs"]] == [output]
        assert photo_client.get(f"/v2/models/{name}/ready").json()["ready"]
    _, mask = tensors(infer(photo_client, "photos", image_input()))
    assert 0 < found.fraction < 1
    assert np.array_equal(mask["skin"], found.mask)
    _, maps = tensors(infer(photo_client, "skin", image_input()))
    assert np.array_equal(maps["probability"], skin_bundle.maps(IMAGE)["skin"])
    wishes = [{"name": "skin", "parameters": {"binary_data": True}}]
    _, packed = tensors(infer(photo_client, "photos", image_input(), outputs=wishes))
    assert np.array_equal(packed["skin"], found.mask)
    refused(infer(photo_client, "photos", image_input(), scale_input()), 400, "bad_tensor")
    refused(infer(photo_client, "biopsies", image_input()), 404, "not_found")


def test_the_version_that_the_metadata_states(client):
    (version,) = client.get("/v2/models/biopsies").json()["versions"]
    path = f"/v2/models/biopsies/versions/{version}"
    assert client.get(path).json() == client.get("/v2/models/biopsies").json()
    assert client.get(f"{path}/ready").json() == {"name": "biopsies", "ready": True}
    body = {"inputs": [image_input()]}
    assert (
        client.post(f"{path}/infer", json=body).json()["outputs"]
        == (infer(client, "biopsies", image_input()).json()["outputs"])
    )
    other = "/v2/models/biopsies/versions/1"
    for response in (
        client.get(other), client.get(f"{other}/ready"), client.post(f"{other}/infer", json=body)
    ):  # fmt: skip
        assert version in refused(response, 404, "not_found")
    assert client.get(f"/v2/models/none/versions/{version}").status_code == 404
