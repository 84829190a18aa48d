"""A browser on the service's page; a test module gives the service's ``address`` and ``SHAPE``."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.service.browser import Page, browser, messages, resize, wait_for


@pytest.fixture(scope="module")
def downloads(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("downloads")


@pytest.fixture(scope="module")
def chrome(downloads: Path) -> Iterator[Any]:
    with browser(downloads) as driver:
        yield driver


@pytest.fixture
def page(chrome: Any, address: str, request: pytest.FixtureRequest) -> Iterator[Page]:
    resize(chrome, 1280, 800)
    chrome.get(address)
    wait_for(lambda: chrome.execute_script("return document.readyState") == "complete")
    messages(chrome)
    yield Page(chrome, request.module.SHAPE)
    assert messages(chrome) == []  # no errors, and nothing that the policy forbids
