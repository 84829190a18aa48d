from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from skinray.config.base import Settings, from_yaml, parse_yaml, to_yaml, validate
from skinray.config.biopsies import CrossingSettings, RunSettings, StageSettings
from skinray.config.training import ClusterSettings, TrainSettings
from skinray.errors import SettingsError
from tests.support.tiny import arm, tiny_run


def test_settings_cannot_be_changed_in_place() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        TrainSettings().epochs = 3


def test_override_replaces_by_dotted_path_and_leaves_the_original() -> None:
    before = tiny_run()
    after = before.override({"nerve.main.train.epochs": 7, "seed": 3})
    assert (after.nerve.main.train.epochs, after.seed) == (7, 3)
    assert (before.nerve.main.train.epochs, before.seed) == (2, 0)
    assert after.override({"nerve.main.train.epochs": 2, "seed": 0}) == before


def test_override_of_nothing_is_the_same() -> None:
    assert tiny_run().override({}) == tiny_run()


def test_options_take_new_keys() -> None:
    after = tiny_run().override({"nerve.main.model.options.bn_momentum": 0.2})
    assert after.nerve.main.model.options == {"features": 4, "depth": 2, "bn_momentum": 0.2}


def test_members_of_a_list_go_by_number() -> None:
    after = tiny_run().override({"nerve.baselines.0.train.epochs": 9})
    assert after.nerve.baselines[0].train.epochs == 9
    assert after.nerve.main.train.epochs == 2


@pytest.mark.parametrize(
    ("path", "where", "remedy"),
    [
        ("sead", "", "folds"),
        ("nerve.main.train.lr", " below 'nerve.main.train'", "learning_rate"),
        ("nerve.mian.train.epochs", " below 'nerve'", "main"),
        ("seed.more", "", "seed"),
        ("nerve.baselines.1.label", " below 'nerve.baselines'", "0"),
        ("nerve.baselines.first.label", " below 'nerve.baselines'", "0"),
        ("", "", "seed"),
    ],
)
def test_an_unknown_path_is_answered_with_the_known_ones(
    path: str, where: str, remedy: str
) -> None:
    with pytest.raises(SettingsError) as caught:
        tiny_run().override({path: 1})
    text = str(caught.value)
    assert text.startswith(f"unknown settings key '{path}': use one of ")
    assert remedy in text
    assert text.endswith(where)


def test_every_invalid_value_is_named() -> None:
    with pytest.raises(SettingsError) as caught:
        tiny_run().override({"seed": -1, "folds.count": "many", "nerve.main.train.loss": "mse"})
    lines = str(caught.value).splitlines()
    assert lines[0] == "settings: invalid settings"
    assert [line.split(":")[0].strip() for line in lines[1:]] == [
        "seed",
        "folds.count",
        "nerve.main.train.loss",
    ]


def test_an_unknown_key_among_values_is_an_error_with_a_remedy() -> None:
    with pytest.raises(SettingsError, match=r"eps: unknown key: remove it or correct its spelling"):
        validate(CrossingSettings, {"eps": 3})


def test_arms_need_different_labels_and_grids_need_values() -> None:
    with pytest.raises(ValidationError, match="different labels"):
        StageSettings(main=arm(), baselines=(arm(),))
    with pytest.raises(ValidationError, match="lists no value"):
        arm(grid={"train.learning_rate": ()})


@pytest.mark.parametrize("workers", [0, (3, 2), (0, 1)])
def test_workers_need_an_ordered_range(workers: object) -> None:
    with pytest.raises(SettingsError, match="1 <= low <= high"):
        validate(ClusterSettings, {"workers": workers})


def test_worker_range() -> None:
    assert validate(ClusterSettings, {"workers": 3}).worker_range == (3, 3)
    assert validate(ClusterSettings, {"workers": [1, 4]}).worker_range == (1, 4)
    assert validate(ClusterSettings, {"workers": "1, 4"}).worker_range == (1, 4)
    assert validate(ClusterSettings, {"workers": "3"}).workers == 3
    assert validate(ClusterSettings, {"workers": "auto"}).workers == "auto"


@pytest.mark.parametrize("words", ["many", "1,2,3", "1-4", "-1", "1,", ""])
def test_workers_that_are_not_numbers_are_refused_with_examples(words: str) -> None:
    with pytest.raises(SettingsError, match=rf"'{words}': write a number such as 4, a range"):
        validate(ClusterSettings, {"workers": words})


def test_the_fingerprint_changes_with_any_setting_and_with_nothing_else() -> None:
    settings = tiny_run()
    assert settings.fingerprint() == tiny_run().fingerprint()
    changes = {"seed": 1, "crossings.eps_px": 3.5, "dermis.main.model.options.depth": 3}
    others = {settings.override({path: value}).fingerprint() for path, value in changes.items()}
    assert len(others | {settings.fingerprint()}) == 4


# YAML


def test_yaml_round_trip(tmp_path: Path) -> None:
    settings = tiny_run(nerve__main__label="1e4", recipe="Hände", nerve__main__model__weights="07")
    settings = settings.override(
        {"nerve.main.train.learning_rate": 3e-5, "cluster.workers": [1, 2]}
    )
    path = tmp_path / "run.yaml"
    path.write_text(to_yaml(settings), encoding="utf-8")
    assert from_yaml(RunSettings, path) == settings


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_numbers_survive_yaml(value: float) -> None:
    class Number(Settings):
        value: float
        text: str

    number = Number(value=value, text=repr(value))
    assert validate(Number, parse_yaml(to_yaml(number))) == number


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-4", 1e-4),
        ("3E5", 3e5),
        ("-1.5e+3", -1500.0),
        (".5e1", 5.0),
        ("[1e-3, 2]", [1e-3, 2]),
        ("'1e-4'", "1e-4"),
        ("e4", "e4"),
        ("1e", "1e"),
        ("null", None),
    ],
)
def test_exponents_are_numbers(text: str, value: object) -> None:
    read = parse_yaml(text)
    assert read == value
    assert type(read) is type(value)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "cannot be read .*check the path"),
        (b"seed: 1\nfolds: [1", r"not valid YAML \(line 2, column 10: expected .*\): correct it"),
        (b"seed: \x00", r"not valid YAML \(.*\): correct it"),
        (b"\xff\xfe\x00", r"not valid YAML \(not UTF-8\): save it as UTF-8"),
        (b"", r"\(top level\)"),
        (b"sead: 1\n", "sead: unknown key"),
    ],
)
def test_a_bad_file_is_named(tmp_path: Path, content: bytes | None, said: str) -> None:
    path = tmp_path / "run.yaml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(SettingsError, match=said) as caught:
        from_yaml(RunSettings, path)
    assert str(caught.value).startswith(f"{path}: ")


# the crossing stage's lengths at other scales


def test_an_unknown_scale_changes_nothing() -> None:
    settings = CrossingSettings()
    assert settings.at_scale(None) is settings
    assert settings.at_scale(0.5) is settings


@pytest.mark.parametrize(
    ("um_per_px", "sigma", "width", "eps", "points", "window", "side"),
    [
        (0.25, 20, 6, 6, 16, 33, 20),
        (1.0, 5, 1.5, 1.5, 1, 9, 1),
        (5.0, 1, 1, 1, 1, 3, 1),
    ],
)
def test_lengths_scale_and_counts_scale_by_area(
    um_per_px: float, sigma: float, width: float, eps: float, points: int, window: int, side: int
) -> None:
    scaled = CrossingSettings().at_scale(um_per_px)
    assert (scaled.sigma_px, scaled.boundary_width_px, scaled.eps_px) == (sigma, width, eps)
    assert (scaled.min_points, scaled.window_px, scaled.min_side_pixels) == (points, window, side)
    assert scaled.reference_um_per_px == um_per_px
    same = ("dermis_threshold", "nerve_threshold", "min_area_fraction")
    assert all(getattr(scaled, key) == getattr(CrossingSettings(), key) for key in same)


@given(st.floats(0.05, 5))
def test_scaled_settings_hold_at_their_scale(um_per_px: float) -> None:
    scaled = CrossingSettings().at_scale(um_per_px)
    assert scaled.at_scale(um_per_px) is scaled
    assert scaled.window_px % 2 == 1


def test_a_filter_that_is_off_stays_off_at_every_scale() -> None:
    off = validate(CrossingSettings, {"min_side_pixels": 0})
    assert off.at_scale(0.1).min_side_pixels == 0
    assert off.at_scale(5).min_side_pixels == 0


def test_a_nested_choice_needs_trials_that_never_saw_the_held_out_images() -> None:
    with pytest.raises(
        SettingsError, match=r"tune: .*cannot be nested: use tune\.selection=pooled"
    ):
        tiny_run(tune__validation="held_out")
    assert tiny_run(tune__validation="held_out", tune__selection="pooled").tune.inner_splits == 2


@pytest.mark.parametrize(("count", "inner"), [(2, 1), (2, 2), (4, 4)])
def test_inner_splits_leave_folds_to_train_on(count: int, inner: int) -> None:
    said = (
        rf"folds\.count {count} is too few for tune\.inner_splits {inner}: "
        rf"use {max(3, inner + 1)} or more"
    )
    with pytest.raises(SettingsError, match=said):
        tiny_run(folds__count=count, tune__inner_splits=inner)
    assert tiny_run(folds__count=count + 1, tune__inner_splits=inner).folds.count == count + 1
    pooled = {"tune__selection": "pooled", "tune__validation": "held_out"}
    assert tiny_run(folds__count=count, tune__inner_splits=inner, **pooled).folds.count == count
