"""Manifests and tracings as people hand them in: read, refused, or noted."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from skinray.config.biopsies import FoldSettings
from skinray.config.images import ReadSettings
from skinray.errors import CohortError, LabelError
from skinray.images.cohort.check import check_cohort, remarks
from skinray.images.cohort.csv_table import plain_name, spelling_key
from skinray.images.cohort.labels import read_boundary, read_nerves
from skinray.images.cohort.manifest import (
    fingerprint,
    load_dermis,
    load_nerves,
    load_sample,
    read_manifest,
)
from skinray.images.cohort.scan import scan_cohort
from skinray.scoring.overlays import encode_png

HEADER = "image,subject,group,nerves,dermis,count,um_per_px"
ROWS = [f"images/{at}.png,S{at},A,nerves/{at}.png,dermis/{at}.png,{at},0.5" for at in range(4)]
SHAPE = (40, 60)
READ = ReadSettings()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for kind in ("images", "nerves", "dermis"):
        (tmp_path / kind).mkdir()
        for at in range(4):
            mask = np.zeros(SHAPE, np.uint8)
            mask[20 + at :] = 255
            (tmp_path / kind / f"{at}.png").write_bytes(encode_png(mask))
    return tmp_path


def write(folder: Path, header: str = HEADER, rows: list[str] = ROWS) -> Path:
    (folder / "manifest.csv").write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")
    return folder


def refused(folder: Path) -> str:
    with pytest.raises(CohortError) as caught:
        read_manifest(folder)
    return str(caught.value)


def notes(folder: Path) -> str:
    return "\n".join(remarks(read_manifest(folder), FoldSettings(count=3)))


# The form of the table


@pytest.mark.parametrize("separator", [",", ";", "\t"])
@pytest.mark.parametrize("line", ["", "sep={}\n", "SEP={}\r\n"])
def test_separators_and_lines_that_name_them(folder: Path, separator: str, line: str) -> None:
    text = "\n".join([HEADER, *ROWS]).replace(",", separator)
    (folder / "manifest.csv").write_text(line.format(separator) + text, encoding="utf-8")
    cohort = read_manifest(folder)
    assert [biopsy.count for biopsy in cohort.biopsies] == [0, 1, 2, 3]
    assert cohort.biopsies[0].row == 2


@pytest.mark.parametrize("separator", ["|", ":", "^"])
def test_another_separator_is_named(folder: Path, separator: str) -> None:
    text = "\n".join([HEADER, *ROWS]).replace(",", separator)
    (folder / "manifest.csv").write_text(text, encoding="utf-8")
    assert f"cells are separated by '{separator}'" in refused(folder)


@pytest.mark.parametrize("title", ["# exported 2024", "Study 7;;;", "", "Biopsies,of,the,ward"])
@pytest.mark.parametrize("lines", [1, 3])
def test_rows_above_the_header_are_named(folder: Path, title: str, lines: int) -> None:
    write(folder, "\n".join([title or ","] * lines + [HEADER]))
    assert f"row 1 is not the header; row {lines + 1} is: delete the rows above it" in refused(
        folder
    )


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"PK\x03\x04rest", "an Excel workbook"),
        (b"\xd0\xcf\x11\xe0rest", "an Excel workbook"),
        (b"\x1f\x8b\x08rest", "compressed with gzip"),
        (b"<html><body>", "a web page or XML"),
        (b'{"image": 1}', "JSON, not a CSV table"),
        (b"version https://git-lfs.github.com/spec/v1", "a Git LFS pointer"),
        (f"{HEADER}\nimages/0.png,S\0,A".encode(), "a NUL character in line 2"),
        (f"{HEADER}\n".encode("utf-16-le"), "a NUL character in line 1"),
    ],
)
def test_what_is_no_table_is_named(folder: Path, data: bytes, said: str) -> None:
    (folder / "manifest.csv").write_bytes(data)
    assert said in refused(folder)


@pytest.mark.parametrize(
    ("column", "meant"),
    [
        ("patient", "subject"), ("Patient ID", "subject"), ("case", "subject"), ("Pat", "subject"),
        ("um/px", "um_per_px"), ("pixel size", "um_per_px"), ("MPP", "um_per_px"),
        ("IENF", "count"), ("nerve count", "count"),
    ],
)  # fmt: skip
def test_an_ignored_column_that_may_matter_is_noted(folder: Path, column: str, meant: str) -> None:
    write(folder, HEADER.replace(meant, column))
    said = f"column '{column.lower()}' is ignored: if it is the {meant}, rename it to {meant}"
    assert said in notes(folder)


def test_other_ignored_columns_and_missing_subjects_are_noted(folder: Path) -> None:
    write(folder, HEADER.replace("subject", "stain"))
    said = notes(folder)
    assert "ignored columns: 'stain'" in said
    assert "no column subject: every image counts as a subject of its own" in said
    write(folder)
    assert "column" not in notes(folder)


# Names of subjects and groups


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("P-1", "P\u20111"), ("P-1", "P\u20131"), ("P-1", "P\u22121"), ("P-1", "\uff30-1"),
        ("Mü", "Mu\u0308"), ("A B", "A\u00a0B"), ("A B", "A  B"), ("A", "A\u200b"),
        ("A", "\ufeffA"), ("12", "\uff11\uff12"), ("A", "A\u00ad"), ("S1", "S\u2060" + "1"),
    ],
)  # fmt: skip
def test_spellings_that_read_the_same_are_one_subject(folder: Path, one: str, other: str) -> None:
    assert plain_name(one) == plain_name(other)
    write(folder, rows=[row.replace(f"S{at}", (one, other)[at % 2]) for at, row in enumerate(ROWS)])
    assert len({biopsy.subject for biopsy in read_manifest(folder).biopsies}) == 1


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("p7", "P7"), ("7", "07"), ("7", "7.0"), ("007", "7"), ("S01", "s1"), ("S1-01", "S1-1"),
        ("7.00", "7"), ("Müller", "MÜLLER"), ("straße", "STRASSE"), ("000", "0"),
        ("S-01", "S01"), ("S 1", "S_1"), ("P.3", "p3"), ("A1", "\u04101"), ("\u03a47", "T-07"),
        ("S1A", "S1-A"), ("12-3", "12_3"), ("'7", "7"), ("#7", "7"), ("7.", "7"), ("SO1", "S01"),
        ("Müller", "Muller"), ("1O", "10"),
    ],
)  # fmt: skip
def test_subjects_that_differ_in_spelling_only_are_an_error(
    folder: Path, one: str, other: str
) -> None:
    write(folder, rows=[row.replace(f"S{at}", (one, other)[at % 2]) for at, row in enumerate(ROWS)])
    said = refused(folder)
    both = {f"subject '{a}' and '{b}' of row" for a, b in ((one, other), (other, one))}
    assert any(pair in said for pair in both)
    assert said.count("spelling only") == 1  # once for each name


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("1", "10"),
        ("S1", "S2"),
        ("1.5", "15"),
        ("1-1", "11"),
        ("S1-1", "S11"),
        ("a-b", "ab"),
        ("1-11", "11-1"),
        ("Otto1", "tto1"),
        ("Leo", "Le0n"),
        ("C1", "CO1"),
        ("\u304c", "\u304b"),
    ],
)
def test_other_subjects_stay_apart(one: str, other: str) -> None:
    assert spelling_key(one) != spelling_key(other)


@pytest.mark.parametrize("cell", ["#DIV/0!", "#REF!", "#WERT!", "#name?"])
def test_a_failed_formula_is_no_subject(folder: Path, cell: str) -> None:
    write(folder, rows=[ROWS[0].replace("S0", cell), *ROWS[1:]])
    assert f"row 2, images/0.png: subject '{cell}' is a failed formula" in refused(folder)


def test_the_manifest_states_the_depth_of_a_file(folder: Path) -> None:
    rng = np.random.default_rng(0)
    deep = rng.integers(0, 1 << 12, (*SHAPE, 3), np.uint16)
    cv2.imwrite(str(folder / "images/0.png"), deep)
    write(folder)
    (problem,) = check_cohort(folder, READ, FoldSettings(count=3))[:1]
    assert "12 in the manifest's column bits" in str(problem)
    rows = [f"{row},{'12' if at == 0 else ''}" for at, row in enumerate(ROWS)]
    stated = read_manifest(write(folder, f"{HEADER},bits", rows))
    image = load_sample(stated.biopsies[0], READ).image
    assert np.array_equal(image[..., ::-1], (deep >> 4).astype(np.uint8))
    assert load_sample(stated.biopsies[1], READ).image.max() == 255
    assert fingerprint(stated) != fingerprint(read_manifest(write(folder)))
    write(folder, f"{HEADER},bits", [f"{ROWS[0]},7", *ROWS[1:]])
    assert "bits '7' is not a whole number from 8 to 16" in refused(folder)


def test_groups_that_differ_in_spelling_only_are_noted(folder: Path) -> None:
    write(folder, rows=[ROWS[0], ROWS[1].replace(",A,", ",a,"), *ROWS[2:]])
    assert "groups A and a differ in spelling only" in notes(folder)


@pytest.mark.parametrize("count", ["1_0", "1e400", "0x1", "١٢x"])
def test_odd_numbers_are_refused(folder: Path, count: str) -> None:
    write(folder, rows=[ROWS[0].replace(",0,0.5", f",{count},0.5"), *ROWS[1:]])
    assert f"count '{count}' is not a whole number" in refused(folder)


# Files of labels


def test_an_image_is_not_a_label(folder: Path) -> None:
    write(folder, rows=[ROWS[0].replace("dermis/0", "images/0"), *ROWS[1:]])
    assert "dermis file 'images/0.png' is an image of the cohort" in refused(folder)


def test_one_file_for_two_labels_needs_their_classes(folder: Path) -> None:
    write(folder, rows=[ROWS[0].replace("nerves/0", "dermis/0"), *ROWS[1:]])
    assert "nerves and dermis are the same file, 'dermis/0.png'" in refused(folder)
    thirds = np.repeat(np.array([0, 128, 255], np.uint8), 20)[:, None].repeat(SHAPE[1], 1)
    (folder / "dermis" / "0.png").write_bytes(encode_png(thirds))
    header = f"{HEADER},nerves_class,dermis_class"
    rows = [ROWS[0].replace("nerves/0", "dermis/0") + ",128,255", *(f"{row},," for row in ROWS[1:])]
    write(folder, header, rows)
    biopsy = read_manifest(folder).biopsies[0]
    shape = (60, SHAPE[1])
    assert np.array_equal(load_nerves(biopsy, shape, READ), thirds == 128)
    assert np.array_equal(load_dermis(biopsy, shape, READ), thirds == 255)


def test_the_fingerprint_knows_the_classes(folder: Path) -> None:
    plain = fingerprint(read_manifest(write(folder)))
    same = fingerprint(read_manifest(write(folder, f"{HEADER},nerves_class", [*ROWS])))
    other = [f"{row},{'255' if at == 1 else ''}" for at, row in enumerate(ROWS)]
    assert (
        plain == same != fingerprint(read_manifest(write(folder, f"{HEADER},nerves_class", other)))
    )


# GeoJSON


def line(*points: tuple[float, float], name: str | None = None) -> dict:
    properties = {} if name is None else {"classification": {"name": name, "color": [1, 2, 3]}}
    geometry = {"type": "LineString", "coordinates": [list(point) for point in points]}
    return {"type": "Feature", "geometry": geometry, "properties": properties}


NERVE, EDGE = ((10.0, 5.0), (12.0, 35.0)), ((0.0, 20.0), (60.0, 22.0))


def geojson(tmp_path: Path, *features: dict) -> Path:
    path = tmp_path / "lines.geojson"
    path.write_text(json.dumps({"type": "FeatureCollection", "features": list(features)}))
    return path


@pytest.mark.parametrize("name", ["Nerve", "nerves", "NERVE", "Nerve: PGP9.5", " Nerve "])
def test_each_column_reads_its_class(tmp_path: Path, name: str) -> None:
    path = geojson(tmp_path, line(*NERVE, name=name), line(*EDGE, name="Boundary"))
    alone = read_nerves(geojson(tmp_path, line(*NERVE)), SHAPE, READ)
    path = geojson(tmp_path, line(*NERVE, name=name), line(*EDGE, name="Boundary"))
    assert np.array_equal(read_nerves(path, SHAPE, READ), alone)
    assert np.array_equal(read_boundary(path, SHAPE, READ), np.array(EDGE))


def test_a_named_class_is_read(tmp_path: Path) -> None:
    path = geojson(tmp_path, line(*NERVE, name="Faser"), line(*EDGE, name="Grenze"))
    with pytest.raises(LabelError, match=r"several classes: Faser and Grenze.*nerves_class"):
        read_nerves(path, SHAPE, READ)
    with pytest.raises(LabelError, match=r"several classes.*boundary_class"):
        read_boundary(path, SHAPE, READ)
    assert np.array_equal(read_boundary(path, SHAPE, READ, "grenze"), np.array(EDGE))
    assert read_nerves(path, SHAPE, READ, chosen="Faser")[20, 11]
    with pytest.raises(LabelError, match="holds Faser and Grenze, and no line of class Nerv"):
        read_nerves(path, SHAPE, READ, chosen="Nerv")


def test_one_class_of_another_name_is_read(tmp_path: Path) -> None:
    path = geojson(tmp_path, line(*NERVE, name="Faser"), line(*NERVE, name="Faser"))
    assert read_nerves(path, SHAPE, READ).any()
    path = geojson(tmp_path, line(*NERVE, name="Faser"), line(*EDGE))
    with pytest.raises(LabelError, match="Faser and lines without a class"):
        read_nerves(path, SHAPE, READ)


@pytest.mark.parametrize("name", ["Ignore*", "Region*", "Artefact *"])
def test_classes_that_qupath_ignores_are_left_out(tmp_path: Path, name: str) -> None:
    alone = read_nerves(geojson(tmp_path, line(*NERVE)), SHAPE, READ)
    path = geojson(tmp_path, line(*NERVE), line(*EDGE, name=name))
    assert np.array_equal(read_nerves(path, SHAPE, READ), alone)
    path = geojson(tmp_path, line(*NERVE, name="Faser"), line(*EDGE, name=name))
    assert np.array_equal(read_nerves(path, SHAPE, READ), alone)
    with pytest.raises(LabelError, match="and no line of class Nerve"):
        read_nerves(geojson(tmp_path, line(*EDGE, name=name)), SHAPE, READ)


@pytest.mark.parametrize("nerve", ["Nerve", "Faser", None])
def test_areas_and_lost_features_beside_the_lines_are_left_out(
    tmp_path: Path, nerve: str | None
) -> None:
    alone = read_nerves(geojson(tmp_path, line(*NERVE)), SHAPE, READ)
    tissue = line(*EDGE, name="Tissue")
    tissue["geometry"] = {"type": "Polygon", "coordinates": [[[0, 0], [9, 0], [9, 9], [0, 0]]]}
    lost = line(*EDGE) | {"geometry": None}
    path = geojson(tmp_path, tissue, line(*NERVE, name=nerve), lost)
    assert np.array_equal(read_nerves(path, SHAPE, READ), alone)
    with pytest.raises(LabelError, match="of type Polygon, not a line"):
        read_nerves(geojson(tmp_path, tissue), SHAPE, READ)
    tissue["properties"] = {}
    with pytest.raises(LabelError, match=r"of type Polygon|and lines without"):
        read_nerves(geojson(tmp_path, tissue, line(*NERVE, name=nerve)), SHAPE, READ)


@pytest.mark.parametrize(
    "key", ["class", "label", "name", "Class", "type", "category", "layer", "classification_name"]
)
def test_a_class_in_another_property_is_understood(tmp_path: Path, key: str) -> None:
    alone = read_nerves(geojson(tmp_path, line(*NERVE)), SHAPE, READ)
    edge, nerve = (line(*at) | {"properties": {key: name}} for at, name in (
        (EDGE, "Boundary"), (NERVE, "nerve"),
    ))  # fmt: skip
    assert np.array_equal(read_nerves(geojson(tmp_path, nerve, edge), SHAPE, READ), alone)


def test_a_class_counts_more_than_other_properties(tmp_path: Path) -> None:
    lines = [
        line(*at) | {"properties": {"anatomy": layer, "class": "Nerve"}}
        for at, layer in ((NERVE, "Dermis"), (EDGE, "Epidermis"))
    ]
    both = read_nerves(geojson(tmp_path, line(*NERVE), line(*EDGE)), SHAPE, READ)
    assert np.array_equal(read_nerves(geojson(tmp_path, *lines), SHAPE, READ), both)


def test_a_name_is_free_text(tmp_path: Path) -> None:
    alone = read_nerves(geojson(tmp_path, line(*NERVE)), SHAPE, READ)
    edge = line(*EDGE) | {"properties": {"name": "Boundary"}}
    nerve = line(*NERVE) | {"properties": {"name": "my first fibre"}}
    assert np.array_equal(read_nerves(geojson(tmp_path, nerve, edge), SHAPE, READ), alone)


@pytest.mark.parametrize("key", ["class", "label"])
def test_a_vessel_beside_a_nerve_is_left_out(tmp_path: Path, key: str) -> None:
    alone = read_nerves(geojson(tmp_path, line(*NERVE)), SHAPE, READ)
    vessel = line(*EDGE) | {"properties": {key: "Vessel"}}
    nerve = line(*NERVE) | {"properties": {key: "Nerve"}}
    assert np.array_equal(read_nerves(geojson(tmp_path, nerve, vessel), SHAPE, READ), alone)


def classified(at: tuple, classification: object) -> dict:
    return line(*at) | {"properties": {"classification": classification}}


@pytest.mark.parametrize(
    ("nerve", "other"),
    [
        ({"name": "Nerve"}, {"names": ["Vessel", "large"]}),
        ({"name": "Nerve"}, {"names": ["Boundary", "DEJ"]}),
        ({"names": ["Nerve", "PGP9.5"]}, {"name": "Boundary"}),
        ({"name": "PGP9.5", "parentClass": {"name": "Nerve"}}, {"name": "Boundary"}),
    ],
)
def test_derived_classes_of_qupath(tmp_path: Path, nerve: dict, other: dict) -> None:
    alone = read_nerves(geojson(tmp_path, line(*NERVE)), SHAPE, READ)
    path = geojson(tmp_path, classified(NERVE, nerve), classified(EDGE, other))
    assert np.array_equal(read_nerves(path, SHAPE, READ), alone)


def test_objects_below_others_are_read(tmp_path: Path) -> None:
    both = read_nerves(geojson(tmp_path, line(*NERVE), line(*EDGE)), SHAPE, READ)
    parent = classified(NERVE, {"name": "Nerve"})
    parent["properties"]["childObjects"] = [classified(EDGE, {"name": "Nerve"})]
    assert np.array_equal(read_nerves(geojson(tmp_path, parent), SHAPE, READ), both)


def test_an_area_of_the_lines_own_class_is_refused(tmp_path: Path) -> None:
    area = classified(NERVE, {"name": "Fibre"})
    area["geometry"] = {"type": "Polygon", "coordinates": [[[5, 5], [9, 5], [9, 30], [5, 5]]]}
    path = geojson(tmp_path, classified(EDGE, {"name": "Fibre"}), area)
    with pytest.raises(LabelError, match="of type Polygon, not a line"):
        read_nerves(path, SHAPE, READ)


def test_a_biopsy_without_a_nerve_has_other_labels_only(folder: Path) -> None:
    """QuPath's file of a biopsy without a nerve holds the boundary and the tissue."""
    tissue = line(*EDGE, name="Tissue")
    tissue["geometry"] = {"type": "Polygon", "coordinates": [[[0, 0], [60, 0], [60, 40], [0, 0]]]}
    text = json.dumps([line(*EDGE, name="Boundary"), tissue])
    (folder / "nerves" / "0.geojson").write_text(text)
    rows = [ROWS[0].replace("nerves/0.png", "nerves/0.geojson"), *ROWS[1:]]
    biopsy = read_manifest(write(folder, rows=rows)).biopsies[0]
    assert biopsy.count == 0
    assert not load_nerves(biopsy, SHAPE, READ).any()
    rows[0] = rows[0].replace(",0,0.5", ",3,0.5")
    biopsy = read_manifest(write(folder, rows=rows)).biopsies[0]
    with pytest.raises(LabelError, match="or enter count 0 if there is none"):
        load_nerves(biopsy, SHAPE, READ)


def test_an_area_that_is_no_line_is_described(tmp_path: Path) -> None:
    whole = line(*NERVE)
    whole["geometry"] = {"type": "Polygon", "coordinates": [[[0, 0], [60, 0], [60, 40], [0, 0]]]}
    path = geojson(tmp_path, whole, line(*NERVE, name="Nerve"))
    with pytest.raises(LabelError, match=r"not a line \(without a class\): .* the whole image"):
        read_nerves(path, SHAPE, READ)


@pytest.mark.parametrize(
    ("cell", "said"),
    [("images/2.PNG", "the folder has '2.png'"), ("images/2", "the folder has '2.png'"),
     ("images/other.png", "restore it or correct the path")],
)  # fmt: skip
def test_a_file_with_a_near_name_is_named(folder: Path, cell: str, said: str) -> None:
    rows = [row.replace("images/2.png", cell) for row in ROWS]
    assert said in refused(write(folder, rows=rows))


def test_accents_that_are_stored_apart_are_the_same_name(folder: Path) -> None:
    (folder / "images" / "2.png").rename(folder / "images" / "Mu\u0308ller.png")
    rows = [row.replace("images/2.png", "images/M\u00fcller.png") for row in ROWS]
    assert read_manifest(write(folder, rows=rows)).biopsies[2].image.is_file()


def test_a_micro_sign_in_a_header_is_understood(folder: Path) -> None:
    header = HEADER.replace("um_per_px", "\u00b5m/px")
    assert "rename it to um_per_px" in notes(write(folder, header))


def test_cells_separated_by_spaces_are_named(folder: Path) -> None:
    rows = [row.replace(",", " ") for row in ROWS]
    said = refused(write(folder, HEADER.replace(",", " "), rows))
    assert "cells are separated by spaces" in said


def test_a_quotation_mark_that_joins_rows_is_found(folder: Path) -> None:
    rows = [f"{row},{note}" for row, note in zip(ROWS, ('"faint', "ok", 'ok"', "ok"), strict=True)]
    said = refused(write(folder, f"{HEADER},remark", rows))
    assert "a quotation mark that is not closed: it joins this row to those below it" in said


def test_case_and_control_series_are_not_one(folder: Path) -> None:
    """C1 and CO1 differ by a letter; CO1 and C01 probably do not."""
    names = ("C1", "CO1", "C2", "CO2")
    rows = [row.replace(f"S{at}", names[at]) for at, row in enumerate(ROWS)]
    assert len({biopsy.subject for biopsy in read_manifest(write(folder, rows=rows)).biopsies}) == 4


def test_a_comment_of_several_lines_is_no_row(folder: Path) -> None:
    rows = [
        f'{row},"faint, thick\nand, by the way, folded, twice, or, so, it, seems"' for row in ROWS
    ]
    assert len(read_manifest(write(folder, f"{HEADER},remark", rows)).biopsies) == 4


def test_an_unclosed_quotation_mark_is_named_with_its_line(folder: Path) -> None:
    rows = [*(f"{row},ok" for row in ROWS[:3]), f'{ROWS[3]},"open']
    said = refused(write(folder, f"{HEADER},remark", rows))
    assert "row 5" in said
    assert "check the quotation marks" in said


@pytest.mark.parametrize("word", ["country", "county", "account", "resource"])
def test_ordinary_words_are_no_misspelt_columns(folder: Path, word: str) -> None:
    header = HEADER.replace(",count,", ",remark,")
    rows = [f"{row},Denmark" for row in ROWS]
    assert f"'{word}'" in notes(write(folder, f"{header},{word}", rows))


def test_groups_of_plus_and_minus_are_refused(folder: Path) -> None:
    rows = [row.replace(",A,", ",+," if at % 2 else ",-,") for at, row in enumerate(ROWS)]
    assert "the groups are + and -, but - means that there is none" in refused(
        write(folder, rows=rows)
    )


@pytest.mark.parametrize("name", ["1.23457E+11", "1,2E+10", "########"])
def test_names_that_a_spreadsheet_lost_are_refused(folder: Path, name: str) -> None:
    rows = [row.replace("S2", f'"{name}"') for row in ROWS]
    assert "is a number that a spreadsheet shortened" in refused(write(folder, rows=rows))


def test_nobody_is_no_subject_of_two_images(folder: Path) -> None:
    rows = [row.replace("S2", "unknown") for row in ROWS]
    assert len(read_manifest(write(folder, rows=rows)).biopsies) == 4
    rows = [row.replace("S1", "unknown") for row in rows]
    assert "subject 'unknown', as in row 3: these may be two people" in refused(
        write(folder, rows=rows)
    )


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "gzip", "gzip, utf-16"])
def test_encodings_of_geojson(tmp_path: Path, encoding: str) -> None:
    text = json.dumps([line(*NERVE, name="Nerve")])
    data = text.encode("utf-16" if "utf-16" in encoding else encoding.replace("gzip", "utf-8"))
    path = tmp_path / "lines"
    path.write_bytes(gzip.compress(data) if "gzip" in encoding else data)
    assert read_nerves(path, SHAPE, READ)[20, 11]


def test_a_gzip_that_unpacks_without_end_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "lines"
    path.write_bytes(gzip.compress(b"[" + b" " * (1 << 28)))
    with pytest.raises(LabelError, match="MB once unpacked"):
        read_nerves(path, SHAPE, READ)


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ({"version": "5.0", "shapes": [], "imagePath": "a.png"}, "LabelMe"),
        ({"images": [], "annotations": [], "categories": []}, "COCO"),
        ({"_via_img_metadata": {}}, "VGG Image Annotator"),
        ([{"id": 1, "data": {}, "annotations": []}], "Label Studio"),
    ],
)
def test_other_json_is_named(tmp_path: Path, value: object, said: str) -> None:
    path = tmp_path / "lines.json"
    path.write_text(json.dumps(value))
    with pytest.raises(LabelError, match=f"a file of .*{said}, not GeoJSON"):
        read_nerves(path, SHAPE, READ)


def test_problems_keep_the_rows_of_a_table_with_a_separator_line(folder: Path) -> None:
    rows = [ROWS[0], ROWS[1].replace("nerves/1", "nerves/9")]
    (folder / "manifest.csv").write_text("\n".join(["sep=,", HEADER, *rows]))
    assert [problem.row for problem in scan_cohort(folder).problems] == [3]


@pytest.mark.parametrize(
    ("ends", "noted"), [(("0", "0"), True), (("00", "10"), False), (("7", "0"), False)]
)
def test_long_numbers_that_a_spreadsheet_rounded_are_noted(
    folder: Path, ends: tuple[str, str], noted: bool
) -> None:
    long = [f"12345678901234{at}{ends[at % 2]}" for at in range(4)]
    rows = [row.replace(f"S{at}", long[at]) for at, row in enumerate(ROWS)]
    said = notes(write(folder, rows=rows))
    assert ("a spreadsheet keeps 15 digits" in said) == noted
