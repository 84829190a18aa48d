"""The labels folder: a valid cohort at any time, whatever a client sends."""

from __future__ import annotations

import csv
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import cv2
import numpy as np
import pytest

from benchmarks import stand_in
from skinray.config.biopsies import FoldSettings
from skinray.config.images import ReadSettings
from skinray.crossings import find_crossings
from skinray.errors import CohortError, LabelError
from skinray.images.cohort.check import check_cohort
from skinray.images.cohort.manifest import load_sample, read_manifest
from skinray.service.labels.masks import LabelMasks
from skinray.service.labels.store import Review, count_labels, pixels_sha256, store_label

REVIEW = Review("9f2c" * 16)


def drawn(seed: int = 0, nerves: int = 2) -> tuple[np.ndarray, LabelMasks]:
    image = stand_in.drawn_image(seed, nerves=nerves)
    nerve, dermis = image[..., 0] > 127, image[..., 1] > 127
    return image, LabelMasks(nerve, dermis, find_crossings(nerve, dermis).points)


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "manifest.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_stored_label_is_read_back_as_it_was(tmp_path: Path) -> None:
    image, label = drawn()
    stored = store_label(tmp_path / "labels", image, label, 0.5, REVIEW, "S 7")
    assert (stored.count, stored.replaced, stored.images) == (2, False, 1)
    (biopsy,) = read_manifest(tmp_path / "labels").biopsies
    assert (biopsy.subject, biopsy.count, biopsy.um_per_px) == ("S 7", 2, 0.5)
    sample = load_sample(biopsy, ReadSettings())
    np.testing.assert_array_equal(sample.image, image)
    np.testing.assert_array_equal(sample.masks["nerve"] > 0, label.nerves)
    np.testing.assert_array_equal(sample.masks["dermis"] > 0, label.dermis)


def test_enough_labels_form_a_valid_cohort(tmp_path: Path) -> None:
    for seed in range(6):
        image, label = drawn(seed, nerves=seed % 3)
        store_label(tmp_path, image, label, None, REVIEW, f"S{seed}" if seed % 2 else None)
    assert (
        check_cohort(tmp_path, ReadSettings(), FoldSettings(count=2, components_held_out=1)) == []
    )
    assert count_labels(tmp_path) == 6


def test_a_second_correction_replaces_the_first(tmp_path: Path) -> None:
    image, label = drawn()
    other, _ = drawn(1)
    store_label(tmp_path, image, label, None, REVIEW, "first")
    store_label(tmp_path, other, label, None, REVIEW)
    empty = LabelMasks(np.zeros_like(label.nerves), label.dermis, np.empty((0, 2)))
    stored = store_label(tmp_path, image, empty, 0.5, REVIEW, "second")
    assert (stored.replaced, stored.images) == (True, 2)
    first = rows(tmp_path)[0]
    assert (first["subject"], first["count"]) == ("second", "0")
    biopsies = read_manifest(tmp_path).biopsies
    assert not load_sample(biopsies[0], ReadSettings()).masks["nerve"].any()


def test_columns_that_a_lab_added_are_kept(tmp_path: Path) -> None:
    image, label = drawn()
    store_label(tmp_path, image, label, None, REVIEW, "a")
    path = tmp_path / "manifest.csv"
    header, row = path.read_text().splitlines()
    path.write_text(f"{header},group\n{row},control\n")
    store_label(tmp_path, image, label, None, REVIEW, "b")
    store_label(tmp_path, drawn(1)[0], label, None, REVIEW, "c")
    assert [(r["subject"], r["group"]) for r in rows(tmp_path)] == [("b", "control"), ("c", "")]


def test_a_foreign_manifest_is_not_touched(tmp_path: Path) -> None:
    (tmp_path / "manifest.csv").write_text("image;nerves\nx.png;y.png\n")
    image, label = drawn()
    with pytest.raises(CohortError, match="another labels folder"):
        store_label(tmp_path, image, label, None, REVIEW)
    assert (tmp_path / "manifest.csv").read_text() == "image;nerves\nx.png;y.png\n"


@pytest.mark.parametrize("subject", ["=cmd()", "@x", "a\nb", "a\0b", "x" * 101, "+1", "\u202ename"])
def test_subjects_must_be_plain_names(tmp_path: Path, subject: str) -> None:
    image, label = drawn()
    with pytest.raises(LabelError, match="plain name"):
        store_label(tmp_path, image, label, None, REVIEW, subject)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("subject", ["../../outside", "/etc/x", "C:\\x", 'a,"b"', "Zoë ☃"])
def test_no_subject_leads_out_of_the_folder(tmp_path: Path, subject: str) -> None:
    folder = tmp_path / "inside" / "labels"
    image, label = drawn()
    store_label(folder, image, label, None, REVIEW, subject)
    assert rows(folder)[0]["subject"] == subject
    written = {path.relative_to(tmp_path).parts[:2] for path in tmp_path.rglob("*.*")}
    assert written == {("inside", "labels")}
    assert sorted(p.name for p in folder.iterdir()) == [
        ".manifest.lock", "dermis", "images", "manifest.csv", "nerves",
    ]  # fmt: skip


def test_concurrent_labels_are_all_stored(tmp_path: Path) -> None:
    labels = [drawn(seed) for seed in range(12)]
    with ThreadPoolExecutor(6) as pool:
        list(pool.map(lambda one: store_label(tmp_path, *one, None, REVIEW), labels * 2))
    assert len(rows(tmp_path)) == 12
    assert len(read_manifest(tmp_path).biopsies) == 12
    assert not list(tmp_path.rglob("*.part"))


def test_the_name_depends_on_pixels_and_size() -> None:
    image, _ = drawn()
    decoded = cv2.imdecode(cv2.imencode(".png", image)[1], cv2.IMREAD_COLOR)
    assert pixels_sha256(decoded) == pixels_sha256(image)
    assert pixels_sha256(image.reshape(48, 256, 3)) != pixels_sha256(image)


def test_a_label_says_where_it_comes_from(tmp_path: Path) -> None:
    image, label = drawn()
    review = Review("ab" * 32, " Dr. Ärztin ", "P07 slide 3.tif")
    before = datetime.now(UTC).replace(microsecond=0)
    store_label(tmp_path, image, label, None, review)
    (row,) = rows(tmp_path)
    assert (row["source"], row["bundle"]) == ("corrected", "ab" * 32)
    assert (row["reader"], row["original_name"]) == ("Dr. Ärztin", "P07 slide 3.tif")
    saved = datetime.fromisoformat(row["reviewed_at"])
    assert saved.utcoffset() == timedelta(0)
    assert before <= saved <= datetime.now(UTC)
    (biopsy,) = read_manifest(tmp_path).biopsies
    assert biopsy.source == "corrected"


@pytest.mark.parametrize("field", ["reader", "original_name"])
@pytest.mark.parametrize("text", ["=cmd()", "a\nb", "x" * 101])
def test_readers_and_names_of_files_must_be_plain(tmp_path: Path, field: str, text: str) -> None:
    image, label = drawn()
    with pytest.raises(LabelError, match=f"{field} is not a plain name"):
        store_label(tmp_path, image, label, None, Review("9f", **{field: text}))
    assert list(tmp_path.iterdir()) == []


def test_a_folder_of_an_earlier_version_goes_on(tmp_path: Path) -> None:
    image, label = drawn()
    store_label(tmp_path, image, label, None, REVIEW, "a")
    path = tmp_path / "manifest.csv"
    lines = [",".join(line.split(",")[:6]) for line in path.read_text().splitlines()]
    path.write_text("\n".join([*lines, "images/own.png,b,,,3,"]) + "\n")
    store_label(tmp_path, drawn(1)[0], label, None, REVIEW, "c")
    old, own, new = rows(tmp_path)
    # Its own labels were corrections; a row that a lab added says nothing.
    assert [row["source"] for row in (old, own, new)] == ["corrected", "", "corrected"]
    assert [row["bundle"] for row in (old, own, new)] == ["", "", REVIEW.bundle]
    assert (own["count"], old["reviewed_at"]) == ("3", "")
