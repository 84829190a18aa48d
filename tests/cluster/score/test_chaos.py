"""Kill -9 of the scoring driver and of its workers: no row is lost, none is computed twice."""

from __future__ import annotations

import random
import shutil
import time
from pathlib import Path
from typing import Any

import cv2
import pyarrow.parquet as pq
import pytest

from benchmarks.chaos.jobs import Scoring
from benchmarks.own_cluster import title
from benchmarks.stand_in import drawn_image, stand_in_bundle
from tests.support.scored_cohorts import bad_files, sound_image, write

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(1800)]

IMAGES, KILLS, EVERY_S = 150, 10, 5.0
LIMIT_S = 300


def started(
    bundle: Path,
    images: Path | str,
    out: Path | str,
    *options: str,
    log: Path | None = None,
    env: dict[str, str] | None = None,
) -> Scoring:
    """A run of ``jobs/score_cohort.py`` in its own process."""
    named = ["--bundle", str(bundle), "--images", str(images)]
    return Scoring(out, log or Path(f"{out}.log"), [*named, *options], env)


def computed(out: Path) -> list[str]:
    return [
        line
        for log in (out / "computed").glob("*.log")
        for line in log.read_text(encoding="utf-8").splitlines()
    ]


def committed(out: Path) -> set[str]:
    rows = [
        row for part in (out / "parts").glob("*.parquet") for row in pq.read_table(part).to_pylist()
    ]
    return {row["image"] for row in rows if row["status"] == "ok"}


def tables(out: Path) -> list[Any]:
    return [pq.read_table(out / f"{name}.parquet") for name in ("counts", "crossings")]


def same_results(out: Path, calm: Path) -> bool:
    """Whether the tables are equal, and every result file byte by byte."""
    files = sorted(
        path.relative_to(calm)
        for folder in ("overlays", "geojson")
        for path in (calm / folder).rglob("*")
        if path.is_file()
    )
    assert len(files) == 2 * (IMAGES + 2)
    return tables(out) == tables(calm) and all(
        (out / file).read_bytes() == (calm / file).read_bytes() for file in files
    )


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return stand_in_bundle(tmp_path_factory.mktemp("bundle") / "bundle")


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images that take a while each, some of them twice, some bad."""
    folder = tmp_path_factory.mktemp("images") / "cohort"
    folder.mkdir()
    for at in range(IMAGES):
        pixels = drawn_image(at, (900, 1200), nerves=at % 9)
        cv2.imwrite(str(folder / f"{at:03d}.png"), pixels[..., ::-1])
    shutil.copy(folder / "149.png", folder / "000 twin.png")
    shutil.copy(folder / "001.png", folder / "150 twin.png")
    write(folder, {name: data for name, (data, _) in list(bad_files().items())[:4]})
    return folder


OPTIONS = ("--set", "images_per_part=2", "--set", "fused.actors=2")


@pytest.fixture(scope="module")
def calm(bundle: Path, images: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same cohort scored without any kill."""
    out = tmp_path_factory.mktemp("calm") / "out"
    job = started(bundle, images, out, *OPTIONS)
    job.end()
    assert len(tables(out)[0]) == IMAGES + 2 + 4
    return out


@pytest.mark.chaos
def test_a_driver_killed_ten_times_loses_nothing_and_repeats_nothing(
    bundle: Path, images: Path, calm: Path, tmp_path: Path
) -> None:
    out, chance = tmp_path / "out", random.Random(2)
    for kill in range(KILLS):
        done, before = committed(out), computed(out)
        job = started(bundle, images, out, "--resume", *OPTIONS)
        if kill % 5 == 4:  # while it starts
            time.sleep(chance.uniform(0.5, 8))
        else:
            goal = len(before) + chance.randint(1, 14)
            job.wait_until(lambda goal=goal: len(computed(out)) >= goal, "further images")
            time.sleep(chance.uniform(0, 0.3))
        job.kill()
        again = computed(out)
        for image in before:
            again.remove(image)
        print(f"kill {kill + 1}: {len(done)} committed before, {len(again)} computed since")
        assert not done & set(again)
    done, before = committed(out), computed(out)
    assert 0 < len(done) < IMAGES
    job = started(bundle, images, out, "--resume", *OPTIONS)
    job.end()
    again = computed(out)
    for image in before:
        again.remove(image)
    assert not done & set(again)
    assert same_results(out, calm)


@pytest.mark.chaos
def test_a_worker_killed_every_five_seconds_changes_nothing(
    bundle: Path, images: Path, calm: Path, tmp_path: Path
) -> None:
    out, chance, kills = tmp_path / "out", random.Random(3), 0
    job = started(bundle, images, out, *OPTIONS)
    job.wait_until(lambda: computed(out), "the first image")
    until = time.monotonic() + 2 * LIMIT_S
    while job.process.poll() is None and time.monotonic() < until:
        workers = job.workers()
        if workers:
            victim = chance.choice(workers)
            what = title(victim)
            victim.kill()
            kills += 1
            print(f"killed {what}; {len(computed(out))} computed")
        time.sleep(EVERY_S)
    job.end()
    assert kills >= 3
    assert same_results(out, calm)


def test_two_hundred_images_with_twenty_bad_ones(bundle: Path, tmp_path: Path) -> None:
    cohort, out = tmp_path / "in", tmp_path / "out"
    write(cohort, dict(sound_image(at) for at in range(180)))
    write(cohort, {name: data for name, (data, _) in bad_files().items()})
    job = started(bundle, cohort, out, "--max-failures", "20", "--no-overlays")
    job.end()
    assert "180 of 200 images scored" in job.said()
    rows = tables(out)[0].to_pylist()
    assert len(rows) == 200
    assert sum(row["status"] == "ok" for row in rows) == 180
    for row in rows:
        if row["status"] == "failed":
            assert bad_files()[row["image"]][1] in row["error"]
    again = started(bundle, cohort, out, "--max-failures", "19", "--no-overlays", "--resume")
    again.end(3)
    assert tables(out)[0].to_pylist() == rows
