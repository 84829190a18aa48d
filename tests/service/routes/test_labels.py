"""Corrections sent over HTTP become a cohort; invalid ones are refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from benchmarks.stand_in import drawn_image
from skinray.config.scoring import ServiceSettings
from skinray.service.app import create_app
from skinray.service.engine import LocalEngine
from tests.support.service.image_files import as_file
from tests.support.tiny import read_rows

URL = "/v1/labels"
FILE = as_file(drawn_image(size=(160, 240)))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "labels"


@pytest.fixture
def stores(bundle, folder) -> TestClient:
    return TestClient(create_app(LocalEngine(bundle), ServiceSettings(labels=str(folder))))


def refused(response, status, reason):
    assert (response.status_code, response.json()["reason"]) == (status, reason)


def test_an_uncorrected_count_is_a_label(stores, folder):
    files = {"image": FILE}
    points = stores.post("/v1/biopsies", files=files).json()["points"]
    assert stores.get(URL).json() == {"enabled": True, "images": 0}
    fields = {"points": json.dumps(points), "um_per_px": "0.5", "subject": "s1"}
    for replaced in (False, True):
        answer = stores.post(URL, files=files, data=fields).json()
        assert (answer["count"], answer["subject"], answer["um_per_px"]) == (2, "s1", 0.5)
        assert (answer["replaced"], answer["images"]) == (replaced, 1)
    assert stores.get(URL).json() == {"enabled": True, "images": 1}
    assert (folder / answer["image"]).is_file()


def test_the_form_names_the_reader_and_the_file(stores, folder, bundle):
    files = {"image": FILE}
    points = json.dumps(stores.post("/v1/biopsies", files=files).json()["points"])
    names = {"reader": "R. Eader", "original_name": "slide 7.tif"}
    assert stores.post(URL, files=files, data={"points": points, **names}).status_code == 200
    (row,) = read_rows(folder)
    # No point was changed: a person has reviewed it all the same.
    assert (row["source"], row["bundle"]) == ("corrected", bundle.info.id)
    assert {name: row[name] for name in names} == names
    for name in names:
        response = stores.post(URL, files=files, data={"points": points, name: "=1+1"})
        refused(response, 422, "unfit_label")
        assert name in response.json()["detail"]


def test_invalid_requests_are_refused(stores, folder):
    files = {"image": FILE}
    refused(stores.post(URL, files=files), 422, "invalid_field")
    for threshold in ("0", "1", "x", "nan", ""):
        fields = {"points": "[]", "nerve_threshold": threshold}
        refused(stores.post(URL, files=files, data=fields), 422, "invalid_field")
    for points in ("", "{}", "[[1, 2, 3]]", "[[500, 2]]", "[[null, 2]]"):
        refused(stores.post(URL, files=files, data={"points": points}), 422, "unfit_label")
    fields = {"points": "[]", "um_per_px": "0"}
    refused(stores.post(URL, files=files, data=fields), 422, "bad_um_per_px")
    refused(stores.post(URL, files={"image": b"x"}, data={"points": "[]"}), 422, "unreadable_image")
    assert not folder.exists()


def test_an_unwritable_folder_is_named_only_in_the_log(stores, folder, caplog):
    folder.write_text("a file in its place")
    points = stores.post("/v1/biopsies", files={"image": FILE}).json()["points"]
    response = stores.post(URL, files={"image": FILE}, data={"points": json.dumps(points)})
    refused(response, 500, "labels_unwritable")
    assert str(folder) not in response.text
    assert [record.exc_info for record in caplog.records if record.exc_info]


def test_without_a_folder_nothing_is_stored(client):
    assert client.get(URL).json() == {"enabled": False, "images": 0}
    refused(client.post(URL, files={"image": FILE}, data={"points": "[]"}), 404, "not_found")


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
def test_another_websites_page_cannot_store(stores, folder, site):
    fields, files = {"points": "[]"}, {"image": FILE}
    headers = {"Sec-Fetch-Site": site}
    refused(stores.post(URL, files=files, data=fields, headers=headers), 403, "cross_site")
    assert not folder.exists()
