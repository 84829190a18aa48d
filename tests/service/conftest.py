"""Bundles with stand-in networks, services for them, and their clients."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from fastapi.testclient import TestClient

from benchmarks.stand_in import stand_in_bundle
from skinray.config.images import PredictSettings
from skinray.config.photos import SkinSettings
from skinray.config.scoring import ServiceSettings
from skinray.learning import bundle as bundles
from skinray.service.app import create_app
from skinray.service.engine import LocalEngine
from tests.support.photo_bundles import photo_bundle

SMALL = ServiceSettings(max_body_bytes=2_000_000, max_pixels=400_000, timeout_s=20)


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> bundles.Bundle:
    """Networks that take red for nerve and green for dermis; larger images are split into tiles."""
    folder = tmp_path_factory.mktemp("service") / "bundle"
    tiles = PredictSettings(max_pixels=40_000, tile_px=128, overlap_px=64)
    return bundles.load(stand_in_bundle(folder, predict=tiles), "cpu")


@pytest.fixture(scope="session")
def client(bundle: bundles.Bundle) -> Iterator[TestClient]:
    engine = LocalEngine(bundle)
    # Errors become responses instead of being raised by the client, as the tests need.
    with TestClient(create_app(engine, SMALL), raise_server_exceptions=False) as client:
        yield client
    engine.close()


@pytest.fixture(scope="session")
def skin_bundle(tmp_path_factory: pytest.TempPathFactory) -> bundles.Bundle:
    """A small network with random weights; its masks follow the photographs' edges."""
    folder = tmp_path_factory.mktemp("photographs") / "bundle"
    return bundles.load(photo_bundle(folder, skin=SkinSettings(refine=True, threshold=0.65)), "cpu")


@pytest.fixture(scope="session")
def photo_client(skin_bundle: bundles.Bundle) -> Iterator[TestClient]:
    engine = LocalEngine(skin_bundle)
    with TestClient(create_app(engine, SMALL), raise_server_exceptions=False) as client:
        yield client
    engine.close()
