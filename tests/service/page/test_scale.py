"""The scale of an image on the page: how it is typed, refused and warned of."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pytest

from skinray.images.pixel_size import MAX_UM_PER_PX, MIN_UM_PER_PX
from tests.support.service.browser import Page, accessibility, loaded, wait_for
from tests.support.service.fake_service import COLUMNS, FakeService, drawn_biopsy, png

pytestmark = [pytest.mark.browser, pytest.mark.timeout(240)]


@pytest.fixture
def counted(fake: FakeService, page: Page, tmp_path: Path) -> Page:
    path = tmp_path / "a.png"
    path.write_bytes(png(drawn_biopsy(*COLUMNS)))
    page.drop(path)
    page.until_count(3)
    return page


LISTEN = """
    const { fillText, fillRect } = CanvasRenderingContext2D.prototype;
    window.written = [];
    window.bars = [];
    CanvasRenderingContext2D.prototype.fillText = function (text, ...place) {
      window.written.push(text);
      return fillText.call(this, text, ...place);
    };
    CanvasRenderingContext2D.prototype.fillRect = function (x, y, width, height) {
      window.bars.push(width);
      return fillRect.call(this, x, y, width, height);
    };
"""


def table(page: Page, downloads: Path) -> dict[str, str]:
    page.push("csv")
    text = loaded(downloads, "skinray-counts.csv").decode("utf-8-sig")
    return next(csv.DictReader(io.StringIO(text)))


@pytest.mark.parametrize("text", ["0,5", "0.5", " ,5 "])
def test_a_decimal_comma_is_a_decimal_comma(counted: Page, downloads: Path, text: str) -> None:
    counted.type("scale", text)
    wait_for(lambda: counted.text("length") == "0.160 mm")
    assert counted.text("density") == "18.8 per mm"
    assert counted.text("scale-note") == "As entered."
    row = table(counted, downloads)
    assert (row["um_per_px"], row["boundary_mm"], row["density_per_mm"]) == ("0.5", "0.16", "18.8")


@pytest.mark.parametrize("text", ["half", "1_0", "0,5,0", "1e-1", "0.5 um", "-0.5", "0", "5000"])
def test_a_refused_scale_has_words_and_no_density(
    fake: FakeService, counted: Page, downloads: Path, text: str
) -> None:
    counted.type("scale", "0.5")
    wait_for(lambda: counted.text("density") == "18.8 per mm")
    asked = fake.asked["biopsies"]
    counted.type("scale", text)
    assert counted.part("scale").get_attribute("aria-invalid") == "true"
    assert "Give a number from 0.01 to 20" in counted.text("scale-note")
    assert counted.value("scale") == text
    assert (counted.count, counted.text("density")) == ("3", "–")
    assert counted.text("length").endswith(" px")
    row = table(counted, downloads)
    assert row["um_per_px"] == row["boundary_mm"] == row["density_per_mm"] == ""
    assert row["warnings"].startswith("Scale refused: ")
    assert fake.asked["biopsies"] == asked
    counted.type("scale", "0.5")
    assert counted.text("density") == "18.8 per mm"


def test_the_page_accepts_what_the_service_accepts(fake: FakeService, counted: Page) -> None:
    for scale, right in (
        (MIN_UM_PER_PX, True),
        (MAX_UM_PER_PX, True),
        (MIN_UM_PER_PX / 2, False),
        (MAX_UM_PER_PX + 1, False),
    ):
        counted.type("scale", f"{scale:g}")
        assert (counted.part("scale").get_attribute("aria-invalid") == "false") == right, scale


def test_a_scale_that_the_service_refuses_has_no_density(
    fake: FakeService, counted: Page, downloads: Path
) -> None:
    fake.most_um_per_px = 8
    counted.type("scale", "9")
    wait_for(lambda: "too large once resampled" in counted.text("scale-note"))
    assert counted.part("scale").get_attribute("aria-invalid") == "true"
    assert (counted.count, counted.text("density")) == ("3", "–")
    row = table(counted, downloads)
    assert (row["status"], row["count"], row["um_per_px"], row["density_per_mm"]) == (
        "ok", "3", "", "",
    )  # fmt: skip
    assert accessibility(counted.chrome) == []
    counted.forgive_refusals()


@pytest.mark.parametrize(
    ("text", "words"),
    [("1", "As entered"), ("1,01", "More than twice"), ("0.25", "As"), ("0.24", "Less than half")],
)
def test_a_scale_far_from_the_training_is_warned_of_at_once(
    counted: Page, text: str, words: str
) -> None:
    counted.part("scale").send_keys(text)  # still typing
    assert counted.text("scale-note").startswith(words)
    assert ("the 0.5 µm per pixel of the training" in counted.text("scale-note")) == (
        "than" in words
    )


def test_a_scale_can_be_used_for_all_images(counted: Page, tmp_path: Path) -> None:
    other = tmp_path / "b.png"
    other.write_bytes(png(drawn_biopsy(80)))
    counted.drop(other)
    counted.type("scale", "0,5")
    wait_for(lambda: counted.text("density") == "18.8 per mm")
    wait_for(counted.part("scale-all").is_enabled)
    counted.part("scale-all").click()
    wait_for(lambda: "6.25" in counted.row("b.png"))


def test_the_scale_bar_is_there_only_with_a_scale(counted: Page) -> None:
    written = "return window.written"
    counted.chrome.execute_script(LISTEN)
    counted.part("zoom-in").click()
    counted.settle()
    assert counted.chrome.execute_script(written) == []
    counted.type("scale", "0.5")
    wait_for(lambda: counted.chrome.execute_script(written))
    text = counted.chrome.execute_script(written)[-1]
    assert text in {"10 µm", "20 µm", "50 µm"}
    zoom = int(counted.text("zoom").split()[0]) / 100
    bars = counted.chrome.execute_script("return window.bars")
    assert bars[-1] == pytest.approx(int(text.split()[0]) / 0.5 * zoom, rel=0.01)
    counted.type("scale", "half")
    counted.chrome.execute_script("window.written.length = 0")
    counted.part("zoom-in").click()
    counted.settle()
    assert counted.chrome.execute_script(written) == []
