"""The API page in Chromium: complete, and under the strict content security policy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from skinray.service.app import create_app
from skinray.service.engine import LocalEngine
from tests.support.service.browser import browser, serving, wait_for

pytestmark = pytest.mark.browser

OPERATIONS = (
    "return [...document.querySelectorAll('.opblock-summary-path')].map(e => e.dataset.path)"
)
ASKED = "return performance.getEntriesByType('resource').map(entry => entry.name)"


def test_every_route_is_shown_and_all_files_are_local(bundle: Any, tmp_path: Path) -> None:
    app = create_app(LocalEngine(bundle))
    with serving(app) as address, browser(tmp_path) as chrome:
        chrome.get(address + "docs")
        shown = wait_for(lambda: chrome.execute_script(OPERATIONS))
        assert set(shown) == set(app.openapi()["paths"])
        places = chrome.execute_script(ASKED)
        assert len(places) >= 4
        assert all(place.startswith((address, "data:")) for place in places)
        refused = [
            entry["message"]
            for entry in chrome.get_log("browser")
            if entry["level"] == "SEVERE" and "favicon" not in entry["message"]
        ]
        assert refused == []
