"""The page for biopsies as a user sees it, in Chromium on a real service with stand-in networks."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from benchmarks import stand_in
from skinray.config.images import ReadSettings
from skinray.config.scoring import ServiceSettings
from skinray.crossings import find_crossings
from skinray.images.cohort.manifest import load_sample, read_manifest
from skinray.learning import bundle
from skinray.scoring.geojson import to_geojson
from skinray.service.app import create_app
from skinray.service.engine import LocalEngine
from skinray.service.metrics import Meter
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
COLUMNS = (80, 160, 240)
FAINT = 131  # of red: the stand-in network gives it a probability of .69


def biopsy(*columns: int, faint: int | None = None) -> np.ndarray:
    """Dermis in the lower half, one nerve at each column; RGB."""
    image = np.full((*SHAPE, 3), 30, np.uint8)
    image[SHAPE[0] // 2 :, :, 1] = 200
    for column in columns:
        image[80:160, column - 1 : column + 2, 0] = FAINT if column == faint else 220
    return image


def write(path: Path, image: np.ndarray) -> Path:
    assert cv2.imwrite(str(path), image[..., ::-1])
    return path


@pytest.fixture(scope="module")
def labels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("labels")


@pytest.fixture(scope="module")
def networks(tmp_path_factory: pytest.TempPathFactory) -> bundle.Bundle:
    return bundle.load(stand_in.stand_in_bundle(tmp_path_factory.mktemp("b") / "bundle"), "cpu")


@pytest.fixture(scope="module")
def address(labels: Path, networks: bundle.Bundle) -> Iterator[str]:
    app = create_app(LocalEngine(networks), ServiceSettings(labels=str(labels)), Meter())
    with serving(app) as url:
        yield url


@pytest.fixture
def counted(page: Page, tmp_path: Path) -> Page:
    page.drop(write(tmp_path / "skin a.png", biopsy(*COLUMNS, faint=160)))
    page.until_count(3)
    wait_for(lambda: is_blue(page.colour(90, 78)))
    return page


def is_blue(colour: list[int]) -> bool:
    return colour[2] > 160 and colour[0] < 90


def test_the_empty_page_invites_images_and_offers_no_downloads(page: Page) -> None:
    assert page.part("empty").is_displayed()
    assert "Drop biopsy images here" in page.part("empty").text
    assert not page.part("csv").is_enabled()
    assert accessibility(page.chrome) == []


def test_a_dropped_image_is_shown_with_its_layers(counted: Page) -> None:
    assert not counted.part("empty").is_displayed()
    assert counted.text("current") == "skin a.png"
    red, green, blue = counted.colour(122, 20)
    assert (green > 150, red < 60, blue < 110) == (True, True, True)
    assert counted.colour(90, 80)[0] > 180  # the image's own nerve, within its outline
    counted.part("layer-nerves").click()
    assert not is_blue(counted.colour(90, 78))
    assert accessibility(counted.chrome) == []


def test_the_count_follows_the_threshold(counted: Page) -> None:
    assert counted.text("threshold-value") == "0.50 (model)"
    counted.set_threshold(0.75)
    assert counted.count == "2"
    assert not is_blue(counted.colour(90, 158))
    counted.set_threshold(0.5)
    assert counted.count == "3"


def test_crossings_are_removed_added_undone_and_redone(counted: Page) -> None:
    counted.click(121, 80)
    assert counted.count == "2"
    assert counted.text("edits") == "0 added, 1 removed"
    counted.click(128, 280)
    assert counted.count == "3"
    assert counted.text("edits") == "1 added, 1 removed"
    counted.part("undo").click()
    counted.part("undo").click()
    assert (counted.count, counted.text("edits")) == ("3", "No corrections")
    counted.part("redo").click()
    assert counted.count == "2"
    counted.click(121, 80)  # restores the removed crossing
    assert counted.text("edits") == "No corrections"


def test_corrections_stay_while_the_threshold_moves(counted: Page) -> None:
    counted.click(121, 80)
    counted.click(121, 280)
    counted.set_threshold(0.75)
    assert counted.count == "2"
    counted.set_threshold(0.5)
    assert counted.count == "3"


def test_everything_can_be_done_by_the_keyboard(counted: Page) -> None:
    counted.press("n")
    assert counted.text("said").startswith("1 of 3, found by the model, row 12")
    counted.press("\ue007")
    assert (counted.count, counted.text("said")) == ("2", "Crossing removed")
    counted.press("\ue009z\ue000")  # control and z
    assert counted.count == "3"
    before = counted.text("zoom")
    counted.press("+")
    assert int(counted.text("zoom").split()[0]) > int(before.split()[0])
    counted.press("0")
    assert counted.text("zoom") == before
    counted.press("p")
    counted.press("\ue014" * 12 + " ")  # move away from the last crossing and add one
    assert counted.count == "4"


def test_a_drag_moves_the_image_and_corrects_nothing(counted: Page) -> None:
    from selenium.webdriver import ActionChains

    was = counted.colour(90, 78)
    chain = ActionChains(counted.chrome).move_to_element(counted.part("canvas")).click_and_hold()
    chain.move_by_offset(60, 0).move_by_offset(40, 0).release().perform()
    assert counted.count == "3"
    assert counted.colour(90, 78) != was
    counted.part("fit").click()
    assert counted.colour(90, 78) == was


def test_a_new_scale_gives_millimetres_and_is_sent_to_the_service(
    counted: Page,
) -> None:
    assert counted.text("length").endswith("px")
    scale = counted.part("scale")
    scale.send_keys("0.5\n")
    wait_for(lambda: counted.text("length") == "0.160 mm")
    wait_for(lambda: not counted.part("busy").is_displayed())
    assert counted.text("density") == "18.8 per mm"
    assert accessibility(counted.chrome) == []


def test_the_three_downloads_match_what_is_shown(
    counted: Page, downloads: Path, networks: bundle.Bundle
) -> None:
    counted.click(121, 80)
    counted.push("csv")
    (row,) = csv.DictReader(
        io.StringIO(loaded(downloads, "skinray-counts.csv").decode("utf-8-sig"))
    )
    assert (row["image"], row["status"]) == ("skin a.png", "ok")
    assert (row["count"], row["model_count"], row["added"], row["removed"]) == ("2", "3", "0", "1")
    assert row["um_per_px"] == row["boundary_mm"] == row["density_per_mm"] == ""
    counted.push("geojson")
    found = json.loads(loaded(downloads, "skin a.geojson"))
    crossings = networks.predict(biopsy(*COLUMNS, faint=160)).crossings
    expected = to_geojson(crossings.points[1:], crossings.dermis)
    assert found == json.loads(json.dumps(expected))
    counted.push("png")
    picture = cv2.imdecode(np.frombuffer(loaded(downloads, "skin a-overlay.png"), np.uint8), 1)
    assert picture.shape[1] == SHAPE[1]
    assert is_blue(picture[90, 238][::-1].tolist())


def test_a_correction_is_stored_as_a_label(counted: Page, labels: Path) -> None:
    counted.click(121, 80)
    counted.click(123, 280)
    counted.part("subject").send_keys("S 1")
    counted.push("save")
    wait_for(lambda: counted.text("label-note").startswith("Saved: 3 crossings"))
    biopsy_, *_ = [one for one in read_manifest(labels).biopsies if one.subject == "S 1"]
    sample = load_sample(biopsy_, ReadSettings())
    np.testing.assert_array_equal(sample.image, biopsy(*COLUMNS, faint=160))
    stored = find_crossings(sample.masks["nerve"], sample.masks["dermis"]).points
    np.testing.assert_allclose(stored[:, 1], [160, 240, 280], atol=1.5)
    counted.push("save")
    wait_for(lambda: counted.text("label-note").startswith("Replaced: 3 crossings"))


def test_a_label_that_masks_cannot_show_is_refused_with_a_reason(counted: Page) -> None:
    counted.click(30, 30)
    assert "off the boundary" in counted.text("said")
    counted.push("save")
    wait_for(lambda: "not on the boundary" in counted.text("label-note"))
    counted.forgive_refusals()


def test_many_images_and_a_broken_one(page: Page, tmp_path: Path) -> None:
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"\x89PNG\r\n\x1a\n but no more")
    good = [write(tmp_path / f"{n}.png", biopsy(*COLUMNS[:n])) for n in (1, 2, 3)]
    page.choose(good[0], broken, *good[1:])
    wait_for(lambda: page.text("progress-text") == "4 images: 3 counted, 1 failed, 0 reviewed")
    rows = page.part("rows").find_elements("tag name", "tr")
    assert [row.text.split()[0] for row in rows] == ["1.png", "broken.png", "2.png", "3.png"]
    assert [row.find_elements("class name", "num")[0].text for row in rows][::3] == ["1", "3"]
    assert "Failed" in rows[1].text
    rows[1].find_element("tag name", "button").click()
    wait_for(page.part("failed").is_displayed)
    assert page.text("failed-text") in rows_text(page)
    assert accessibility(page.chrome) == []
    page.forgive_refusals()


def rows_text(page: Page) -> str:
    return str(page.part("rows").text)


@pytest.mark.parametrize("size", [(1280, 800), (768, 1024), (375, 667)])
def test_nothing_overflows_at_any_size(counted: Page, size: tuple[int, int]) -> None:
    resize(counted.chrome, *size)
    counted.settle()
    wide = counted.chrome.execute_script("return document.documentElement.scrollWidth")
    assert wide <= size[0]
    assert counted.part("canvas").size["height"] > 150
    assert accessibility(counted.chrome) == []
