"""``POST /v1/photos``: the skin that the bundle finds, in three forms, and nothing of the file."""

from __future__ import annotations

import base64
import hashlib
import logging
import struct

import numpy as np
import pytest
from fastapi.testclient import TestClient

from benchmarks.stand_in import drawn_image
from skinray.config.scoring import ServiceSettings
from skinray.images.photos.skin import SkinArea
from skinray.images.read import decode_image
from skinray.service.answers.request import THRESHOLDS
from skinray.service.app import create_app
from skinray.service.engine import LocalEngine
from tests.support.drawn_photos import drawn_photo
from tests.support.odd_photos import ODD
from tests.support.service.asgi_driver import Notes
from tests.support.service.image_files import (
    CANARIES,
    FORMATS,
    PLACES,
    as_file,
    from_png,
    with_place,
)

URL = "/v1/photos"
PNG = {"Accept": "image/png"}
SIZES = ((60, 80), (150, 97), (1, 1), (300, 260))


def post(client, data, query="", **headers):
    return client.post(URL + query, files={"image": ("secret name.jpg", data)}, headers=headers)


def photo(size=(60, 80)):
    height, width = size
    return drawn_photo(sum(size), (max(8, height), max(8, width)))[0][:height, :width]


def refused(response, status, reason):
    report = response.json()
    assert response.headers["content-type"] == "application/problem+json"
    assert (response.status_code, report["reason"]) == (status, reason)
    assert report["instance"] == URL
    assert "secret" not in response.text
    return report["detail"]


def decoded(mask):
    """Draw run lengths, one run after the other, down the columns."""
    height, width = mask["size"]
    pixels, skin = [], False
    for length in mask["counts"]:
        pixels += [skin] * length
        skin = not skin
    return np.array(pixels).reshape(width, height).T


FILES = {f"{kind} {size}": (as_file, photo(size), kind) for kind in FORMATS for size in SIZES}
FILES |= {kind: (lambda odd: odd.data, odd) for kind, odd in ODD.items()}


@pytest.mark.parametrize("kind", FILES)
def test_the_skin_is_that_of_the_bundle(photo_client, skin_bundle, kind):
    write, *what = FILES[kind]
    data = write(*what)
    found = skin_bundle.predict(decode_image(data, kind).pixels)
    response = post(photo_client, data)
    answer = response.json()
    shape = (what[0].pixels if kind in ODD else what[0]).shape
    assert (answer["height"], answer["width"]) == found.mask.shape == shape[:2]
    assert np.isfinite(found.probability).all()
    assert 0 <= answer["confidence"] <= 1
    assert "nan" not in response.text.lower()
    assert SkinArea.model_validate({k: answer[k] for k in SkinArea.model_fields}) == SkinArea.of(
        found
    )
    assert np.array_equal(decoded(answer["mask"]), found.mask)
    assert answer["request_id"] == response.headers["x-request-id"]
    assert answer["bundle"] == skin_bundle.info.id
    assert answer["image_sha256"] == hashlib.sha256(data).hexdigest()
    assert answer["threshold"] == 0.65
    assert sum(answer["mask"]["counts"][1::2]) == answer["skin_px"]


def test_masks_have_both_labels(skin_bundle):
    """Otherwise the tests above would compare nothing."""
    shares = [skin_bundle.predict(photo(size)).fraction for size in SIZES]
    assert any(0.02 < share < 0.98 for share in shares)


def test_mask_and_cut_out_as_pictures(photo_client, skin_bundle):
    image = drawn_photo(5, (90, 120))[0]
    found = skin_bundle.predict(image)
    assert 0 < found.fraction < 1
    mask = post(photo_client, as_file(image), **PNG)
    assert mask.headers["content-type"] == "image/png"
    assert mask.headers["vary"] == "Accept"
    assert np.array_equal(from_png(mask.content), found.mask * 255)
    assert post(photo_client, as_file(image), "?as=mask", **PNG).content == mask.content
    cut = from_png(post(photo_client, as_file(image), "?as=cutout", **PNG).content)
    assert np.array_equal(cut[..., 3], found.mask * 255)
    assert np.array_equal(cut[found.mask][:, :3], image[found.mask])
    assert not cut[~found.mask].any()  # transparent pixels are removed, not only hidden


def test_another_threshold_and_the_sweep(photo_client, skin_bundle):
    image = drawn_photo(5, (90, 120))[0]
    probability = skin_bundle.predict(image).probability
    bare = post(photo_client, as_file(image)).json()
    assert (bare["sweep"], bare["skin_png"], bare["image_png"]) == (None, None, None)
    full = post(photo_client, as_file(image), "?include=maps,image,sweep").json()
    assert np.array_equal(from_png(base64.b64decode(full["image_png"])), image)
    grey = from_png(base64.b64decode(full["skin_png"]))
    assert np.array_equal(grey, np.rint(probability * 255))
    assert [one["threshold"] for one in full["sweep"]] == list(THRESHOLDS)
    assert len({one["skin_px"] for one in full["sweep"]}) > 3
    for one in full["sweep"][::6]:
        mask = probability >= np.float32(one["threshold"])
        assert (one["skin_px"], one["skin_fraction"]) == (mask.sum(), mask.mean())
        query = f"?threshold={one['threshold']}"
        there = post(photo_client, as_file(image), query).json()
        assert there["threshold"] == one["threshold"]
        assert there["skin_px"] == one["skin_px"]
        assert np.array_equal(decoded(there["mask"]), mask)
        drawn = post(photo_client, as_file(image), query, **PNG).content
        assert np.array_equal(from_png(drawn), mask * 255)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF"])
def test_location_and_camera_are_never_returned_or_logged(photo_client, caplog, kind):
    """At every level of every logger: Pillow itself logs tags at DEBUG."""
    data = with_place(drawn_photo(0, (60, 80))[0], kind)
    for canary in (b"CanaryCamera", b"2031:07:09"):
        assert canary in data
    caplog.set_level(1)
    for name in ("PIL.TiffImagePlugin", "PIL.PngImagePlugin", "tifffile"):
        caplog.set_level(1, name)  # reset at the end, or drawing the next file would be logged
    answers = [
        post(photo_client, data),
        post(photo_client, data, "?include=maps,image,sweep"),
        post(photo_client, data, **PNG),
        post(photo_client, data, "?as=cutout", **PNG),
        post(photo_client, data[: len(data) // 2]),
        post(photo_client, data[:-40] + b"?" + data[-39:]),
    ]
    assert [answer.status_code for answer in answers[:5]] == [200] * 4 + [422]
    told = answers[1].json()
    pictures = [base64.b64decode(told[name]) for name in ("skin_png", "image_png")]
    pictures += [answer.content for answer in answers[2:4]]
    for picture in pictures:
        assert {kind for kind, _ in chunks(picture)} == {b"IHDR", b"IDAT", b"IEND"}
    text = [str(told | {"skin_png": "", "image_png": "", "mask": ""}).encode()]
    text += [str(answer.headers).encode() for answer in answers]
    text += [answer.content for answer in answers if answer.status_code != 200]
    logged = [f"{r.getMessage()} {r.args} {r.exc_text}".encode() for r in caplog.records]
    assert any(URL.encode() in line for line in logged)
    for piece in [*text, *logged]:
        for canary in CANARIES:
            assert canary not in piece.lower(), (canary, piece)
    for piece in pictures:  # compressed bytes may contain short words by chance
        assert b"canary" not in piece.lower()


def test_the_canaries_would_be_noticed(caplog):
    """Pillow itself logs them, so the test above can fail."""
    from io import BytesIO

    from PIL import Image as Pillow

    caplog.set_level(1)
    logging.getLogger("PIL.TiffImagePlugin").setLevel(1)
    tags = Pillow.open(BytesIO(with_place(drawn_photo()[0]))).getexif()
    assert any("CanaryCamera" in record.getMessage() for record in caplog.records)
    told = str(tags.get_ifd(0x8825)).encode()
    assert [place for place in PLACES if place not in told] == []


def chunks(png):
    at = 8
    while at < len(png):
        (length,) = struct.unpack_from(">I", png, at)
        yield png[at + 4 : at + 8], png[at + 8 : at + 8 + length]
        at += 12 + length


def test_the_photograph_is_turned_upright(photo_client, skin_bundle):
    data = with_place(drawn_photo(0, (60, 80))[0])
    answer = post(photo_client, data).json()
    assert (answer["width"], answer["height"]) == (60, 80)
    upright = decode_image(data, "image").pixels
    assert answer["skin_px"] == skin_bundle.predict(upright).mask.sum()


def test_a_service_for_the_other_kind_of_image_says_so(client, photo_client):
    photo, biopsy = as_file(drawn_photo()[0]), as_file(drawn_image())
    assert "for photographs" in refused(post(client, photo), 409, "wrong_bundle")
    for url, fields in (("/v1/biopsies", {}), ("/v1/labels", {"points": "[]"})):
        response = photo_client.post(url, files={"image": biopsy}, data=fields)
        assert (response.status_code, response.json()["reason"]) == (409, "wrong_bundle")
        assert "for biopsies" in response.json()["detail"]
    for one, kind in ((client, "biopsy"), (photo_client, "photo")):
        assert one.get("/v1/bundle").json()["kind"] == kind
        assert f'data-kind="{kind}"' in one.get("/").text


def test_invalid_requests_are_refused(photo_client):
    sound = as_file(drawn_photo()[0])
    refused(post(photo_client, sound[:-20]), 422, "unreadable_image")
    refused(post(photo_client, as_file(drawn_photo(0, (700, 700))[0])), 422, "too_many_pixels")
    refused(post(photo_client, sound, Accept="image/jpeg"), 406, "not_acceptable")
    for query in (
        "?as=skin",
        "?threshold=0",
        "?threshold=nan",
        "?threshold=0_0.5",
        "?threshold=1_0e-2",
        "?include=boundary",
    ):
        refused(post(photo_client, sound, query), 422, "invalid_field")
    refused(post(photo_client, sound, "?include=maps", **PNG), 422, "invalid_field")
    scaled = photo_client.post(URL, files={"image": sound}, data={"um_per_px": "0.5"})
    assert "use image" in refused(scaled, 422, "invalid_field")


def test_labels_are_not_stored_for_photographs(skin_bundle, tmp_path):
    with TestClient(
        create_app(LocalEngine(skin_bundle), ServiceSettings(labels=str(tmp_path)))
    ) as client:
        assert client.get("/v1/labels").json() == {"enabled": False, "images": 0}


def test_the_meter_receives_the_share_of_skin(skin_bundle):
    notes = Notes()
    with TestClient(create_app(LocalEngine(skin_bundle), ServiceSettings(), notes)) as client:
        answer = post(client, as_file(drawn_photo()[0])).json()
    for told in (
        ("request", URL, 200), ("image", 60 * 80), ("covered", answer["skin_fraction"]),
        ("stage", "decode"), ("stage", "answer"),
    ):  # fmt: skip
        assert told in notes.told
