"""Scoring and the service give equal results, to the last digit and pixel."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import requests
import torch
from PIL import Image as Pillow
from rich.console import Console

from benchmarks.serve.running import deploy, free_port, small_config
from benchmarks.stand_in import bundle_of, drawn_image
from skinray.config.biopsies import CrossingSettings
from skinray.config.images import PredictSettings
from skinray.config.photos import WHOLE, SkinSettings
from skinray.config.scoring import ScoreSettings
from skinray.config.training import ModelSettings
from skinray.learning.bundle import load, save
from tests.support.drawn_photos import drawn_photo
from tests.support.photo_bundles import photo_bundle
from tests.support.scored_cohorts import (
    CANARY,
    WRITERS,
    canary_logs,
    told_all_over,
    told_as_orientation,
    write,
)

pytestmark = [
    pytest.mark.ray,
    pytest.mark.timeout(300),
    pytest.mark.filterwarnings("ignore:Using extra keyword arguments on `Field`"),  # Ray's own
]

IMAGES, PHOTOGRAPHS = 30, 20
SIZES = ((96, 128), (70, 50), (128, 200), (33, 47), (300, 410), (181, 90), (256, 256), (64, 700))
UNET = ModelSettings(name="unet", options={"features": 4, "depth": 3})


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random networks, whose probabilities are on both sides of the thresholds everywhere.

    A stand-in's are 0 and 1: they would hide a difference of rounding.
    """
    folder = tmp_path_factory.mktemp("bundle") / "bundle"
    torch.manual_seed(0)  # whatever ran before
    tiles = PredictSettings(max_pixels=50_000, tile_px=192, overlap_px=32)
    loaded = load(bundle_of(folder, UNET, UNET, predict=tiles), "cpu")
    nerve, dermis = loaded.maps(drawn_image(), 0.5).values()
    crossings = CrossingSettings(
        nerve_threshold=float(np.quantile(nerve, 0.7)),
        dermis_threshold=float(np.median(dermis)),
        sigma_px=2.0,
    )
    info = loaded.info.model_copy(update={"crossings": crossings, "sha256": {}})
    return save(folder, info, {stage: model.networks[0] for stage, model in loaded.stages.items()})


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Seven kinds of file in eight sizes, by turns; some of them larger than a tile."""
    files = {}
    for at in range(IMAGES):
        writer, ending = WRITERS[at % len(WRITERS)]
        files[f"{at:03d}.{ending}"] = writer(drawn_image(at, SIZES[at % len(SIZES)], at % 4))
    return write(tmp_path_factory.mktemp("images") / "cohort", files)


@pytest.fixture(scope="module")
def scored(
    ray_session: Any,
    bundle: Path,
    cohort: Path,
    masks: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """Score the biopsies, after the photographs: once a service runs, it holds the CPUs."""
    from skinray.cluster.score.run import score

    out = tmp_path_factory.mktemp("scored") / "out"
    with Path(os.devnull).open("w") as nowhere:
        settings = ScoreSettings().override({"fused.actors": 1})
        totals = score(bundle, str(cohort), out, settings, console=Console(file=nowhere))
    assert (totals.scored, totals.failures) == (IMAGES, 0)
    return out


@pytest.fixture(scope="module")
def port(ray_session: Any) -> Iterator[int]:
    from ray import serve

    yield free_port()
    serve.shutdown()


@pytest.mark.parametrize("layout", ["fused", "separate"])
def test_thirty_images_get_equal_counts(
    layout: str, scored: Path, cohort: Path, bundle: Path, port: int
) -> None:
    points: dict[str, list[list[float]]] = {}
    for each in pq.read_table(scored / "crossings.parquet").to_pylist():
        points.setdefault(each["image"], []).append([each["row"], each["column"]])
    rows = pq.read_table(scored / "counts.parquet").to_pylist()
    assert len(rows) == IMAGES
    assert len({row["count"] for row in rows}) > 5
    deploy(small_config(layout, bundle, port, cpus=1))
    for row in rows:
        answer = asked(port, cohort / row["image"]).json()
        assert answer["points"] == points.get(row["image"], []), row["image"]
        for name in ("count", "boundary_px", "boundary_mm", "density_per_mm", "um_per_px"):
            assert answer[name] == row[name], (row["image"], name)
        assert answer["image_sha256"] == row["sha256"]
        assert answer["backend"] == row["backend"]


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Seven kinds of file in eight sizes, by turns."""
    files = {}
    for at in range(PHOTOGRAPHS):
        writer, ending = WRITERS[at % len(WRITERS)]
        files[f"{at:03d}.{ending}"] = writer(drawn_photo(at, SIZES[at % len(SIZES)])[0])
    return write(tmp_path_factory.mktemp("photographs") / "cohort", files)


@pytest.fixture(scope="module")
def skin_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random network; the photographs' edges draw its masks, and it sees them mirrored too."""
    settings = SkinSettings(refine=True, threshold=0.62)
    predict = WHOLE.override({"mirrored": 2})
    return photo_bundle(tmp_path_factory.mktemp("skin") / "bundle", skin=settings, predict=predict)


@pytest.fixture(scope="module")
def masks(
    ray_session: Any, skin_bundle: Path, photographs: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    from skinray.cluster.score.run import score

    out = tmp_path_factory.mktemp("scored") / "photographs"
    with Path(os.devnull).open("w") as nowhere:
        settings = ScoreSettings().override({"fused.actors": 1})
        totals = score(skin_bundle, str(photographs), out, settings, console=Console(file=nowhere))
    assert (totals.scored, totals.failures) == (PHOTOGRAPHS, 0)
    return out


@pytest.mark.parametrize("layout", ["fused", "separate"])
def test_twenty_photographs_have_the_same_skin(
    ray_session: Any, layout: str, masks: Path, photographs: Path, skin_bundle: Path, port: int
) -> None:
    rows = pq.read_table(masks / "areas.parquet").to_pylist()
    assert len(rows) == PHOTOGRAPHS
    assert sum(0.01 < row["skin_fraction"] < 0.99 for row in rows) > PHOTOGRAPHS // 2
    deploy(small_config(layout, skin_bundle, port, cpus=1))
    for row in rows:
        path = photographs / row["image"]
        answer = asked(port, path, "photos").json()
        for name in ("skin_px", "skin_fraction", "confidence", "width", "height"):
            assert answer[name] == row[name], (row["image"], name)
        assert answer["image_sha256"] == row["sha256"]
        scored = np.asarray(Pillow.open(masks / row["mask"]))
        served = asked(port, path, "photos", "image/png").content
        assert np.array_equal(np.asarray(Pillow.open(io.BytesIO(served))), scored), row["image"]
        assert sum(answer["mask"]["counts"][1::2]) == np.count_nonzero(scored)
    # Nothing that a photograph says of itself comes back, or into the logs of any process.
    whole = told_all_over(drawn_photo(0)[0])
    for data in (whole, told_as_orientation(drawn_photo(0)[0]), whole[:-90], whole[:300]):
        reply = sent(port, "photo.jpg", data)
        assert reply.status_code == (422 if data in (whole[:-90], whole[:300]) else 200)
        assert CANARY not in reply.text + str(reply.headers)
    assert canary_logs(ray_session) == []


def asked(
    port: int, path: Path, route: str = "biopsies", accept: str = "application/json"
) -> requests.Response:
    """Send a file as it is."""
    reply = sent(port, path.name, path.read_bytes(), route, accept)
    assert reply.status_code == 200, reply.text
    return reply


def sent(
    port: int, name: str, data: bytes, route: str = "photos", accept: str = "application/json"
) -> requests.Response:
    """Send bytes, whatever the answer."""
    url = f"http://127.0.0.1:{port}/v1/{route}"
    headers = {"Accept": accept}
    return requests.post(url, files={"image": (name, data)}, headers=headers, timeout=60)
