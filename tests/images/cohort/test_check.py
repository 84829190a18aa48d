from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from PIL import Image

from skinray.config.biopsies import FoldSettings
from skinray.config.images import ReadSettings
from skinray.errors import CohortError
from skinray.images.cohort.check import checked_cohort, remarks
from skinray.images.cohort.manifest import read_manifest
from tests.support.tiny import read_rows, write_manifest

READ, FOLDS = ReadSettings(), FoldSettings()


def test_a_sound_cohort_is_returned_unchanged(tiny_cohort: Path) -> None:
    told: list[tuple[int, int]] = []
    found = checked_cohort(tiny_cohort, READ, FOLDS, progress=lambda *seen: told.append(seen))
    assert found == read_manifest(tiny_cohort)
    assert told == [(done, 10) for done in range(1, 11)]


def test_a_scale_that_only_the_file_has_is_filled_in(tiny_cohort: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(tiny_cohort, tmp_path / "cohort")
    rows = read_rows(folder)
    for at in (2, 3):
        rows[at]["um_per_px"] = ""
    write_manifest(folder, rows)
    for name in ("02.png", "04.png"):  # the manifest has the scale of 04.png
        with Image.open(folder / "images" / name) as picture:
            picture.save(folder / "images" / name, dpi=(101_600, 101_600))  # 0.25 um per pixel
    scales = [biopsy.um_per_px for biopsy in checked_cohort(folder, READ, FOLDS).biopsies]
    assert scales[2] == pytest.approx(0.25, rel=1e-3)
    assert scales[3] is None
    assert set(scales[4:]) == {0.5}


def test_every_problem_is_in_one_error(tiny_cohort: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(tiny_cohort, tmp_path / "cohort")
    (folder / "images" / "02.png").write_text("a note")
    (folder / "nerves" / "05.png").unlink()
    with pytest.raises(CohortError) as caught:
        checked_cohort(folder, READ, FOLDS)
    lines = str(caught.value).splitlines()
    assert lines[0] == f"{folder}: 2 problems"
    assert [line.split(",")[0] for line in lines[1:]] == ["  row 4", "  row 7"]


def test_it_is_said_who_made_the_labels(tiny_cohort: Path, tmp_path: Path) -> None:
    def said(*sources: str) -> list[str]:
        folder = shutil.copytree(tiny_cohort, tmp_path / "-".join(sources), dirs_exist_ok=True)
        rows = read_rows(folder)
        for row, source in zip(rows, [*sources, *["drawn"] * 10], strict=False):
            row["source"] = source
        write_manifest(folder, rows)
        lines = remarks(read_manifest(folder), FOLDS)
        return [line for line in lines if "group" not in line and "count" not in line]

    assert said() == []
    mixed = said("model", "corrected", "corrected", "phantom")
    assert mixed[0] == (
        "3 of 10 labels were pre-drawn by a model: 2 then corrected or reviewed by a person, 1 not"
    )
    assert "may look better" in mixed[1]
    assert "never held out, scored or used to choose settings" in mixed[2]
    assert "1 of 10 images were drawn by skinray" in mixed[3]
    (drawn,) = said(*["phantom"] * 10)
    assert "skinray drew every image" in drawn
