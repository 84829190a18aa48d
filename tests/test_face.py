"""``import skinray`` alone: quick to import, documented, and enough to count one image."""

from __future__ import annotations

import doctest
import pydoc
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

import skinray
from skinray.config.biopsies import CrossingSettings
from skinray.config.photos import SkinSettings
from skinray.config.training import ModelSettings
from skinray.errors import SkinrayError
from skinray.learning.bundle import save
from skinray.learning.bundle.info import BundleInfo
from skinray.models import build

STAND_IN = ModelSettings(name="pixel")


def saved(folder: Path, **values: Any) -> Path:
    info = BundleInfo(
        um_per_px=0.5, fold="all", settings={}, metrics={}, versions={}, data_fingerprint="0",
        images=94, subjects=24, created="2025-01-01T08:00:00+00:00", **values,
    )  # fmt: skip
    torch.manual_seed(0)
    return save(folder, info, {stage: build("pixel") for stage in info.stages})


@pytest.fixture(scope="module")
def biopsies(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return saved(
        tmp_path_factory.mktemp("biopsies") / "bundle",
        models={"nerve": STAND_IN, "dermis": STAND_IN},
        crossings=CrossingSettings(),
    )


@pytest.fixture(scope="module")
def photograph(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = str(tmp_path_factory.mktemp("images") / "a.png")
    cv2.imwrite(path, np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8))
    return path


def test_importing_it_imports_nothing_heavy() -> None:
    code = "import sys, skinray; print(*sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = {name.split(".")[0] for name in run.stdout.split()}
    assert not loaded & {"torch", "torchvision", "ray", "cv2", "numpy", "scipy", "pydantic"}
    ours = {name for name in run.stdout.split() if name.startswith("skinray")}
    assert ours == {"skinray"}


def test_its_names_are_those_that_it_documents() -> None:
    assert set(skinray.__all__) <= set(dir(skinray))
    page = pydoc.plain(pydoc.render_doc(skinray))
    stub = Path(skinray.__file__).with_suffix(".pyi").read_text(encoding="utf-8")
    for name in skinray.__all__:
        assert getattr(skinray, name).__doc__
        assert name in page
        assert f"as {name}\n" in stub, "mypy reads the names in __init__.pyi"


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="'skinray' has no attribute 'count'"):
        _ = getattr(skinray, "count")  # noqa: B009 - mypy would refuse the attribute


def test_the_example_of_its_documentation_runs() -> None:
    result = doctest.testmod(skinray)
    assert result.attempted > 5
    assert result.failed == 0


def test_a_biopsy_is_counted_in_one_line(biopsies: Path, photograph: str) -> None:
    bundle, image = skinray.load_bundle(biopsies), skinray.read_image(photograph)
    found = bundle.predict(image)
    plain = bundle.predict(image.pixels)
    assert np.array_equal(found.crossings.points, plain.crossings.points)
    assert repr(image) == "<Image: 64x48 px, scale unknown>"
    assert repr(found) == f"<Prediction: 64x48 px, crossings={found.crossings}>"
    assert repr(found.crossings).startswith(f"<Crossings: {found.crossings.count} crossing")
    assert repr(bundle) == (
        f"<Bundle {bundle.info.id[:8]}: nerve: pixel, dermis: pixel, trained on 94 images>"
    )


def test_the_scale_of_an_image_is_that_of_its_file_unless_one_is_given(
    biopsies: Path, photograph: str
) -> None:
    bundle, image = skinray.load_bundle(biopsies), skinray.read_image(photograph)
    image = replace(image, um_per_px=0.25)
    assert repr(image) == "<Image: 64x48 px, 0.25 um/px>"
    px = bundle.predict(image).crossings.boundary_px
    assert bundle.predict(image).crossings.boundary_mm == pytest.approx(px * 0.25 / 1000)
    given = bundle.predict(image, 0.5).crossings
    assert given.boundary_mm == pytest.approx(given.boundary_px * 0.5 / 1000)


def test_skin_is_found_in_one_line(tmp_path: Path, photograph: str) -> None:
    folder = saved(
        tmp_path / "bundle", kind="photo", models={"skin": STAND_IN}, skin=SkinSettings()
    )
    found = skinray.load_bundle(folder, kind="photo").predict(photograph)
    assert repr(found) == f"<Skin: {found.fraction:.1%} of 64x48 px>"
    with pytest.raises(SkinrayError, match='is for photographs: load it with kind="photo"'):
        skinray.load_bundle(folder)


def test_a_bundle_of_another_kind_is_refused(biopsies: Path) -> None:
    with pytest.raises(SkinrayError, match='is for biopsies: load it with kind="biopsy"'):
        skinray.load_bundle(biopsies, kind="photo")


def test_a_path_an_image_and_its_pixels_give_the_same(biopsies: Path, photograph: str) -> None:
    bundle = skinray.load_bundle(str(biopsies))
    wanted = skinray.load_bundle(biopsies).predict(skinray.read_image(Path(photograph)))
    image = skinray.read_image(photograph)
    for given in (photograph, Path(photograph), image, image.pixels):
        assert np.array_equal(bundle.predict(given).nerve, wanted.nerve)


def test_what_python_shows_of_a_result_is_one_line(biopsies: Path, photograph: str) -> None:
    bundle = skinray.load_bundle(biopsies)
    found = bundle.predict(photograph)
    shown = (bundle, bundle.stages["nerve"], found, found.crossings, skinray.read_image(photograph))
    for thing in shown:
        assert re.fullmatch(r"<\w+[ :].{10,118}>", repr(thing)), repr(thing)


SCALE = "give micrometres per pixel above 0 as a number, or None"
ARRAY = r"give \(height, width, 3\) uint8 in RGB order"


@pytest.mark.parametrize("um_per_px", [0, -1, float("nan"), float("inf"), "0.5", True, [0.5]])
def test_a_wrong_scale_is_refused(biopsies: Path, photograph: str, um_per_px: Any) -> None:
    with pytest.raises(SkinrayError, match=SCALE):
        skinray.load_bundle(biopsies).predict(photograph, um_per_px)
    with pytest.raises(SkinrayError, match=SCALE):
        skinray.find_crossings(np.zeros((9, 9)), np.zeros((9, 9)), um_per_px=um_per_px)


def test_a_scale_that_would_make_the_image_enormous_is_refused(
    biopsies: Path, photograph: str
) -> None:
    with pytest.raises(SkinrayError, match="megapixels once resampled from 1e\\+06 um per pixel"):
        skinray.load_bundle(biopsies).predict(photograph, 1e6)


@pytest.mark.parametrize(
    ("image", "said"),
    [
        (np.zeros((20, 30), np.uint8), ARRAY),
        (np.zeros((20, 30, 4), np.uint8), ARRAY),
        (np.zeros((20, 30, 3), np.float32), ARRAY),
        (np.zeros((0, 30, 3), np.uint8), ARRAY),
        ([[0, 1]], ARRAY),
        (None, ARRAY),
        (torch.zeros(20, 30, 3), ARRAY),
        ("", "is not a path: give a str or a pathlib.Path"),
        ("missing.png", "missing.png: no such file: correct the path"),
        (Path(), "not a file: give the path of an image file"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_wrong_image_is_refused(biopsies: Path, image: Any, said: str) -> None:
    with pytest.raises(SkinrayError, match=said):
        skinray.load_bundle(biopsies).predict(image)


@pytest.mark.parametrize("path", [None, 5, b"a", ""])
def test_what_is_no_path_is_refused(path: Any) -> None:
    for read in (skinray.read_image, skinray.load_bundle):
        with pytest.raises(SkinrayError, match="is not a path: give a str"):
            read(path)


@pytest.mark.parametrize("maps", ["text", [[0, 1], [0]], None, [["a"]], [[np.nan]], [[[1]]], {}])
def test_what_is_no_map_is_refused(maps: Any) -> None:
    with pytest.raises(SkinrayError, match=r"pass|holds NaN"):
        skinray.find_crossings(maps, maps)
