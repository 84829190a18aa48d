"""Nerves drawn on real tissue: on a small drawn slide, and on the real one."""

from __future__ import annotations

import csv

import cv2
import numpy as np
import pytest

from skinray.config.biopsies import PhantomSettings
from skinray.crossings import find_crossings
from skinray.errors import CohortError
from skinray.images.phantoms.cohort import write_cohort
from skinray.images.phantoms.phantom import graft_phantom
from skinray.images.phantoms.slides import read_slides
from skinray.images.phantoms.windows import choose_windows, find_junction

TILE, ACROSS, DOWN = 128, 7, 3
SIZE = (256, 224)
MISSING = (6, 2)


def drawn_slide():
    """Codes of a slide: background, keratin, epidermis, band and dermis from top to bottom."""
    row, column = np.mgrid[: TILE * DOWN, : TILE * ACROSS]
    below = row - 200 - 25 * np.sin(column / 40)
    codes = np.zeros(row.shape, np.uint8)
    for low, code in ((-150, 1), (-110, 2), (8, 3)):
        codes[below > low] = code
    codes[np.abs(below) <= 8] = 4
    return codes


@pytest.fixture
def tiles(tmp_path):
    folder = tmp_path / "tiles"
    codes = drawn_slide()
    colours = np.array(
        [[250, 250, 250], [150, 60, 160], [170, 120, 200], [240, 210, 235], [190, 130, 200]]
    )
    (folder / "images").mkdir(parents=True)
    (folder / "masks").mkdir()
    rows = []
    for i in range(ACROSS):
        for j in range(DOWN):
            if (i, j) == MISSING:
                continue
            part = codes[j * TILE : (j + 1) * TILE, i * TILE : (i + 1) * TILE]
            name = f"tile_{i}_{j}"
            cv2.imwrite(str(folder / "images" / f"{name}.png"), colours[part][..., ::-1])
            cv2.imwrite(str(folder / "masks" / f"{name}.png"), part)
            rows.append((name, "A", 1000 + i * TILE, 500 + j * TILE))
    with (folder / "manifest.csv").open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["name", "section", "x", "y"])
        writer.writerows(rows)
    return folder


def test_tiles_are_stitched_where_they_belong(tiles):
    (slide,) = read_slides(tiles)
    pixels, codes = slide.cut(1100, 600, 300, 200)
    np.testing.assert_array_equal(codes, drawn_slide()[100:300, 100:400])
    assert pixels.shape == (200, 300, 3)
    assert tuple(pixels[codes == 2][0]) == (170, 120, 200)


def test_windows_avoid_missing_tiles_and_each_other(tiles):
    windows = choose_windows(np.random.default_rng(0), read_slides(tiles), SIZE, 3)
    assert len({(w.x, w.y) for w in windows}) == 3
    for window in windows:
        assert window.x + window.width <= 1000 + ACROSS * TILE
        right, bottom = window.x + window.width, window.y + window.height
        assert right <= 1000 + MISSING[0] * TILE or bottom <= 500 + MISSING[1] * TILE
    lefts = sorted(window.x for window in windows)
    assert min(np.diff(lefts)) >= 0.5 * SIZE[0]


def test_windows_are_repeated_if_there_is_too_little_tissue(tiles):
    windows = choose_windows(np.random.default_rng(0), read_slides(tiles), (640, 352), 12)
    assert len(windows) == 12


def test_junction_is_the_middle_of_the_band(tiles):
    (slide,) = read_slides(tiles)
    junction = find_junction(slide.cut(1100, 500, 500, 384)[1])
    column, row = junction.line.T
    middle = 200 + 25 * np.sin((column + 100) / 40)
    assert np.abs(row - middle)[10:-10].max() < 5
    assert {column[0], column[-1]} == {0, 499}


def test_layers_in_several_pieces_have_no_junction():
    codes = np.full((200, 300), 2, np.uint8)
    codes[:60] = codes[140:] = 3
    assert find_junction(codes) is None
    assert find_junction(np.full((200, 300), 3, np.uint8)) is None


def test_nerves_are_drawn_on_the_pixels_of_the_window(tiles):
    window = choose_windows(np.random.default_rng(0), read_slides(tiles), SIZE, 1)[0]
    settings = PhantomSettings(mean_crossings=30)
    phantom = graft_phantom(settings, 0, 1, window)
    again = graft_phantom(settings, 0, 1, window)
    np.testing.assert_array_equal(phantom.image, again.image)
    assert phantom.count == len(phantom.crossings) > 0
    assert find_crossings(phantom.nerve_truth, phantom.dermis_truth).count == phantom.count
    assert phantom.subject == "A"
    assert phantom.window == f"{window.x},{window.y}"
    change = np.abs(phantom.image.astype(int) - window.look()[0]).max(-1)
    nerve = cv2.dilate(phantom.nerve_truth.astype(np.uint8), np.ones((13, 13))) > 0
    assert change[phantom.nerve_truth].mean() > 30
    assert np.median(change[~nerve]) < 8


def test_cohort_on_tissue_names_window_and_section(tiles, tmp_path):
    write_cohort(tmp_path / "out", 3, size=SIZE, tissue=tiles)
    with (tmp_path / "out" / "manifest.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert {row["subject"] for row in rows} == {"A"}
    assert len({row["window"] for row in rows}) == 3


def _no_table(folder):
    (folder / "manifest.csv").unlink()


def _no_column(folder):
    (folder / "manifest.csv").write_text("name,x,y\na,0,0\n")


def _no_number(folder):
    (folder / "manifest.csv").write_text("name,section,x,y\ntile_0_0,A,left,0\n")


def _no_mask(folder):
    (folder / "masks" / "tile_0_0.png").unlink()


def _wrong_codes(folder):
    cv2.imwrite(str(folder / "masks" / "tile_0_0.png"), np.full((TILE, TILE), 255, np.uint8))


def _wrong_size(folder):
    cv2.imwrite(str(folder / "masks" / "tile_3_1.png"), np.zeros((64, 64), np.uint8))


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (_no_table, "not a table of tiles"),
        (_no_column, "no column section"),
        (_no_number, "row 2: x 'left'"),
        (_no_mask, "missing or not an image"),
        (_wrong_codes, "codes above 4"),
        (_wrong_size, "not a square of the common size"),
    ],
)
def test_other_folders_are_refused_and_nothing_is_written(tiles, tmp_path, spoil, message):
    spoil(tiles)
    with pytest.raises(CohortError, match=message):
        write_cohort(tmp_path / "out", 2, size=SIZE, tissue=tiles)
    assert not (tmp_path / "out").exists()


def test_a_window_larger_than_the_tissue_is_refused(tiles):
    with pytest.raises(CohortError, match="use a smaller size"):
        choose_windows(np.random.default_rng(0), read_slides(tiles), (2000, 1500), 1)


@pytest.mark.real_data
def test_real_tissue_gives_24_windows_with_true_counts(real_data):
    slides = read_slides(real_data / "skin_pas_dej")
    windows = choose_windows(np.random.default_rng(0), slides, (512, 384), 24)
    assert len({(w.slide.section, w.x, w.y) for w in windows}) == 24
    right = 0
    for index, window in enumerate(windows[:12]):
        phantom = graft_phantom(PhantomSettings(), 0, index, window)
        found = find_crossings(phantom.nerve_truth, phantom.dermis_truth).count
        right += found == phantom.count
    assert right >= 11
