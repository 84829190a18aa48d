"""The search of the parameters: it finds what was spoilt, and cannot win by not counting."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from skinray.config.biopsies import CrossingSettings, FitSettings, PhantomSettings
from skinray.crossings import find_crossings
from skinray.crossings.fit import FitPair, concordance, fit_crossings
from skinray.errors import SettingsError, SkinrayError
from skinray.images.phantoms.phantom import make_phantom
from skinray.report.biopsies.agreement import agreement
from tests.support.scenes import blurred

START = CrossingSettings()


@pytest.fixture(scope="module")
def phantoms():
    return [make_phantom(PhantomSettings(), 21, index, (288, 224)) for index in range(12)]


def faint(phantoms, strength=0.45, dtype=np.float32):
    """A model that finds all nerves and is not sure of them."""
    pairs = []
    for seed, phantom in enumerate(phantoms):
        nerve = blurred(phantom.nerve_label, seed, 0) * strength
        dermis = blurred(phantom.dermis_label, seed, 0.2)
        if dtype == np.uint8:
            nerve, dermis = (np.round(p * 255).astype(np.uint8) for p in (nerve, dermis))
        pairs.append(FitPair(nerve, dermis, phantom.nerve_label, phantom.dermis_label))
    return pairs


def perfect(phantoms):
    masks = [(p.nerve_label, p.dermis_label) for p in phantoms]
    return [FitPair(n.astype(np.float32), d.astype(np.float32), n, d) for n, d in masks]


@pytest.mark.parametrize("dtype", [np.float32, np.uint8])
def test_a_faint_model_gets_a_lower_threshold(phantoms, dtype):
    result = fit_crossings(faint(phantoms, dtype=dtype), START, FitSettings())
    assert result.default_consistency == 0, "nothing is above .5 at the start"
    assert result.settings.nerve_threshold in (0.3, 0.4)
    assert result.consistency > 0.9


def test_counts_are_those_of_find_crossings(phantoms):
    pairs = faint(phantoms)
    settings = START.override({"nerve_threshold": 0.3, "sigma_px": 6})
    result = fit_crossings(pairs, settings, FitSettings(grid={}))
    model = [
        find_crossings(p.nerve_probability, p.dermis_probability, settings).count for p in pairs
    ]
    truth = [find_crossings(p.nerve_truth, p.dermis_truth, settings).count for p in pairs]
    assert sum(model) > 0
    assert result.default_consistency == result.consistency == concordance(model, truth)
    assert result.settings == settings
    assert result.table == ()


def test_a_perfect_model_changes_nothing(phantoms):
    result = fit_crossings(perfect(phantoms), START, FitSettings())
    assert result.settings == START
    assert result.consistency == result.default_consistency == 1
    assert all(trial.round == 1 for trial in result.table), "no second sweep without a change"


@pytest.mark.parametrize(
    "grid",
    [
        {"min_side_pixels": (200,)},
        {"min_points": (1000,)},
        {"window_px": (3,), "min_side_pixels": (50,)},
        {"dermis_threshold": (0.999,), "sigma_px": (60,)},
    ],
)
def test_parameters_that_count_nothing_never_win(phantoms, grid):
    """Both sides would agree perfectly, on zero; at the start the model finds nothing."""
    pairs = faint(phantoms)
    result = fit_crossings(pairs, START, FitSettings(grid=grid))
    refused = [trial for trial in result.table if not trial.admissible]
    assert refused
    assert not any(trial.chosen for trial in refused)
    at_start = [find_crossings(p.nerve_truth, p.dermis_truth).count for p in pairs]
    now = [find_crossings(p.nerve_truth, p.dermis_truth, result.settings).count for p in pairs]
    assert np.abs(np.subtract(now, at_start)).sum() <= 0.05 * sum(at_start)


def test_the_limit_of_the_shift_is_a_setting(phantoms):
    grid = {"min_side_pixels": (200,)}
    fit = FitSettings(grid=grid, max_truth_shift=1)
    assert fit_crossings(faint(phantoms), START, fit).settings.min_side_pixels == 200


def test_ties_stay_nearest_to_the_start(phantoms):
    grid = {"nerve_threshold": (0.1, 0.45, 0.9)}
    result = fit_crossings(perfect(phantoms), START, FitSettings(grid=grid))
    assert result.settings.nerve_threshold == 0.5
    assert {trial.consistency for trial in result.table} == {1.0}


def test_the_table_lists_every_trial(phantoms):
    grid = {"nerve_threshold": (0.3, 0.5), "min_points": (4.0, 6.0)}
    result = fit_crossings(faint(phantoms), START, FitSettings(grid=grid, rounds=3))
    tried = [(trial.round, trial.parameter, trial.value) for trial in result.table]
    sweep = [("nerve_threshold", 0.3), ("nerve_threshold", 0.5)]
    sweep += [("min_points", 4), ("min_points", 6)]
    assert sorted(tried) == sorted((r, name, value) for r in (1, 2) for name, value in sweep)
    chosen = {trial.parameter: trial.value for trial in result.table if trial.chosen}
    assert chosen == {name: getattr(result.settings, name) for name in grid}
    assert isinstance(result.settings.min_points, int)


def test_images_are_counted_at_their_own_scale(phantoms):
    twice = np.ones((2, 2), np.float32)
    fine = [
        FitPair(
            *(
                np.kron(array, twice)
                for array in (
                    pair.nerve_probability,
                    pair.dermis_probability,
                    pair.nerve_truth,
                    pair.dermis_truth,
                )
            ),
            um_per_px=0.25,
        )
        for pair in faint(phantoms)[:4]
    ]
    result = fit_crossings(fine, START, FitSettings(grid={"nerve_threshold": (0.3,)}))
    assert result.consistency > 0.9
    assert result.settings.reference_um_per_px == START.reference_um_per_px


class Lazy:
    """A sequence that makes an image when it is asked for, and remembers which."""

    def __init__(self, pairs):
        self.pairs, self.asked = pairs, []

    def __len__(self):
        return len(self.pairs)

    def __getitem__(self, index):
        self.asked.append(index)
        return self.pairs[index]


def test_images_are_fetched_one_by_one_and_no_more_than_allowed(phantoms):
    lazy, steps = Lazy(faint(phantoms)), []
    fit = FitSettings(grid={"nerve_threshold": (0.3,), "min_points": (3,)}, max_images=5, rounds=1)
    fit_crossings(lazy, START, fit, lambda done, of: steps.append((done, of)))
    assert lazy.asked == [*range(5)] * 3, "at the start and once a parameter"
    assert steps == [(1, 2), (2, 2)]


def test_bad_searches_are_refused(phantoms):
    pairs = faint(phantoms[:1])
    with pytest.raises(SkinrayError, match="without images"):
        fit_crossings([], START, FitSettings())
    with pytest.raises(SettingsError, match="unknown settings key 'nerve_treshold'"):
        fit_crossings(pairs, START, FitSettings(grid={"nerve_treshold": (0.3,)}))
    with pytest.raises(SettingsError, match="dermis_threshold"):
        fit_crossings(pairs, START, FitSettings(grid={"dermis_threshold": (1.5,)}))
    with pytest.raises(SettingsError, match="min_points"):
        fit_crossings(pairs, START, FitSettings(grid={"min_points": (3.5,)}))


counts = st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30)), min_size=3, max_size=20)


@given(counts)
def test_concordance_is_the_reports(pairs):
    x, y = np.array(pairs).T
    reported = agreement(x, y).concordance
    if reported is not None:
        assert concordance(x, y) == pytest.approx(reported)
    assert -1 <= concordance(x, y) <= 1
    assert concordance(x, y) == pytest.approx(concordance(y, x))
    assert concordance(x, x) == 1


def test_concordance_of_constants():
    assert concordance([3, 3], [3, 3]) == 1
    assert concordance([3, 3], [4, 4]) == 0
    assert concordance([0, 0, 0], [1, 2, 3]) == 0
    assert concordance([1, 2, 3], [2, 3, 4]) == pytest.approx(4 / 7)
