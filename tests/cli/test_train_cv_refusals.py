"""What `skinray train-cv` refuses before Ray starts and before a file is written."""

from __future__ import annotations

import json
import pickle
import shutil
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.support.commands import Command, everything_below
from tests.support.tiny import read_rows, write_manifest

TWO_SIDED_LINE = {
    "type": "Feature", "properties": {},
    "geometry": {"type": "LineString", "coordinates": [[0, 48], [128, 48]]},
}  # fmt: skip
LOOSE_LINE = {
    "type": "Feature", "properties": {},
    "geometry": {"type": "LineString", "coordinates": [[50, 48], [60, 48]]},
}  # fmt: skip


def damaged(cohort: Path, kind: str) -> None:
    """Damage a cohort in one way."""
    rows = read_rows(cohort)
    image = cohort / "images" / "03.png"
    if kind == "mask of another size":
        shutil.copy(cohort / "nerves" / "04.png", cohort / "nerves" / "03.png")
        crop(cohort / "nerves" / "03.png", (60, 80))
    elif kind == "truncated JPEG":
        write_half_jpeg(cohort / "images" / "03.jpg")
        rows[3]["image"] = "images/03.jpg"
    elif kind == "text named .png":
        image.write_text("a note")
    elif kind == "empty file":
        image.write_bytes(b"")
    elif kind == "missing file":
        image.unlink()
    elif kind == "no manifest":
        (cohort / "manifest.csv").unlink()
        return
    elif kind == "no column image":
        rows = [{k: v for k, v in row.items() if k != "image"} for row in rows]
    elif kind == "no column nerves":
        rows = [{k: v for k, v in row.items() if k != "nerves"} for row in rows]
    elif kind == "a subject in no fold":
        rows[3]["subject"] = ""
    elif kind == "fewer subjects than folds":
        for row in rows:
            row["subject"], row["group"] = "S" + str(int(row["subject"][1:]) % 2), "A"
        rows.pop()
    elif kind == "a line that does not divide the image":
        for row in rows:
            row["dermis"], row["dermis_side"] = "", "bottom"
            row["boundary"] = f"{Path(row['image']).stem}.geojson"
            line = LOOSE_LINE if row is rows[3] else TWO_SIDED_LINE
            (cohort / row["boundary"]).write_text(json.dumps(line))
    elif kind == "the same image twice":
        shutil.copy(cohort / "images" / "04.png", image)
    write_manifest(cohort, rows)


def crop(path: Path, shape: tuple[int, int]) -> None:
    with Image.open(path) as picture:
        picture.crop((0, 0, shape[1], shape[0])).save(path)


def write_half_jpeg(path: Path) -> None:
    with Image.open(path.with_suffix(".png")) as picture:
        picture.save(path, "JPEG")
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        (
            "mask of another size",
            ["row 5", "nerves/03.png", "mask 80x60 does not match image 128x96"],
        ),
        ("truncated JPEG", ["row 5, images/03.jpg"]),
        ("text named .png", ["row 5, images/03.png"]),
        ("empty file", ["row 5, images/03.png", "is empty", "copy or export it again"]),
        ("missing file", ["row 5, images/03.png", "is missing", "restore it or correct the path"]),
        ("no manifest", ["manifest.csv"]),
        ("no column image", ["manifest.csv", "image"]),
        ("no column nerves", ["no image has a nerve label", "add a column nerves"]),
        ("a subject in no fold", ["row 5", "no subject, so the image belongs to no fold"]),
        ("fewer subjects than folds", ["2 subjects cannot fill 3 folds", "add subjects"]),
        ("a line that does not divide the image", ["row 5, 03.geojson", "the line is too short"]),
        ("the same image twice", ["row 6, images/04.png", "same pixels as row 5"]),
    ],
)
def test_a_damaged_cohort_is_refused_before_ray_starts(
    skinray: Command, without_ray: None, cohort: Path, kind: str, said: list[str]
) -> None:
    damaged(cohort, kind)
    before = everything_below(cohort.parent)
    ended = skinray("train-cv", "--data", cohort, "--out", cohort.parent / "run")
    assert ended.code == 1
    assert ended.err.startswith(f"error: {cohort}: ")
    assert " problem" in ended.err
    for text in said:
        assert text in ended.err, text
    assert len(ended.err.splitlines()) == 2
    assert everything_below(cohort.parent) == before


class _Evil:
    """Creates a file when its pickle is read."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.mark,)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--recipe", "papre"], "no recipe 'papre': use one of demo, paper, real-tissue"),
        (["--recipe", "absent.yaml"], "absent.yaml: cannot be read"),
        (["--set", "nerve.main.train.lr=1"], "unknown settings key 'nerve.main.train.lr': use one"),
        (["--set", "sead=1"], "unknown settings key 'sead'"),
        (["--set", "seed"], "--set 'seed': write path.to.setting=VALUE"),
        (["--set", "=1"], "write path.to.setting=VALUE"),
        (["--set", "seed=[1"], "--set 'seed=[1': the value is not YAML (line 1, column 3: "),
        (["--set", "seed=minus"], "seed: Input should be a valid integer"),
        (["--fold-unit", "slide"], "folds.unit: Input should be 'subject' or 'image'"),
        (
            ["--set", "folds.count=2"],
            "tune.inner_splits 2: use 3 or more folds, or tune.selection=",
        ),
        (
            ["--set", "tune.inner_splits=5"],
            "folds.count 5 is too few for tune.inner_splits 5: use 6",
        ),
        (["--set", "tune.validation=held_out"], "use tune.selection=pooled"),
        (["--set", "folds.components_held_out=10"], "cannot hold out 10 of 10 images"),
        (
            ["--set", "nerve.main.model.name=hedd"],
            "nerve HED from the starter: unknown model 'hedd'",
        ),
        (["--set", "nerve.main.model.options.wide=2"], "model 'hed' has no option wide"),
        (["--set", "dermis.main.train.side_weight=1"], "has no side outputs"),
        (["--set", "nerve.main.grid={train.lr: [1, 2]}"], "unknown settings key 'train.lr'"),
        (["--set", "nerve.main.model.weights=hed_bsds500"], "`skinray weights fetch hed_bsds500`"),
        (["--set", "nerve.main.model.weights=absent.pt"], "absent.pt is neither a file nor"),
    ],
)
def test_settings_that_do_not_fit_are_refused_before_ray_starts(
    skinray: Command, without_ray: None, cohort: Path, monkeypatch: pytest.MonkeyPatch,
    words: list[str], said: str,
) -> None:  # fmt: skip
    monkeypatch.setenv("SKINRAY_CACHE", str(cohort.parent / "cache"))
    before = everything_below(cohort.parent)
    ended = skinray("train-cv", "--data", cohort, "--out", cohort.parent / "run", *words)
    assert ended.code == 1, ended.err
    assert ended.err.startswith("error: ")
    assert said in ended.err
    assert len(ended.err.splitlines()) <= 2
    assert everything_below(cohort.parent) == before


@pytest.mark.parametrize("name", ["evil.pth", "evil.safetensors"])
def test_a_pickle_for_weights_is_not_read(
    skinray: Command, without_ray: None, cohort: Path, name: str
) -> None:
    mark, path = cohort.parent / "the code ran", cohort.parent / name
    path.write_bytes(pickle.dumps(_Evil(mark), protocol=2))
    before = everything_below(cohort.parent)
    words = ["--set", f"nerve.main.model.weights={path}"]
    ended = skinray("train-cv", "--data", cohort, "--out", cohort.parent / "run", *words)
    assert ended.code == 1
    assert f"{path}: " in ended.err
    assert len(ended.err.splitlines()) == 1
    assert everything_below(cohort.parent) == before


def test_a_pickle_is_not_imported(
    skinray: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SKINRAY_CACHE", str(tmp_path / "cache"))
    path = tmp_path / "evil.pt"
    path.write_bytes(pickle.dumps(_Evil(tmp_path / "the code ran"), protocol=2))
    ended = skinray("weights", "import", "unet_lgg", path)
    assert ended.code == 1
    assert ended.err.startswith(f"error: {path}: ")
    assert everything_below(tmp_path) == {path}


def test_resuming_needs_a_folder(skinray: Command, without_ray: None, cohort: Path) -> None:
    ended = skinray("train-cv", "--data", cohort, "--resume")
    assert (ended.code, "give its folder" in ended.err) == (1, True)


@pytest.mark.parametrize("data", [True, False])
def test_a_strangers_folder_is_refused_before_anything_is_drawn(
    skinray: Command, without_ray: None, cohort: Path, data: bool
) -> None:
    out = cohort.parent / "run"
    out.mkdir()
    (out / "thesis.txt").write_text("years of work")
    before = everything_below(cohort.parent)
    words = ["--data", cohort] if data else []
    ended = skinray("train-cv", "--out", out, *words)
    assert ended.code == 1
    assert "not empty and not a run; choose another --out" in ended.err
    assert everything_below(cohort.parent) == before
