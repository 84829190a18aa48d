from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from skinray.config.base import validate
from skinray.config.biopsies import CrossingSettings, FitSettings
from skinray.crossings import find_crossings
from skinray.crossings.fit import FitPair, fit_crossings
from skinray.learning.held_out import (
    SplitScores,
    _file_name,
    expert_count,
    fitted,
    score_split,
    stored_pair,
)
from tests.support.tiny import DERMIS_TRUTH, NERVE_TRUTH, ColourNetwork, Spy, biopsy, drawn_sample

# By position: an image with as many crossings as its number, modulo four.
SAMPLES = [drawn_sample(seed, nerves=seed % 4) for seed in range(8)]
BIOPSIES = [biopsy(f"images/{at}.png", count=at % 4) for at in range(8)]
TRAIN, HELD_OUT = (0, 1, 2, 3, 4), (5, 6, 7)
SETTINGS = validate(CrossingSettings, {"sigma_px": 2})
OFF = FitSettings(enabled=False)
QUICK = validate(FitSettings, {"grid": {"nerve_threshold": (0.3, 0.5)}, "rounds": 1})


def score(folder: Path, search: FitSettings = OFF, **changes: Any) -> SplitScores:
    given: dict[str, Any] = {
        "networks": (NERVE_TRUTH, DERMIS_TRUTH), "samples": SAMPLES, "biopsies": BIOPSIES,
        "train": TRAIN, "held_out": HELD_OUT, "settings": SETTINGS, "search": search,
        "folder": folder,
    }  # fmt: skip
    return score_split(**given | changes)


def test_networks_that_see_the_truth_count_the_truth(tmp_path: Path) -> None:
    found = score(tmp_path)
    assert [image.position for image in found.images] == [5, 6, 7]
    assert [image.model for image in found.images] == [1, 2, 3]
    assert [image.expert for image in found.images] == [1, 2, 3]
    for image in found.images:
        assert image.nerve_dice == {0: 1, 1: 1, 3: 1}
        assert image.dermis_dice == 1
        assert image.boundary_px == pytest.approx(128, abs=2)
    assert found.crossings == SETTINGS
    assert found.consistency is None


def test_networks_that_see_nothing_count_nothing(tmp_path: Path) -> None:
    blind = ColourNetwork(2)
    found = score(tmp_path, networks=(blind, DERMIS_TRUTH))
    assert [image.model for image in found.images] == [0, 0, 0]
    assert [image.nerve_dice[3] for image in found.images] == [0, 0, 0]
    assert [image.dermis_dice for image in found.images] == [1, 1, 1]


def test_the_maps_are_stored_for_every_held_out_image(tmp_path: Path) -> None:
    folder = tmp_path / "predictions" / "fold-1"
    found = score(folder)
    names = [f"images__{at}.png.npz" for at in HELD_OUT]
    assert [image.prediction for image in found.images] == names
    assert sorted(path.name for path in folder.iterdir()) == names
    for name, at in zip(names, HELD_OUT, strict=True):
        sample = SAMPLES[at]
        with np.load(folder / name, allow_pickle=False) as maps:
            kinds = {key: (maps[key].dtype.kind, maps[key].shape) for key in maps.files}
            assert kinds == {
                "nerve": ("u", (96, 128)), "dermis_probability": ("u", (96, 128)),
                "dermis": ("b", (96, 128)), "boundary": ("b", (96, 128)),
                "points": ("f", (at % 4, 2)),
            }  # fmt: skip
            assert np.array_equal(maps["nerve"] >= 128, sample.masks["nerve"] > 0)
            assert np.array_equal(maps["dermis_probability"] >= 128, sample.masks["dermis"] > 0)
            direct = find_crossings(sample.masks["nerve"], sample.masks["dermis"], SETTINGS)
            assert np.allclose(maps["points"], direct.points)
            assert np.array_equal(maps["boundary"], direct.boundary)
            assert np.array_equal(maps["dermis"], direct.dermis)


def test_no_two_images_share_a_file_and_long_names_fit() -> None:
    names = [
        "a/b.png",
        "a__b.png",
        "b.png",
        "deep/" * 80 + "a.png",
        "deep/" * 80 + "b.png",
        "ü" * 150 + "/b.png",
    ]
    files = [_file_name(name) for name in names]
    assert files[0] == "a__b.png.npz"
    assert len(set(files)) == len(names)
    assert all(len(file.encode()) < 255 - len(".part.npz") for file in files)


def test_a_stored_pair_has_the_maps_and_their_truth(tmp_path: Path) -> None:
    found = score(tmp_path)
    pair = stored_pair(tmp_path / found.images[0].prediction, SAMPLES[5], 0.5)
    assert pair.nerve_probability.dtype == np.float32
    assert 0 <= pair.nerve_probability.min() <= pair.nerve_probability.max() <= 1
    assert np.array_equal(pair.nerve_probability >= 0.5, pair.nerve_truth)
    assert np.array_equal(pair.dermis_probability >= 0.5, pair.dermis_truth)
    assert pair.um_per_px == 0.5


# the search


def test_parameters_are_fitted_to_training_images_only(tmp_path: Path) -> None:
    spy = Spy(SAMPLES)
    score(tmp_path, QUICK, samples=spy)
    assert set(spy.read[: len(TRAIN)]) == set(TRAIN)
    assert tuple(spy.read[len(TRAIN) :]) == HELD_OUT


def test_without_fitting_training_images_are_not_used(tmp_path: Path) -> None:
    spy = Spy(SAMPLES)
    score(tmp_path, OFF, samples=spy)
    assert tuple(spy.read) == HELD_OUT


def test_the_search_may_look_at_a_few_drawn_by_the_seed(tmp_path: Path) -> None:
    few = QUICK.override({"max_images": 2})

    def seen(seed: int) -> tuple[int, ...]:
        spy = Spy(SAMPLES)
        score(tmp_path, few, samples=spy, seed=seed)
        return tuple(spy.read[:-3])

    chosen = {seen(seed) for seed in range(6)}
    assert len(chosen) > 1
    assert all(len(some) == 2 and set(some) <= set(TRAIN) for some in chosen)
    assert seen(3) == seen(3)


def test_images_are_counted_with_the_fitted_parameters(tmp_path: Path) -> None:
    """A shy network stays below one half: only a lower threshold sees its nerves."""

    class Shy(ColourNetwork):
        def forward(self, image):  # type: ignore[no-untyped-def]
            return super().forward(image).sign() * 0.4 - 0.8  # probability .40 or .23

    found = score(tmp_path, QUICK, networks=(Shy(0), DERMIS_TRUTH))
    assert found.crossings == SETTINGS.override({"nerve_threshold": 0.3})
    assert found.consistency == 1
    assert [image.model for image in found.images] == [1, 2, 3]
    unfitted = score(tmp_path, OFF, networks=(Shy(0), DERMIS_TRUTH))
    assert [image.model for image in unfitted.images] == [0, 0, 0]


def test_the_search_is_the_crossing_stages() -> None:
    sample = SAMPLES[3]
    pairs = [
        FitPair(
            np.float32(sample.masks["nerve"]) * 0.4,
            np.float32(sample.masks["dermis"]),
            sample.masks["nerve"],
            sample.masks["dermis"],
        )
    ]
    expected = fit_crossings(pairs, SETTINGS, QUICK)
    assert fitted(pairs, SETTINGS, QUICK) == (expected.settings, expected.consistency)
    assert fitted(pairs, SETTINGS, OFF) == (SETTINGS, None)
    assert fitted([], SETTINGS, QUICK) == (SETTINGS, None)


def test_the_scale_reaches_the_crossing_stage(tmp_path: Path) -> None:
    near, far = (
        score(tmp_path, um_per_px=um, settings=SETTINGS).images[0].boundary_px for um in (0.5, 0.25)
    )
    assert near == pytest.approx(far, rel=0.02)
    with np.load(tmp_path / "images__5.png.npz", allow_pickle=False) as maps:
        band = maps["boundary"].sum()
    score(tmp_path, um_per_px=0.5)
    with np.load(tmp_path / "images__5.png.npz", allow_pickle=False) as maps:
        assert band == pytest.approx(2 * maps["boundary"].sum(), rel=0.4)


# the expert


def test_the_experts_count_is_the_manifests_or_that_of_the_labels() -> None:
    sample = drawn_sample(nerves=3)
    assert expert_count(biopsy("a", count=7), sample) == 7
    assert expert_count(biopsy("a", count=0), sample) == 0
    assert expert_count(biopsy("a"), drawn_sample(size=(240, 320), nerves=3)) == 3


def test_crossing_parameters_are_not_fitted_to_a_model_s_own_labels(tmp_path: Path) -> None:
    own = (1, 3)
    rows = [replace(one, source="model") if at in own else one for at, one in enumerate(BIOPSIES)]
    samples = Spy(SAMPLES)
    score(tmp_path, QUICK, samples=samples, biopsies=rows)
    assert set(samples.read) == {0, 2, 4, *HELD_OUT}
