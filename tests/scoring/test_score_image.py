"""Scoring one image gives a row, whatever happens on the way."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from benchmarks.stand_in import drawn_image, stand_in_bundle
from skinray.config.images import ReadSettings
from skinray.config.scoring import ScoreSettings
from skinray.crossings.detect import CrossingsRecord
from skinray.errors import ImageError
from skinray.images.doubts import NO_TISSUE, doubts
from skinray.learning.bundle import load
from skinray.learning.bundle.info import ON_DRAWN_IMAGES, read_info
from skinray.scoring.entries import Entry
from skinray.scoring.image_store import File, LocalStore
from skinray.scoring.kinds import SCORED_KINDS
from skinray.scoring.rows import Scored, content_key
from skinray.scoring.run import ScoringRun
from skinray.scoring.run_store import LocalOutput
from skinray.scoring.score_image import DEADLY, Job, Opened, Turn


@dataclass
class Memory(LocalStore):
    """A store with one file, or an error instead."""

    data: bytes | Exception

    def look(self, path: str) -> File | None:
        return None

    def read(self, path: str, settings: ReadSettings) -> bytes:
        if isinstance(self.data, Exception):
            raise self.data
        return self.data


def png(pixels: np.ndarray) -> bytes:
    return cv2.imencode(".png", pixels[..., ::-1])[1].tobytes()


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@pytest.fixture
def job(tmp_path: Path) -> Job:
    """A run in a folder; its bundle was trained at 0.5 um per pixel."""
    bundle = stand_in_bundle(tmp_path / "bundle")
    (tmp_path / "out" / "computed").mkdir(parents=True)
    out = LocalOutput(tmp_path / "out")
    return Job("/", str(bundle), read_info(bundle), out, ScoreSettings())


def opened(
    job: Job, data: bytes | Exception, turn: Turn = "mine", um_per_px: float | None = None
) -> Opened | Scored:
    entry = Entry("a.png", "/a.png", 1, "s", None, um_per_px)
    vars(job)["store"] = Memory(data)
    return job.open(entry, lambda key, image: turn)


def both(values: np.ndarray) -> dict[str, np.ndarray]:
    """The same map for nerves and dermis."""
    return {"nerve": values, "dermis": values}


def test_an_unreadable_image_is_a_row_without_content(job: Job) -> None:
    for error in (ImageError("gone"), OSError("network"), RuntimeError("odd"), MemoryError()):
        row = opened(job, error)
        assert isinstance(row, Scored)
        assert (row.status, row.key, row.sha256) == ("failed", None, None)
        assert row.error


def test_content_taken_by_another_image_is_not_decoded(job: Job) -> None:
    damaged = png(drawn_image())[:99]
    row = opened(job, damaged, "same")
    assert isinstance(row, Scored)
    assert (row.status, row.sha256) == ("same", sha256(damaged))
    row = opened(job, damaged, "deadly")
    assert isinstance(row, Scored)
    assert (row.status, row.error) == ("failed", DEADLY)
    row = opened(job, damaged, "mine")
    assert isinstance(row, Scored)
    assert row.status == "failed"
    assert row.key == content_key(sha256(damaged), None)


def test_the_option_overrides_the_manifest(job: Job) -> None:
    data = png(drawn_image())
    for option, cell, used in ((None, None, None), (None, 0.25, 0.25), (1.0, 0.25, 1.0)):
        settings = job.settings.override({"um_per_px": option})
        image = opened(replace(job, settings=settings), data, um_per_px=cell)
        assert isinstance(image, Opened)
        assert image.um_per_px == used
        assert image.key == content_key(sha256(data), used)


def test_maps_with_nan_are_a_failed_row(job: Job) -> None:
    image = opened(job, png(drawn_image()))
    assert isinstance(image, Opened)
    nothing = np.full(image.pixels.shape[:2], np.nan, np.float32)
    row = job.finish(image, both(nothing), "eager")
    assert row.status == "failed"
    assert "holds NaN" in str(row.error)
    assert image.failed(RuntimeError("CUDA")).error == (
        "scoring failed (RuntimeError: CUDA): report it, with the image"
    )
    assert job.out.files("computed") == []


def test_an_image_without_tissue_says_so_and_has_no_density(job: Job) -> None:
    bundle = load(job.bundle, "cpu")
    tissue = drawn_image(nerves=3)
    for pixels, shows in ((np.full_like(tissue, 230), False), (tissue, True)):
        image = replace(opened(job, png(pixels)), um_per_px=0.5)
        row = job.finish(image, bundle.maps(tissue, 0.5), "eager")  # whatever the networks found
        assert isinstance(row.result, CrossingsRecord)
        assert row.result.count == 3
        assert (row.result.density_per_mm is not None) == shows
        assert row.result.warnings == ([] if shows else [NO_TISSUE])


def test_a_black_bottom_is_in_the_row(job: Job) -> None:
    tissue = drawn_image(nerves=3)
    cut = np.maximum(tissue, 90)
    cut[-len(cut) // 4 :] = 0
    row = job.finish(opened(job, png(cut)), load(job.bundle, "cpu").maps(tissue), "eager")
    assert isinstance(row.result, CrossingsRecord)
    (said,) = row.result.warnings
    assert said.startswith("the bottom 25% of the image is black")


def test_a_scale_far_from_the_trainings_is_in_the_row(job: Job) -> None:
    image = replace(opened(job, png(drawn_image())), um_per_px=1.5)
    row = job.finish(image, load(job.bundle, "cpu").maps(drawn_image()), "eager")
    assert row.result.warnings == doubts(True, 1.5, job.info.um_per_px)
    assert len(row.result.warnings) == 1
    assert row.result.density_per_mm is not None


def test_a_finished_image_leaves_its_files_and_copies_for_a_twin(job: Job, tmp_path: Path) -> None:
    image, out, kind = opened(job, png(drawn_image(nerves=3))), tmp_path / "out", job.kind
    assert isinstance(image, Opened)
    assert kind is SCORED_KINDS["biopsy"]
    maps = load(job.bundle, "cpu").maps(image.pixels)
    bare = replace(job, settings=job.settings.override({"overlays": False}))
    plain = bare.finish(image, maps, "eager")
    assert not (out / "overlays").exists()
    row = job.finish(image, maps, "eager")
    assert row == plain
    assert isinstance(row.result, CrossingsRecord)
    assert row.result.count == 3
    kind.copy_files(job.out, "a.png", "b/twin.png")
    for what, place in kind.places("b/twin.png").items():
        assert (out / place).read_bytes() == (out / kind.places("a.png")[what]).read_bytes()
    assert not [path for path in out.rglob("*") if path.name.startswith(".")]


def test_a_full_disk_is_not_the_images_fault(job: Job, tmp_path: Path) -> None:
    image = opened(job, png(drawn_image()))
    assert isinstance(image, Opened)
    (tmp_path / "out" / "overlays").write_text("in the way")
    zeros = np.zeros(image.pixels.shape[:2], np.float32)
    with pytest.raises(OSError, match="overlays"):
        job.finish(image, both(zeros), "eager")


@pytest.mark.parametrize("synthetic", [True, False])
def test_the_run_says_whether_its_bundle_has_seen_drawings_alone(
    tmp_path: Path, synthetic: bool
) -> None:
    bundle = stand_in_bundle(tmp_path / "bundle", synthetic=synthetic)
    (tmp_path / "a.png").write_bytes(png(drawn_image()))
    images, out = str(tmp_path / "a.png"), tmp_path / "out"
    with ScoringRun.claimed(bundle, images, out, ScoreSettings(), resume=False):
        pass
    told = json.loads((out / "run.json").read_text(encoding="utf-8"))
    assert told["synthetic"] is synthetic
    assert told["note"] == (ON_DRAWN_IMAGES if synthetic else "")
