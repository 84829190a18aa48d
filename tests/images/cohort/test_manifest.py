"""The table of a cohort: what laboratories write, and how it is read."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Pillow

from skinray.config.images import ReadSettings
from skinray.errors import CohortError, LabelError
from skinray.images.cohort.manifest import fingerprint, load_sample, read_manifest
from skinray.images.file_errors import counted
from skinray.images.read import read_image

SIZE = (24, 32)
READ = ReadSettings()


def save(path: Path, array: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Pillow.fromarray(array).save(path)


def files(root: Path, count: int = 2, size: tuple[int, int] = SIZE) -> None:
    """Images 0.png ..., nerve masks n0.png ..., dermis masks d0.png ..."""
    for number in range(count):
        rng = np.random.default_rng(number)
        save(root / f"{number}.png", rng.integers(0, 256, (*size, 3), np.uint8))
        nerve, dermis = np.zeros(size, np.uint8), np.zeros(size, np.uint8)
        nerve[:, 5 + number : 8 + number] = 255
        dermis[size[0] // 2 :] = 1
        save(root / f"n{number}.png", nerve)
        save(root / f"d{number}.png", dermis)


def table(root: Path, text: str, encoding: str = "utf-8") -> Path:
    (root / "manifest.csv").write_bytes(text.encode(encoding))
    return root


FULL = """image,subject,group,nerves,dermis,count,second_count,um_per_px,age
0.png,07,HIV,n0.png,d0.png,3,4,0.5,61
1.png,08,,n1.png,d1.png,,,,
"""


def test_every_column_is_read(tmp_path):
    files(tmp_path)
    first, second = read_manifest(table(tmp_path, FULL)).biopsies
    assert (first.name, first.subject, first.group, first.row) == ("0.png", "07", "HIV", 2)
    assert (first.image, first.nerves) == (tmp_path / "0.png", tmp_path / "n0.png")
    assert (first.count, first.second_count, first.um_per_px) == (3, 4, 0.5)
    assert (second.group, second.count, second.um_per_px, second.row) == (None, None, None, 3)


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        (FULL, "utf-8-sig"),
        (FULL, "utf-16"),
        (FULL.replace(",", "\t"), "utf-8"),
        (FULL.replace("0.5", "0,5").replace(",", ";").replace("0;5", "0,5"), "utf-8"),
        (FULL.replace("\n", "\r\n"), "utf-8"),
        (FULL.replace(",", " , "), "utf-8"),
        (FULL.replace("image,subject", "Image,SUBJECT"), "utf-8"),
        (FULL.replace(",3,4,", ",3.0,4.0,") + "\n,,,,,,,,\n\n", "utf-8"),
        (FULL.replace("0.png,07", './0.png,"07"'), "utf-8"),
    ],
)
def test_the_same_table_in_other_formats(tmp_path, text, encoding):
    files(tmp_path)
    expected = read_manifest(table(tmp_path, FULL))
    assert read_manifest(table(tmp_path, text, encoding)) == expected


def test_without_a_subject_column_each_image_is_its_own_subject(tmp_path):
    files(tmp_path)
    cohort = read_manifest(table(tmp_path, "image\n0.png\n1.png\n"))
    assert [biopsy.subject for biopsy in cohort.biopsies] == ["0.png", "1.png"]


def test_backslashes_and_subfolders(tmp_path):
    files(tmp_path / "scans")
    (biopsy,) = read_manifest(table(tmp_path, "image\nscans\\0.png\n")).biopsies
    assert biopsy.name == "scans/0.png"
    assert biopsy.image.is_file()


def problems_of(root: Path) -> list[str]:
    with pytest.raises(CohortError) as caught:
        read_manifest(root)
    head, *lines = str(caught.value).split("\n")
    assert head == f"{root}: {counted(len(lines), 'problem')}"
    for line in lines:
        assert line.count(": ") >= 2  # place: reason: remedy
    return [line.strip() for line in lines]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "manifest.csv: empty: add a header"),
        ("\n\n", "manifest.csv: empty: add a header"),
        ("image\n", "manifest.csv: no rows below the header: add one row"),
        ("subject,group\n1,2\n", "row 1, manifest.csv: column 'image' is missing: add it"),
        (
            "image,image\n0.png,1.png\n",
            "row 1, manifest.csv: column 'image' appears more than once: keep",
        ),
        ("image,subjct\n0.png,1\n", "unknown column 'subjct': rename it to 'subject'"),
        ("image,subject\n0.png,1,2\n", "row 2, manifest.csv: 3 cells under 2 columns: put quotes"),
        ('image\n"0.png\n', "manifest.csv: not a valid CSV table"),
        ("image,subject\n0.png,\n", "row 2, 0.png: no subject, so the image belongs to no fold"),
        ("image,subject\n,7\n", "row 2, (no image): no image: enter"),
        ("image\n9.png\n", "row 2, 9.png: image file '9.png' is missing: restore"),
        ("image\nempty.png\n", "row 2, empty.png: image file 'empty.png' is empty: copy"),
        ("image\n.\n", "row 2, .: image file '.' is missing"),
        ("image\n0.png\n./0.png\n", "row 3, ./0.png: image file '0.png' is also in row 2"),
        ("image\n/etc/passwd\n", "image path '/etc/passwd' leaves the cohort folder: give a path"),
        ("image\n../0.png\n", "image path '../0.png' leaves the cohort folder"),
        ("image\nC:\\x\\0.png\n", "image path 'C:\\x\\0.png' leaves the cohort folder"),
        ("image\n" + "n" * 5000 + "\n", "image path cannot be used"),
        ("image,count\n0.png,3.5\n", "row 2, 0.png: count '3.5' is not a whole number of 0"),
        ("image,count\n0.png,-1\n", "count '-1' is not a whole number"),
        ("image,count\n0.png,three\n", "count 'three' is not a whole number"),
        ("image,count\n0.png,inf\n", "count 'inf' is not a whole number"),
        (
            "image,um_per_px\n0.png,0\n",
            "um_per_px '0' is not a number of micrometres from 0.01 to 20",
        ),
        ("image,um_per_px\n0.png,500\n", "um_per_px '500' is not a number of micrometres"),
        ("image,um_per_px\n0.png,half\n", "um_per_px 'half' is not a number"),
        ("image,um_per_px\n0.png,1_0\n", "um_per_px '1_0' is not a number"),
        ("image,count\n0.png,1_0\n", "count '1_0' is not a whole number"),
        ("image,boundary\n0.png,n0.png\n", "row 2, 0.png: a boundary line without dermis_side"),
        (
            "image,dermis_side\n0.png,inside\n",
            "dermis_side 'inside' is not top, bottom, left, right",
        ),
        (
            "image,nerves\n0.png,n0.png\n1.png,n0.png\n",
            "row 3, 1.png: nerves file 'n0.png' is also",
        ),
        (
            "image,subject,group\n0.png,7,A\n1.png,7,B\n",
            "row 3, 1.png: subject 7 is in several groups",
        ),
    ],
)
def test_problems_of_a_table(tmp_path, text, expected):
    files(tmp_path)
    (tmp_path / "empty.png").touch()
    lines = problems_of(table(tmp_path, text))
    assert any(expected in line for line in lines), lines
    assert len(lines) == 1


def test_a_table_that_is_not_text(tmp_path):
    (tmp_path / "manifest.csv").write_bytes(b"image\n\xe9t\xe9.png\n")
    assert "manifest.csv: not UTF-8 text" in problems_of(tmp_path)[0]
    assert "no such folder" in problems_of(tmp_path / "gone")[0]
    (tmp_path / "manifest.csv").unlink()
    assert "manifest.csv: missing: add a table" in problems_of(tmp_path)[0]


def test_every_problem_is_listed_in_the_order_of_rows(tmp_path):
    files(tmp_path)
    text = "image,subject,nerves,count\n0.png,,gone.png,x\n1.png,8,n1.png,1\n../2.png,9,,-1\n"
    lines = problems_of(table(tmp_path, text))
    assert [line.split(",")[0] for line in lines] == ["row 2"] * 3 + ["row 4"] * 2


def test_a_sample_holds_the_image_and_two_masks_of_0_and_1(tmp_path):
    files(tmp_path)
    biopsy = read_manifest(table(tmp_path, FULL)).biopsies[0]
    sample = load_sample(biopsy, READ)
    assert sample.shape == SIZE
    assert np.array_equal(sample.image, read_image(biopsy.image).pixels)
    assert sample.masks["nerve"].dtype == sample.masks["dermis"].dtype == np.uint8
    assert sample.masks["nerve"].sum() == 3 * 24
    assert np.array_equal(sample.masks["dermis"][:, 0], [0] * 12 + [1] * 12)


def test_the_dermis_comes_from_the_boundary_where_there_is_no_mask(tmp_path):
    files(tmp_path)
    (tmp_path / "b.geojson").write_text('{"type": "LineString", "coordinates": [[0, 9], [32, 9]]}')
    text = "image,nerves,boundary,dermis_side\n0.png,n0.png,b.geojson,bottom\n"
    (biopsy,) = read_manifest(table(tmp_path, text)).biopsies
    assert np.array_equal(load_sample(biopsy, READ).masks["dermis"][:, 4], [0] * 9 + [1] * 15)


def test_a_label_of_another_size_names_subject_and_sizes(tmp_path):
    files(tmp_path)
    save(tmp_path / "n0.png", np.zeros((12, 16), np.uint8))
    biopsy = read_manifest(table(tmp_path, FULL)).biopsies[0]
    message = (
        "mask 16x12 does not match image 32x24 (subject 07): export both at the same magnification"
    )
    with pytest.raises(LabelError) as caught:
        load_sample(biopsy, READ)
    assert str(caught.value) == f"{tmp_path / 'n0.png'}: {message}"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("image,dermis\n0.png,d0.png\n", "0.png: no nerve label: enter its file"),
        ("image,nerves\n0.png,n0.png\n", "neither a dermis mask nor a boundary line"),
    ],
)
def test_a_sample_without_labels_is_an_error(tmp_path, text, reason):
    files(tmp_path)
    (biopsy,) = read_manifest(table(tmp_path, text)).biopsies
    with pytest.raises(LabelError, match=reason):
        load_sample(biopsy, READ)


def test_the_fingerprint_changes_with_the_content_and_nothing_else(tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    for root in (one, two):
        files(root)
        table(root, FULL)
    first = fingerprint(read_manifest(one))
    assert len(first) == 64
    assert fingerprint(read_manifest(two)) == first
    header, *rows = FULL.strip().split("\n")
    table(two, "\n".join([header, *rows[::-1]]))
    assert fingerprint(read_manifest(two)) == first
    for old, new in (("07", "09"), ("HIV", "control"), (",3,", ",5,"), ("n1.png", "")):
        table(two, FULL.replace(old, new))
        assert fingerprint(read_manifest(two)) != first
    table(two, FULL)
    save(two / "n0.png", np.zeros(SIZE, np.uint8))
    assert fingerprint(read_manifest(two)) != first


# who made a label


def test_the_source_of_each_label_is_read(tmp_path):
    files(tmp_path, 4)
    rows = ["0.png,Drawn", "1.png,model", "2.png,corrected", "3.png,"]
    cohort = read_manifest(table(tmp_path, "\n".join(["image,source", *rows])))
    assert [biopsy.source for biopsy in cohort.biopsies] == ["drawn", "model", "corrected", None]
    assert [biopsy.is_scored for biopsy in cohort.biopsies] == [True, False, True, True]
    assert cohort.of("corrected", "model") == 2


def test_an_unknown_source_is_refused_with_the_known_ones(tmp_path):
    files(tmp_path)
    text = "image,source\n0.png,Ward 3\n1.png,drawn\n"
    with pytest.raises(CohortError) as caught:
        read_manifest(table(tmp_path, text))
    assert "row 2, 0.png: source 'Ward 3' is not one of drawn, corrected, model, phantom" in str(
        caught.value
    )
    assert "rename the column" in str(caught.value)


def test_a_misspelt_source_would_be_missed_and_a_lab_s_own_columns_are_not(tmp_path):
    files(tmp_path)
    rows = "0.png,{0},{0}\n1.png,{0},{0}\n".format("model")
    with pytest.raises(CohortError, match="rename it to 'source'"):
        read_manifest(table(tmp_path, f"image,sourse,x\n{rows}"))
    assert len(read_manifest(table(tmp_path, f"image,reader1,bundles\n{rows}")).biopsies) == 2


def test_a_cohort_is_synthetic_only_if_every_image_is_drawn(tmp_path):
    files(tmp_path)
    for sources, synthetic in (("phantom phantom", True), ("phantom drawn", False)):
        rows = [f"{at}.png,{source}" for at, source in enumerate(sources.split())]
        cohort = read_manifest(table(tmp_path, "\n".join(["image,source", *rows])))
        assert cohort.synthetic is synthetic


def test_the_fingerprint_knows_who_made_a_label(tmp_path):
    files(tmp_path)
    plain = fingerprint(read_manifest(table(tmp_path, FULL)))
    lines = FULL.splitlines()

    def with_source(first, second):
        rows = [f"{lines[0]},source", f"{lines[1]},{first}", f"{lines[2]},{second}"]
        return fingerprint(read_manifest(table(tmp_path, "\n".join(rows))))

    assert with_source("", "") == plain
    assert with_source("", "model") != plain
