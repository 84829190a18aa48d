"""A stage gets more replicas under load and fewer after it, and no answer is lost or wrong."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks.serve.running import deploy, free_port, small_config
from benchmarks.stand_in import SEES_GREEN, bundle_of, drawn_image
from skinray.config.biopsies import CrossingSettings
from skinray.config.training import ModelSettings
from skinray.learning.bundle import load, save
from tests.support.served import png, post

pytestmark = [
    pytest.mark.ray,
    pytest.mark.slow,
    pytest.mark.timeout(900),
    pytest.mark.filterwarnings("ignore:Using extra keyword arguments on `Field`"),  # Ray's own
]

IMAGES, SIZE, ASKERS, MOST = 4, (256, 256), 8, 3
# Serve receives the load every 10 s and looks back a little further.
SCALING = {
    "min_replicas": 1, "max_replicas": MOST, "target_ongoing_requests": 1.5,
    "look_back_period_s": 11, "upscale_delay_s": 1, "downscale_delay_s": 2,
}  # fmt: skip
PATIENCE_S, PAUSE_S = 240, 0.7


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A nerve network slow enough that requests wait for it; its counts are distinctive."""
    folder = tmp_path_factory.mktemp("bundle") / "bundle"
    torch.manual_seed(0)
    nerve = ModelSettings(name="unet", options={"features": 16, "depth": 3})
    dermis = ModelSettings(name="pixel", options=SEES_GREEN)
    loaded = load(bundle_of(folder, nerve, dermis), "cpu")
    probability = loaded.stages["nerve"].map(drawn_image(0, SIZE), 0.5)
    crossings = CrossingSettings(nerve_threshold=float(np.quantile(probability, 0.9)))
    info = loaded.info.model_copy(update={"crossings": crossings, "sha256": {}})
    return save(folder, info, {stage: model.networks[0] for stage, model in loaded.stages.items()})


@pytest.fixture
def address(ray_session: Any, bundle: Path) -> Iterator[str]:
    from ray import serve

    port = free_port()
    config = small_config("separate", bundle, port, cpus=0.25)
    for deployment in config["applications"][0]["deployments"]:
        deployment["graceful_shutdown_timeout_s"] = 60
        if deployment["name"] == "NerveStage":
            del deployment["num_replicas"]
            deployment["autoscaling_config"] = SCALING
    deploy(config)
    yield f"http://127.0.0.1:{port}"
    serve.shutdown()


@contextmanager
def asking(askers: int, ask: Callable[[int], None], pause_s: float = 0) -> Iterator[None]:
    """Let this many threads send one image after another while the block runs."""
    over = threading.Event()

    def go(first: int) -> None:
        at = first
        while not over.is_set():
            ask(at % IMAGES)
            at += 1
            over.wait(pause_s)

    threads = [threading.Thread(target=go, args=(number,)) for number in range(askers)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        over.set()
        for thread in threads:
            thread.join()


def until_running(seen: Callable[[int], bool]) -> int:
    """Wait until the nerve stage has a number of replicas that ``seen`` accepts."""
    from ray import serve

    until = time.monotonic() + PATIENCE_S
    while time.monotonic() < until:
        stage = serve.status().applications["skinray"].deployments["NerveStage"]
        running = stage.replica_states.get("RUNNING", 0)
        if seen(running):
            return int(running)
        time.sleep(0.5)
    pytest.fail(f"{running} replicas of the nerve stage")


def test_a_stage_scales_up_and_down_with_load_and_no_answer_is_lost(
    address: str, bundle: Path
) -> None:
    images = [drawn_image(seed, SIZE, nerves=2 + seed) for seed in range(IMAGES)]
    before = torch.get_num_threads()
    torch.set_num_threads(1)  # as in the replicas: with more, sums are computed in another order
    try:
        model = load(bundle, "cpu")
        expected = [model.predict(image, 0.5).crossings.points.tolist() for image in images]
    finally:
        torch.set_num_threads(before)
    assert len({str(points) for points in expected}) == IMAGES  # a mix-up would show
    files, answers = [png(image) for image in images], []

    def ask(at: int) -> None:
        try:
            reply = post(address, files[at], timeout=PATIENCE_S)
            found = reply.json().get("points") if reply.status_code == 200 else reply.text
            answers.append((at, reply.status_code, found))
        except Exception as error:
            answers.append((at, 0, repr(error)))

    assert until_running(lambda running: running > 0) == 1
    # One client keeps asking, at a pace that one replica can serve: it sees both changes.
    with asking(1, ask, PAUSE_S):
        with asking(ASKERS, ask):
            grown = until_running(lambda running: running >= 2)
            time.sleep(3)  # the new replica answers as well
        assert until_running(lambda running: running == 1) == 1
        time.sleep(3)
    assert 2 <= grown <= MOST
    assert len(answers) > ASKERS
    wrong = [answer for answer in answers if answer != (answer[0], 200, expected[answer[0]])]
    assert wrong == []
