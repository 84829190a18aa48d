"""Phantoms: the same from the same seed, exact in their truth, hard for a threshold."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from skinray.config.biopsies import PhantomSettings
from skinray.crossings import find_crossings
from skinray.errors import SettingsError
from skinray.images.phantoms.phantom import Phantom, make_phantom
from skinray.images.phantoms.subject import CHROMOGENS, HAEMATOXYLIN, PROTEIN

SETTINGS = PhantomSettings()
SIZE = (384, 288)


@pytest.fixture(scope="module")
def cohort() -> list[Phantom]:
    return [make_phantom(SETTINGS, 0, index, SIZE) for index in range(24)]


def distance_to(mask: NDArray[np.bool_]) -> NDArray[np.float32]:
    return cv2.distanceTransform((~mask).astype(np.uint8), cv2.DIST_L2, 5)


def tolerant_dice(pred: NDArray[np.bool_], near: NDArray[np.bool_], truth: NDArray[np.bool_]):
    hits = pred & near
    return 2 * hits.sum() / (pred.sum() + (truth | hits).sum())


def arrays(phantom: Phantom) -> list[NDArray[np.generic]]:
    values = vars(phantom).values()
    return [value for value in values if isinstance(value, np.ndarray)]


def test_same_arguments_give_the_same_arrays(cohort):
    again = make_phantom(SETTINGS, 0, 3, SIZE)
    np.random.seed(1)  # noqa: NPY002 - the global state must not matter
    pairs = list(zip(arrays(cohort[3]), arrays(again), strict=True))
    assert len(pairs) >= 7
    assert all(np.array_equal(one, other) for one, other in pairs)
    assert again.second_count == cohort[3].second_count


@pytest.mark.parametrize(("seed", "index"), [(0, 4), (1, 3)])
def test_seed_and_index_change_the_image(cohort, seed, index):
    other = make_phantom(SETTINGS, seed, index, SIZE)
    assert not np.array_equal(other.image, cohort[3].image)
    assert not np.array_equal(other.nerve_truth, cohort[3].nerve_truth)


def test_shapes_and_types_of_the_arrays(cohort):
    width, height = SIZE
    for phantom in cohort:
        assert phantom.image.shape == (height, width, 3)
        assert phantom.image.dtype == np.uint8
        masks = (phantom.nerve_truth, phantom.nerve_label, phantom.dermis_truth)
        assert all(m.shape == (height, width) and m.dtype == bool for m in masks)
        assert phantom.dermis_label.dtype == bool
        assert phantom.um_per_px == 0.5


def test_crossings_lie_on_the_junction_and_on_a_nerve(cohort):
    for phantom in cohort:
        assert phantom.count == len(phantom.crossings)
        for row, column in phantom.crossings:
            away = np.hypot(*(phantom.boundary_line - [column, row]).T).min()
            assert away < 1.5
            assert phantom.nerve_truth[round(row), round(column)]
    assert sum(phantom.count for phantom in cohort) > 40


def test_junction_runs_from_frame_to_frame_along_the_edge_of_the_dermis(cohort):
    for phantom in cohort:
        line = phantom.boundary_line
        assert line[0, 0] == 0
        assert line[-1, 0] == SIZE[0] - 1
        edge = distance_to(~phantom.dermis_truth) + distance_to(phantom.dermis_truth)
        column, row = np.round(line).astype(int).T
        assert edge[row, column].max() < 3
        assert phantom.dermis_truth[-1].all()
        assert not phantom.dermis_truth[0].any()


def test_perfect_masks_give_the_true_count_on_48_of_50(cohort):
    sizes = [(320, 256)] * 16 + [(640, 480)] * 8 + [(1600, 1200)] * 2
    more = [make_phantom(SETTINGS, 5, index, size) for index, size in enumerate(sizes)]
    phantoms = cohort + more
    assert len(phantoms) == 50
    found = [find_crossings(p.nerve_truth, p.dermis_truth).count for p in phantoms]
    right = sum(count == phantom.count for count, phantom in zip(found, phantoms, strict=True))
    assert right >= 48


def test_found_crossings_are_the_true_ones(cohort):
    for phantom in cohort:
        found = find_crossings(phantom.nerve_truth, phantom.dermis_truth).points
        for place in phantom.crossings:
            assert np.hypot(*(found - place).T).min() < 8


def test_nerves_that_only_border_are_not_counted():
    settings = SETTINGS.override({"mean_crossings": 0})
    for index in range(8):
        phantom = make_phantom(settings, 2, index, SIZE)
        assert phantom.nerve_truth.any()
        assert phantom.count == 0
        assert find_crossings(phantom.nerve_truth, phantom.dermis_truth).count == 0


def test_hand_tracing_is_imprecise_but_close(cohort):
    near, plain = [], []
    for phantom in cohort:
        close = distance_to(phantom.nerve_truth) <= 3
        near.append(tolerant_dice(phantom.nerve_label, close, phantom.nerve_truth))
        plain.append(tolerant_dice(phantom.nerve_label, phantom.nerve_truth, phantom.nerve_truth))
    assert np.mean(near) > 0.9
    assert min(near) > 0.75
    assert 0.6 < np.mean(plain) < 0.92
    assert max(plain) < 0.97


def test_drawn_boundary_is_imprecise_but_close(cohort):
    for phantom in cohort:
        assert not np.array_equal(phantom.dermis_label, phantom.dermis_truth)
        overlap = (phantom.dermis_label & phantom.dermis_truth).sum()
        dice = 2 * overlap / (phantom.dermis_label.sum() + phantom.dermis_truth.sum())
        assert dice > 0.97


def test_counts_spread_and_groups_differ(cohort):
    counts = np.array([phantom.count for phantom in cohort])
    sick = np.array([phantom.group == "neuropathy" for phantom in cohort])
    assert counts.min() <= 1
    assert counts.max() >= 9
    assert counts[~sick].mean() > 1.5 * counts[sick].mean()
    assert counts[sick].max() > counts[~sick].min()


def test_second_expert_differs_but_agrees_in_tendency(cohort):
    counts = np.array([phantom.count for phantom in cohort])
    second = np.array([phantom.second_count for phantom in cohort])
    assert (second >= 0).all()
    assert (counts != second).mean() > 0.3
    assert 0.25 < np.corrcoef(counts, second)[0, 1] < 0.92


def test_no_threshold_finds_the_nerves(cohort):
    """The best threshold in hindsight, on darkness and on five sorts of brown.

    Unmixing the stains with the very vectors they were painted with is knowledge that nobody
    has of a real slide; even that stays far below a hand's tracing (above .9).
    """
    scores: dict[str, list[list[float]]] = {}
    for phantom in cohort:
        truth = phantom.nerve_label
        near = distance_to(truth) <= 3
        for name, (channel, low, high) in channels(phantom.image).items():
            levels = np.linspace(low, high, 40)
            row = [tolerant_dice(channel > level, near, truth) for level in levels]
            scores.setdefault(name, []).append(row)
    best = {name: np.mean(rows, axis=0).max() for name, rows in scores.items()}
    unmixed = best.pop("chromogen, unmixed")
    assert max(best.values()) < 0.5, best
    assert unmixed < 0.55


def channels(image: NDArray[np.uint8]) -> dict[str, tuple[NDArray[np.float32], float, float]]:
    """Channels that show nerves, with the range their thresholds are sought in."""
    red, green, blue = np.moveaxis(image.astype(np.float32), -1, 0)
    density = -np.log10((image.astype(np.float32) + 1) / 245)
    stains = density @ np.linalg.inv(np.array([HAEMATOXYLIN, PROTEIN, CHROMOGENS["brown"]]))
    yellow = cv2.cvtColor(image, cv2.COLOR_RGB2LAB)[..., 2].astype(np.float32)
    return {
        "dark": (255 - (red + green + blue) / 3, 40, 200),
        "blue light taken": (255 - blue, 40, 220),
        "red over blue": (red - blue, -20, 80),
        "green over blue": (green - blue, -60, 40),
        "yellow": (yellow, 110, 160),
        "chromogen, unmixed": (stains[..., 2].astype(np.float32), 0, 0.9),
    }


def test_nerves_are_darker_than_their_surroundings(cohort):
    for phantom in cohort:
        dark = 255 - phantom.image.mean(-1)
        away = distance_to(phantom.nerve_truth)
        beside = dark[(away > 3) & (away < 8)].mean()
        assert dark[away <= 1].mean() > beside + 12


def test_too_small_a_field_is_refused():
    with pytest.raises(SettingsError, match="at least 192 px"):
        make_phantom(SETTINGS, 0, 0, (384, 100))
