"""The page for photographs as a user sees it, in Chromium on a real service with a stand-in."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image as Pillow

from skinray.config.scoring import ServiceSettings
from skinray.config.training import ModelSettings
from skinray.learning import bundle
from skinray.models import build
from skinray.service.app import create_app
from skinray.service.engine import LocalEngine
from skinray.service.metrics import Meter
from tests.support.drawn_photos import drawn_photo
from tests.support.photo_bundles import photo_bundle
from tests.support.service.browser import (
    Page,
    accessibility,
    loaded,
    resize,
    serving,
    wait_for,
)

pytestmark = [pytest.mark.browser, pytest.mark.timeout(240)]

SHAPE = (240, 320)
# Red is skin: the more red, the more certain.
SEES_WARM = {"weights": (20.0, 0.0, 0.0), "bias": -10.0}
SKIN, PALE = (210, 150, 120), (140, 110, 100)  # of probability .998 and .73
SKIN_SHARE, PALE_SHARE = 80 * 160 / (240 * 320), 80 * 40 / (240 * 320)


def photograph() -> np.ndarray:
    """A rectangle of skin with a narrower pale one next to it, on a cool background; RGB."""
    image = np.full((*SHAPE, 3), (40, 70, 90), np.uint8)
    image[80:160, 60:220] = SKIN
    image[80:160, 220:260] = PALE
    return image


@pytest.fixture(scope="module")
def networks(tmp_path_factory: pytest.TempPathFactory) -> bundle.Bundle:
    model = ModelSettings(name="pixel", options=SEES_WARM)
    folder = tmp_path_factory.mktemp("b") / "bundle"
    network = build(model.name, **model.options)
    return bundle.load(photo_bundle(folder, network, models={"skin": model}), "cpu")


@pytest.fixture(scope="module")
def address(networks: bundle.Bundle) -> Iterator[str]:
    with serving(create_app(LocalEngine(networks), ServiceSettings(), Meter())) as url:
        yield url


@pytest.fixture
def segmented(page: Page, tmp_path: Path) -> Page:
    path = tmp_path / "arm a.png"
    Pillow.fromarray(photograph()).save(path)
    page.drop(path)
    until_share(page, SKIN_SHARE + PALE_SHARE)
    wait_for(lambda: is_blue(page.colour(120, 100)))
    return page


def until_share(page: Page, share: float) -> None:
    wait_for(lambda: page.text("fraction").startswith(f"{100 * share:.1f} %"))
    page.settle()


def is_blue(colour: list[int]) -> bool:
    return colour[2] > 170 and colour[0] < 130


def near(colour: list[int], wanted: tuple[int, ...]) -> bool:
    return max(abs(a - b) for a, b in zip(colour, wanted, strict=True)) < 12


def test_the_empty_page_is_the_one_for_photographs(page: Page) -> None:
    assert "Drop photographs here" in page.part("empty").text
    assert "biops" not in page.chrome.find_element("tag name", "body").text.lower()
    assert page.chrome.title == "skinray: skin in photographs"
    assert not page.part("csv").is_enabled()
    assert accessibility(page.chrome) == []


def test_mask_cut_out_and_confidence_are_layers(segmented: Page) -> None:
    assert near(segmented.colour(20, 20), (40, 70, 90))
    segmented.part("layer-mask").click()
    assert near(segmented.colour(120, 100), SKIN)
    segmented.part("layer-cutout").click()
    assert near(segmented.colour(120, 100), SKIN)
    assert near(segmented.colour(20, 20), (223, 228, 234))  # the background behind the image
    segmented.part("layer-cutout").click()
    segmented.part("layer-confidence").click()
    red, green, blue = segmented.colour(120, 100)  # certain: yellow
    assert (red > 200, green > 180, blue < 90) == (True, True, True)
    assert segmented.colour(120, 240)[0] < red - 40  # less certain
    assert accessibility(segmented.chrome) == []


def test_the_fraction_follows_the_threshold_immediately(segmented: Page) -> None:
    assert segmented.text("threshold-value") == "0.50 (model)"
    assert is_blue(segmented.colour(120, 240))
    segmented.set_threshold(0.75)
    assert segmented.text("fraction").startswith(f"{100 * SKIN_SHARE:.1f} %")
    assert segmented.text("skin-px") == f"{80 * 160} px"
    assert segmented.text("model-fraction") == f"{100 * (SKIN_SHARE + PALE_SHARE):.1f} %"
    assert near(segmented.colour(120, 240), PALE)
    assert is_blue(segmented.colour(120, 100))


def test_a_click_or_a_key_reports_a_pixel(segmented: Page) -> None:
    segmented.click(120, 240)
    assert segmented.text("said").endswith("skin, probability 0.73")
    segmented.click(20, 20)
    assert "not skin, probability 0.00" in segmented.text("said")
    segmented.press("\ue014\ue007")  # right, enter: the cursor starts in the middle
    assert segmented.text("said").endswith(": skin, probability 1.00")


def test_the_downloads_use_the_chosen_threshold(
    segmented: Page, downloads: Path, networks: bundle.Bundle
) -> None:
    segmented.set_threshold(0.75)
    segmented.push("csv")
    (row,) = csv.DictReader(io.StringIO(loaded(downloads, "skinray-areas.csv").decode("utf-8-sig")))
    assert (row["image"], row["status"], row["threshold"]) == ("arm a.png", "ok", "0.75")
    found = networks.predict(photograph()).probability >= np.float32(0.75)
    assert (int(row["skin_px"]), float(row["skin_fraction"])) == (found.sum(), found.mean())
    segmented.push("mask")
    mask = decoded(loaded(downloads, "arm a-mask.png"))
    assert np.array_equal(mask, found * 255)
    segmented.push("cutout")
    cut = decoded(loaded(downloads, "arm a-cutout.png"))
    assert np.array_equal(cut[..., 3], found * 255)
    assert np.array_equal(cut[found][:, 2::-1], photograph()[found])
    assert not cut[~found].any()


def decoded(data: bytes) -> np.ndarray:
    return cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)


def test_many_photographs_and_a_broken_one(page: Page, tmp_path: Path) -> None:
    paths = [tmp_path / f"{n}.jpg" for n in range(3)]
    for at, path in enumerate(paths):
        Pillow.fromarray(drawn_photo(at, SHAPE)[0]).save(path)
    paths[1].write_bytes(paths[1].read_bytes()[:500])
    page.choose(*paths)
    wait_for(lambda: page.text("progress-text") == "3 images: 2 segmented, 1 failed")
    rows = page.part("rows").find_elements("tag name", "tr")
    assert [row.text.split()[0] for row in rows] == ["0.jpg", "1.jpg", "2.jpg"]
    assert "Segmented" in rows[0].text
    assert "320 × 240" in rows[2].text
    assert "Failed" in rows[1].text
    assert accessibility(page.chrome) == []
    page.forgive_refusals()


@pytest.mark.parametrize("size", [(1280, 800), (375, 667)])
def test_nothing_overflows_at_any_size(segmented: Page, size: tuple[int, int]) -> None:
    resize(segmented.chrome, *size)
    segmented.settle()
    wide = segmented.chrome.execute_script("return document.documentElement.scrollWidth")
    assert wide <= size[0]
    assert segmented.part("canvas").size["height"] > 150
    assert accessibility(segmented.chrome) == []
