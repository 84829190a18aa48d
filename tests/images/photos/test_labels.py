"""Label files that cannot be what the set publishes are refused, not read as something else."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from PIL import Image as Pillow

from skinray.config.images import ReadSettings
from skinray.errors import LabelError
from skinray.images.photos.labels import SUPERPIXELS, Coding, read_skin

READ = ReadSettings()


@pytest.mark.parametrize("ending", ["png", "bmp", "ppm"])
def test_one_mask_is_the_same_in_every_format(tmp_path: Path, ending: str) -> None:
    mask = np.zeros((5, 7), np.uint8)
    mask[1:3, 2:6] = 255
    path = tmp_path / f"mask.{ending}"
    Pillow.fromarray(mask).save(path)
    assert np.array_equal(read_skin(path, "mask", READ), mask > 0)
    assert np.array_equal(read_skin(path, "dark mask", READ), mask == 0)


def test_a_photograph_without_skin_has_an_empty_mask_of_its_size(tmp_path: Path) -> None:
    path = tmp_path / "room.jpg"
    Pillow.new("RGB", (8, 6), (200, 180, 160)).save(path)
    found = read_skin(path, "no skin", READ)
    assert (found.shape, found.any()) == ((6, 8), False)


def test_other_colours_than_those_of_the_parts_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "parts.ppm"
    Pillow.new("RGB", (8, 6), (200, 180, 160)).save(path)
    with pytest.raises(LabelError, match=r"parts\.ppm: not in the colours of LFW parts"):
        read_skin(path, "green part", READ)


@pytest.mark.parametrize("coding", get_args(Coding))
def test_damaged_and_missing_labels_are_errors(tmp_path: Path, coding: Coding) -> None:
    folder = tmp_path / "gt" / "Ann"
    folder.mkdir(parents=True)
    path = folder / "Ann_0001.dat"
    with pytest.raises(LabelError, match=r"Ann_0001\.dat"):
        read_skin(path, coding, READ)
    Pillow.new("RGB", (80, 60)).save(folder / "whole.bmp")
    path.write_bytes((folder / "whole.bmp").read_bytes()[:900])
    with pytest.raises(LabelError, match=r"Ann_0001\.dat"):
        read_skin(path, coding, READ)


def test_damage_to_a_label_is_reported_without_quoting_the_file(tmp_path: Path) -> None:
    path = tmp_path / "a.ppm"
    path.write_bytes(b"P6\nCANARY 6 255\n" + bytes(300))
    with pytest.raises(LabelError, match=r"a\.ppm: damaged PPM \(its .*\): copy it") as raised:
        read_skin(path, "green part", READ)
    assert "CANARY" not in str(raised.value)


def test_labels_beyond_the_limit_of_pixels_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "large.ppm"
    Pillow.new("RGB", (80, 60)).save(path)
    with pytest.raises(LabelError, match="more than the limit"):
        read_skin(path, "green part", ReadSettings(max_pixels=4000))


def test_superpixels_that_do_not_match_their_classes_are_refused(tmp_path: Path) -> None:
    classes = tmp_path / "parts_lfw_funneled_gt" / "Ann" / "Ann_0001.dat"
    pixels = tmp_path / SUPERPIXELS / "Ann" / "Ann_0001.dat"
    for path in (classes, pixels):
        path.parent.mkdir(parents=True)
    classes.write_text("3\n0\n1\n2\n")
    pixels.write_text("0 1 1\n2 2 1\n")
    expected = [[False, True, True], [False, False, True]]
    assert read_skin(classes, "superpixels", READ).tolist() == expected
    pixels.write_text("0 1 1\n2 3 1\n")
    with pytest.raises(LabelError, match="declares 3 classes and has 3, with superpixels up to 3"):
        read_skin(classes, "superpixels", READ)
    classes.write_text("4\n0\n1\n2\n")
    with pytest.raises(LabelError, match="declares 4 classes and has 3"):
        read_skin(classes, "superpixels", READ)
