"""``skinray count``: one image, as scoring counts it, without Ray."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from benchmarks.stand_in import stand_in_bundle
from skinray import load_bundle
from tests.support.commands import Command
from tests.support.tiny import drawn_sample


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return stand_in_bundle(tmp_path_factory.mktemp("bundle") / "bundle")


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "biopsy.png"
    cv2.imwrite(str(path), drawn_sample(nerves=3).image[..., ::-1])
    return path


def test_a_count_is_the_bundles_own(
    skinray: Command, bundle: Path, image: Path, tmp_path: Path
) -> None:
    found = load_bundle(bundle).predict(image, 0.5).crossings
    drawn = tmp_path / "found.jpg"
    ended = skinray("count", image, "--bundle", bundle, "--um-per-px", "0.5", "--overlay", drawn)
    assert ended.code == 0
    first, second, *_ = ended.out.splitlines()
    assert first.split()[0] == str(found.count)
    assert second.startswith(f"boundary: {found.boundary_mm:.3f} mm")
    assert "(0.5 um/px)" in second
    assert cv2.imread(str(drawn)).shape == drawn_sample().image.shape


def test_without_a_scale_there_is_no_density(skinray: Command, bundle: Path, image: Path) -> None:
    out = skinray("count", image, "--bundle", bundle).out
    assert "px; give --um-per-px for a density" in out
    assert "per mm" not in out


def test_the_starter_says_that_it_is_untrained(skinray: Command, image: Path) -> None:
    ended = skinray("count", image, "--um-per-px", "0.5")
    assert ended.code == 0
    assert "note: starter, untrained on your images" in ended.out


def test_a_blank_image_is_noted(skinray: Command, bundle: Path, tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "blank.png"), np.full((96, 128, 3), 240, np.uint8))
    out = skinray("count", tmp_path / "blank.png", "--bundle", bundle).out
    assert "note: the image is blank or shows no tissue" in out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["absent.png"], "absent.png: no such file"),
        (["{image}", "--um-per-px", "900"], "900"),
        (["{image}", "--bundle", "nowhere"], "nowhere"),
        (["{image}", "--overlay", "{image}"], "this is the image itself"),
    ],
)
def test_errors_name_file_and_remedy(
    skinray: Command, bundle: Path, image: Path, words: list[str], said: str
) -> None:
    before = image.read_bytes()
    given = [word.format(image=image) for word in words]
    if "--bundle" not in given:
        given += ["--bundle", str(bundle)]
    ended = skinray("count", *given)
    assert ended.code == 1
    assert said in ended.err
    assert "Traceback" not in ended.err
    assert image.read_bytes() == before


def test_nothing_slow_is_imported_that_one_image_does_without(bundle: Path, image: Path) -> None:
    asked = (
        "import sys; from skinray.cli import main\n"
        f"sys.argv = ['skinray', 'count', {str(image)!r}, '--bundle', {str(bundle)!r}]\n"
        "slow = {'ray', 'torchvision', 'sklearn', 'pandas'}\n"
        "try:\n    main()\nfinally:\n    print(sorted(slow & set(sys.modules)))"
    )
    found = subprocess.run([sys.executable, "-c", asked], capture_output=True, text=True)
    assert found.stdout.splitlines()[-1] == "[]", found.stderr
