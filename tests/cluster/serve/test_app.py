"""The service on Ray Serve: equal answers in both layouts, and a bundle replaced under load."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import requests

from benchmarks.serve.running import deploy, free_port, name_bundle, small_config
from benchmarks.stand_in import drawn_image, stand_in_bundle
from skinray.learning.bundle import load
from skinray.learning.bundle.info import read_info
from tests.support.photo_bundles import photo_bundle
from tests.support.served import blind_bundle, png, post, sick_bundle

pytestmark = [
    pytest.mark.ray,
    pytest.mark.timeout(240),
    pytest.mark.filterwarnings("ignore:Using extra keyword arguments on `Field`"),  # Ray's own
]

NAMES = (
    "skinray_requests_total", "skinray_request_seconds_bucket", "skinray_stage_seconds_bucket",
    "skinray_in_flight", "skinray_images_total", "skinray_count_bucket",
)  # fmt: skip


@dataclass
class Served:
    """A running service."""

    layout: str
    address: str
    bundle: Path
    config: dict[str, Any]

    def change(self, bundle: Path) -> None:
        deploy(name_bundle(self.config, bundle))

    def bundle_now(self) -> dict[str, Any]:
        return dict(requests.get(f"{self.address}/v1/bundle", timeout=30).json())


@pytest.fixture(scope="module")
def address(ray_session: Any) -> Iterator[int]:
    from ray import serve

    yield free_port()
    serve.shutdown()


@pytest.fixture(scope="module", params=["fused", "separate"])
def served(
    request: pytest.FixtureRequest, address: int, tmp_path_factory: pytest.TempPathFactory
) -> Served:
    folder = tmp_path_factory.mktemp(request.param)
    bundle = stand_in_bundle(folder / "first")
    config = small_config(request.param, bundle, address)
    deploy(config)
    return Served(request.param, f"http://127.0.0.1:{address}", bundle, config)


def test_answers_equal_those_of_the_bundle(served: Served) -> None:
    bundle = load(served.bundle, "cpu")
    for seed, size, scale in ((0, (96, 128), 0.5), (1, (131, 77), 0.4), (2, (64, 200), 0.5)):
        image = drawn_image(seed, size)
        expected = bundle.predict(image, scale).crossings
        answer = post(served.address, png(image), scale).json()
        assert answer["count"] == expected.count
        assert answer["points"] == expected.points.tolist()
        assert answer["boundary_px"] == expected.boundary_px
        assert answer["boundary_mm"] == expected.boundary_mm
        assert answer["bundle"] == bundle.info.id


def test_a_ready_service_says_so(served: Served) -> None:
    assert requests.get(f"{served.address}/v2/health/ready", timeout=60).json() == {"ready": True}


def test_a_file_that_is_not_an_image_is_refused(served: Served) -> None:
    answer = post(served.address, b"no image")
    assert answer.status_code in (415, 422)
    assert answer.headers["content-type"] == "application/problem+json"


def test_metrics_are_exported_by_the_node(served: Served, ray_session: Any) -> None:
    post(served.address, png(drawn_image(5)))
    port = ray_session.nodes()[0]["MetricsExportPort"]
    until = time.monotonic() + 40
    missing = list(NAMES)
    while missing and time.monotonic() < until:
        text = requests.get(f"http://127.0.0.1:{port}/metrics", timeout=30).text
        missing = [name for name in NAMES if f"ray_{name}" not in text]
        time.sleep(0.5)
    assert missing == []


def test_bad_bundles_are_refused_and_the_old_one_stays_in_use(served: Served) -> None:
    before = read_info(served.bundle).id
    tampered = shutil.copytree(served.bundle, served.bundle.parent / "tampered")
    weights = bytearray((tampered / "nerve.safetensors").read_bytes())
    weights[-1] ^= 1
    (tampered / "nerve.safetensors").write_bytes(weights)
    sick = sick_bundle(served.bundle.parent / "sick")
    photo = photo_bundle(served.bundle.parent / "photo")
    unfit = ((tampered, "altered"), (sick, "not finite"), (photo, "cannot replace"))
    for turn, (bundle, reason) in enumerate(unfit):
        served.change(bundle)
        now = until_refused(served, turn + 1)
        assert reason in now["refusal"]
        assert now["id"] == before
        assert post(served.address, png(drawn_image(0))).json()["count"] == 2


def until_refused(served: Served, times: int) -> dict[str, Any]:
    until = time.monotonic() + 30
    while time.monotonic() < until:
        now = served.bundle_now()
        if now["refused"] >= times:
            return now
        time.sleep(0.2)
    pytest.fail(f"not refused: {now}")


def test_a_bundle_is_replaced_under_load_and_no_request_is_lost(served: Served) -> None:
    second = blind_bundle(served.bundle.parent / "second")
    ids = {read_info(served.bundle).id: 2, read_info(second).id: 0}
    data, over, answers = png(drawn_image(0)), threading.Event(), []

    def ask() -> None:
        while not over.is_set():
            answers.append(post(served.address, data))

    askers = [threading.Thread(target=ask) for _ in range(2)]
    for asker in askers:
        asker.start()
    try:
        served.change(second)
        until = time.monotonic() + 30
        while served.bundle_now()["id"] != read_info(second).id and time.monotonic() < until:
            time.sleep(0.1)
        time.sleep(0.5)
    finally:
        over.set()
        for asker in askers:
            asker.join()
    assert {answer.status_code for answer in answers} == {200}
    # Each bundle gives its own count, so a request answered by both bundles would show here.
    seen = {(answer.json()["bundle"], answer.json()["count"]) for answer in answers}
    assert seen == set(ids.items())
