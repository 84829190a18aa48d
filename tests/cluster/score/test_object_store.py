"""Scoring from and to an object store whose server is killed and restarted midway."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from benchmarks.object_store import ObjectStore, client
from benchmarks.stand_in import drawn_image, stand_in_bundle
from skinray.scoring.overlays import encode_png
from tests.cluster.score.test_chaos import started
from tests.support.scored_cohorts import bad_files, write

pytest.importorskip(
    "moto", reason="no S3-compatible server: pip install -e '.[dev,object-store-tests]'"
)
pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.chaos, pytest.mark.timeout(900)]

IMAGES, AWAY_S = 40, 15
OPTIONS = ("--set", "images_per_part=2", "--set", "fused.actors=2")


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images that take a moment each, one of them twice, some bad."""
    files = {
        f"deep/{at:03d}.png": encode_png(drawn_image(at, (600, 800), nerves=at % 7))
        for at in range(IMAGES)
    }
    files["twin.png"] = files["deep/003.png"]
    files |= {name: data for name, (data, _) in list(bad_files().items())[:4]}
    folder = tmp_path_factory.mktemp("cohort") / "images"
    (folder / "deep").mkdir(parents=True)
    return write(folder, files)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return stand_in_bundle(tmp_path_factory.mktemp("bundle") / "bundle")


@pytest.fixture(scope="module")
def calm(cohort: Path, bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same cohort scored from and to a folder, without any kill."""
    out = tmp_path_factory.mktemp("calm") / "out"
    job = started(bundle, cohort, out, *OPTIONS)
    job.end()
    return out


@pytest.fixture
def store(cohort: Path, tmp_path: Path) -> Iterator[ObjectStore]:
    with ObjectStore(tmp_path) as running:
        lab = client(running)
        lab.create_dir("lab")
        for path in cohort.rglob("*"):
            if path.is_file():
                with lab.open_output_stream(f"lab/in/{path.relative_to(cohort)}") as file:
                    file.write(path.read_bytes())
        yield running


def files(lab: Any, folder: str) -> dict[str, bytes]:
    from pyarrow.fs import FileSelector

    selector = FileSelector(folder, recursive=True, allow_not_found=True)
    found = [each for each in lab.get_file_info(selector) if each.is_file]
    return {each.path: lab.open_input_stream(each.path).read() for each in found}


def table(data: bytes) -> Any:
    import pyarrow as pa

    return pq.read_table(pa.BufferReader(data))


def assert_equal(lab: Any, calm: Path) -> None:
    """Every result in the store equals the calm run's, and there is nothing else."""
    found = {name.removeprefix("lab/run/"): data for name, data in files(lab, "lab/run").items()}
    for name in ("counts.parquet", "crossings.parquet"):
        assert table(found[name]) == pq.read_table(calm / name)
    assert found["counts.csv"] == (calm / "counts.csv").read_bytes()
    pictures = [
        path for kind in ("overlays", "geojson") for path in (calm / kind).rglob("*")
        if path.is_file()
    ]  # fmt: skip
    assert len(pictures) == 2 * (IMAGES + 1)
    for path in pictures:
        assert found.pop(str(path.relative_to(calm))) == path.read_bytes()
    left = {name for name in found if not name.startswith("parts/")}
    assert left == {
        "run.json", "listing.parquet", "counts.parquet", "crossings.parquet", "counts.csv",
        "report.html", "report.json",
    }  # fmt: skip
    assert b"data:image/jpeg" in found["report.html"]


def test_a_store_that_dies_midway_changes_nothing(
    store: ObjectStore, calm: Path, bundle: Path, tmp_path: Path
) -> None:
    lab, log = client(store), tmp_path / "job.log"
    job = started(bundle, "s3://lab/in", "s3://lab/run", *OPTIONS, log=log, env=store.env)
    job.wait_until(lambda: len(files(lab, "lab/run/parts")) >= 3, "three parts")
    store.kill()
    began = time.monotonic()
    time.sleep(AWAY_S)
    assert job.process.poll() is None
    store.start()
    away = time.monotonic() - began
    before = len(files(lab, "lab/run/parts"))
    job.wait_until(lambda: len(files(lab, "lab/run/parts")) > before, "a part after the return")
    print(f"away for {away:.0f} s; the next part {time.monotonic() - began - away:.1f} s later")
    job.end()
    assert f"{IMAGES + 1} of {IMAGES + 5} images scored" in job.said()
    assert_equal(lab, calm)
    again = started(bundle, "s3://lab/in", "s3://lab/run", *OPTIONS, log=log, env=store.env)
    again.end(1)
    assert "s3://lab/run: holds a run; add --resume" in again.said()


def test_a_killed_driver_resumes_in_a_slow_store(
    store: ObjectStore, calm: Path, bundle: Path, tmp_path: Path
) -> None:
    lab, log = client(store), tmp_path / "job.log"
    store.door.delay_s = 0.1
    job = started(bundle, "s3://lab/in", "s3://lab/run", *OPTIONS, log=log, env=store.env)
    job.wait_until(lambda: len(files(lab, "lab/run/parts")) >= 4, "four parts")
    job.kill()
    parts = files(lab, "lab/run/parts")
    resumed = started(
        bundle, "s3://lab/in", "s3://lab/run", *OPTIONS, "--resume", log=log, env=store.env
    )
    resumed.end()
    after = files(lab, "lab/run/parts")
    assert {name: after[name] for name in parts} == parts
    assert_equal(lab, calm)
