"""A browser on the service's page, with a fake service behind it.

A test module that needs a real service gives its own ``address``, and the ``SHAPE`` of its images.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.service.browser import Page, browser, messages, resize, serving, wait_for
from tests.support.service.fake_service import SHAPE, FakeService


@pytest.fixture(scope="module")
def downloads(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("downloads")


@pytest.fixture(scope="module")
def chrome(downloads: Path) -> Iterator[Any]:
    with browser(downloads) as driver:
        yield driver


@pytest.fixture(scope="module")
def served() -> Iterator[tuple[FakeService, str]]:
    fake = FakeService()
    with serving(fake.app()) as url:
        yield fake, url


@pytest.fixture(scope="module")
def address(served: tuple[FakeService, str]) -> str:
    return served[1]


@pytest.fixture
def fake(served: tuple[FakeService, str]) -> FakeService:
    """The service behind the page, as it is without a test."""
    vars(served[0]).update(vars(FakeService()))
    return served[0]


@pytest.fixture
def page(chrome: Any, address: str, request: pytest.FixtureRequest) -> Iterator[Page]:
    resize(chrome, 1280, 800)
    chrome.get(address)
    chrome.execute_script("localStorage.clear()")
    wait_for(lambda: chrome.execute_script("return document.readyState") == "complete")
    messages(chrome)
    yield Page(chrome, getattr(request.module, "SHAPE", SHAPE))
    assert messages(chrome) == []  # no errors, and nothing that the policy forbids
