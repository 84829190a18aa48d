"""Labels that cannot be right: `skinray train-cv` says what is wrong with them."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import cv2
import pytest

from skinray.images.phantoms.cohort import write_cohort
from tests.support.commands import Command
from tests.support.tiny import read_rows, write_manifest

IMAGES = 10


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("drawn") / "cohort"
    write_cohort(folder, IMAGES, seed=2, size=(320, 256), subjects=5)
    return folder


def _nothing_traced(folder: Path) -> None:
    rows = read_rows(folder)
    for row in rows:
        _repaint(folder / row["nerves"], lambda mask: 0 * mask)
    # Experts who count nothing agree with tracings of nothing.
    write_manifest(folder, [row | {"count": "0", "second_count": ""} for row in rows])


def _classes_swapped(folder: Path) -> None:
    rows = read_rows(folder)
    swapped = [row | {"nerves": row["dermis"], "dermis": row["nerves"]} for row in rows]
    write_manifest(folder, swapped)


def _dermis_inverted(folder: Path) -> None:
    # A boundary line in the row would contradict the mask, which is said before.
    rows = [row | {"boundary": "", "dermis_side": ""} for row in read_rows(folder)]
    write_manifest(folder, rows)
    for row in read_rows(folder):
        _repaint(folder / row["dermis"], lambda mask: 255 - mask)


def _one_image_repeated(folder: Path) -> None:
    rows = read_rows(folder)
    for at, row in enumerate(rows[1:], 1):
        for kind in ("image", "nerves", "dermis"):
            shutil.copy(folder / rows[0][kind], folder / row[kind])
        rows[at] = row | {"count": rows[0]["count"]}
    write_manifest(folder, rows)


def _one_subject(folder: Path) -> None:
    write_manifest(folder, [row | {"subject": "S1", "group": ""} for row in read_rows(folder)[:6]])


def _repaint(path: Path, change: Callable[[cv2.typing.MatLike], cv2.typing.MatLike]) -> None:
    cv2.imwrite(str(path), change(cv2.imread(str(path), cv2.IMREAD_UNCHANGED)))


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (_nothing_traced, "no nerve label marks a single pixel: export the tracings again"),
        (_classes_swapped, "nerve label covers"),
        (_dermis_inverted, "invert the dermis labels; if they are right, repeat with --anyway"),
        (_one_image_repeated, "same pixels as row"),
        (_one_subject, "1 subject cannot fill 3 folds"),
    ],
)
def test_the_run_ends_before_it_begins(
    skinray: Command,
    without_ray: None,
    drawn: Path,
    tmp_path: Path,
    spoil: Callable[[Path], None],
    said: str,
) -> None:
    folder = shutil.copytree(drawn, tmp_path / "cohort")
    spoil(folder)
    ended = skinray("train-cv", "--data", folder, "--out", tmp_path / "run")
    assert ended.code == 1
    assert said in ended.err
    assert not (tmp_path / "run").exists()


def test_labels_that_the_starter_contradicts_are_planned_for_if_one_insists(
    skinray: Command, drawn: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(drawn, tmp_path / "cohort")
    _dermis_inverted(folder)
    checked = skinray("check", "--data", folder)
    assert checked.code == 1
    assert "invert the dermis labels" in checked.err
    words = ("train-cv", "--data", folder, "--out", tmp_path / "run", "--plan-only", "--anyway")
    assert skinray(*words).code == 0
    assert (tmp_path / "run" / "settings.yaml").is_file()
