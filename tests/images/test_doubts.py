"""What makes a count doubtful before any network runs: no tissue in the image, or its scale."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from benchmarks.stand_in import drawn_image
from skinray.images.doubts import NO_TISSUE, black_end, doubts, is_far_scale, shows_tissue
from skinray.images.phantoms.varied import varied_phantom
from skinray.images.read import read_image

SIZES = [(96, 128), (480, 640)]


def field(size: tuple[int, int], level: int, noise: float, light: float) -> NDArray[np.uint8]:
    """A field without tissue: a grey level, noise, and light that falls off to the right."""
    rng = np.random.default_rng(1)
    pixels = level + rng.normal(0, noise, (*size, 3))
    pixels -= light * np.linspace(0, 1, size[1])[:, None] ** 2
    return np.clip(np.rint(pixels), 0, 255).astype(np.uint8)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("level", [0, 128, 240, 255])
@pytest.mark.parametrize("noise", [0, 1, 8])
@pytest.mark.parametrize("light", [0, 60])
def test_empty_fields_show_no_tissue(
    size: tuple[int, int], level: int, noise: float, light: float
) -> None:
    empty = field(size, max(level, 60 if light else 0), noise, light)
    assert not shows_tissue(empty)


@pytest.mark.parametrize("shape", [(1, 1), (1, 50), (3, 2), (40, 1)])
def test_the_smallest_images_are_judged_without_an_error(shape: tuple[int, int]) -> None:
    assert not shows_tissue(np.full((*shape, 3), 200, np.uint8))


def test_phantoms_and_drawings_show_tissue() -> None:
    for seed in range(12):
        assert shows_tissue(varied_phantom(3, seed, (192, 224)).image)
        assert shows_tissue(drawn_image(seed))


def test_a_strip_of_tissue_on_an_empty_field_is_enough() -> None:
    image = field((480, 640), 240, 4, 0)
    image[200:240, 100:500] = (150, 90, 120)
    assert shows_tissue(image)


@pytest.mark.real_data
def test_every_real_section_shows_tissue(real_data: Path) -> None:
    files = sorted((real_data / "skin_pas_dej/images").iterdir())
    assert len(files) > 80
    assert [file.name for file in files if not shows_tissue(read_image(file).pixels)] == []


@pytest.mark.parametrize(
    ("um_per_px", "trained", "far"),
    [(0.5, 0.5, False), (1.0, 0.5, False), (1.01, 0.5, True), (0.25, 0.5, False),
     (0.249, 0.5, True), (None, 0.5, False), (9.0, None, False)],
)  # fmt: skip
def test_scales_beyond_twice_or_half_are_far(
    um_per_px: float | None, trained: float | None, far: bool
) -> None:
    assert is_far_scale(um_per_px, trained) == far
    said = doubts(True, um_per_px, trained)
    assert len(said) == far
    if far:
        assert f"{um_per_px} um per pixel" in said[0]
        assert "0.5" in said[0]


def test_both_doubts_are_told() -> None:
    said = doubts(False, 5, 0.5)
    assert said[0] == NO_TISSUE
    assert len(said) == 2
    assert doubts(True, None, None) == []


@pytest.mark.parametrize(
    ("lost", "background", "share"),
    [(30, 220, 0.3), (1, 220, 0.01), (0, 220, 0.0), (30, 20, 0.0), (100, 220, 0.0)],
)
def test_black_rows_at_the_end_of_a_bright_image_are_doubtful(
    lost: int, background: int, share: float
) -> None:
    """The end of an uncompressed file that was lost; a confocal image is dark by right."""
    image = np.full((100, 80, 3), background, np.uint8)
    image[100 - lost :] = 0
    assert black_end(image) == pytest.approx(share)
    said = doubts(True, 0.5, 0.5, black_end(image))
    assert len(said) == bool(share)
    if share:
        assert said[0].startswith(f"the bottom {share:.0%} of the image is black")
