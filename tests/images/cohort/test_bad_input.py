"""A check lists every problem of a cohort, whatever is in its folder."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image as Pillow

from skinray.config.biopsies import FoldSettings
from skinray.config.images import ReadSettings
from skinray.images.cohort.check import check_cohort, remarks
from skinray.images.cohort.manifest import read_manifest
from skinray.images.file_errors import FileProblem

SIZE = (30, 40)
FOLDS = FoldSettings(count=2)
HEADER = "image,subject,group,nerves,dermis,boundary,dermis_side,count"


def save(path: Path, array: np.ndarray) -> None:
    Pillow.fromarray(array).save(path)


def sound_rows(root: Path, count: int = 4) -> list[str]:
    rows = []
    for number in range(count):
        rng = np.random.default_rng(number)
        save(root / f"{number}.png", rng.integers(0, 256, (*SIZE, 3), np.uint8))
        nerve, dermis = np.zeros(SIZE, np.uint8), np.zeros(SIZE, np.uint8)
        nerve[:, 10:13] = 255
        dermis[15:] = 255
        save(root / f"n{number}.png", nerve)
        save(root / f"d{number}.png", dermis)
        rows.append(f"{number}.png,s{number},{'AB'[number % 2]},n{number}.png,d{number}.png,,,1")
    return rows


def check(root: Path, rows: list[str], folds: FoldSettings = FOLDS) -> list[FileProblem]:
    (root / "manifest.csv").write_text("\n".join([HEADER, *rows]) + "\n")
    return check_cohort(root, ReadSettings(max_pixels=100_000), folds)


def only(problems: list[FileProblem]) -> str:
    assert len(problems) == 1, [str(problem) for problem in problems]
    assert problems[0].reason
    assert problems[0].remedy
    return str(problems[0])


def test_a_sound_cohort_has_no_problems_and_progress_is_reported(tmp_path):
    rows = sound_rows(tmp_path)
    assert check(tmp_path, rows) == []
    seen: list[tuple[int, int]] = []
    check_cohort(tmp_path, ReadSettings(), FOLDS, progress=lambda *now: seen.append(now))
    assert seen == [(1, 4), (2, 4), (3, 4), (4, 4)]


def truncated(root: Path) -> None:
    path = root / "1.png"
    path.write_bytes(path.read_bytes()[:-50])


def jpeg(root: Path) -> None:
    Pillow.open(root / "1.png").save(root / "1.jpg")
    (root / "1.png").write_bytes((root / "1.jpg").read_bytes()[:-50])


BREAKS = {
    "a mask of another size": (
        lambda root: save(root / "n1.png", np.zeros((15, 20), np.uint8)),
        "row 3, n1.png: mask 20x15 does not match image 40x30 (subject s1): export both",
    ),
    "a missing file": (
        lambda root: (root / "n1.png").unlink(),
        "row 3, 1.png: nerves file 'n1.png' is missing: restore",
    ),
    "an empty file": (
        lambda root: (root / "1.png").write_bytes(b""),
        "row 3, 1.png: image file '1.png' is empty: copy or export it again",
    ),
    "a truncated PNG": (truncated, "row 3, 1.png: truncated PNG"),
    "a truncated JPEG": (jpeg, "row 3, 1.png: truncated JPEG"),
    "a text named .png": (
        lambda root: (root / "1.png").write_text("not an image"),
        "row 3, 1.png: not a PNG, JPEG or TIFF image: export it as",
    ),
    "an image over the limit": (
        lambda root: save(root / "1.png", np.zeros((400, 400), np.uint8)),
        "row 3, 1.png: 400x400 is 0 megapixels, more than the limit",
    ),
    "a label that is text": (
        lambda root: (root / "d1.png").write_text("no image"),
        "row 3, d1.png: not a PNG, JPEG or TIFF image (subject s1)",
    ),
    "an empty nerve label under a count": (
        lambda root: save(root / "n1.png", np.zeros(SIZE, np.uint8)),
        "row 3, 1.png: empty nerve label, but the expert counted 1: export",
    ),
    "an inverted nerve label": (
        lambda root: save(root / "n1.png", 255 - np.array(Pillow.open(root / "n1.png"))),
        "row 3, 1.png: nerve label covers 92% of the image; lines cover a few percent: inver",
    ),
    "a dermis without boundary": (
        lambda root: save(root / "d1.png", np.full(SIZE, 255, np.uint8)),
        "row 3, 1.png: dermis covers 100.0% of the image",
    ),
    "the image of another subject": (
        lambda root: (root / "1.png").write_bytes((root / "0.png").read_bytes()),
        "row 3, 1.png: same pixels as row 2, 0.png, of another subject: keep one",
    ),
}


@pytest.mark.parametrize("case", BREAKS)
def test_one_broken_file_is_one_problem(tmp_path, case):
    damage, expected = BREAKS[case]
    rows = sound_rows(tmp_path)
    damage(tmp_path)
    assert expected in only(check(tmp_path, rows))


ROWS = {
    "1.png,,B,n1.png,d1.png,,,1": "row 3, 1.png: no subject, so the image belongs to no fold",
    "1.png,s1,B,,d1.png,,,1": "row 3, 1.png: no nerve label: enter its file",
    "1.png,s1,B,n1.png,,,,1": "row 3, 1.png: neither a dermis mask nor a boundary line",
    "1.png,s1,B,n1.png,,n1.png,bottom,1": "row 3, n1.png: the line does not separate bottom",
    "1.png,s1,B,n1.png,,curl.geojson,bottom,1": "curl.geojson: the line does not divide the image",
    "1.png,s1,B,n1.png,d1.png,,,many": "row 3, 1.png: count 'many' is not a whole number",
}


@pytest.mark.parametrize("row", ROWS)
def test_one_broken_row_is_one_problem(tmp_path, row):
    rows = sound_rows(tmp_path)
    curl = [[10, 10], [30, 10], [30, 20], [20, 20], [20, 5]]
    (tmp_path / "curl.geojson").write_text(f'{{"type": "LineString", "coordinates": {curl}}}')
    rows[1] = row
    assert ROWS[row] in only(check(tmp_path, rows))


def test_fewer_subjects_than_folds(tmp_path):
    rows = sound_rows(tmp_path)
    message = only(check(tmp_path, rows, FoldSettings(count=5)))
    assert (
        "manifest.csv: 4 subjects cannot fill 5 folds: add subjects or set folds.count" in message
    )
    assert check(tmp_path, rows, FoldSettings(count=4)) == []


def test_a_missing_column_is_one_problem_not_one_per_row(tmp_path):
    sound_rows(tmp_path)
    (tmp_path / "manifest.csv").write_text("image,dermis\n0.png,d0.png\n1.png,d1.png\n")
    told = only(check_cohort(tmp_path, ReadSettings(), FOLDS))
    assert told == (
        "manifest.csv: no image has a nerve label: "
        "add a column nerves with the tracing of each image"
    )
    (tmp_path / "manifest.csv").write_text("picture\n0.png\n")
    assert "column 'image' is missing" in only(check_cohort(tmp_path, ReadSettings(), FOLDS))
    assert "no such folder" in only(check_cohort(tmp_path / "gone", ReadSettings(), FOLDS))


def test_everything_at_once_in_the_order_of_rows(tmp_path):
    rows = sound_rows(tmp_path, 12)
    for number, (damage, _) in enumerate(BREAKS.values()):
        if number < 8:  # each to a row of its own: let the damage fall on 1, then move it
            before = {
                name: (tmp_path / name).read_bytes() for name in ("1.png", "n1.png", "d1.png")
            }
            damage(tmp_path)
            for prefix in ("", "n", "d"):
                source, target = tmp_path / f"{prefix}1.png", tmp_path / f"{prefix}{number + 2}.png"
                if not source.exists():
                    target.unlink()
                elif source.read_bytes() != before[source.name]:
                    target.write_bytes(source.read_bytes())
            for name, data in before.items():
                (tmp_path / name).write_bytes(data)
    problems = check(tmp_path, rows)
    assert [problem.row for problem in problems] == [4, 5, 6, 7, 8, 9, 10, 11]


def test_remarks_are_not_problems(tmp_path):
    rows = sound_rows(tmp_path)
    rows[0] = rows[0].removesuffix("1")
    assert check(tmp_path, rows) == []
    lines = remarks(read_manifest(tmp_path), FoldSettings(count=3))
    assert lines == [
        "group A has 2 subjects: some of the 3 folds will not contain it",
        "group B has 2 subjects: some of the 3 folds will not contain it",
        "1 image without an expert's count: the crossings of the labels are used instead",
    ]


cells = st.sampled_from(
    [
        "",
        "0.png",
        "n0.png",
        "d0.png",
        "gone.png",
        "..",
        "/",
        "-1",
        "nan",
        "1e999",
        "5,5",
        '"',
        ";",
        "\0",
    ]
)


@given(lines=st.lists(st.lists(cells, max_size=9), max_size=5), header=st.booleans())
@settings(deadline=None, max_examples=100)
def test_any_table_is_checked_without_a_crash(tmp_path_factory, lines, header):
    root = tmp_path_factory.getbasetemp() / "any"
    if not root.exists():
        root.mkdir()
        sound_rows(root, 1)
    text = "\n".join([HEADER] * header + [",".join(line) for line in lines])
    (root / "manifest.csv").write_text(text)
    for problem in check_cohort(root, ReadSettings(), FOLDS):
        assert problem.reason
        assert problem.remedy


# what only the whole cohort shows


def test_a_cohort_without_a_single_traced_nerve_is_refused(tmp_path):
    rows = [row.removesuffix("1") for row in sound_rows(tmp_path)]
    for file in tmp_path.glob("n*.png"):
        save(file, np.zeros(SIZE, np.uint8))
    told = only(check(tmp_path, rows))
    assert "no nerve label marks a single pixel: export the tracings again" in told
