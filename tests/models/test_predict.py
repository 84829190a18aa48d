from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from skinray.config.images import PredictSettings
from skinray.errors import ImageError
from skinray.images.cohort.common_scale import scale_factor
from skinray.models.predict import evaluating, predict_at_scale, predict_map
from tests.support.tiny import NERVE_TRUTH, ConvNetwork, drawn_sample


def test_the_map_is_the_networks_sigmoid() -> None:
    network, image = ConvNetwork().eval(), drawn_sample().image
    with torch.no_grad():
        x = torch.from_numpy(image).permute(2, 0, 1)[None].float() / 255
        expected = network(x).sigmoid()[0, 0].numpy()
    found = predict_map(network, image)
    assert found.dtype == np.float32
    assert found.shape == image.shape[:2]
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_the_image_is_left_as_it_is_and_may_be_read_only() -> None:
    image = drawn_sample().image
    before = image.copy()
    image.flags.writeable = False
    predict_map(NERVE_TRUTH, image)
    assert np.array_equal(image, before)


def test_a_network_that_knows_the_truth_predicts_it() -> None:
    sample = drawn_sample()
    assert np.array_equal(predict_map(NERVE_TRUTH, sample.image) >= 0.5, sample.masks["nerve"] > 0)


@pytest.mark.parametrize("training", [True, False])
def test_predicting_is_done_in_eval_mode_and_the_mode_put_back(training: bool) -> None:
    network = ConvNetwork(dropout=0.5).train(training)
    first, second = (predict_map(network, drawn_sample().image) for _ in range(2))
    assert np.array_equal(first, second)
    assert network.training is training
    assert int(network.layers[1].num_batches_tracked) == 0


def test_the_mode_is_put_back_after_an_error() -> None:
    network = ConvNetwork().train()
    with pytest.raises(ZeroDivisionError), evaluating(network):
        _ = 1 / (0 if not network.training else 1)
    assert network.training


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((8, 8), np.uint8),
        np.zeros((8, 8, 4), np.uint8),
        np.zeros((3, 8, 8), np.uint8),
        np.zeros((8, 8, 3), np.float32),
        np.zeros((8, 8, 3), np.uint16),
        np.zeros((0, 8, 3), np.uint8),
        np.zeros((1, 8, 8, 3), np.uint8),
    ],
)
def test_an_array_that_is_not_8_bit_rgb_is_refused(image: np.ndarray) -> None:
    with pytest.raises(ImageError, match=r"give \(height, width, 3\) uint8"):
        predict_map(NERVE_TRUTH, image)


class Recorder(nn.Module):
    """Sees the size of what it gets; its map is the red channel."""

    def __init__(self) -> None:
        super().__init__()
        self.sizes: list[tuple[int, ...]] = []

    def forward(self, image: Tensor) -> Tensor:
        self.sizes.append(tuple(image.shape[2:]))
        return (image[:, :1] - 0.5) * 60


@pytest.mark.parametrize(
    ("um_per_px", "trained", "seen"),
    [
        (None, None, (96, 128)),
        (0.5, None, (96, 128)),
        (None, 0.5, (96, 128)),
        (0.5, 0.5, (96, 128)),
        (0.505, 0.5, (96, 128)),
        (0.25, 0.5, (48, 64)),
        (1.0, 0.5, (192, 256)),
        (0.5, 100.0, (1, 1)),
    ],
)
def test_the_network_sees_the_scale_it_was_trained_at(
    um_per_px: float | None, trained: float | None, seen: tuple[int, int]
) -> None:
    network, sample = Recorder(), drawn_sample()
    found = predict_at_scale(network, [sample.image], um_per_px, trained)[0]
    assert network.sizes == [seen]
    assert found.shape == (96, 128)
    assert found.dtype == np.float32
    assert 0 <= found.min() <= found.max() <= 1


def test_a_map_comes_back_to_its_place() -> None:
    image = np.zeros((96, 128, 3), np.uint8)
    image[32:64, 40:72, 0] = 255
    found = predict_at_scale(Recorder(), [image], 0.25, 0.5)[0]
    rows, columns = np.nonzero(found >= 0.5)
    assert (rows.mean(), columns.mean()) == pytest.approx((47.5, 55.5))
    assert len(rows) == pytest.approx(32 * 32, rel=0.01)


@pytest.mark.parametrize(("scale", "um_per_px", "seen"), [
    (0.5, None, (48, 64)), (0.25, 0.5, (24, 32)), (0.25, 1.0, (48, 64)),
])  # fmt: skip
def test_the_network_sees_its_working_scale(
    scale: float, um_per_px: float | None, seen: tuple[int, int]
) -> None:
    network, sample = Recorder(), drawn_sample()
    network.working_scale = scale  # type: ignore[assignment]
    found = predict_at_scale(network, [sample.image], um_per_px, 0.5)[0]
    assert network.sizes == [seen]
    assert found.shape == (96, 128)


def test_mirrored_views_are_of_the_working_scale() -> None:
    network, image = Recorder(), np.zeros((96, 128, 3), np.uint8)
    network.working_scale = 0.5  # type: ignore[assignment]
    image[32:64, 40:72, 0] = 255
    found = predict_map(network, image, settings=PredictSettings(mirrored=4))
    assert network.sizes == [(48, 64)] * 4
    assert np.allclose(found, predict_map(network, image), atol=1e-6)


@given(st.floats(0.05, 10), st.floats(0.05, 10))
def test_scale_factor_is_the_ratio_and_one_where_nearly_so(own: float, trained: float) -> None:
    factor, ratio = scale_factor(own, trained), own / trained
    assert factor == (1 if abs(ratio - 1) <= 0.02 else ratio)


# tiles

TILED = PredictSettings(max_pixels=4096, tile_px=128, overlap_px=64)


def test_a_large_image_is_tiled_without_visible_seams() -> None:
    """A network that sees 2 px round each pixel: tiles of 128 px give what the whole gives."""
    torch.manual_seed(0)
    network, image = ConvNetwork().eval(), drawn_sample(size=(300, 410), nerves=5).image
    whole = predict_map(network, image)
    seen: list[tuple[int, ...]] = []
    network.register_forward_pre_hook(lambda _, x: seen.append(tuple(x[0].shape[2:])))
    tiled = predict_map(network, image, settings=TILED)
    assert len(seen) == 4 * 6
    assert max(max(size) for size in seen) == 128
    np.testing.assert_allclose(tiled, whole, atol=1e-6)


def test_tiles_of_a_network_that_looks_far_meet_without_a_step() -> None:
    """A global mean makes each tile's map another; the steps at seams stay those of a slope."""

    class Mean(nn.Module):
        def forward(self, image: Tensor) -> Tensor:
            return 8 * (image.mean((1, 2, 3), keepdim=True) - 0.5).expand_as(image[:, :1])

    image = np.zeros((128, 512, 3), np.uint8)
    image[:, 256:] = 255
    found = predict_map(Mean(), image, settings=TILED)
    assert found.max() - found.min() > 0.9
    assert np.abs(np.diff(found, axis=1)).max() <= 1 / 32 + 1e-6
    assert (found <= 1).all()


def test_ones_stay_ones_where_tiles_are_mixed() -> None:
    image = np.full((300, 410, 3), 255, np.uint8)
    found = predict_map(NERVE_TRUTH, image, settings=TILED)
    assert (found <= 1).all()
    np.testing.assert_allclose(found, 1, atol=1e-6)
