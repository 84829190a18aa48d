"""A cohort of phantoms on disk: complete, readable as any lab's, and no trap for old files."""

from __future__ import annotations

import csv
import json

import cv2
import numpy as np
import pytest

from skinray.config.biopsies import PhantomSettings
from skinray.config.images import ReadSettings
from skinray.errors import CohortError, SettingsError
from skinray.images.cohort.csv_table import NOTED
from skinray.images.cohort.manifest import load_sample, read_manifest
from skinray.images.phantoms.cohort import COLUMNS, write_cohort
from skinray.images.phantoms.phantom import make_phantom

SIZE = (320, 256)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    out = tmp_path_factory.mktemp("cohort") / "phantoms"
    calls = []
    manifest = write_cohort(
        out, 9, seed=4, size=SIZE, subjects=3, progress=lambda *n: calls.append(n)
    )
    assert manifest == out / "manifest.csv"
    assert calls == [(n, 9) for n in range(1, 10)]
    return out


def rows_of(folder):
    with (folder / "manifest.csv").open(newline="") as stream:
        return list(csv.DictReader(stream))


def test_every_file_in_the_manifest_exists(folder):
    rows = rows_of(folder)
    assert len(rows) == 9
    assert tuple(rows[0]) == tuple(
        name for name in COLUMNS if name not in (*NOTED, "bits") and not name.endswith("_class")
    )
    assert {row["source"] for row in rows} == {"phantom"}
    assert read_manifest(folder).synthetic
    for row in rows:
        for column in ("image", "nerves", "dermis", "boundary"):
            assert (folder / row[column]).is_file()
    assert cv2.imread(str(folder / "contact_sheet.png")).shape[1] > 1000


def test_files_contain_what_make_phantom_returned(folder):
    settings = PhantomSettings(subjects=3)
    for index, row in enumerate(rows_of(folder)):
        phantom = make_phantom(settings, 4, index, SIZE)
        image = cv2.imread(str(folder / row["image"]))[..., ::-1]
        np.testing.assert_array_equal(image, phantom.image)
        nerves = cv2.imread(str(folder / row["nerves"]), cv2.IMREAD_UNCHANGED)
        np.testing.assert_array_equal(nerves, phantom.nerve_label * 255)
        assert int(row["count"]) == phantom.count
        assert int(row["second_count"]) == phantom.second_count
        assert row["subject"] == phantom.subject
        text = (folder / "crossings" / f"phantom_{index:04d}.geojson").read_text()
        points = json.loads(text)["features"][0]["geometry"]["coordinates"]
        expected = phantom.crossings[:, ::-1] + 0.5
        np.testing.assert_allclose(np.reshape(points, (-1, 2)), expected, atol=0.01)


def test_reads_back_as_a_cohort(folder):
    cohort = read_manifest(folder)
    assert {b.subject for b in cohort.biopsies} == {"S01", "S02", "S03"}
    assert {b.group for b in cohort.biopsies} == {"control", "neuropathy"}
    sample = load_sample(cohort.biopsies[0], ReadSettings())
    assert sample.shape == SIZE[::-1]


def test_boundary_line_encloses_the_dermis_of_the_mask(folder):
    rows = rows_of(folder)
    with (folder / "manifest.csv").open("w", newline="") as stream:
        writer = csv.DictWriter(stream, COLUMNS)
        writer.writeheader()
        writer.writerows([row | {"dermis": ""} for row in rows])
    for row, biopsy in zip(rows, read_manifest(folder).biopsies, strict=True):
        filled = load_sample(biopsy, ReadSettings()).masks["dermis"] > 0
        mask = cv2.imread(str(folder / row["dermis"]), cv2.IMREAD_UNCHANGED) > 0
        assert (filled == mask).mean() > 0.99


def test_subjects_default_to_the_share_of_the_paper(tmp_path):
    write_cohort(tmp_path / "few", 2, size=SIZE)
    assert len({row["subject"] for row in rows_of(tmp_path / "few")}) == 2


def test_only_an_earlier_cohort_is_replaced(tmp_path):
    out = tmp_path / "phantoms"
    write_cohort(out, 2, size=SIZE)
    write_cohort(out, 1, size=SIZE)
    assert len(list((out / "images").iterdir())) == 1
    assert len(rows_of(out)) == 1
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    with pytest.raises(CohortError, match="choose another folder"):
        write_cohort(tmp_path / "mine", 1, size=SIZE)
    assert [p.name for p in (tmp_path / "mine").iterdir()] == ["thesis.txt"]


@pytest.mark.parametrize(
    ("asked", "message"),
    [({"images": 0}, "at least 1"), ({"seed": -1}, "seed -1"), ({"size": (90, 300)}, "192 px")],
)
def test_what_cannot_be_drawn_is_refused_and_nothing_written(tmp_path, asked, message):
    with pytest.raises(SettingsError, match=message):
        write_cohort(tmp_path / "out", **({"images": 2, "size": SIZE} | asked))
    assert not (tmp_path / "out").exists()
