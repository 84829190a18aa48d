"""A browser on the page of a running service, driven as a user would."""

from __future__ import annotations

import base64
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import uvicorn

webdriver = pytest.importorskip("selenium.webdriver")
from selenium.webdriver.common.by import By  # noqa: E402

WAIT_S = 30.0
DROP = """
const bytes = Uint8Array.from(atob(arguments[1]), (letter) => letter.charCodeAt(0));
const carried = new DataTransfer();
carried.items.add(new File([bytes], arguments[0], {type: "image/png"}));
for (const name of ["dragenter", "dragover", "drop"]) {
  const event = new DragEvent(name, {bubbles: true, cancelable: true, dataTransfer: carried});
  document.getElementById("view").dispatchEvent(event);
}
"""
PIXEL = """
const canvas = document.getElementById("canvas");
const dots = canvas.width / canvas.clientWidth;
const place = [arguments[0] * dots, arguments[1] * dots].map(Math.floor);
return [...canvas.getContext("2d").getImageData(...place, 1, 1).data];
"""
ROWS = """
return [...document.querySelectorAll("#rows tr")].map((row) => row.innerText);
"""
# One call, because the page may redraw the rows at any time.
SELECT = """
const links = [...document.querySelectorAll("#rows th .link")];
const link = links.find((one) => one.innerText.replaceAll("\\n", "") === arguments[0]);
link?.click();
return Boolean(link);
"""
AXE = Path(__file__).parent / "vendor" / "axe.min.js"
CENTRE = "arguments[0].scrollIntoView({block: 'center'})"
NEXT_FRAME = "const done = arguments[0]; requestAnimationFrame(() => requestAnimationFrame(done))"


@contextmanager
def serving(app: Any) -> Iterator[str]:
    """Serve an app on a free port of this machine; yields its address."""
    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=0, log_level="warning"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    wait_for(lambda: server.started)
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}/"
    server.should_exit = True
    thread.join(20)


@contextmanager
def browser(downloads: Path, size: tuple[int, int] = (1280, 800)) -> Iterator[Any]:
    """Start Chromium; skip the test if it is not installed."""
    binary, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if binary is None or driver is None:
        pytest.skip("chromium and chromedriver are not installed")
    options = webdriver.ChromeOptions()
    options.binary_location = binary
    for word in ("headless=new", "no-sandbox", "disable-gpu", "disable-dev-shm-usage"):
        options.add_argument(f"--{word}")
    options.add_argument("--force-prefers-reduced-motion")
    options.add_experimental_option("prefs", {"download.default_directory": str(downloads)})
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    chrome = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    try:
        chrome.set_script_timeout(120)
        resize(chrome, *size)
        yield chrome
    finally:
        chrome.quit()


def resize(chrome: Any, width: int, height: int) -> None:
    """Set the size of the page, without the window's frame."""
    facts = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
    chrome.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", facts)


def wait_for(true: Callable[[], Any], seconds: float = WAIT_S) -> Any:
    """Return the result of ``true`` as soon as it is truthy."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        found = true()
        if found:
            return found
        time.sleep(0.03)
    raise AssertionError(f"not within {seconds:.0f} s")


def messages(chrome: Any) -> list[str]:
    """Return and clear Chromium's complaints, except those about the tests' reading of pixels."""
    log = chrome.get_log("browser")
    return [entry["message"] for entry in log if entry["source"] != "rendering"]


def loaded(downloads: Path, name: str) -> bytes:
    """Return the content of a downloaded file and delete it."""
    path = downloads / name
    wait_for(lambda: path.exists() and path.stat().st_size > 0)
    data = path.read_bytes()
    path.unlink()
    return data


def accessibility(chrome: Any) -> list[str]:
    """Return the serious violations that axe-core finds."""
    chrome.execute_script(AXE.read_text(encoding="utf-8"))
    script = "axe.run(document).then(arguments[0])"
    result = chrome.execute_async_script(script)
    assert len(result["passes"]) > 10  # it did run
    found = result["violations"]
    return [
        f"{one['id']}: {[node['html'] for node in one['nodes']]}"
        for one in found
        if one["impact"] in ("serious", "critical")
    ]


class Page:
    """The page with an image of (height, width) fitted into its view."""

    def __init__(self, chrome: Any, shape: tuple[int, int]) -> None:
        self.chrome = chrome
        self.shape = shape

    def part(self, name: str) -> Any:
        """Return the element with this id."""
        return self.chrome.find_element(By.ID, name)

    def text(self, name: str) -> str:
        """Return the text of an element, visible or not."""
        return str(self.part(name).get_property("textContent")).strip()

    def value(self, name: str) -> str:
        """Return what a field holds."""
        return str(self.part(name).get_property("value"))

    def push(self, name: str) -> None:
        """Click a button, wherever it is in a column that scrolls."""
        self.chrome.execute_script(CENTRE, self.part(name))
        self.part(name).click()

    def type(self, name: str, text: str) -> None:
        """Replace what a field holds and leave it."""
        everything, delete, tab = "\ue009a\ue000", "\ue017", "\ue004"
        self.part(name).send_keys(everything + delete + text + tab)
        self.settle()

    def row(self, name: str) -> str:
        """Return the text of an image's row in the table."""
        rows = self.chrome.execute_script(ROWS)  # one call, as above
        return next(str(row) for row in rows if name in row.replace("\n", ""))

    def select(self, name: str) -> None:
        """Click an image's name in the table."""
        assert self.chrome.execute_script(SELECT, name)
        self.settle()

    def drop(self, path: Path) -> None:
        """Drop a file on the page."""
        self.chrome.execute_script(DROP, path.name, base64.b64encode(path.read_bytes()).decode())

    def choose(self, *paths: Path) -> None:
        """Choose files with the button."""
        self.part("choose").send_keys("\n".join(str(path) for path in paths))

    @property
    def count(self) -> str:
        """The large number."""
        return self.text("count").split()[0]

    def until_count(self, count: int) -> None:
        """Wait until the page shows this count and has drawn the image."""
        wait_for(lambda: self.count == str(count))
        self.settle()

    def settle(self) -> None:
        """Wait for the next frame."""
        self.chrome.execute_async_script(NEXT_FRAME)

    def offset(self, row: float, column: float) -> tuple[float, float]:
        """Return a pixel of the image as x, y from the middle of the view."""
        size = self.part("canvas").size
        zoom = min(size["width"] / self.shape[1], size["height"] / self.shape[0])
        return (column + 0.5 - self.shape[1] / 2) * zoom, (row + 0.5 - self.shape[0] / 2) * zoom

    def click(self, row: float, column: float) -> None:
        """Click a pixel of the image."""
        x, y = self.offset(row, column)
        chain = webdriver.ActionChains(self.chrome)
        chain.move_to_element_with_offset(self.part("canvas"), round(x), round(y)).click().perform()
        self.settle()

    def colour(self, row: float, column: float) -> list[int]:
        """Return the red, green and blue drawn at a pixel of the image."""
        self.settle()
        x, y = self.offset(row, column)
        size = self.part("canvas").size
        found = self.chrome.execute_script(PIXEL, x + size["width"] / 2, y + size["height"] / 2)
        return [int(value) for value in found[:3]]

    def set_threshold(self, value: float) -> None:
        """Move the slider with the keyboard until it shows ``value``."""
        slider = self.part("threshold")
        for _ in range(40):
            now = float(self.text("threshold-value").split()[0])
            if abs(now - value) < 1e-6:
                self.settle()
                return
            slider.send_keys("\ue014" if now < value else "\ue012")  # right, left
        raise AssertionError(f"the slider has no {value}")

    def press(self, keys: str) -> None:
        """Press keys while the image has the focus."""
        self.part("canvas").send_keys(keys)
        self.settle()

    def forgive_refusals(self) -> None:
        """Clear the error responses that a test provoked from Chromium's log."""
        log = messages(self.chrome)
        assert all("status of 4" in message for message in log), log
