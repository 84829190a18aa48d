"""Labels that can be read but cannot be right."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image as Pillow

from skinray.config.biopsies import FoldSettings
from skinray.config.images import ReadSettings
from skinray.images.cohort.check import CheckReport, check_cohort
from skinray.images.cohort.plausible import of_other_polarity, shifted_labels
from skinray.images.phantoms.cohort import write_cohort
from skinray.learning.auto.labels import label_crossings
from tests.support.commands import Command
from tests.support.tiny import read_rows, write_manifest

FOLDS = FoldSettings(count=3)


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("drawn") / "cohort"
    write_cohort(folder, 10, seed=2, size=(320, 256), subjects=5)
    return folder


@pytest.fixture
def cohort(drawn: Path, tmp_path: Path) -> Path:
    return shutil.copytree(drawn, tmp_path / "cohort")


def checked(folder: Path) -> tuple[str, CheckReport]:
    report = CheckReport(label_crossings)
    problems = check_cohort(folder, ReadSettings(), FOLDS, report=report)
    return "\n".join(map(str, problems)), report


def shift(folder: Path, step: int) -> None:
    rows = read_rows(folder)
    moved = [rows[(at + step) % len(rows)] for at in range(len(rows))]
    names = ("nerves", "dermis")
    write_manifest(
        folder,
        [row | {n: other[n] for n in names} for row, other in zip(rows, moved, strict=True)],
    )


def repaint(path: Path, change: Callable[[np.ndarray], np.ndarray]) -> None:
    cv2.imwrite(str(path), change(cv2.imread(str(path), cv2.IMREAD_UNCHANGED)))


def test_a_sound_cohort_is_understood(cohort: Path) -> None:
    problems, report = checked(cohort)
    assert problems == ""
    assert report.notes() == []
    text = report.text()
    assert "10 images of 320x256 px" in text
    assert "5 subjects in 2 groups: control, neuropathy" in text
    assert "scale: 0.5 um per pixel, by the manifest (10 images)" in text
    assert "labels cross" in text
    assert "the expert counted" in text
    assert shifted_labels(report.traces) == ""


@pytest.mark.parametrize("step", [1, -1, 3])
def test_labels_of_other_rows_are_found(cohort: Path, step: int) -> None:
    shift(cohort, step)
    said = shifted_labels(checked(cohort)[1].traces)
    assert "fit their own images no better than other images" in said
    if abs(step) == 1:
        assert f"those of the row {'below' if step < 0 else 'above'} fit better" in said


def test_labels_of_one_framing_say_nothing(cohort: Path) -> None:
    """Where all boundaries lie in one place, each label fits every image."""
    for row in read_rows(cohort):
        image = cv2.imread(str(cohort / row["image"]))
        image[:128], image[128:] = image[:128] // 2, 255 - image[128:] // 4
        cv2.imwrite(str(cohort / row["image"]), image)
        mask = np.zeros(image.shape[:2], np.uint8)
        mask[128:] = 255
        cv2.imwrite(str(cohort / row["dermis"]), mask)
    shift(cohort, 1)
    assert shifted_labels(checked(cohort)[1].traces) == ""


def test_shifted_labels_end_a_check_and_a_training(skinray: Command, cohort: Path) -> None:
    shift(cohort, 1)
    for words in (("check",), ("train-cv", "--out", cohort.parent / "run")):
        ended = skinray(words[0], "--data", cohort, *words[1:])
        assert ended.code == 1
        assert "shifted by a row" in ended.err
        assert "--anyway" in ended.err
    assert not (cohort.parent / "run").exists()


def test_one_dermis_of_other_polarity_is_found(skinray: Command, cohort: Path) -> None:
    rows = read_rows(cohort)
    write_manifest(cohort, [row | {"boundary": "", "dermis_side": ""} for row in rows])
    repaint(cohort / rows[4]["dermis"], lambda mask: 255 - mask)
    odd = of_other_polarity(checked(cohort)[1].traces)
    assert 6 in [biopsy.row for biopsy in odd]
    ended = skinray("check", "--data", cohort)
    assert ended.code == 1
    assert "the dermis label of 1 image seems to mark everything but the dermis (row 6" in ended.err


def test_counts_far_from_the_labels_are_noted_with_the_worst(cohort: Path) -> None:
    rows = read_rows(cohort)
    write_manifest(cohort, [rows[0] | {"count": "50"}, *rows[1:]])
    (note,) = checked(cohort)[1].notes()
    assert "the expert's counts of 1 image are far" in note
    assert f"row 2, {rows[0]['image']}: counted 50, labels cross" in note


@pytest.mark.parametrize("level", [0, 128, 255])
def test_a_blank_image_is_noted(cohort: Path, level: int) -> None:
    rows = read_rows(cohort)
    repaint(cohort / rows[1]["image"], lambda image: np.full_like(image, level))
    notes = checked(cohort)[1].notes()
    assert f"1 image blank, without any tissue (row 3, {rows[1]['image']})" in notes


def test_a_black_end_of_an_image_is_noted(cohort: Path) -> None:
    rows = read_rows(cohort)
    path = cohort / rows[1]["image"]
    repaint(path, lambda image: np.vstack([image[: len(image) // 4 * 3], 0 * image[::4]]))
    notes = " ".join(checked(cohort)[1].notes())
    assert f"1 image black at the bottom (row 3, {rows[1]['image']}: 25%)" in notes


def test_a_line_is_no_dermis(cohort: Path) -> None:
    def outline(mask: np.ndarray) -> np.ndarray:
        return cv2.morphologyEx(mask, cv2.MORPH_GRADIENT, np.ones((5, 5), np.uint8))

    rows = read_rows(cohort)
    write_manifest(cohort, [row | {"boundary": "", "dermis_side": ""} for row in rows])
    repaint(cohort / rows[3]["dermis"], outline)
    assert "row 5" in checked(cohort)[0]
    assert "the dermis label is a line, not an area" in checked(cohort)[0]


def test_empty_and_equal_labels_are_noted(cohort: Path) -> None:
    rows = read_rows(cohort)
    write_manifest(
        cohort,
        [
            row | {"boundary": "", "dermis_side": "", "count": "", "second_count": ""}
            for row in rows
        ],
    )
    for row in rows:
        shutil.copy(cohort / rows[0]["dermis"], cohort / f"{row['dermis']}.part")
        (cohort / f"{row['dermis']}.part").replace(cohort / row["dermis"])
    for row in rows[:2]:
        repaint(cohort / row["nerves"], lambda mask: 0 * mask)
    notes = checked(cohort)[1].notes()
    assert "2 nerve labels without a single line (row 2, row 3)" in notes
    assert "the dermis labels of all 10 images are the same" in notes


def test_noise_is_no_tracing(cohort: Path) -> None:
    rng = np.random.default_rng(0)
    repaint(
        cohort / read_rows(cohort)[2]["nerves"],
        lambda mask: ((rng.random(mask.shape) < 0.03) * 255).astype(np.uint8),
    )
    assert "the nerve label is many specks, not lines" in checked(cohort)[0]


def test_a_nerve_label_above_a_fifth_is_no_tracing(cohort: Path) -> None:
    def filled(mask: np.ndarray) -> np.ndarray:
        out = np.zeros_like(mask)
        out[: int(0.23 * len(out))] = 255
        return out

    repaint(cohort / read_rows(cohort)[2]["nerves"], filled)
    assert "nerve label covers 2" in checked(cohort)[0]


@pytest.mark.parametrize("change", ["jpeg", "darker", "smaller"])
def test_one_picture_under_two_subjects_is_found(cohort: Path, change: str) -> None:
    rows = read_rows(cohort)
    first = next(at for at, row in enumerate(rows) if row["subject"] != rows[0]["subject"])
    image = cv2.imread(str(cohort / rows[0]["image"]))
    height, width = image.shape[:2]
    if change == "jpeg":
        image = cv2.imdecode(cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 60])[1], 1)
    elif change == "darker":
        image = (image * 0.9).astype(np.uint8)
    else:
        image = cv2.resize(cv2.resize(image, (width // 2, height // 2)), (width, height))
    cv2.imwrite(str(cohort / rows[first]["image"]), image)
    said = checked(cohort)[0]
    assert f"nearly the same picture as row 2, {rows[0]['image']}, of another subject" in said


def test_a_scale_that_contradicts_the_file_is_noted(cohort: Path) -> None:
    rows = read_rows(cohort)
    path = cohort / rows[0]["image"]
    from PIL import Image as Pillow

    with Pillow.open(path) as image:
        image.load()
        image.save(path, dpi=(25_400 / 0.25, 25_400 / 0.25))
    (note,) = checked(cohort)[1].notes()
    assert "um_per_px of 1 row differs from what the image file states (row 2: 0.5" in note


def test_a_scale_far_from_the_others_is_noted(cohort: Path) -> None:
    rows = read_rows(cohort)
    write_manifest(cohort, [rows[0] | {"um_per_px": "5"}, *rows[1:]])
    (note,) = checked(cohort)[1].notes()
    assert note.startswith(
        f"um_per_px of 1 image is far from the usual 0.5 (row 2, {rows[0]['image']}: 5)"
    )


def test_lines_of_another_class_are_noted_unless_the_row_names_it(cohort: Path) -> None:
    rows = read_rows(cohort)
    feature = (
        '{"type": "Feature", "properties": {"classification": {"name": "Faser"}}, "geometry": '
        '{"type": "LineString", "coordinates": [[70, 30], [275, 220]]}}'
    )
    (cohort / "nerves/0.geojson").write_text(feature)
    rows[0] |= {"nerves": "nerves/0.geojson", "count": "", "second_count": ""}
    write_manifest(cohort, rows)
    (note,) = checked(cohort)[1].notes()
    assert note.startswith("column nerves: the lines of 1 file are all of class 'Faser'")
    write_manifest(cohort, [row | {"nerves_class": ""} for row in rows])
    rows = read_rows(cohort)
    write_manifest(cohort, [rows[0] | {"nerves_class": "faser"}, *rows[1:]])
    assert not checked(cohort)[1].notes()


def test_lines_in_micrometres_are_noted(cohort: Path) -> None:
    rows = read_rows(cohort)
    for at, row in enumerate(rows):
        path = cohort / "nerves" / f"{at}.geojson"
        # One file of ten is right, and does not hide the others.
        end = 310 if at == 4 else 75
        path.write_text(f'{{"type": "LineString", "coordinates": [[{60 + at}, 30], [{end}, 120]]}}')
        row |= {"nerves": f"nerves/{at}.geojson", "count": ""}
    write_manifest(cohort, [row | {"second_count": ""} for row in rows])
    (note,) = checked(cohort)[1].notes()
    assert "the nerve lines of 9 of 10 GeoJSON files end within 24% of the images' width" in note
    assert "in micrometres" in note


def test_a_boundary_of_a_smaller_copy_is_noted(cohort: Path) -> None:
    rows = read_rows(cohort)
    for at, end in enumerate((320, 160)):
        line = f'{{"type": "LineString", "coordinates": [[0, {end * 0.4}], [{end}, {end * 0.4}]]}}'
        (cohort / f"edge-{at}.geojson").write_text(line)
        rows[at] |= {"dermis": "", "boundary": f"edge-{at}.geojson", "dermis_side": "bottom"}
    write_manifest(cohort, [row | {"count": "", "second_count": ""} for row in rows])
    (note,) = [one for one in checked(cohort)[1].notes() if "boundary" in one]
    assert "the boundary lines of 1 of 2 GeoJSON files end within 50% of the images' width" in note


def test_one_tracing_of_two_images_is_noted(cohort: Path) -> None:
    rows = read_rows(cohort)
    shutil.copy(cohort / rows[3]["nerves"], cohort / rows[4]["nerves"])
    write_manifest(cohort, [row | {"count": "", "second_count": ""} for row in rows])
    (note,) = checked(cohort)[1].notes()
    assert "1 nerve label marking the very pixels of another image's (row 6 as row 5)" in note


def test_a_second_count_far_from_the_labels_is_noted(cohort: Path) -> None:
    rows = read_rows(cohort)
    far = [row | {"second_count": str(10 * int(row["count"]) + 30)} for row in rows]
    write_manifest(cohort, far)
    (note,) = checked(cohort)[1].notes()
    assert "the second expert's counts of 10 images are far from the crossings" in note


def test_images_that_are_stored_turned_are_noted(cohort: Path) -> None:
    rows = read_rows(cohort)
    path = cohort / rows[2]["image"]
    image = Pillow.open(path).convert("RGB").transpose(Pillow.Transpose.ROTATE_180)
    exif = Pillow.Exif()
    exif[274] = 3
    image.save(path, "PNG", exif=exif)
    problems, report = checked(cohort)
    assert problems == ""
    (note,) = report.notes()
    assert f"1 image turned upright, as the file asks (EXIF; row 4, {rows[2]['image']})" in note


@pytest.mark.parametrize(("side", "said"), [("top", "contradict each other"), ("bottom", "")])
def test_a_side_that_contradicts_the_mask_is_found(cohort: Path, side: str, said: str) -> None:
    rows = read_rows(cohort)
    mask = np.zeros((256, 320), np.uint8)
    mask[128:] = 255
    cv2.imwrite(str(cohort / rows[0]["dermis"]), mask)
    (cohort / "edge.geojson").write_text(
        '{"type": "LineString", "coordinates": [[0, 128], [320, 128]]}'
    )
    own = {"boundary": "edge.geojson", "dermis_side": side}
    write_manifest(
        cohort, [rows[0] | own, *(row | {"boundary": "", "dermis_side": ""} for row in rows[1:])]
    )
    problems = checked(cohort)[0]
    assert said in problems
    assert bool(said) == ("dermis mask and the side" in problems)


def test_pictures_of_labels(skinray: Command, cohort: Path) -> None:
    rows = read_rows(cohort)
    (cohort / rows[3]["nerves"]).write_bytes(b"broken")
    out = cohort.parent / "drawn"
    ended = skinray("check", "--data", cohort, "--pictures", out)
    assert ended.code == 1
    page = (out / "index.html").read_text(encoding="utf-8")
    assert page.count("<img") == 9
    assert "not a PNG, JPEG or TIFF image" in page
    assert f"row 2: {rows[0]['image']}, subject {rows[0]['subject']}; 320x256 px" in page
    assert cv2.imread(str(out / "0001.jpg")).shape == (256, 320, 3)
    assert "has files already" in skinray("check", "--data", cohort, "--pictures", out).err


@pytest.mark.real_data
def test_real_tissue_is_not_suspected(real_data: Path, tmp_path: Path) -> None:
    write_cohort(tmp_path / "c", 12, 5, (1024, 512), real_data / "skin_pas_dej")
    problems, report = checked(tmp_path / "c")
    assert "nearly the same" not in problems
    assert shifted_labels(report.traces) == ""
    assert report.notes() == []


def test_a_scale_that_a_spreadsheet_counted_up_is_noted(cohort: Path) -> None:
    rows = read_rows(cohort)
    write_manifest(cohort, [row | {"um_per_px": f"{at + 0.5}"} for at, row in enumerate(rows)])
    scales = [note for note in checked(cohort)[1].notes() if "um_per_px" in note]
    assert any("changes by 1 from row to row (0.5, 1.5, 2.5, ...)" in note for note in scales)


def test_lines_without_a_class_beside_others_are_noted(cohort: Path) -> None:
    rows = read_rows(cohort)
    line = '{"type": "LineString", "coordinates": [[20, 30], [300, 200]]}'
    boundary = (
        '{"type": "Feature", "properties": {"classification": {"name": "Boundary"}}, "geometry": '
        '{"type": "LineString", "coordinates": [[0, 100], [320, 100]]}}'
    )
    plain = f'{{"type": "Feature", "properties": {{}}, "geometry": {line}}}'
    text = f'{{"type": "FeatureCollection", "features": [{boundary}, {plain}]}}'
    (cohort / "nerves" / "plain.geojson").write_text(text)
    rows[0] |= {"nerves": "nerves/plain.geojson", "count": "", "second_count": ""}
    write_manifest(cohort, rows)
    notes = checked(cohort)[1].notes()
    assert any("lines without a class in 1 file are taken for the label" in note for note in notes)
