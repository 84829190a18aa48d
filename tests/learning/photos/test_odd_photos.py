"""Odd photographs train and are scored like others: the right pixels and masks, finite figures."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image as Pillow
from torch import nn

from skinray.config.images import ReadSettings
from skinray.config.photos import SkinSettings
from skinray.errors import ImageError, LabelError
from skinray.images.photos.pairs import load_photo
from skinray.images.read import read_image
from skinray.learning.photos.scores import score_photos, summarise
from skinray.models import build
from skinray.report.photos.rows import score_and_draw
from tests.support.odd_photos import ODD, odd_set

READ, SIDE = ReadSettings(), 144


def red_is_skin() -> nn.Module:
    return build("pixel", weights=(60.0, 0.0, 0.0), bias=-30.0)


@pytest.mark.parametrize("kind", ODD)
def test_an_odd_photograph_is_read_as_it_was_drawn(tmp_path: Path, kind: str) -> None:
    """Sound itself, or the tests below compare nothing."""
    found = read_image(odd_set(tmp_path / "set", kind).image, READ).pixels
    assert found.shape == ODD[kind].pixels.shape
    assert np.abs(found.astype(int) - ODD[kind].pixels).max() <= ODD[kind].off


@pytest.mark.parametrize("kind", ODD)
def test_an_odd_photograph_trains_with_its_own_colours_and_skin(tmp_path: Path, kind: str) -> None:
    sample = load_photo(odd_set(tmp_path / "set", kind), SIDE, READ)
    odd, half = ODD[kind], SIDE // 2
    assert (sample.image.dtype, sample.image.shape) == (np.uint8, (SIDE, SIDE, 3))
    # The halves meet within a pixel of the larger grid; on both sides of it there is one colour.
    edge = math.ceil(SIDE / odd.pixels.shape[1])
    for columns, colour in (
        (np.s_[:, : half - edge], odd.pixels[0, 0]),
        (np.s_[:, half + edge :], odd.pixels[-1, -1]),
    ):
        off = np.abs(sample.image[columns].astype(int) - colour)
        assert off.size == 0 or off.max() <= odd.off
    expected = np.zeros((SIDE, SIDE), np.uint8)
    expected[:, : SIDE if kind == "one pixel" else half] = 1
    np.testing.assert_array_equal(sample.masks["skin"], expected)
    assert set(sample.masks) == {"skin"}


@pytest.mark.parametrize("refine", [False, True])
@pytest.mark.parametrize("kind", ODD)
def test_an_odd_photograph_has_the_score_of_its_pixels(
    tmp_path: Path, kind: str, refine: bool
) -> None:
    photo, odd = odd_set(tmp_path / "set", kind), ODD[kind]
    skin = SkinSettings(refine=refine)
    (one,) = score_photos([red_is_skin()], [photo], READ, flips=True, skin=skin)
    found = odd.pixels.size // 3 if kind == "one colour" else odd.skin.sum()
    assert (one.pixels, one.skin) == (odd.skin.size, odd.skin.sum())
    assert (one.predicted, one.both) == (found, odd.skin.sum())
    assert one.jaccard == (0.5 if kind == "one colour" else 1)
    assert one.lightness is not None
    assert 0 < one.lightness < 100
    assert (one.ita_deg is None) == (kind in ("grey", "16-bit"))
    assert one.ita_deg is None or -90 <= one.ita_deg <= 90
    summary = summarise([one, one, one], 50, 0)
    assert summary.jaccard.value == summary.jaccard_pooled.value == one.jaccard
    assert "nan" not in (one.model_dump_json() + summary.model_dump_json()).lower()


@pytest.mark.parametrize("kind", ODD)
def test_an_unusual_photograph_is_shown_with_its_score(tmp_path: Path, kind: str) -> None:
    photo, odd = odd_set(tmp_path / "set", kind), ODD[kind]
    tested = score_and_draw(
        [red_is_skin()], [photo], READ, tmp_path, "key", torch.device("cpu"),
        flips=False, skin=SkinSettings(),
    )  # fmt: skip
    (example,) = tested.examples
    assert example.jaccard == tested.scores[0].jaccard
    height, width = odd.skin.shape
    for name in (example.found, example.traced):
        drawn = np.asarray(Pillow.open(tmp_path / name)).astype(int)
        size = min(width, 480)
        assert drawn.shape == (max(1, round(height * size / width)), size, 3)
        if height > 3:  # else the outline is all there is
            quarter = drawn[height // 2, width // 4]
            assert np.abs(quarter - odd.pixels[0, 0]).max() <= odd.off + 6, name
            beside = odd.skin if name == example.traced else odd.pixels[..., 0] > 127
            if not beside[0, -1]:
                assert (drawn[height // 2, -3:].mean(axis=0) < odd.pixels[-1, -1]).all()


def test_a_mask_drawn_on_the_photograph_as_stored_is_refused_by_its_name(tmp_path: Path) -> None:
    photo = odd_set(tmp_path / "set", "turned by EXIF")
    Pillow.fromarray(np.rot90(ODD["turned by EXIF"].skin)).save(photo.mask)
    told = r"odd\.png: mask of 48x64 px, photograph of 64x48 px: export it .* upright"
    with pytest.raises(LabelError, match=f"masks/{told}"):
        load_photo(photo, SIDE, READ)
    with pytest.raises(LabelError, match=f"masks/{told}"):
        score_photos([red_is_skin()], [photo], READ)


def test_output_that_is_not_finite_is_an_error_that_names_the_photograph(tmp_path: Path) -> None:
    photos = [odd_set(tmp_path / name, name) for name in ("grey", "CMYK")]

    class BrightIsTooMuch(nn.Module):
        """Finite except for coloured photographs."""

        def forward(self, image: torch.Tensor) -> torch.Tensor:
            grey = (image[:, :1] - image[:, 2:]).abs().max() == 0
            return image[:, :1] * (1.0 if grey else float("nan"))

    message = rf"{photos[1].image}: the network's output is not finite.*: train again .* lower"
    with pytest.raises(ImageError, match=message):
        score_photos([BrightIsTooMuch()], photos, READ)
    with pytest.raises(ImageError, match=message):
        score_photos([red_is_skin(), BrightIsTooMuch()], photos, READ, flips=True)
    assert len(score_photos([BrightIsTooMuch()], photos[:1], READ)) == 1
