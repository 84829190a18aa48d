from __future__ import annotations

from pathlib import Path

import pytest

from skinray.config.base import from_yaml
from skinray.config.biopsies import RunSettings
from skinray.config.photos import PhotoSettings
from skinray.errors import SettingsError
from skinray.learning.run_folder import OWNER, SETTINGS, claim, refuse_foreign
from tests.support.tiny import tiny_run


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_new_folder_is_taken_with_its_settings(tmp_path: Path) -> None:
    out = tmp_path / "runs" / "first"
    claim(out, tiny_run(), "data", resume=False)
    assert sorted(contents(out)) == [OWNER, SETTINGS]
    assert from_yaml(RunSettings, out / SETTINGS) == tiny_run()


@pytest.mark.parametrize("resume", [True, False])
def test_an_empty_folder_is_free_and_resuming_nothing_begins(tmp_path: Path, resume: bool) -> None:
    claim(tmp_path, tiny_run(), "data", resume=resume)
    assert (tmp_path / OWNER).is_file()


def test_a_run_is_resumed_only_on_request(tmp_path: Path) -> None:
    claim(tmp_path, tiny_run(), "data", resume=False)
    before = contents(tmp_path)
    with pytest.raises(SettingsError, match="holds a run; add --resume, or choose another --out"):
        claim(tmp_path, tiny_run(), "data", resume=False)
    claim(tmp_path, tiny_run(), "data", resume=True)
    assert contents(tmp_path) == before


@pytest.mark.parametrize(
    ("settings", "data"),
    [(tiny_run(seed=1), "data"), (tiny_run(), "other"), (tiny_run(fit__rounds=3), "data")],
)
def test_a_run_of_other_settings_or_data_is_not_taken_up(
    tmp_path: Path, settings: RunSettings, data: str
) -> None:
    claim(tmp_path, tiny_run(), "data", resume=False)
    before = contents(tmp_path)
    with pytest.raises(SettingsError, match=r"other settings or other data .*choose another --out"):
        claim(tmp_path, settings, data, resume=True)
    assert contents(tmp_path) == before


def test_a_run_may_go_on_with_other_machines(tmp_path: Path) -> None:
    claim(tmp_path, tiny_run(cluster__workers=(1, 4)), "data", resume=False)
    more = tiny_run(cluster__workers=4, cluster__gpus_per_worker=1, cluster__max_failures=0)
    claim(tmp_path, more, "data", resume=True)
    assert from_yaml(RunSettings, tmp_path / SETTINGS) == more


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({}, {"cluster__workers": 4}),
        ({"cluster__workers": 4}, {"cluster__workers": 1}),
        ({"cluster__workers": 4}, {"cluster__workers": 4, "cluster__learning_rate_rule": "sqrt"}),
    ],
)
def test_a_run_whose_steps_had_another_size_or_rate_is_not_taken_up(
    tmp_path: Path, before: dict[str, object], after: dict[str, object]
) -> None:
    claim(tmp_path, tiny_run(**before), "data", resume=False)
    with pytest.raises(SettingsError, match="other settings or other data"):
        claim(tmp_path, tiny_run(**after), "data", resume=True)


def test_a_run_on_photographs_may_go_on_with_more_rows_and_no_other_training(
    tmp_path: Path,
) -> None:
    claim(tmp_path, PhotoSettings(), "data", resume=False)
    claim(
        tmp_path,
        PhotoSettings().override({"flips": True, "members": 5, "skin.refine": True}),
        "data",
        resume=True,
    )
    with pytest.raises(SettingsError, match="other settings"):
        claim(tmp_path, PhotoSettings(fine_tuning_factor=0.5), "data", resume=True)


def test_a_folder_without_a_run_is_not_touched(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    for resume in (True, False):
        with pytest.raises(SettingsError, match="not empty and not a run"):
            claim(tmp_path, tiny_run(), "data", resume=resume)
    assert contents(tmp_path) == {"thesis.txt": b"years of work"}


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    out = tmp_path / "file"
    out.write_text("text")
    with pytest.raises(SettingsError, match="is a file; choose another --out"):
        claim(out, tiny_run(), "data", resume=False)


def test_a_folder_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("text")
    with pytest.raises(SettingsError, match=r"cannot be written \(Not a directory\)"):
        claim(tmp_path / "file" / "run", tiny_run(), "data", resume=False)


def test_a_claim_that_was_cut_short_is_no_hindrance(tmp_path: Path) -> None:
    (tmp_path / SETTINGS).write_text("recipe: cut")
    claim(tmp_path, tiny_run(), "data", resume=False)
    assert from_yaml(RunSettings, tmp_path / SETTINGS) == tiny_run()


def test_looking_writes_nothing(tmp_path: Path) -> None:
    refuse_foreign(tmp_path / "new", resume=False)
    assert list(tmp_path.iterdir()) == []
