"""Where the files of scored images go, and the tables of a cohort."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from skinray.crossings.detect import CrossingsRecord
from skinray.files import STARTER
from skinray.learning.bundle.info import IN_TRAINING, read_info
from skinray.scoring.kinds import SCORED_KINDS
from skinray.scoring.run_store import LocalOutput
from skinray.scoring.tables import LOST, Totals, write_tables


@pytest.mark.parametrize(
    "image",
    ["../../etc/x.png", "/etc/passwd", "a/../../b.png", "..", ".", "", "a//b.png", "n" * 255,
     "é" * 127, "dir.jpg/a.png", "nul\0.png"],
)  # fmt: skip
def test_files_stay_inside_the_run_folder_and_can_be_written(tmp_path: Path, image: str) -> None:
    for kind in SCORED_KINDS.values():
        for place in kind.places(image).values():
            path = tmp_path / place
            assert path.resolve().is_relative_to(tmp_path / place.split("/")[0])
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"")


def test_no_two_images_share_a_file() -> None:
    names = ["a.png", "a.jpg", "a", "a/b.png", "..", ".", "a.png.jpg/x", "a.png/x", "n" * 240,
             "n" * 241]  # fmt: skip
    biopsy, photo = SCORED_KINDS["biopsy"], SCORED_KINDS["photo"]
    for kind, what in ((biopsy, "overlay"), (biopsy, "geojson"), (photo, "mask")):
        found = [kind.places(name)[what] for name in names]
        assert len(set(found)) == len(names)
        files = {Path(place) for place in found}
        assert not any(parent in files for place in files for parent in place.parents)
    assert biopsy.places("s 1/a.png") == {
        "overlay": "overlays/s 1/a.png.jpg", "geojson": "geojson/s 1/a.png.geojson",
    }  # fmt: skip


def row(image: str, **facts: Any) -> dict[str, Any]:
    keys = ("subject", "problem", "sha256", "status", "error", "result", "backend")
    keys += ("source", "duplicate_of")
    return {"image": image, **dict.fromkeys(keys), **facts}


def test_the_tables_hold_every_row(tmp_path: Path) -> None:
    count = CrossingsRecord(
        count=2, boundary_px=7.5, boundary_mm=None, density_per_mm=None, um_per_px=None, width=4,
        height=3, points=[(0.1, 1.0), (2.5, 3.0)],
    )  # fmt: skip
    good = {"status": "ok", "sha256": "f", "result": count.model_dump_json(), "source": "=1+1.png"}
    rows = [
        row("=1+1.png", subject="-5", **good),
        row("@b.png", subject="-x", duplicate_of="=1+1.png", **good),
        row("c.png", status="failed", error="empty: copy it"),
        row("d.png", problem="no such file: restore it"),
        row("e.png"),
    ]
    run = LocalOutput(tmp_path)
    totals = write_tables(tmp_path, run, iter(rows), SCORED_KINDS["biopsy"], overlays=False)
    assert (totals.scored, totals.failures) == (2, 3)
    table = pq.read_table(tmp_path / "counts.parquet").to_pylist()
    assert [each["image"] for each in table] == [each["image"] for each in rows]
    assert [each["error"] for each in table[2:]] == [
        "empty: copy it", "no such file: restore it", LOST,
    ]  # fmt: skip
    assert table[0]["count"] == 2
    assert table[0]["overlay"] is None
    crossings = pq.read_table(tmp_path / "crossings.parquet").to_pylist()
    assert [(c["image"], c["crossing"], c["row"], c["column"]) for c in crossings[:2]] == [
        ("=1+1.png", 1, 0.1, 1.0), ("=1+1.png", 2, 2.5, 3.0),
    ]  # fmt: skip
    assert len(crossings) == 4
    with (tmp_path / "counts.csv").open(newline="", encoding="utf-8-sig") as stream:
        sheet = list(csv.DictReader(stream))
    assert list(sheet[0]) == list(table[0])
    # No cell is a formula, and numbers stay numbers.
    assert [each["image"] for each in sheet[:2]] == ["'=1+1.png", "'@b.png"]
    assert [each["subject"] for each in sheet[:2]] == ["-5", "'-x"]
    assert sheet[1]["duplicate_of"] == "'=1+1.png"
    assert sheet[0]["boundary_px"] == "7.5"
    # A spreadsheet knows by the mark that umlauts are UTF-8.
    assert (tmp_path / "counts.csv").read_bytes().startswith(b"\xef\xbb\xbfimage,subject,")
    assert sheet[2]["count"] == ""


def test_warnings_stand_in_the_note_beside_that_of_the_bundle(tmp_path: Path) -> None:
    facts = {
        "count": 2, "boundary_px": 7.5, "boundary_mm": 1.0, "density_per_mm": None,
        "um_per_px": 1, "width": 4, "height": 3, "points": [],
    }  # fmt: skip
    warned = CrossingsRecord(**facts, warnings=["blank", "far"]).model_dump_json()
    older = CrossingsRecord(**facts).model_dump_json(exclude={"warnings"})  # of the last release
    rows = [
        row(name, status="ok", sha256="f", result=result, source=name)
        for name, result in (("a.png", warned), ("b.png", older))
    ]
    for note, expected in (
        ("", ["blank; far", None]),
        ("starter", ["starter; blank; far", "starter"]),
    ):
        out = LocalOutput(tmp_path)
        kind = SCORED_KINDS["biopsy"]
        write_tables(
            tmp_path, out, iter(rows), kind, overlays=False, note=lambda _, said=note: said
        )
        assert pq.read_table(tmp_path / "counts.parquet")["note"].to_pylist() == expected


def test_when_too_many_failed() -> None:
    some = Totals(scored=1)
    for image, error in (("a", "empty: copy it"), ("b", "empty: copy it"), ("c", "damaged: x")):
        some.fail(image, error)
    assert not some.too_many_failed(None)
    assert not some.too_many_failed(3)
    assert some.too_many_failed(2)
    assert Totals().too_many_failed(None)
    failed = "3 failed:\n  2 empty: a, b\n  1 damaged: c"
    assert some.text(61) == f"1 of 4 images scored in 01:01\n{failed}"
    for image in ("d", "e", "f"):
        some.fail(image, "empty: copy it")
    assert "\n  5 empty: a, b, d, ...\n" in some.text(61)
    some.backends.update(["eager"])
    assert "computed by" not in some.text(61)
    some.backends.update(["openvino", "openvino"])
    assert "\ncomputed by openvino (2), eager (1); --exact computes as in training\n" in some.text(
        61
    )
    assert some.why_too_many(3) == (
        "6 of 7 images failed, more than --max-failures 3: the column error of counts.csv says why "
        "and what to do; then repeat the command with --resume"
    )
    assert some.why_too_many(None).startswith("all 7 images failed: ")


def test_figures_have_as_many_digits_in_the_csv_as_they_are_worth(tmp_path: Path) -> None:
    """The parquet file keeps every digit, and umlauts are read back in both."""
    exact = {"boundary_px": 261.384912, "boundary_mm": 0.0657383, "density_per_mm": 15.2118}
    count = CrossingsRecord(
        count=1, um_per_px=0.2514999999, width=4, height=3, points=[(0, 1)], **exact
    )
    good = row("Müller.png", status="ok", result=count.model_dump_json(), source="Müller.png")
    run = LocalOutput(tmp_path)
    write_tables(tmp_path, run, iter([good]), SCORED_KINDS["biopsy"], overlays=False)
    with (tmp_path / "counts.csv").open(newline="", encoding="utf-8-sig") as stream:
        (line,) = csv.DictReader(stream)
    shown = ("image", "boundary_px", "boundary_mm", "density_per_mm", "um_per_px")
    assert [line[name] for name in shown] == ["Müller.png", "261.4", "0.0657", "15.21", "0.2515"]
    (stored,) = pq.read_table(tmp_path / "counts.parquet").to_pylist()
    assert {name: stored[name] for name in exact} == exact
    assert stored["image"] == "Müller.png"


def test_each_row_has_the_note_on_its_own_image(tmp_path: Path) -> None:
    rows = [
        row("a.png", problem="no such file: restore it"),
        row("b.png", status="failed", error="empty: copy it", sha256="seen"),
        row("c.png", status="failed", error="empty: copy it", sha256="new"),
    ]
    info = read_info(STARTER).model_copy(update={"trained_on": frozenset({"seen"})})
    run, kind = LocalOutput(tmp_path), SCORED_KINDS["biopsy"]
    write_tables(tmp_path, run, iter(rows), kind, overlays=False, note=info.note_on)
    notes = pq.read_table(tmp_path / "counts.parquet")["note"].to_pylist()
    assert notes == [info.note, f"{info.note}; {IN_TRAINING}", info.note]
