"""From the map of a photograph to its skin; and photo bundles, that do it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from skinray.config.photos import WHOLE, SkinSettings
from skinray.errors import BundleError, ImageError
from skinray.images.photos.skin import Skin, SkinArea, find_skin, guided_filter
from skinray.learning.bundle import load
from skinray.learning.bundle.info import BundleInfo, read_info
from skinray.learning.bundle.model_card import model_card
from skinray.models.predict import predict_map
from tests.support.photo_bundles import photo_bundle, skin_network


def noise(shape: tuple[int, ...], seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


def test_the_mask_is_where_the_map_reaches_the_threshold() -> None:
    probability = np.array([[0.0, 0.49, 0.5], [0.7, 1.0, 0.2]], np.float32)
    found = find_skin(noise((2, 3, 3)), probability, SkinSettings())
    np.testing.assert_array_equal(found.mask, [[0, 0, 1], [1, 1, 0]])
    assert found.fraction == 0.5
    np.testing.assert_allclose(found.confidence, [[1, 0.02, 0], [0.4, 1, 0.6]], atol=1e-6)
    stricter = find_skin(noise((2, 3, 3)), probability, SkinSettings(threshold=0.7))
    assert stricter.mask.sum() == 2
    area = SkinArea.of(found)
    assert (area.skin_px, area.skin_fraction, area.width, area.height) == (3, 0.5, 3, 2)
    assert area.confidence == pytest.approx((1 + 0.02 + 0 + 0.4 + 1 + 0.6) / 6)


def test_a_map_of_another_size_or_not_finite_gives_no_mask() -> None:
    image = noise((4, 5, 3))
    with pytest.raises(ImageError, match="both need the same height and width"):
        find_skin(image, np.zeros((5, 4), np.float32), SkinSettings())
    with pytest.raises(ImageError, match="weights are invalid"):
        find_skin(image, np.full((4, 5), np.nan, np.float32), SkinSettings())


def by_windows(guide: NDArray[Any], values: NDArray[Any], radius: int, eps: float) -> NDArray[Any]:
    """Equations 5, 6 and 8 of He et al., window by window."""
    height, width = values.shape
    padded = [np.pad(v, 2 * radius, mode="symmetric") for v in (guide, values)]
    side = 2 * radius + 1
    slope, offset = (np.zeros((height + 2 * radius, width + 2 * radius)) for _ in range(2))
    for row in range(slope.shape[0]):
        for column in range(slope.shape[1]):
            ours, theirs = (v[row : row + side, column : column + side] for v in padded)
            both = (ours * theirs).mean() - ours.mean() * theirs.mean()
            slope[row, column] = both / (ours.var() + eps)
            offset[row, column] = theirs.mean() - slope[row, column] * ours.mean()
    result = np.zeros_like(values)
    for row in range(height):
        for column in range(width):
            window = np.s_[row : row + side, column : column + side]
            result[row, column] = slope[window].mean() * guide[row, column] + offset[window].mean()
    return result.clip(0, 1)


def test_the_guided_filter_is_the_published_one() -> None:
    image = noise((13, 17, 3), 1)
    values = np.random.default_rng(2).random((13, 17)).astype(np.float32)
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(np.float64) / 255
    found = guided_filter(image, values, 2, 0.01)
    np.testing.assert_allclose(found, by_windows(grey, values, 2, 0.01), atol=2e-5)


def test_refining_moves_a_blurred_edge_to_the_photographs_own() -> None:
    truth = np.zeros((120, 160), bool)
    truth[:, 70:] = True
    image = np.where(truth[..., None], (220, 170, 150), (40, 60, 80)).astype(np.uint8)
    blurred = cv2.GaussianBlur(np.roll(truth, 5, axis=1).astype(np.float32), (0, 0), 6)
    plain = find_skin(image, blurred, SkinSettings()).mask
    settings = SkinSettings(refine=True, refine_radius=0.1)
    refined = find_skin(image, blurred, settings).mask
    assert (plain != truth).sum() >= 3 * 120
    assert (refined != truth)[:, 20:].sum() <= 120
    large = cv2.resize(image, (1600, 1200), interpolation=cv2.INTER_NEAREST)
    coarse = cv2.resize(blurred, (1600, 1200))
    wanted = cv2.resize(truth.view(np.uint8), (1600, 1200), interpolation=cv2.INTER_NEAREST) > 0
    subsampled = find_skin(large, coarse, settings).mask  # coefficients found at 1024 px
    assert (subsampled != wanted)[:, 200:].mean() < 0.01


SHAPES = [(1, 1), (3, 20_000), (20_000, 3), (40, 60)]
REFINED = SkinSettings(refine=True)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("constant", [True, False])
def test_refining_odd_photographs_gives_finite_maps(shape: tuple[int, int], constant: bool) -> None:
    image = np.full((*shape, 3), 200, np.uint8) if constant else noise((*shape, 3))
    probability = np.random.default_rng(1).random(shape).astype(np.float32)
    found = find_skin(image, probability, REFINED)
    assert found.mask.shape == found.probability.shape == shape
    assert found.probability.dtype == np.float32
    assert np.isfinite(found.probability).all()
    assert 0 <= found.probability.min() <= found.probability.max() <= 1
    # The mean of the map stays, but for the edges of the photograph.
    assert abs(found.probability.mean() - probability.mean()) < 0.02 + 0.3 * (shape == (1, 1))


@pytest.mark.parametrize("shape", SHAPES)
def test_a_photograph_of_one_colour_has_no_edges(shape: tuple[int, int]) -> None:
    """It leaves an even map as it is, and an edge across the photograph where it is."""
    image = np.full((*shape, 3), 200, np.uint8)
    for level in (0, 0.2, 0.499, 0.501, 1):
        even = np.full(shape, level, np.float32)
        plain, refined = find_skin(image, even, SkinSettings()), find_skin(image, even, REFINED)
        np.testing.assert_allclose(refined.probability, even, atol=1e-6)
        np.testing.assert_array_equal(refined.mask, plain.mask)
    along = np.moveaxis(halves := np.full(shape, 0.2, np.float32), int(np.argmax(shape)), 0)
    along[: len(along) // 2] = 0.8  # across the longer side
    plain, refined = find_skin(image, halves, SkinSettings()), find_skin(image, halves, REFINED)
    np.testing.assert_array_equal(refined.mask, plain.mask)


def test_flips_are_averaged() -> None:
    network, image = skin_network(), noise((40, 60, 3), 3)
    alone = [
        np.flip(predict_map(network, np.flip(image, axes), None, WHOLE), axes)
        for axes in ((), (1,), (0,), (0, 1))
    ]
    two = predict_map(network, image, None, WHOLE.override({"mirrored": 2}))
    np.testing.assert_allclose(two, np.mean(alone[:2], axis=0), atol=1e-6)
    found = predict_map(network, image, None, WHOLE.override({"mirrored": 4}))
    np.testing.assert_allclose(found, np.mean(alone, axis=0), atol=1e-6)
    assert np.abs(found - alone[0]).max() > 1e-3


def test_a_photo_bundle_finds_skin_at_the_photographs_own_size(tmp_path: Path) -> None:
    folder = photo_bundle(tmp_path / "bundle")
    assert {path.name for path in folder.iterdir()} == {
        "bundle.json", "skin.safetensors", "MODEL_CARD.md",
    }  # fmt: skip
    bundle, image = load(folder, "cpu"), noise((50, 333, 3), 4)
    found = bundle.predict(image)
    assert isinstance(found, Skin)
    expected = predict_map(skin_network(), image, None, WHOLE)
    np.testing.assert_array_equal(found.probability, expected)
    np.testing.assert_array_equal(found.mask, expected >= 0.5)
    assert 0 < found.fraction < 1
    with pytest.raises(BundleError, match="finds skin in photographs: use a bundle for biopsies"):
        bundle.info.find_crossings(expected, expected)
    assert "skin in clinical photographs" in model_card(bundle.info)


def test_a_bundle_has_the_settings_and_models_of_its_kind(tmp_path: Path) -> None:
    values = read_info(photo_bundle(tmp_path / "bundle")).model_dump()
    for wrong in ({"kind": "biopsy"}, {"skin": None}, {"models": {}}):
        with pytest.raises(ValueError, match="bundle has"):
            BundleInfo.model_validate(values | wrong)


@pytest.mark.parametrize("shape", [(1, 1), (1, 300), (20_000, 3), (128, 128), (2000, 3000)])
@pytest.mark.parametrize("constant", [True, False])
def test_odd_photographs_give_a_finite_map(
    tmp_path: Path, shape: tuple[int, int], constant: bool
) -> None:
    bundle = load(photo_bundle(tmp_path / "bundle"), "cpu")
    image = np.full((*shape, 3), 200, np.uint8) if constant else noise((*shape, 3))
    found = bundle.predict(image)
    assert isinstance(found, Skin)
    assert found.mask.shape == found.confidence.shape == shape
    assert np.isfinite(found.probability).all()
    assert 0 <= found.probability.min() <= found.probability.max() <= 1


def test_weights_that_are_not_finite_give_an_error(tmp_path: Path) -> None:
    network = skin_network()
    with torch.no_grad():
        network.end.bias.fill_(float("nan"))
    bundle = load(photo_bundle(tmp_path / "bundle", network), "cpu")
    with pytest.raises(ImageError, match="not finite"):
        bundle.predict(noise((30, 40, 3)))
