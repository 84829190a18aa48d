"""What answers say about the bundle behind them: where it comes from and how good it is."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from benchmarks.stand_in import drawn_image, stand_in_bundle
from skinray.learning import bundle as bundles
from skinray.learning.bundle.info import IN_TRAINING, LIMITS, ON_DRAWN_IMAGES
from skinray.service.app import create_app
from skinray.service.engine import LocalEngine
from tests.service.conftest import SMALL
from tests.support.photo_bundles import photo_bundle
from tests.support.service.image_files import as_file

FILES = {"/v1/biopsies": as_file(drawn_image()), "/v1/photos": as_file(drawn_image(1))}
MAKE = {"/v1/biopsies": stand_in_bundle, "/v1/photos": photo_bundle}


@contextmanager
def serving(folder: Path, url: str, **changes: Any) -> Iterator[TestClient]:
    engine = LocalEngine(bundles.load(MAKE[url](folder, **changes), "cpu"))
    with TestClient(create_app(engine, SMALL)) as client:
        yield client
    engine.close()


def answer(client: TestClient, url: str, data: bytes) -> dict[str, Any]:
    found = client.post(url, files={"image": data})
    assert found.status_code == 200, found.text
    return dict(found.json())


@pytest.mark.parametrize("url", FILES)
def test_a_synthetic_bundle_is_called_so_everywhere(tmp_path: Path, url: str) -> None:
    with serving(tmp_path / "drawn", url, synthetic=True) as client:
        found = answer(client, url, FILES[url])
        assert (found["synthetic"], found["note"]) == (True, ON_DRAWN_IMAGES)
        assert client.get("/v1/bundle").json()["synthetic"] is True
    with serving(tmp_path / "real", url) as client:
        found = answer(client, url, FILES[url])
        assert (found["synthetic"], found["note"]) == (False, "")
        assert client.get("/v1/bundle").json()["synthetic"] is False


@pytest.mark.parametrize("url", FILES)
def test_an_image_of_the_training_set_is_recognised(tmp_path: Path, url: str) -> None:
    seen = frozenset({hashlib.sha256(FILES[url]).hexdigest()})
    with serving(tmp_path / "bundle", url, trained_on=seen) as client:
        assert answer(client, url, FILES[url])["note"] == IN_TRAINING
        assert answer(client, url, as_file(drawn_image(2)))["note"] == ""


def test_the_error_of_a_count_is_told_where_it_is_known(tmp_path: Path) -> None:
    with serving(tmp_path / "known", "/v1/biopsies", metrics={LIMITS: [-2.5, 3.25]}) as client:
        assert client.get("/v1/bundle").json()["limits_of_agreement"] == [-2.5, 3.25]
    for url in FILES:
        with serving(tmp_path / url[4:], url) as client:
            assert client.get("/v1/bundle").json()["limits_of_agreement"] is None
