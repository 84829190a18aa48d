"""The options of ``train-photos`` become the settings of a run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from skinray.config.base import to_yaml
from skinray.config.photos import PhotoSettings, photo_recipe
from tests.support.commands import Command


class Shown(str):
    """Results that are shown as they are."""

    __slots__ = ()
    failures: tuple[str, ...] = ()


@pytest.fixture
def handed(monkeypatch: pytest.MonkeyPatch) -> list[PhotoSettings]:
    """Replace the run; record the settings it was called with."""
    from skinray.cluster.train import photos
    from skinray.report.photos import table

    calls: list[PhotoSettings] = []

    def run(
        data: str, public: list[str], out: Path, settings: Any, *, backgrounds: list[Path],
        resume: bool,
    ) -> Shown:  # fmt: skip
        calls.append(settings)
        behind = "".join(f" before {folder}" for folder in backgrounds)
        return Shown(f"{data} after {' and '.join(public)}{behind}")

    monkeypatch.setattr(photos, "train_photos", run)
    monkeypatch.setattr(table, "table_text", lambda results: f"table of {results}")
    return calls


def test_options_become_settings(
    skinray: Command, handed: list[PhotoSettings], tmp_path: Path
) -> None:
    ended = skinray(
        "train-photos", "--data", "ward", "--public", "hgr:HGR", "--public", "faces",
        "--backgrounds", "rooms", "--backgrounds", "clothes",
        "--out", tmp_path / "run", "--recipe", "varied", "--networks", "skin_unet, skin_mobilenet",
        "--epochs", 30, "--pretraining-epochs", 6, "--train", 80, "--test", 200,
        "--members", 5, "--seed", 3, "--workers", "1,2", "--set", "flips=true",
        "--set", "seed=1", "--set", "networks.1.train.epochs=80",
    )  # fmt: skip
    assert ended.code == 0, ended.err
    (settings,) = handed
    assert [(arm.model.name, arm.train.epochs) for arm in settings.networks] == [
        ("skin_unet", 30), ("skin_mobilenet", 80),
    ]  # fmt: skip
    assert (settings.pretraining_epochs, settings.train_images, settings.test_images) == (
        6,
        80,
        200,
    )
    assert (settings.flips, settings.members, settings.seed) == (True, 5, 3)
    assert settings.cluster.workers == (1, 2)
    assert settings.augment == photo_recipe("varied").augment
    assert ended.out.splitlines()[0] == (
        "table of ward after hgr:HGR and faces before rooms before clothes"
    )


def test_a_runs_settings_can_start_another_run(
    skinray: Command, handed: list[PhotoSettings], tmp_path: Path
) -> None:
    kept = photo_recipe("varied").only(["skin_unet", "skin_mobilenet"]).lasting(9)
    (tmp_path / "settings.yaml").write_text(to_yaml(kept), encoding="utf-8")
    words = ["train-photos", "--data", "ward", "--public", "hands", "--recipe"]
    for more in ([], ["--networks", "skin_mobilenet"]):
        ended = skinray(*words, tmp_path / "settings.yaml", "--out", tmp_path / "run", *more)
        assert ended.code == 0, ended.err
    assert handed[0] == kept
    assert handed[1].networks == kept.networks[1:]


def test_by_default_the_papers_three_networks_are_trained(
    skinray: Command, handed: list[PhotoSettings], tmp_path: Path
) -> None:
    ended = skinray("train-photos", "--data", "w", "--public", "h", "--out", tmp_path / "run")
    assert (ended.code, handed) == (0, [PhotoSettings()]), ended.err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--networks", "hed"], "--networks: no network hed: use skin_deeplabv3, "),
        (["--recipe", "best"], "no recipe 'best': use one of paper, varied"),
        (["--networks", "skin_unet", "--set", "networks.1.train.epochs=9"], "networks.1"),
        (["--resume"], "give its folder with --out"),
    ],
)
def test_options_that_make_no_run_are_refused(
    skinray: Command, handed: list[PhotoSettings], words: list[str], said: str
) -> None:
    ended = skinray("train-photos", "--data", "ward", "--public", "hands", *words)
    assert (ended.code, handed) == (1, [])
    assert said in " ".join(ended.err.split())
