"""How the page shows an image: thin nerves, the bare image, its light, and the picture to keep."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from selenium.webdriver import ActionChains

from tests.support.service.browser import Page, accessibility, loaded, resize, wait_for
from tests.support.service.fake_service import COLUMNS, SHAPE, FakeService, drawn_biopsy, png

pytestmark = [pytest.mark.browser, pytest.mark.timeout(240)]

NERVE, BESIDE, BOUNDARY = (90, 80), (90, 78), (121, 20)
LISTEN = """
    const write = CanvasRenderingContext2D.prototype.fillText;
    window.written = [];
    CanvasRenderingContext2D.prototype.fillText = function (text, ...place) {
      window.written.push(text);
      return write.call(this, text, ...place);
    };
"""


@pytest.fixture
def shown(fake: FakeService, page: Page, tmp_path: Path) -> Page:
    path = tmp_path / "ä b.png"
    path.write_bytes(png(drawn_biopsy(*COLUMNS)))
    page.drop(path)
    page.until_count(3)
    wait_for(lambda: page.colour(*BESIDE)[2] > 160)
    return page


def test_a_nerve_is_a_thin_line_round_visible_tissue(shown: Page) -> None:
    image = drawn_biopsy(*COLUMNS)
    red, green, blue = shown.colour(*NERVE)
    assert abs(red - int(image[NERVE][0])) < 40
    assert (green, blue) < (60, 90)
    beside = shown.colour(*BESIDE)
    assert beside[2] > 160


@pytest.mark.parametrize("how", ["key", "button"])
def test_the_bare_image_is_shown_for_as_long_as_it_is_wanted(shown: Page, how: str) -> None:
    chain = ActionChains(shown.chrome)
    shown.press("")
    if how == "key":
        chain.key_down("h").perform()
    else:
        chain.click_and_hold(shown.part("hide")).perform()
    image = drawn_biopsy(*COLUMNS)
    for place in (NERVE, BESIDE, BOUNDARY, (121, 80)):
        assert np.abs(np.subtract(shown.colour(*place), image[place].tolist())).max() < 60, place
    assert shown.colour(*BESIDE)[2] < 60
    if how == "key":
        ActionChains(shown.chrome).key_up("h").perform()
    else:
        ActionChains(shown.chrome).release().perform()
    wait_for(lambda: shown.colour(*BESIDE)[2] > 160)


def test_brightness_and_contrast_change_the_view_only(shown: Page) -> None:
    dark, green = (20, 20), (200, 20)
    before = [shown.colour(*dark), shown.colour(*green)]
    shown.part("light").find_element("tag name", "summary").click()
    assert accessibility(shown.chrome) == []
    right, left = "\ue014", "\ue012"
    shown.part("brightness").send_keys(right * 8)
    assert shown.colour(*dark)[0] > before[0][0] + 30
    shown.part("light-reset").click()
    assert [shown.colour(*dark), shown.colour(*green)] == before
    shown.part("contrast").send_keys(left * 8)
    assert shown.colour(*dark)[0] > before[0][0] + 10
    assert shown.colour(*green)[1] < before[1][1] - 10
    assert shown.colour(*BESIDE)[2] > 160  # the layers are as they were
    assert shown.count == "3"


def test_the_picture_is_whole_and_says_what_it_shows(shown: Page, downloads: Path) -> None:
    shown.type("scale", "0,5")
    wait_for(lambda: shown.text("density") == "18.8 per mm")
    shown.type("reader", "A. Müller")
    shown.type("subject", "S 1")
    shown.part("reviewed").click()
    shown.click(121, 80)
    for _ in range(3):
        shown.part("zoom-in").click()  # the view does not matter
    shown.chrome.execute_script(LISTEN)
    shown.push("png")
    picture = cv2.imdecode(np.frombuffer(loaded(downloads, "ä b-overlay.png"), np.uint8), 1)
    texts = " ".join(shown.chrome.execute_script("return window.written"))
    for words in (
        "ä b.png", "2 crossings, corrected: 0 added, 1 removed, 3 by the model", "12.5 per mm",
        "0.5 µm per pixel", "subject S 1", "reviewed by A. Müller", "Counting error",
        "model 9f2c0d5e", "for research use only", "20 µm",
    ):  # fmt: skip
        assert words in texts, words
    assert picture.shape[1] == SHAPE[1]
    strip = picture[SHAPE[0] :]
    assert len(strip) > 60
    assert np.median(strip) == 255
    assert strip.min() < 90  # letters
    image, own = picture[: SHAPE[0], :, ::-1], drawn_biopsy(*COLUMNS)
    far = own[60:70, 20:60], image[60:70, 20:60]
    np.testing.assert_array_equal(*far)
    assert image[90, 78, 2] > 160


def test_the_keys_are_on_the_page(shown: Page) -> None:
    shown.press("?")
    assert shown.part("keys").get_attribute("open")
    words = shown.text("keys")
    for key in ("Page Down", "Page Up", "R", "N", "P", "Enter", "H", "Shift", "Ctrl", "?"):
        assert key in words
    assert accessibility(shown.chrome) == []


@pytest.mark.parametrize("width", [1100, 700])
def test_the_tools_fit_and_stay_reachable(shown: Page, width: int) -> None:
    resize(shown.chrome, width, 800)
    shown.settle()
    assert shown.chrome.execute_script("return document.documentElement.scrollWidth") <= width
    for name in ("hide", "light", "csv", "subject", "scale", "save", "keys"):
        shown.part(name).location_once_scrolled_into_view  # noqa: B018
        box = shown.part(name).rect
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= width
    assert accessibility(shown.chrome) == []
