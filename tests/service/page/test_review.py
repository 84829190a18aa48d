"""What a reader says of each image on the page, and the tables that hold it."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.service.browser import Page, accessibility, loaded, wait_for
from tests.support.service.fake_service import COLUMNS, FakeService, drawn_biopsy, png

pytestmark = [pytest.mark.browser, pytest.mark.timeout(240)]

Choose = Callable[..., None]


@pytest.fixture
def choose(fake: FakeService, page: Page, tmp_path: Path) -> Choose:
    """Add an image for each name, with as many nerves, and wait for all counts."""

    def add(**nerves: int) -> None:
        paths = [tmp_path / f"{name}.png" for name in nerves]
        for path, count in zip(paths, nerves.values(), strict=True):
            path.write_bytes(png(drawn_biopsy(*COLUMNS[:count])))
        page.choose(*paths)
        wait_for(lambda: f": {len(paths)} counted" in page.text("progress-text"))
        page.settle()

    return add


def rows(page: Page, downloads: Path, button: str, name: str) -> list[dict[str, str]]:
    page.push(button)
    data = loaded(downloads, name)
    assert data.startswith(b"\xef\xbb\xbf")  # Excel takes it for UTF-8
    return list(csv.DictReader(io.StringIO(data.decode("utf-8-sig"))))


def test_subject_reader_and_note_belong_to_their_image(
    page: Page, fake: FakeService, choose: Choose
) -> None:
    choose(a=1, b=2)
    page.type("subject", "S 1")
    page.type("reader", "A. Müller")
    page.type("reader-note", "a fold")
    page.part("reviewed").click()
    page.select("b.png")
    assert (page.value("subject"), page.value("reader-note")) == ("", "")
    assert page.value("reader") == "A. Müller"  # who sits here
    assert not page.part("reviewed").is_selected()
    page.push("save")
    wait_for(lambda: page.text("label-note").startswith("Saved"))
    page.type("subject", "S 2")
    page.select("a.png")
    assert (page.value("subject"), page.value("reader-note")) == ("S 1", "a fold")
    assert page.part("reviewed").is_selected()
    page.push("save")
    wait_for(lambda: page.text("label-note").startswith("Saved"))
    assert [form.get("subject") for form in fake.labels] == [None, "S 1"]
    assert accessibility(page.chrome) == []


def test_a_label_names_its_reader_and_the_file(
    page: Page, fake: FakeService, choose: Choose
) -> None:
    choose(ä=3)
    page.type("reader", "A. Müller")
    page.click(121, 80)
    page.push("save")
    wait_for(lambda: page.text("label-note").startswith("Saved: 2 crossings"))
    (form,) = fake.labels
    assert set(form) == {"nerve_threshold", "points", "reader", "original_name"}
    assert (form["reader"], form["original_name"]) == ("A. Müller", "ä.png")
    assert [column for _, column in json.loads(form["points"])] == [160, 240]


def test_a_strange_file_name_is_no_obstacle_to_a_label(page: Page) -> None:
    script = """
        const [name, done] = arguments;
        import("./static/biopsies/label.js").then((label) => done(label.plainName(name)));
    """
    for name, wanted in (
        ("=1+1.png", "'=1+1.png"),
        ("Foto 10.15\u202fPM.png", "Foto 10.15 PM.png"),
        ("a\tb.png", "a b.png"),
        ("x" * 300, "x" * 100),
        ("ä b.png", "ä b.png"),
    ):
        sent = page.chrome.execute_async_script(script, name)
        assert sent == wanted
        # The service's rule for names.
        assert sent.isprintable()
        assert sent[0] not in "=+-@"


def test_the_reader_is_remembered_by_the_browser(
    page: Page, choose: Choose, fake: FakeService, address: str
) -> None:
    choose(a=1)
    page.type("reader", "B. Weiß")
    page.chrome.get(address)
    wait_for(lambda: page.value("reader") == "B. Weiß")
    choose(c=1)
    assert page.value("reader") == "B. Weiß"


def test_counted_failed_and_reviewed_are_counted_apart(
    page: Page, fake: FakeService, choose: Choose, tmp_path: Path
) -> None:
    choose(a=1, b=2)
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"nothing")
    page.choose(broken)
    page.part("reviewed").click()
    wait_for(lambda: page.text("progress-text") == "3 images: 2 counted, 1 failed, 1 reviewed")
    assert "Counted, reviewed" in page.row("a.png")
    page.press("r")
    assert page.text("progress-text").endswith("0 reviewed")
    page.forgive_refusals()


def test_the_table_has_what_the_reader_said(
    page: Page, fake: FakeService, choose: Choose, downloads: Path
) -> None:
    fake.warnings["a.png"] = ["The image is blurred."]
    choose(a=3, b=1)
    page.type("scale", "0,5")
    wait_for(lambda: page.text("density") == "18.8 per mm")
    page.type("subject", "=S 1")
    page.type("reader", "Jürgen")
    page.type("reader-note", "fold, left")
    page.part("reviewed").click()
    page.click(121, 80)
    first, second = rows(page, downloads, "csv", "skinray-counts.csv")
    wanted = {
        "image": "a.png", "subject": "'=S 1", "status": "ok", "count": "2", "model_count": "3",
        "corrected": "yes", "added": "0", "removed": "1", "reviewed": "yes", "reader": "Jürgen",
        "reader_note": "fold, left", "um_per_px": "0.5", "boundary_px": "320",
        "boundary_mm": "0.16", "density_per_mm": "12.5", "warnings": "The image is blurred.",
    }  # fmt: skip
    assert {name: first[name] for name in wanted} == wanted
    assert (second["subject"], second["reader"], second["reviewed"], second["corrected"]) == (
        "", "", "no", "no",
    )  # fmt: skip


def test_means_per_subject(page: Page, fake: FakeService, choose: Choose, downloads: Path) -> None:
    fake.bare.add("d.png")
    choose(a=3, b=2, c=1, d=1)
    page.type("scale", "0.5")
    wait_for(lambda: page.part("scale-all").is_enabled() and page.text("density") != "–")
    page.part("scale-all").click()
    wait_for(lambda: page.text("progress-text").startswith("4 images: 4 counted"))
    assert not page.part("subjects").is_displayed()
    for name, subject in (("a.png", "S 10"), ("b.png", "S 10"), ("c.png", "S 9")):
        page.select(name)
        page.type("subject", subject)
    page.part("subjects-title").click()
    assert page.text("subjects-title") == "Means per subject (2)"
    assert page.text("subjects-note") == "Images without a subject are left out: 1."
    shown = [row.text for row in page.part("subject-rows").find_elements("tag name", "tr")]
    assert shown == ["S 9 1 of 1 0 1.0 6.25 6.25", "S 10 2 of 2 0 2.5 15.6 15.6"]
    page.select("d.png")
    page.type("subject", "S 9")  # bare: not part of the mean
    nine, ten = rows(page, downloads, "subjects-csv", "skinray-subjects.csv")
    assert (nine["images"], nine["scored"], nine["crossings"], nine["mean_count"]) == (
        "2", "2", "1", "1",
    )  # fmt: skip
    assert (nine["boundary_mm"], nine["mean_density"]) == ("0.16", "6.25")
    assert (ten["crossings"], ten["mean_count"], ten["pooled_density"]) == ("5", "2.5", "15.6")
    assert accessibility(page.chrome) == []


def test_an_image_without_tissue_says_so_and_has_no_density(
    page: Page, fake: FakeService, choose: Choose, downloads: Path
) -> None:
    words = "the image is blank or shows no tissue, so its count says nothing"
    fake.warnings["a.png"] = [words]
    fake.bare.add("a.png")
    choose(a=1)
    page.type("scale", "0.5")
    wait_for(lambda: page.text("length") == "0.160 mm")
    assert page.text("warnings") == "T" + words[1:]
    assert page.part("warnings").is_displayed()
    assert page.text("density") == "–"
    assert "1 warning" in page.row("a.png")
    (row,) = rows(page, downloads, "csv", "skinray-counts.csv")
    assert (row["density_per_mm"], row["warnings"]) == ("", words)
    assert accessibility(page.chrome) == []


def test_the_counting_error_stands_beside_the_count(
    page: Page, fake: FakeService, address: str
) -> None:
    wait_for(lambda: page.text("error").startswith("Counting error of the model: −2.0 to +1.5"))
    fake.bundle["limits_of_agreement"] = None
    page.chrome.get(address)
    wait_for(lambda: page.text("bundle") == "model 9f2c0d5e")
    assert page.text("error") == "Counting error not known"


def test_a_banner_says_what_was_trained_on_drawings(
    page: Page, fake: FakeService, address: str, choose: Choose
) -> None:
    assert not page.part("bundle-note").is_displayed()
    fake.bundle["synthetic"] = True
    page.chrome.get(address)
    wait_for(page.part("bundle-note").is_displayed)
    assert "trained on drawn images, not on real biopsies" in page.text("bundle-note")
    choose(a=1)
    assert page.part("bundle-note").is_displayed()
    assert accessibility(page.chrome) == []
