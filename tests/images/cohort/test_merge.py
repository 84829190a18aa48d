"""Labels merged into a cohort: what is recognised, what is refused, and that nothing is lost."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from skinray.config.biopsies import FoldSettings
from skinray.config.images import ReadSettings
from skinray.errors import CohortError
from skinray.images.cohort.check import check_cohort
from skinray.images.cohort.manifest import load_sample, read_manifest
from skinray.images.cohort.merge import merge_labels
from tests.support.tiny import drawn_sample, read_rows, write_drawn_cohort, write_manifest

READ = ReadSettings()
EARLY, LATE = "2026-01-02T03:04:05+00:00", "2026-02-02T03:04:05+00:00"


@pytest.fixture
def cohort(tmp_path: Path) -> Path:
    """Five subjects, two images each; subjects S0, S2, S4 are of group A."""
    return write_drawn_cohort(tmp_path / "cohort")


def labels(folder: Path, *seeds: int, nerves: int = 2, **cells: Any) -> Path:
    """Write labels as the service does: PNG files named by a hash, and where they come from."""
    rows = []
    for seed in seeds:
        sample = drawn_sample(seed, nerves=1 + seed % 3 if nerves < 0 else nerves)
        name = f"{hashlib.sha256(sample.image.tobytes()).hexdigest()}.png"
        pixels = {
            "images": sample.image[..., ::-1], "nerves": sample.masks["nerve"] * 255,
            "dermis": sample.masks["dermis"] * 255,
        }  # fmt: skip
        for kind, array in pixels.items():
            (folder / kind).mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(folder / kind / name), array)
        rows.append(
            {
                "image": f"images/{name}", "subject": f"images/{name}", "nerves": f"nerves/{name}",
                "dermis": f"dermis/{name}", "count": nerves, "um_per_px": 0.5,
                "source": "corrected", "bundle": "ab" * 32, "reader": "R", "reviewed_at": LATE,
                "original_name": f"{seed}.tif",
            } | cells
        )  # fmt: skip
    write_manifest(folder, rows)
    return folder


def relabelled(cohort: Path, folder: Path, **cells: Any) -> Path:
    """The cohort's first image, in another file format, with another label."""
    labels(folder, 0, nerves=1)
    (row,) = read_rows(folder)
    pixels = cv2.imread(str(cohort / "images" / "00.png"))
    (folder / row["image"]).unlink()
    cv2.imwrite(str(folder / "images" / "first.tif"), pixels)
    (folder / row["nerves"]).write_bytes((cohort / "nerves" / "01.png").read_bytes())
    row |= {"image": "images/first.tif", "subject": "images/first.tif", "count": "2", **cells}
    write_manifest(folder, [row])
    return folder


def everything(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def problems(cohort: Path, made: Path, **options: Any) -> str:
    """The error of a merge, which leaves the cohort as it was."""
    before = everything(cohort)
    with pytest.raises(CohortError) as caught:
        merge_labels(made, cohort, **options)
    assert everything(cohort) == before
    return str(caught.value)


def test_new_images_are_added_with_their_labels(cohort: Path, tmp_path: Path) -> None:
    before = everything(cohort)
    made = labels(tmp_path / "labels", 20, 21)
    done = merge_labels(made, cohort)
    assert (len(done.added), len(done.new), done.replaced, done.refused) == (2, 2, 0, [])
    after = everything(cohort)
    assert {name: after[name] for name in before if name != "manifest.csv"} == {
        name: data for name, data in before.items() if name != "manifest.csv"
    }
    assert after["manifest.csv.before"] == before["manifest.csv"]
    assert not [name for name in after if name.endswith(".part")]
    assert check_cohort(cohort, READ, FoldSettings()) == []
    merged, own = read_manifest(cohort).biopsies, read_manifest(made).biopsies
    assert [biopsy.source for biopsy in merged] == [None] * 10 + ["corrected"] * 2
    for ours, theirs in zip(merged[10:], own, strict=True):
        mine, its = load_sample(ours, READ), load_sample(theirs, READ)
        np.testing.assert_array_equal(mine.image, its.image)
        np.testing.assert_array_equal(mine.masks["nerve"], its.masks["nerve"])
        assert (ours.count, ours.um_per_px) == (2, 0.5)
    assert [row["original_name"] for row in read_rows(cohort)[10:]] == ["20.tif", "21.tif"]


def test_a_known_subject_gives_its_group_to_its_new_image(cohort: Path, tmp_path: Path) -> None:
    done = merge_labels(labels(tmp_path / "labels", 20, subject="S2"), cohort)
    assert (done.added, done.new) == (["S2"], set())
    last = read_manifest(cohort).biopsies[-1]
    assert (last.subject, last.group) == ("S2", "A")


def test_a_subject_of_another_group_or_spelling_is_refused(cohort: Path, tmp_path: Path) -> None:
    said = problems(cohort, labels(tmp_path / "a", 20, subject="S2", group="B"))
    assert "subject S2 is in group B, but in A in the cohort (row 4, images/02.png)" in said
    said = problems(cohort, labels(tmp_path / "b", 20, subject="s2"))
    assert "subject 's2' differs from 'S2' (row 4, images/02.png) in spelling only" in said


def test_the_same_labels_again_change_nothing(cohort: Path, tmp_path: Path) -> None:
    made = labels(tmp_path / "labels", 20, 21)
    merge_labels(made, cohort)
    before = everything(cohort)
    done = merge_labels(made, cohort)
    assert (done.unchanged, done.added, done.former) == (2, [], None)
    assert everything(cohort) == before


@pytest.mark.parametrize("cells", [{"second_count": 4}, {"nerves_class": "255"}])
def test_another_class_or_second_count_is_another_label(
    cohort: Path, tmp_path: Path, cells: dict[str, Any]
) -> None:
    merge_labels(labels(tmp_path / "first", 20, reviewed_at=EARLY), cohort)
    done = merge_labels(labels(tmp_path / "second", 20, **cells), cohort, take_newer=True)
    assert (done.replaced, done.unchanged) == (1, 0)
    ((name, value),) = cells.items()
    assert read_rows(cohort)[-1][name] == str(value)


def test_a_label_without_a_second_count_is_the_same_label(cohort: Path, tmp_path: Path) -> None:
    merge_labels(labels(tmp_path / "first", 20, second_count=4), cohort)
    done = merge_labels(labels(tmp_path / "second", 20), cohort)
    assert (done.unchanged, done.replaced) == (1, 0)
    assert read_rows(cohort)[-1]["second_count"] == "4"


def test_another_label_of_the_same_image_is_an_error_that_names_both(
    cohort: Path, tmp_path: Path
) -> None:
    said = problems(cohort, relabelled(cohort, tmp_path / "labels"))
    assert "row 2, images/first.tif" in said
    assert "(row 2, images/00.png)" in said
    assert "--replace" in said


def test_a_newer_label_replaces_an_older_one_if_asked(cohort: Path, tmp_path: Path) -> None:
    rows = read_rows(cohort)
    write_manifest(cohort, [row | {"second_count": "7", "note": "kept"} for row in rows])
    before = everything(cohort)
    made = relabelled(cohort, tmp_path / "labels")
    done = merge_labels(made, cohort, take_newer=True)
    assert (done.replaced, done.added, done.refused) == (1, [], [])
    first = read_manifest(cohort).biopsies[0]
    assert (first.name, first.subject, first.group) == ("images/00.png", "S0", "A")
    assert (first.count, first.second_count, first.source) == (2, 7, "corrected")
    assert read_rows(cohort)[0]["note"] == "kept"
    traced = load_sample(first, READ).masks["nerve"]
    np.testing.assert_array_equal(traced, drawn_sample(1, nerves=2).masks["nerve"])
    after = everything(cohort)
    assert all(after[name] == before[name] for name in before if name != "manifest.csv")


def test_a_label_that_is_not_newer_is_refused_and_named(cohort: Path, tmp_path: Path) -> None:
    write_manifest(cohort, [row | {"reviewed_at": LATE} for row in read_rows(cohort)])
    before = everything(cohort)
    made = relabelled(cohort, tmp_path / "labels", reviewed_at=EARLY)
    done = merge_labels(made, cohort, take_newer=True)
    assert done.refused == ["images/first.tif (in the cohort: images/00.png)"]
    assert "refused: 1 label, not newer than the cohort's\n    images/first.tif" in done.text()
    assert everything(cohort) == before


@pytest.mark.parametrize(
    ("cells", "said"),
    [
        ({"subject": "S3"}, "of subject S3, but of S0 in the cohort (row 2, images/00.png)"),
        ({"um_per_px": "0.25"}, "0.25 um per pixel, but 0.5 in the cohort (row 2, images/00.png)"),
    ],
)
def test_one_image_has_one_subject_and_one_scale(
    cohort: Path, tmp_path: Path, cells: dict[str, str], said: str
) -> None:
    made = relabelled(cohort, tmp_path / "labels", **cells)
    assert said in problems(cohort, made, take_newer=True)


def test_masks_and_lines_may_stand_in_one_cohort(cohort: Path, tmp_path: Path) -> None:
    rows = read_rows(cohort)
    for row in rows:
        line = np.zeros((96, 128), np.uint8)
        line[47:50] = 255
        name = row.pop("dermis").replace("dermis", "boundary")
        (cohort / "boundary").mkdir(exist_ok=True)
        cv2.imwrite(str(cohort / name), line)
        row |= {"boundary": name, "dermis_side": "bottom"}
    write_manifest(cohort, rows)
    shutil.rmtree(cohort / "dermis")
    merge_labels(labels(tmp_path / "new", 20), cohort)
    merge_labels(relabelled(cohort, tmp_path / "other"), cohort, take_newer=True)
    assert check_cohort(cohort, READ, FoldSettings()) == []
    first, second, *_, last = read_manifest(cohort).biopsies
    for masked in (first, last):
        assert masked.dermis is not None
        assert (masked.boundary, masked.dermis_side) == (None, None)
    assert second.boundary is not None


def test_files_of_the_same_name_are_not_overwritten(cohort: Path, tmp_path: Path) -> None:
    before = everything(cohort)
    made = write_drawn_cohort(tmp_path / "labels", images=3)
    for at, path in enumerate(sorted((made / "images").iterdir())):
        cv2.imwrite(str(path), drawn_sample(30 + at).image[..., ::-1])
    merge_labels(made, cohort)
    after = everything(cohort)
    assert all(after[name] == before[name] for name in before if name != "manifest.csv")
    assert [row["image"] for row in read_rows(cohort)[10:]] == [
        "images/00-2.png", "images/01-2.png", "images/02-2.png",
    ]  # fmt: skip
    assert [row["group"] for row in read_rows(cohort)[10:]] == ["A", "B", "A"]
    assert check_cohort(cohort, READ, FoldSettings()) == []


def test_an_interrupted_merge_is_repeated(cohort: Path, tmp_path: Path, monkeypatch: Any) -> None:
    made = labels(tmp_path / "labels", 20, 21)
    table = (cohort / "manifest.csv").read_bytes()

    def full(*_: Any) -> None:
        raise OSError("no space left")

    with monkeypatch.context() as broken:
        broken.setattr("skinray.images.cohort.merge.write_whole", full)
        with pytest.raises(OSError, match="no space"):
            merge_labels(made, cohort)
    assert (cohort / "manifest.csv").read_bytes() == table
    merge_labels(made, cohort)
    names = [row["image"] for row in read_rows(cohort)[10:]]
    assert names == [row["image"] for row in read_rows(made)]
    assert len(list((cohort / "images").iterdir())) == 12
    # The first attempt had kept the table already; neither copy is overwritten.
    assert [p.read_bytes() for p in cohort.glob("manifest.csv.before*")] == [table, table]


def test_out_leaves_the_cohort_alone(cohort: Path, tmp_path: Path) -> None:
    (cohort / "notes.txt").write_text("not part of the cohort")
    before = everything(cohort)
    out = tmp_path / "new" / "cohort"
    done = merge_labels(labels(tmp_path / "labels", 20), cohort, out)
    assert (done.folder, done.former) == (out, None)
    assert everything(cohort) == before
    assert len(read_manifest(out).biopsies) == 11
    assert check_cohort(out, READ, FoldSettings()) == []
    assert not (out / "notes.txt").exists()
    with pytest.raises(CohortError, match="not empty"):
        merge_labels(tmp_path / "labels", cohort, out)


def test_the_table_keeps_the_form_of_the_labs_spreadsheet(cohort: Path, tmp_path: Path) -> None:
    lines = ["Image;nerves;dermis;count;um_per_px;Ärztin"]
    lines += [
        f"{r['image']};{r['nerves']};{r['dermis']};{r['count']};0,5;ja" for r in read_rows(cohort)
    ]
    (cohort / "manifest.csv").write_text("\r\n".join(lines), encoding="utf-8-sig")
    merge_labels(labels(tmp_path / "labels", 20, um_per_px=0.25), cohort)
    data = (cohort / "manifest.csv").read_bytes()
    assert data.startswith(b"\xef\xbb\xbfimage;nerves;dermis;count;um_per_px;")
    biopsies = read_manifest(cohort).biopsies
    assert [biopsy.um_per_px for biopsy in biopsies] == [0.5] * 10 + [0.25]
    # Without a subject column every image had been a subject of its own, and still is.
    assert [biopsy.subject for biopsy in biopsies] == [biopsy.name for biopsy in biopsies]
    assert data.decode("utf-8-sig").count(";ja;") == 10


def test_an_image_twice_in_the_labels_is_refused(cohort: Path, tmp_path: Path) -> None:
    made = labels(tmp_path / "labels", 20)
    (row,) = read_rows(made)
    for kind in ("images", "nerves", "dermis"):
        (copied,) = (made / kind).iterdir()
        shutil.copy(copied, made / kind / "copy.png")
    names = {"image": "images", "nerves": "nerves", "dermis": "dermis", "subject": "images"}
    again = row | {column: f"{kind}/copy.png" for column, kind in names.items()}
    write_manifest(made, [row, again])
    said = problems(cohort, made)
    assert f"row 3, images/copy.png: the same image as row 2, {row['image']}" in said


def test_a_cohort_is_not_merged_into_itself(cohort: Path) -> None:
    assert "is the cohort itself" in problems(cohort, cohort / "images" / "..")


def test_every_problem_is_listed_at_once(cohort: Path, tmp_path: Path) -> None:
    made = labels(tmp_path / "labels", 20, 21)
    first, second = read_rows(made)
    other = {"subject": "s1", "group": ""}, {"subject": "S0", "group": "B"}
    write_manifest(made, [first | other[0], second | other[1]])
    assert ": 2 problems\n" in problems(cohort, made)
