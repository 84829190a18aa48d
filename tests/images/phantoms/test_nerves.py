"""Which courses count as crossings, on a straight junction where the answer is plain."""

from __future__ import annotations

import numpy as np
import pytest

from skinray.images.phantoms.junction import build, draw_junction, resample, survives_smoothing
from skinray.images.phantoms.nerves import NerveField, grow_nerves
from skinray.images.phantoms.walk import Fibre, settle

NOTHING = np.empty((0, 2))


@pytest.fixture(scope="module")
def flat():
    """Dermis from row 100 on, 200 px wide and high."""
    dermis = np.zeros((200, 200), bool)
    dermis[100:] = True
    return build(resample(np.array([[0.0, 99.5], [199.0, 99.5]])), dermis)


def fibre(*corners):
    return Fibre(resample(np.array(corners, float)), 3.0, "crossing")


def test_a_straight_fibre_crosses_once_at_the_junction(flat):
    settled, near = settle(fibre((80, 160), (80, 40)), flat, NOTHING)
    np.testing.assert_allclose(settled.passes, [[80, 99.5]], atol=0.05)
    assert len(near) == 18


def test_an_arch_crosses_twice(flat):
    settled, _ = settle(fibre((60, 150), (60, 60), (110, 60), (110, 150)), flat, NOTHING)
    np.testing.assert_allclose(settled.passes, [[60, 99.5], [110, 99.5]], atol=0.05)


def test_a_fibre_that_stays_away_has_no_pass(flat):
    settled, near = settle(fibre((20, 115), (180, 115)), flat, NOTHING)
    assert len(settled.passes) == 0
    assert len(near) == 0


@pytest.mark.parametrize(
    "corners",
    [
        [(20, 95), (180, 104)],
        [(80, 160), (80, 95)],
        [(80, 160), (80, 104), (100, 104), (100, 160)],
        [(6, 160), (6, 40)],
        [(60, 150), (60, 60), (70, 60), (70, 150)],
    ],
    ids=["grazing", "ends in the zone", "touches and turns", "at the frame", "legs too close"],
)
def test_ambiguous_fibres_are_refused(flat, corners):
    assert settle(fibre(*corners), flat, NOTHING)[0] is None


def test_a_pass_beside_another_is_refused(flat):
    _, near = settle(fibre((80, 160), (80, 40)), flat, NOTHING)
    assert settle(fibre((92, 160), (92, 40)), flat, near)[0] is None
    assert settle(fibre((99, 160), (99, 40)), flat, near)[0] is not None


def test_wanted_crossings_grow_where_there_is_room(flat):
    living = np.ones(flat.shape, bool)
    fibres = grow_nerves(np.random.default_rng(0), NerveField(flat, living, 4, 1.0))
    assert sum(len(f.passes) for f in fibres) == 4
    crowd = grow_nerves(np.random.default_rng(0), NerveField(flat, living, 400, 0.0))
    assert 4 <= sum(len(f.passes) for f in crowd) <= 200 / 17


@pytest.mark.parametrize("size", [(320, 256), (512, 384), (1600, 1200)])
def test_the_junction_survives_the_smoothing_of_the_crossing_stage(size):
    for seed in range(3):
        junction = draw_junction(np.random.default_rng(seed), size)
        assert survives_smoothing(junction.dermis)
        assert junction.shape == size[::-1]
        assert junction.length_px >= size[0] - 1


def test_a_sharp_corner_does_not_survive_smoothing():
    row, column = np.mgrid[:200, :200]
    spike = (row > 120) | ((np.abs(column - 100) < 5) & (row > 40))
    assert not survives_smoothing(spike)
