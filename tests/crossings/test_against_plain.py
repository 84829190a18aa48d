"""Results that do not depend on our code: a plain version, symmetries, and known counts."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skinray.config.biopsies import CrossingSettings, PhantomSettings
from skinray.crossings import find_crossings
from skinray.images.phantoms.phantom import make_phantom
from tests.support.plain_crossings import plain_boundary, plain_crossings, plain_dermis
from tests.support.scenes import blurred

PHANTOMS = 50
# Each with the map of points that belongs to it, for an image of height h and width w.
SYMMETRIES = {
    "mirror columns": (np.fliplr, lambda r, c, h, w: (r, w - 1 - c)),
    "mirror rows": (np.flipud, lambda r, c, h, w: (h - 1 - r, c)),
    "turn 90": (np.rot90, lambda r, c, h, w: (w - 1 - c, r)),
    "turn 180": (lambda a: np.rot90(a, 2), lambda r, c, h, w: (h - 1 - r, w - 1 - c)),
    "turn 270": (lambda a: np.rot90(a, 3), lambda r, c, h, w: (c, h - 1 - r)),
    "transpose": (np.transpose, lambda r, c, h, w: (c, r)),
}


@pytest.fixture(scope="module")
def phantoms():
    return [make_phantom(PhantomSettings(), 11, index, (400, 304)) for index in range(PHANTOMS)]


def unsure(phantom, seed):
    """Maps as a model gives them: probabilities, soft and noisy."""
    return blurred(phantom.nerve_label, seed, 0.15), blurred(phantom.dermis_label, seed + 1, 0.2)


def sorted_points(rows, columns):
    points = np.stack([rows, columns], axis=1)
    return points[np.lexsort((points[:, 1].round(6), points[:, 0].round(6)))]


def assert_identical(nerve, dermis):
    found = find_crossings(nerve, dermis)
    mask = plain_dermis(dermis)
    np.testing.assert_array_equal(found.dermis, mask)
    np.testing.assert_array_equal(found.boundary, plain_boundary(mask))
    np.testing.assert_array_equal(found.points, plain_crossings(nerve, dermis))


def assert_follows(name, nerve, dermis, settings=None):
    settings = settings or CrossingSettings()
    turn, move = SYMMETRIES[name]
    found = find_crossings(nerve, dermis, settings)
    turned = find_crossings(turn(nerve), turn(dermis), settings)
    np.testing.assert_array_equal(turned.dermis, turn(found.dermis))
    np.testing.assert_array_equal(turned.boundary, turn(found.boundary))
    expected = sorted_points(*move(*found.points.T, *nerve.shape))
    np.testing.assert_allclose(sorted_points(*turned.points.T), expected, atol=1e-9)
    assert turned.boundary_px == pytest.approx(found.boundary_px, rel=1e-5)


def test_perfect_masks_give_the_true_count(phantoms):
    counts = [find_crossings(p.nerve_truth, p.dermis_truth).count for p in phantoms]
    right = sum(count == p.count for count, p in zip(counts, phantoms, strict=True))
    assert right >= PHANTOMS - 2
    assert sum(counts) > PHANTOMS, "phantoms without crossings prove nothing"


def test_perfect_masks_are_identical_to_the_plain_version(phantoms):
    for phantom in phantoms:
        assert_identical(phantom.nerve_truth, phantom.dermis_truth)


def test_probabilities_are_identical_to_the_plain_version(phantoms):
    for seed, phantom in enumerate(phantoms):
        assert_identical(*unsure(phantom, seed))


@pytest.mark.parametrize("name", SYMMETRIES)
def test_turned_phantoms_give_turned_crossings(phantoms, name):
    for seed, phantom in enumerate(phantoms):
        assert_follows(name, *unsure(phantom, seed))


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(sorted(SYMMETRIES)), st.integers(0, 2**32 - 1))
def test_turned_noise_gives_turned_crossings(name, seed):
    """Specks make clusters of a few pixels, ties and shared border pixels in plenty."""
    rng = np.random.default_rng(seed)
    nerve = rng.random((40, 57)) < 0.25
    dermis = rng.random((40, 57)) < np.linspace(0, 1, 40)[:, None]
    loose = CrossingSettings(sigma_px=1.5, boundary_width_px=5, min_side_pixels=2, eps_px=2)
    assert_follows(name, nerve, dermis, loose)


@pytest.mark.slow
def test_whole_fields_are_right_identical_and_turn():
    for index in range(4):
        phantom = make_phantom(PhantomSettings(), 12, index)
        found = find_crossings(phantom.nerve_truth, phantom.dermis_truth)
        assert found.count == phantom.count
        assert_identical(phantom.nerve_truth, phantom.dermis_truth)
        maps = unsure(phantom, index)
        assert_identical(*maps)
        for name in SYMMETRIES:
            assert_follows(name, *maps)
