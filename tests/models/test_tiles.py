from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from skinray.models.predict import ALIGN_PX, blend, cut

sides = st.integers(1, 700)
overlaps = st.sampled_from([32, 64, 96])


@given(sides, sides, overlaps)
def test_tiles_blend_back_to_the_map_they_were_cut_from(h: int, w: int, overlap: int) -> None:
    values = np.random.default_rng(h * 701 + w).random((h, w), np.float32)
    tiles = list(cut((h, w), 256, overlap))
    found = blend(((t, values[t.rows, t.columns]) for t in tiles), (h, w))
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, values, atol=3e-7)


@given(sides, sides, overlaps)
def test_tiles_lie_on_the_networks_grid_within_the_image(h: int, w: int, overlap: int) -> None:
    for tile in cut((h, w), 256, overlap):
        for span, size in ((tile.rows, h), (tile.columns, w)):
            assert span.start % ALIGN_PX == 0
            assert 0 < span.stop - span.start <= 256
            assert span.stop <= size


def test_an_image_of_one_tile_is_one_tile_of_weight_one() -> None:
    (tile,) = cut((256, 200), 256, 64)
    assert (tile.rows, tile.columns) == (slice(0, 256), slice(0, 200))
    assert (tile.row_weights == 1).all()
    assert (tile.column_weights == 1).all()


def test_the_outermost_quarter_of_an_overlap_counts_for_nothing() -> None:
    first, second = cut((10, 400), 256, 64)
    assert (first.columns, second.columns) == (slice(0, 256), slice(192, 400))
    assert (first.column_weights[-16:] == 0).all()
    assert (second.column_weights[:16] == 0).all()
    assert first.column_weights[-17] > 0
    assert first.column_weights[0] == second.column_weights[-1] == 1


def test_maps_that_differ_mix_without_a_step() -> None:
    tiles = list(cut((8, 400), 256, 64))
    maps = [(t, np.full((8, t.column_weights.size), k, np.float32)) for k, t in enumerate(tiles)]
    found = blend(maps, (8, 400))
    assert (np.diff(found[0]) >= 0).all()
    assert np.diff(found[0]).max() <= 1 / 32 + 1e-6
    assert (found[0, 0], found[0, -1]) == (0, 1)


@pytest.mark.parametrize(("tile", "overlap"), [(250, 32), (256, 30), (256, 160), (256, 0)])
def test_sides_that_do_not_fit_are_refused(tile: int, overlap: int) -> None:
    with pytest.raises(ValueError, match="cannot overlap"):
        list(cut((300, 300), tile, overlap))
