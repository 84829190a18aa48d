"""No log contains anything of an image, at any level: no name, tag, subject or pixel."""

from __future__ import annotations

import io
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from fastapi.testclient import TestClient
from PIL import Image as Pillow
from PIL.PngImagePlugin import PngInfo

from benchmarks.stand_in import drawn_image
from skinray.config.scoring import ServiceSettings
from skinray.service.app import create_app
from skinray.service.engine import LocalEngine

WORD = "canary"


class Keeper(logging.Handler):
    """Keeps everything that any logger emits, with arguments and tracebacks."""

    def __init__(self) -> None:
        super().__init__(logging.NOTSET)
        self.lines: list[str] = []
        self.setFormatter(logging.Formatter("%(name)s %(message)s"))

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(f"{self.format(record)} {record.args!r}")


@pytest.fixture
def kept() -> Iterator[Keeper]:
    """Every logger at its lowest level, into one list."""
    keeper, root = Keeper(), logging.getLogger()
    loggers = [root, *(logging.getLogger(name) for name in list(logging.root.manager.loggerDict))]
    before = [(one, one.level, one.disabled, one.propagate) for one in loggers]
    root.addHandler(keeper)
    for logger in loggers:
        logger.setLevel(logging.DEBUG)
        logger.disabled, logger.propagate = False, True
    yield keeper
    root.removeHandler(keeper)
    for logger, level, disabled, propagate in before:
        logger.setLevel(level)
        logger.disabled, logger.propagate = disabled, propagate


@pytest.fixture(scope="module")
def tagged() -> dict[str, bytes]:
    """Images with the word wherever a format has room for text; written before logs are kept."""
    pixels = drawn_image()
    exif = Pillow.Exif()
    for tag in (0x010E, 0x013B, 0x8298, 0x010F, 0x0131):  # description, artist, copyright, ...
        exif[tag] = f"{WORD}-tag"
    text = PngInfo()
    text.add_text("Patient", f"{WORD}-text")
    text.add_itxt("Subject", f"{WORD}-itxt", zip=True)
    png, jpeg, tiff, ome = (io.BytesIO() for _ in range(4))
    Pillow.fromarray(pixels).save(png, "PNG", pnginfo=text, exif=exif)
    Pillow.fromarray(pixels).save(jpeg, "JPEG", exif=exif, comment=f"{WORD}-comment")
    tags = [(315, "s", 0, f"{WORD}-artist", True), (65000, "s", 0, f"{WORD}-own", True)]
    tifffile.imwrite(
        tiff, pixels, photometric="rgb", description=f"{WORD}-description", extratags=tags
    )
    tifffile.imwrite(ome, pixels, photometric="rgb", ome=True, metadata={"Name": f"{WORD}-ome"})
    files = {"png": png, "jpeg": jpeg, "tiff": tiff, "ome": ome}
    return {name: stream.getvalue() for name, stream in files.items()}


def spoilt(data: bytes) -> list[bytes]:
    """Return the file truncated, and with a byte changed in its header or its pixels."""
    changed = bytearray(data)
    changed[len(data) // 2] ^= 0xFF
    early = bytearray(data)
    early[60] ^= 0xFF
    return [data[: len(data) * 3 // 4], data[:200], bytes(changed), bytes(early)]


def test_no_log_reveals_anything_about_an_image(
    tagged: dict[str, bytes], bundle: Any, tmp_path: Path, kept: Keeper
) -> None:
    app = create_app(LocalEngine(bundle), ServiceSettings(labels=str(tmp_path / "labels")))
    statuses = set()
    with TestClient(app, raise_server_exceptions=False) as client:
        for kind, data in tagged.items():
            for body in (data, *spoilt(data)):
                files = {"image": (f"{WORD}-{kind}.png", body, f"image/{WORD}")}
                for query in ("", "?include=maps,sweep", f"?{WORD}=1", f"?include={WORD}"):
                    statuses.add(client.post(f"/v1/biopsies{query}", files=files).status_code)
                fields = {"points": "[]", "subject": f"{WORD}-subject"}
                statuses.add(client.post("/v1/labels", files=files, data=fields).status_code)
                fields = {"points": f"[[{WORD}]]", WORD: WORD, "um_per_px": WORD}
                statuses.add(client.post("/v1/labels", files=files, data=fields).status_code)
        client.get(f"/{WORD}?subject={WORD}", headers={"Referer": WORD, "User-Agent": WORD})
        tensor = {"name": WORD, "shape": [1], "datatype": WORD, "data": [WORD]}
        client.post("/v2/models/nerve/infer", json={"inputs": [tensor], "id": WORD})
    assert {200, 422} <= statuses
    ours = [line for line in kept.lines if line.startswith("skinray.service")]
    assert len(ours) > 50
    # What this test's own client logs about its requests is not a log of the service.
    said = [line for line in kept.lines if not line.startswith(("httpx", "httpcore"))]
    assert [line for line in said if WORD in line] == []


def test_no_log_contains_pixels(bundle: Any, kept: Keeper) -> None:
    value = 173  # of every pixel: unlikely to appear by chance in a time, size or status
    pixels = np.full((40, 50, 3), value, np.uint8)
    stream = io.BytesIO()
    Pillow.fromarray(pixels).save(stream, "PNG")
    tensor = {
        "name": "image", "shape": [40, 50, 3], "datatype": "UINT8", "data": [value] * 6000,
    }  # fmt: skip
    with TestClient(create_app(LocalEngine(bundle))) as client:
        assert client.post("/v1/biopsies", files={"image": stream.getvalue()}).status_code == 200
        sent = client.post("/v2/models/nerve/infer", json={"inputs": [tensor]})
        assert sent.status_code == 200
    said = [line for line in kept.lines if not line.startswith(("httpx", "httpcore"))]
    assert [line for line in said if f"{value}, {value}" in line or "\\xad\\xad" in line] == []


def test_the_keeper_receives_every_logger(kept: Keeper) -> None:
    """Otherwise the tests above could not fail."""
    logging.getLogger("PIL.anything").debug("a %s", WORD)
    logging.getLogger("skinray.service").info(WORD)
    assert [line for line in kept.lines if WORD in line] != []
    assert len(kept.lines) == 2
