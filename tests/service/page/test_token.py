"""The page asks for the token once, sends it, and removes it from its address."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import pytest
from selenium.webdriver.common.by import By

from benchmarks.stand_in import drawn_image
from skinray.config.scoring import ServiceSettings
from skinray.service.app import create_app
from skinray.service.engine import LocalEngine
from tests.support.service.browser import Page, browser, serving, wait_for

pytestmark = [pytest.mark.browser, pytest.mark.timeout(240)]
TOKEN = "browser-" + "a1" * 16
KEPT = "return sessionStorage.getItem('skinray-token')"
OPERATIONS = "return document.querySelectorAll('.opblock-summary-path').length"


@pytest.fixture
def tokens(tmp_path: Path) -> Path:
    file = tmp_path / "tokens"
    file.write_text(TOKEN + "\n")
    return file


@pytest.fixture
def address(bundle: Any, tokens: Path) -> Iterator[str]:
    with serving(create_app(LocalEngine(bundle), ServiceSettings(tokens=str(tokens)))) as url:
        yield url


def give(chrome: Any, token: str) -> None:
    field = wait_for(lambda: chrome.find_elements(By.ID, "token-value"))[0]
    field.send_keys(token + "\n")


def note(chrome: Any) -> str:
    found = wait_for(lambda: chrome.find_elements(By.ID, "token-note"))
    return str(found[0].get_property("textContent"))


def test_the_token_is_requested_once_and_again_after_it_changed(
    address: str, tokens: Path, tmp_path: Path
) -> None:
    image = tmp_path / "skin.png"
    assert cv2.imwrite(str(image), drawn_image()[..., ::-1])
    with browser(tmp_path) as chrome:
        chrome.get(address)
        assert "needs a token" in note(chrome)
        if folder := os.environ.get("SKINRAY_PICTURES"):
            chrome.save_screenshot(str(Path(folder) / "token.png"))
        give(chrome, "wrong-" + "a1" * 16)
        wait_for(lambda: "Invalid token" in note(chrome))
        give(chrome, TOKEN)
        page = Page(chrome, (96, 128))
        wait_for(lambda: not chrome.find_elements(By.ID, "token-dialog"))
        page.drop(image)
        page.until_count(2)
        chrome.get(address + "docs")  # in the same tab, the user is not asked again
        assert wait_for(lambda: chrome.execute_script(OPERATIONS)) > 5
        tokens.write_text("other-" + TOKEN + "\n")
        chrome.get(address)
        assert "Invalid token" in note(chrome)


def test_a_token_in_the_address_is_used_and_removed_from_it(address: str, tmp_path: Path) -> None:
    with browser(tmp_path) as chrome:
        chrome.get(f"{address}#token={TOKEN}")
        wait_for(lambda: chrome.execute_script(KEPT) == TOKEN)
        wait_for(lambda: chrome.current_url == address)
        assert not chrome.find_elements(By.ID, "token-dialog")
        chrome.refresh()
        wait_for(lambda: "stores no labels" in Page(chrome, (96, 128)).text("label-note"))


def test_the_api_page_asks_for_the_token_too(address: str, tmp_path: Path) -> None:
    with browser(tmp_path) as chrome:
        chrome.get(address + "docs")
        give(chrome, TOKEN)
        assert wait_for(lambda: chrome.execute_script(OPERATIONS)) > 5
