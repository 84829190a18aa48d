"""The report of a scored cohort: figures, safety, and sentences for small or failed runs."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from benchmarks.stand_in import stand_in_bundle
from skinray.errors import SkinrayError
from skinray.learning.bundle.info import IN_TRAINING, NOT_TRAINED, read_info
from skinray.report.cohorts.biopsies import MOST_SUBJECTS
from skinray.report.cohorts.gathered import MOST_NAMED
from skinray.report.cohorts.page import write_cohort_report
from skinray.report.cohorts.pictures import PER_RANK
from skinray.scoring.overlays import encode_jpeg
from tests.support.commands import Command
from tests.support.page import Page
from tests.support.scored_rows import area, failed, scored, write_scored

HOSTILE = "<script>alert(1)</script>&\"'><img src=x onerror=y>.png"


def report(folder: Path, rows: list[dict[str, Any]], **told: Any) -> tuple[Page, dict[str, Any]]:
    """Write a run and its report; the page, and the figures for programs."""
    run = write_scored(folder / "run", rows, **told)
    page = Page(write_cohort_report(run).read_text(encoding="utf-8"))
    return page, json.loads((run / "report.json").read_text(encoding="utf-8"))


def draw_overlay(run: Path, image: str) -> None:
    path = run / "overlays" / f"{image}.jpg"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encode_jpeg(np.full((48, 64, 3), 200, np.uint8)))


def test_figures_are_exact(tmp_path: Path) -> None:
    page, exact = report(
        tmp_path,
        [
            scored("a.png", 2, 1000, subject="P1"),
            scored("b.png", 5, 2000, subject="P1"),
            scored("c.png", 9, 1000, um_per_px=None, subject="P2"),
            scored("d.png", 2, 1000, subject="P1", duplicate_of="a.png"),
            failed("e.png", "the file is empty: copy it again", subject="P2"),
        ],
    )
    assert [exact[name] for name in ("images", "scored", "failed", "duplicates")] == [5, 4, 1, 1]
    assert exact["counts"] == {
        "n": 3, "mean": 16 / 3, "sd": pytest.approx(np.std([2, 5, 9], ddof=1)), "lowest": 2,
        "highest": 9, "quartiles": [2, 5, 9],
    }  # fmt: skip
    assert exact["densities_per_mm"]["mean"] == pytest.approx((2 / 0.5 + 5 / 1) / 2)
    assert exact["densities_per_mm"]["pooled"] == pytest.approx(7 / 1.5)
    assert exact["failures"] == [
        {"reason": "the file is empty", "remedy": "copy it again", "images": 1,
         "examples": ["e.png"]}
    ]  # fmt: skip
    assert (
        "Of 5 images from 2 subjects, 4 were counted and 1 failed. 1 image is an exact copy of "
        "another and was left out of the figures. Images with a boundary have 5.3 crossings on "
        "average, and 4.67 per mm of boundary." in page.text
    )
    with (tmp_path / "run" / "subjects.csv").open(encoding="utf-8-sig", newline="") as file:
        first, second = csv.DictReader(file)
    assert (first["subject"], first["images"], first["mean_count"]) == ("P1", "3", "3.5")
    assert first["pooled_density"] == "4.667"
    assert (second["failed"], second["mean_density"]) == ("1", "")


def test_photographs_have_the_same_sentences(tmp_path: Path) -> None:
    page, exact = report(
        tmp_path,
        [
            area("a.jpg", 0.2, subject="P1"),
            area("b.jpg", 0.6, subject="P2"),
            area("c.jpg", 0.0, 0.4, subject="P2"),
            area("d.jpg", 0.2, subject="P2", duplicate_of="a.jpg"),
            area("e.jpg", 0.6, subject="P2", duplicate_of="b.jpg"),
            failed("f.jpg", "the file is empty: copy it again", subject="P2"),
        ],
        kind="photo",
    )
    assert (
        "Of 6 photographs, 5 were scored and 1 failed. 2 photographs are exact copies of another "
        "and were left out of the figures. On average 27 % of a photograph is skin." in page.text
    )
    assert [(one["title"].partition(" (")[0], one["names"]) for one in exact["warnings"]] == [
        ("One image under two subjects", ["d.jpg (P2) = a.jpg (P1)"]),
        ("No skin found", ["c.jpg"]),
        ("Unsure", ["c.jpg"]),
    ]  # fmt: skip
    page, _ = report(tmp_path / "none", [], kind="photo")
    assert "The input had no photographs, so nothing was scored." in page.text


def test_hostile_names_stay_text(tmp_path: Path) -> None:
    page, _ = report(
        tmp_path,
        [
            scored(HOSTILE, 1, 0, subject=HOSTILE, um_per_px=None),
            scored(f"2{HOSTILE}", 3, 100, subject=HOSTILE),
            scored("c", 3, 100, subject="P", duplicate_of=HOSTILE),
            failed(f"3{HOSTILE}", f"{HOSTILE}: {HOSTILE}: {HOSTILE}"),
        ],
        images=HOSTILE,
        settings={HOSTILE: HOSTILE},
        versions={HOSTILE: HOSTILE},
    )
    assert not page.all("script")
    assert all(str(image["src"]).startswith("data:image/") for image in page.all("img"))
    assert page.text.count(HOSTILE) > 8


def test_page_needs_nothing_but_itself(tmp_path: Path) -> None:
    run = write_scored(tmp_path / "run", [scored("ä b.png", 3, 100), failed("x", "a: b")])
    draw_overlay(run, "ä b.png")
    page = Page(write_cohort_report(run).read_text(encoding="utf-8"))
    policy = [m["content"] for m in page.all("meta") if "http-equiv" in m]
    assert policy == ["default-src 'none'; img-src data:; style-src 'unsafe-inline'"]
    assert not page.all("script")
    assert not page.all("link")
    for tag, attributes in page.elements:
        for name in ("src", "href"):
            value = attributes.get(name) or "#"
            assert value.startswith(("#", "data:image/")), (tag, value[:60])
    shown = [str(image["src"]) for image in page.all("img")]
    assert sum(uri.startswith("data:image/jpeg") for uri in shown) == 1
    assert all(image.get("alt") for image in page.all("img"))
    ids = [str(attributes["id"]) for _, attributes in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert {str(link["href"])[1:] for link in page.all("a")} <= set(ids)
    assert sorted(path.name for path in run.iterdir() if path.name.endswith(".part")) == []


def test_empty_run(tmp_path: Path) -> None:
    page, exact = report(tmp_path, [])
    assert "The input had no images, so nothing was counted." in page.text
    assert exact["counts"] == {
        "n": 0, "mean": None, "sd": None, "lowest": None, "highest": None,
        "quartiles": [None, None, None],
    }  # fmt: skip
    assert not page.all("img")
    assert not (tmp_path / "run" / "subjects.csv").exists()


def test_all_failed(tmp_path: Path) -> None:
    page, exact = report(
        tmp_path, [failed(f"{n}.png", "not an image: export it") for n in range(9)]
    )
    assert "Of 9 images, 0 were counted and 9 failed. There are no counts to report." in page.text
    assert "9 images: not an image What to do: export it. 0.png , 1.png , 2.png" in page.text
    assert "and 6 more" in page.text
    assert exact["warnings"] == []


def test_one_image(tmp_path: Path) -> None:
    page, exact = report(tmp_path, [scored("a.png", 4, 1000)])
    assert (
        "The one image was counted. Images with a boundary have 4.0 crossings on average"
        in page.text
    )
    assert "Nothing unusual was found" in page.text
    assert "No subjects were given." in page.text
    assert exact["counts"]["sd"] is None
    assert page.text.count("a.png") == 2  # its name under the picture, and why there is none


def test_images_that_need_review_are_named(tmp_path: Path) -> None:
    rows = [scored(f"{n}.png", n % 5, 1000) for n in range(100)]
    rows += [scored("far.png", 50, 1000), scored("lost.png", 0, 0), scored("big.png", 2, 9, 2.0)]
    rows += [scored(f"no{n}.png", 2, 1000, um_per_px=None) for n in range(MOST_NAMED + 5)]
    _, exact = report(tmp_path, rows)
    found = {warned["title"]: warned for warned in exact["warnings"]}
    assert [(warned["images"], warned["names"][0]) for warned in found.values()] == [
        (1, "lost.png"), (1, "far.png (50)"), (1, "big.png"), (MOST_NAMED + 5, "no0.png"),
    ]  # fmt: skip
    assert len(found["Pixel size not known"]["names"]) == MOST_NAMED


def test_contact_sheet_shows_low_middle_and_high_once_each(tmp_path: Path) -> None:
    rows = [scored(f"{n}.png", (n * 7) % 41, 1000) for n in range(41)]
    run = write_scored(tmp_path / "run", rows)
    for row in rows:
        draw_overlay(run, row["image"])
    page = Page(write_cohort_report(run).read_text(encoding="utf-8"))
    shown = [str(i["alt"]) for i in page.all("img") if "data:image/jpeg" in str(i["src"])]
    counts = [int(alt.partition(": ")[2].split()[0]) for alt in shown]
    assert counts[:PER_RANK] == [0, 1, 2, 3]
    assert sorted(counts[PER_RANK : 2 * PER_RANK]) == [19, 20, 21, 22]
    assert counts[2 * PER_RANK :] == [40, 39, 38, 37]
    assert write_cohort_report(run).read_text(encoding="utf-8").count("data:image/jpeg") == 12


def test_small_cohort_shows_no_image_twice(tmp_path: Path) -> None:
    run = write_scored(tmp_path / "run", [scored(f"{n}.png", n, 1000) for n in range(6)])
    page = Page(write_cohort_report(run).read_text(encoding="utf-8"))
    text = page.text[page.text.index("Lowest counts") :]
    assert [text.count(f"{n} crossings") + text.count(f"{n} crossing,") for n in range(6)] == [
        1, 1, 1, 1, 1, 1
    ]  # fmt: skip


def test_overlay_outside_the_run_is_not_shown(tmp_path: Path) -> None:
    (tmp_path / "secret.jpg").write_bytes(encode_jpeg(np.zeros((48, 64, 3), np.uint8)))
    page, _ = report(tmp_path, [scored("a.png", 1, 100, overlay="../secret.jpg")])
    assert "No picture: ../secret.jpg: not in the run folder" in page.text


def test_many_subjects_are_cut_on_the_page_alone(tmp_path: Path) -> None:
    rows = [scored(f"{n}", 1, 100, subject=f"S{n:04d}") for n in range(MOST_SUBJECTS + 3)]
    rows += [scored("x", 1, 100, subject="=1+1")]
    page, _ = report(tmp_path, rows)
    assert f"The first {MOST_SUBJECTS} of {MOST_SUBJECTS + 4} subjects" in page.text
    assert "S0198" in page.text
    assert "S0199" not in page.text
    lines = (tmp_path / "run" / "subjects.csv").read_text(encoding="utf-8-sig").splitlines()
    assert len(lines) == MOST_SUBJECTS + 5
    assert lines[1].startswith("'=1+1,")


def test_the_bundle_is_described_while_it_exists(tmp_path: Path) -> None:
    bundle = stand_in_bundle(tmp_path / "bundle", metrics={"nerve Dice": 0.75}, images=40)
    info = read_info(bundle)
    rows = [scored("a.png", 1, 100)]
    page, _ = report(tmp_path, rows, bundle=info.id, bundle_path=str(bundle))
    assert info.id in page.text
    assert info.created in page.text
    assert "nerve Dice 0.75" in page.text
    page, _ = report(tmp_path, rows, bundle="f" * 64, bundle_path=str(bundle))
    assert "nerve Dice" not in page.text
    assert "The bundle is no longer in" in page.text
    assert "For research use only. Not a medical device" in page.text


def test_a_bundle_that_did_not_learn_is_said_first(tmp_path: Path) -> None:
    failed = ("The nerve network of the bundle did not learn: it marks nothing.",)
    bundle = stand_in_bundle(tmp_path / "bundle", failures=failed)
    info = read_info(bundle)
    page, _ = report(tmp_path, [scored("a.png", 1, 100)], bundle=info.id, bundle_path=str(bundle))
    first = page.text.index("The bundle did not learn its task: do not use these results")
    assert first < page.text.index(failed[0]) < page.text.index("Images scored")


def test_an_unfinished_run_says_how_to_continue(tmp_path: Path) -> None:
    run = write_scored(tmp_path, [])
    (run / "counts.parquet").unlink()
    with pytest.raises(SkinrayError, match="continue it with `skinray score --resume`"):
        write_cohort_report(run)
    (run / "counts.parquet").write_bytes(b"PAR1 and no more")
    with pytest.raises(SkinrayError, match="damaged or incomplete"):
        write_cohort_report(run)
    pq.write_table(pa.table({"image": ["a"]}), run / "counts.parquet")
    with pytest.raises(SkinrayError, match="has no column subject, status"):
        write_cohort_report(run)


@pytest.mark.parametrize("text", ["{", "[]"])
def test_damaged_run_is_refused(tmp_path: Path, text: str) -> None:
    write_scored(tmp_path, [])
    (tmp_path / "run.json").write_text(text)
    with pytest.raises(SkinrayError, match=r"run\.json.*score into a new folder"):
        write_cohort_report(tmp_path)


def test_verb_report_takes_a_scored_folder(tmp_path: Path, skinray: Command) -> None:
    run = write_scored(tmp_path / "run", [scored("a.png", 4, 1000)])
    ended = skinray("report", run)
    assert (ended.code, ended.out) == (0, f"Report: {run / 'report.html'}\n")
    assert (run / "report.html").is_file()


# what the bundle was trained on


@pytest.mark.parametrize(
    ("told", "said"),
    [
        ({}, None),
        ({"synthetic": True}, "Synthetic: the bundle was trained on images that skinray drew."),
        ({"note": NOT_TRAINED}, "The counts are by the starter, untrained on your images."),
    ],
)
def test_a_synthetic_bundle_has_a_notice_at_the_top(
    tmp_path: Path, told: dict[str, Any], said: str | None
) -> None:
    page, exact = report(tmp_path, [scored("a.png", 2, 1000)], **told)
    assert exact["synthetic"] is bool(said)
    if said is None:
        assert "skinray drew" not in page.text
    else:
        assert page.text.index(said) < page.text.index("Images scored")


def test_images_of_the_training_set_are_counted(tmp_path: Path) -> None:
    note = f"its training did not learn; {IN_TRAINING}"
    rows = [
        scored("a.png", 2, 1000, note=note),
        scored("b.png", 3, 1000, note=IN_TRAINING),
        scored("c.png", 4, 1000, note="its training did not learn"),
        scored("d.png", 4, 1000),
        failed("e.png", "empty: copy it", note=IN_TRAINING),
    ]
    page, exact = report(tmp_path / "some", rows)
    assert exact["in_training_set"] == 2
    assert (
        "2 of 5 images were in the bundle's training set: their counts look better than they are."
        in page.text
    )
    page, _ = report(tmp_path / "one", rows[1:])
    assert "1 of 4 images was in the bundle's training set: its count looks better" in page.text
    page, exact = report(tmp_path / "none", rows[2:4])
    assert exact["in_training_set"] == 0
    assert "training set" not in page.text
