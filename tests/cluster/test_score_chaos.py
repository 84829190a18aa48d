"""Kill -9 of the scoring driver and of its workers: no row is lost, none is computed twice."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import psutil
import pyarrow.parquet as pq
import pytest
from stand_in import drawn_image, stand_in_bundle

from tests.cluster.scored_cohorts import bad_files, sound_image, write

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(1800)]

ROOT = Path(__file__).parents[2]
IMAGES, KILLS, EVERY_S = 150, 10, 5.0
LIMIT_S = 300


class Job:
    """A run of ``jobs/score_cohort.py`` in a process of its own."""

    def __init__(self, bundle: Path, images: Path, out: Path, *options: str) -> None:
        self.out = out
        self.log = (out.parent / f"{out.name}.log").open("a", encoding="utf-8")
        self.process = subprocess.Popen(
            [
                sys.executable, str(ROOT / "jobs" / "score_cohort.py"), "--bundle", str(bundle),
                "--images", str(images), "--out", str(out), *options,
            ],
            stdout=self.log, stderr=subprocess.STDOUT, cwd=ROOT, env={**os.environ},
        )  # fmt: skip

    def wait_until(self, seen: Callable[[], Any], what: str) -> None:
        """Wait for something to be seen while the job runs."""
        until = time.monotonic() + LIMIT_S
        while not seen():
            assert self.process.poll() is None, f"the job ended before {what}: {self.said()}"
            assert time.monotonic() < until, f"waited in vain for {what}: {self.said()}"
            time.sleep(0.02)

    def kill(self) -> None:
        """Kill the driver alone, and wait until nothing works for it any more."""
        workers = self.workers()
        os.kill(self.process.pid, signal.SIGKILL)
        self.process.wait()
        until = time.monotonic() + 60
        while alive := [worker for worker in workers if _lives(worker)]:
            assert time.monotonic() < until, alive
            time.sleep(0.1)

    def workers(self) -> list[psutil.Process]:
        """Worker processes of the job's Ray, whatever they do; without its agents runs no node."""
        try:
            children = psutil.Process(self.process.pid).children(recursive=True)
        except psutil.Error:
            return []
        titles = {child: _title(child) for child in children}
        return [c for c, title in titles.items() if title[:5] == "ray::" and "Agent" not in title]

    def said(self) -> str:
        """What the job printed, the last of it."""
        return Path(self.log.name).read_text(encoding="utf-8")[-3000:]

    def end(self) -> int:
        """Wait for the job to end; return its exit code."""
        return self.process.wait(timeout=LIMIT_S)


def _title(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


def _lives(process: psutil.Process) -> bool:
    """Whether a process runs; one that is dead, but that nobody has waited for, does not."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


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
    """Whether tables are equal, and every file of results to the byte."""
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
    """The same cohort scored without a disturbance."""
    out = tmp_path_factory.mktemp("calm") / "out"
    job = Job(bundle, images, out, *OPTIONS)
    assert job.end() == 0, job.said()
    assert len(tables(out)[0]) == IMAGES + 2 + 4
    return out


@pytest.mark.chaos
def test_a_driver_killed_ten_times_loses_nothing_and_repeats_nothing(
    bundle: Path, images: Path, calm: Path, tmp_path: Path
) -> None:
    out, chance = tmp_path / "out", random.Random(2)
    for kill in range(KILLS):
        done, before = committed(out), computed(out)
        job = Job(bundle, images, out, "--resume", *OPTIONS)
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
    job = Job(bundle, images, out, "--resume", *OPTIONS)
    assert job.end() == 0, job.said()
    again = computed(out)
    for image in before:
        again.remove(image)
    assert not done & set(again)
    assert same_results(out, calm)


@pytest.mark.chaos
def test_a_worker_killed_every_five_seconds_is_not_noticed(
    bundle: Path, images: Path, calm: Path, tmp_path: Path
) -> None:
    out, chance, kills = tmp_path / "out", random.Random(3), 0
    job = Job(bundle, images, out, *OPTIONS)
    job.wait_until(lambda: computed(out), "the first image")
    until = time.monotonic() + 2 * LIMIT_S
    while job.process.poll() is None and time.monotonic() < until:
        workers = job.workers()
        if workers:
            victim = chance.choice(workers)
            title = _title(victim)
            victim.kill()
            kills += 1
            print(f"killed {title}; {len(computed(out))} computed")
        time.sleep(EVERY_S)
    assert job.end() == 0, job.said()
    assert kills >= 3
    assert same_results(out, calm)


def test_two_hundred_images_with_twenty_bad_ones(bundle: Path, tmp_path: Path) -> None:
    cohort, out = tmp_path / "in", tmp_path / "out"
    write(cohort, dict(sound_image(at) for at in range(180)))
    write(cohort, {name: data for name, (data, _) in bad_files().items()})
    job = Job(bundle, cohort, out, "--max-failures", "20", "--no-overlays")
    assert job.end() == 0, job.said()
    assert "180 of 200 images scored" in job.said()
    rows = tables(out)[0].to_pylist()
    assert len(rows) == 200
    assert sum(row["status"] == "ok" for row in rows) == 180
    for row in rows:
        if row["status"] == "failed":
            assert bad_files()[row["image"]][1] in row["error"]
    again = Job(bundle, cohort, out, "--max-failures", "19", "--no-overlays", "--resume")
    assert again.end() == 3, again.said()
    assert tables(out)[0].to_pylist() == rows
