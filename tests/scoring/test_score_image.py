"""Scoring one image gives a row, whatever happens to it on the way."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pytest
from stand_in import drawn_image, stand_in_bundle

from skinray.config.images import ReadSettings
from skinray.config.scoring import ScoreSettings
from skinray.crossings.detect import CrossingsRecord
from skinray.errors import ImageError
from skinray.learning.bundle import load
from skinray.learning.bundle.info import BundleInfo, read_info
from skinray.scoring.entries import Entry
from skinray.scoring.image_store import File, LocalStore
from skinray.scoring.rows import Scored, content_key, sha256_of
from skinray.scoring.run_store import LocalOutput
from skinray.scoring.score_image import (
    DEADLY,
    Opened,
    Turn,
    copy_files,
    finish_image,
    open_image,
    places,
)

SETTINGS = ScoreSettings()


@dataclass
class Memory(LocalStore):
    """A store that holds one file, or an error instead."""

    data: bytes | Exception

    def look(self, path: str) -> File | None:
        return None

    def read(self, path: str, settings: ReadSettings) -> bytes:
        if isinstance(self.data, Exception):
            raise self.data
        return self.data


def png(pixels: np.ndarray) -> bytes:
    return cv2.imencode(".png", pixels[..., ::-1])[1].tobytes()


def opened(
    data: bytes | Exception,
    turn: Turn = "mine",
    settings: ScoreSettings = SETTINGS,
    um_per_px: float | None = None,
) -> Opened | Scored:
    entry = Entry("a.png", "/a.png", 1, "s", None, um_per_px)
    return open_image(entry, Memory(data), settings, 0.5, lambda key, image: turn)


@pytest.fixture
def info(tmp_path: Path) -> BundleInfo:
    return read_info(stand_in_bundle(tmp_path / "bundle"))


def both(values: np.ndarray) -> dict[str, np.ndarray]:
    """The same map of nerves and of dermis."""
    return {"nerve": values, "dermis": values}


@pytest.fixture
def out(tmp_path: Path) -> Path:
    (tmp_path / "out" / "computed").mkdir(parents=True)
    return tmp_path / "out"


def test_what_cannot_be_read_is_a_row_without_content() -> None:
    for error in (ImageError("gone"), OSError("network"), RuntimeError("odd"), MemoryError()):
        row = opened(error)
        assert isinstance(row, Scored)
        assert (row.status, row.key, row.sha256) == ("failed", None, None)
        assert row.error


def test_whose_turn_it_is_decides_before_anything_is_decoded() -> None:
    damaged = png(drawn_image())[:99]
    row = opened(damaged, "same")
    assert isinstance(row, Scored)
    assert (row.status, row.sha256) == ("same", sha256_of(damaged))
    row = opened(damaged, "deadly")
    assert isinstance(row, Scored)
    assert (row.status, row.error) == ("failed", DEADLY)
    row = opened(damaged, "mine")
    assert isinstance(row, Scored)
    assert row.status == "failed"
    assert row.key == content_key(sha256_of(damaged), None)


def test_the_option_is_stronger_than_the_manifest() -> None:
    data = png(drawn_image())
    for option, cell, used in ((None, None, None), (None, 0.25, 0.25), (1.0, 0.25, 1.0)):
        image = opened(data, settings=SETTINGS.override({"um_per_px": option}), um_per_px=cell)
        assert isinstance(image, Opened)
        assert image.um_per_px == used
        assert image.key == content_key(sha256_of(data), used)


def test_maps_that_a_model_spoilt_are_a_failed_row(info: BundleInfo, out: Path) -> None:
    image = opened(png(drawn_image()))
    assert isinstance(image, Opened)
    nothing = np.full(image.pixels.shape[:2], np.nan, np.float32)
    row = finish_image(image, both(nothing), info, SETTINGS, LocalOutput(out))
    assert row.status == "failed"
    assert "holds NaN" in str(row.error)
    assert image.failed(RuntimeError("CUDA")).error == (
        "scoring failed (RuntimeError: CUDA): look at the image, and report it"
    )
    assert list((out / "computed").iterdir()) == []


def test_a_finished_image_leaves_its_files_and_gives_them_on(tmp_path: Path, out: Path) -> None:
    bundle = load(stand_in_bundle(tmp_path / "bundle"), "cpu")
    image = opened(png(drawn_image(nerves=3)))
    assert isinstance(image, Opened)
    maps, run = bundle.maps(image.pixels), LocalOutput(out)
    plain = finish_image(image, maps, bundle.info, SETTINGS.override({"overlays": False}), run)
    assert not (out / "overlays").exists()
    row = finish_image(image, maps, bundle.info, SETTINGS, run)
    assert row == plain
    assert isinstance(row.result, CrossingsRecord)
    assert row.result.count == 3
    copy_files(run, "a.png", "b/twin.png", "biopsy")
    for what, place in places("b/twin.png", "biopsy").items():
        assert (out / place).read_bytes() == (out / places("a.png", "biopsy")[what]).read_bytes()
    assert not [path for path in out.rglob("*") if path.name.startswith(".")]


def test_a_full_disk_is_not_the_images_fault(tmp_path: Path, info: BundleInfo, out: Path) -> None:
    image = opened(png(drawn_image()))
    assert isinstance(image, Opened)
    (out / "overlays").write_text("in the way")
    zeros = np.zeros(image.pixels.shape[:2], np.float32)
    with pytest.raises(OSError, match="overlays"):
        finish_image(image, both(zeros), info, SETTINGS, LocalOutput(out))
