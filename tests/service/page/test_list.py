"""The list of images: next and previous, removal and its undo, work not saved, a busy service."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.service.browser import Page, accessibility, loaded, wait_for
from tests.support.service.fake_service import COLUMNS, FakeService, drawn_biopsy, png

pytestmark = [pytest.mark.browser, pytest.mark.timeout(240)]

PAGE_UP, PAGE_DOWN = "\ue00e", "\ue00f"
CONTROL_Z = "\ue009z\ue000"
# Whether the browser would ask before it leaves.
ASKS = """
    const leaving = new Event("beforeunload", {cancelable: true});
    return !window.dispatchEvent(leaving);
"""


@pytest.fixture
def three(fake: FakeService, page: Page, tmp_path: Path) -> Page:
    paths = [tmp_path / f"{name}.png" for name in "abc"]
    for count, path in enumerate(paths, 1):
        path.write_bytes(png(drawn_biopsy(*COLUMNS[:count])))
    page.choose(*paths)
    wait_for(lambda: page.text("progress-text").startswith("3 images: 3 counted"))
    page.select("a.png")
    page.settle()
    return page


def names(page: Page) -> list[str]:
    rows = page.part("rows").find_elements("tag name", "tr")
    return [row.text.replace("\n", "").split(".png")[0] for row in rows]


def remove(page: Page, name: str) -> None:
    label = f"Remove {name} from the list"
    page.part("rows").find_element("css selector", f'[aria-label="{label}"]').click()
    page.settle()


def test_keys_and_buttons_go_to_the_next_and_the_previous_image(three: Page) -> None:
    three.press(PAGE_DOWN)
    assert three.text("current") == "b.png"
    assert three.text("said") == "b.png, image 2 of 3"
    three.part("next").click()
    assert three.text("current") == "c.png"
    assert not three.part("next").is_enabled()
    three.press(PAGE_DOWN)  # there is none
    three.press(PAGE_UP)
    assert three.text("current") == "b.png"
    three.part("subject").send_keys("S 1" + PAGE_UP)  # also from a field
    assert (three.text("current"), three.value("subject")) == ("a.png", "")
    assert "S 1" in three.row("b.png")
    assert not three.part("previous").is_enabled()


def test_removal_asks_only_where_work_would_be_lost(three: Page) -> None:
    remove(three, "c.png")
    assert names(three) == ["a", "b"]
    three.click(121, 80)
    remove(three, "a.png")
    wait_for(lambda: three.part("remove-dialog").is_displayed())
    assert three.text("remove-words") == "Not saved yet: corrections."
    assert accessibility(three.chrome) == []
    three.part("remove-no").click()
    assert names(three) == ["a", "b"]
    remove(three, "a.png")
    three.part("remove-yes").click()
    wait_for(lambda: names(three) == ["b"])


def test_a_removal_is_undone_with_its_corrections(three: Page) -> None:
    three.click(121, 80)
    remove(three, "a.png")
    three.part("remove-yes").click()
    wait_for(lambda: names(three) == ["b", "c"])
    assert three.text("put-back") == "Put back a.png"
    remove(three, "c.png")
    three.press(CONTROL_Z)
    assert names(three) == ["b", "c"]
    three.press(CONTROL_Z)
    assert names(three) == ["a", "b", "c"]
    assert (three.text("current"), three.text("edits")) == ("a.png", "0 added, 1 removed")
    assert not three.part("put-back").is_displayed()


def test_undo_takes_back_what_was_done_last(three: Page) -> None:
    remove(three, "c.png")
    three.click(121, 80)
    three.press(CONTROL_Z)
    assert three.text("edits") == "No corrections"
    assert names(three) == ["a", "b"]
    three.part("put-back").click()
    assert names(three) == ["a", "b", "c"]


def test_leaving_asks_until_the_work_is_saved(three: Page, downloads: Path) -> None:
    assert not three.chrome.execute_script(ASKS)
    three.click(121, 80)
    assert three.chrome.execute_script(ASKS)
    three.part("undo").click()
    assert not three.chrome.execute_script(ASKS)
    three.part("redo").click()
    three.push("save")
    wait_for(lambda: three.text("label-note").startswith("Saved"))
    assert not three.chrome.execute_script(ASKS)
    three.type("reader-note", "fold")
    assert three.chrome.execute_script(ASKS)
    three.push("csv")
    loaded(downloads, "skinray-counts.csv")
    assert not three.chrome.execute_script(ASKS)


def test_a_busy_service_is_asked_again_and_the_page_says_so(
    fake: FakeService, page: Page, tmp_path: Path
) -> None:
    fake.refusals = [(503, {"Retry-After": "2"}, "a replica was lost")] * 2
    path = tmp_path / "a.png"
    path.write_bytes(png(drawn_biopsy(80)))
    page.drop(path)
    wait_for(lambda: "Service busy: try 2 of 8 in 2 s" in page.text("busy-text"))
    assert "Service busy" in page.row("a.png")
    wait_for(lambda: "try 3 of 8" in page.text("busy-text"))
    page.until_count(1)
    fake.refusals = [(503, {"Retry-After": "1"}, "a replica was lost")]
    page.push("save")
    wait_for(lambda: "Service busy: try 2 of 8" in page.text("label-note"))
    wait_for(lambda: page.text("label-note").startswith("Saved"))
    forgive_busy(page)


def test_the_page_gives_up_in_the_end(fake: FakeService, page: Page, tmp_path: Path) -> None:
    fake.refusals = [(503, {"Retry-After": "0"}, "the service is full")] * 20
    path = tmp_path / "a.png"
    path.write_bytes(png(drawn_biopsy(80)))
    page.drop(path)
    wait_for(lambda: page.text("failed-text") == "the service is full")
    assert fake.asked["biopsies"] == 8
    fake.refusals = []
    page.part("retry").click()
    page.until_count(1)
    forgive_busy(page)


def forgive_busy(page: Page) -> None:
    from tests.support.service.browser import messages

    log = messages(page.chrome)
    assert all("status of 503" in message for message in log), log
