"""Malicious requests: paths, headers, forms, bombs and pickles; each gets a plain refusal."""

from __future__ import annotations

import asyncio
import io
import pickle
import resource
import struct
import threading
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fastapi.testclient import TestClient

from benchmarks.stand_in import drawn_image
from skinray.config.scoring import ServiceSettings
from skinray.service.app import create_app
from skinray.service.engine import LocalEngine
from tests.support.service.asgi_driver import BOUNDARY, Exchange, GatedEngine, form
from tests.support.service.image_files import as_file

URL = "/v1/biopsies"


def problem(response: Any, *reasons: str) -> str:
    assert response.headers["content-type"] == "application/problem+json", response.text[:300]
    assert response.json()["reason"] in reasons, response.text[:300]
    return str(response.json()["detail"])


@pytest.mark.parametrize(
    "path",
    ["/static/../api.py", "/static/%2e%2e/api.py", "/static/..%2fapi.py", "/static/%2e%2e%2fapi.py",
     "/static//etc/passwd", "/static/%2fetc%2fpasswd", "/static/..\\api.py",
     "/static/main.js%00.png",
     "/docs/../api.py", "/docs/..%2f..%2fapi.py", "/docs/%2fetc%2fpasswd",
     "/v2/models/..%2f..%2fetc/infer", "/v2/models/%00", "/static/" + "a" * 5000],
)  # fmt: skip
def test_no_path_leads_out_of_the_pages_folder(client: TestClient, path: str) -> None:
    for method in ("GET", "POST"):
        response = client.request(method, path)
        problem(response, "not_found", "method_not_allowed", "invalid_field")
        assert "create_app" not in response.text
        assert "root:" not in response.text


def test_the_pages_folder_contains_no_links() -> None:
    from skinray.service.app import PAGE

    assert [file for file in PAGE.rglob("*") if file.is_symlink()] == []


EVIL = "a\r\nX-Evil: 1\r\n\r\n<script>"


def test_no_header_is_copied_into_a_response(bundle: Any) -> None:
    """Line breaks in every part of a request; a real server would refuse them, so none is used."""
    app = create_app(LocalEngine(bundle), ServiceSettings(max_body_bytes=100_000))
    names = ("X-Request-ID", "Accept", "Host", "Origin", "Referer", "Range", "If-None-Match",
             "X-Forwarded-For", "Sec-Fetch-Site", "Content-Type")  # fmt: skip
    for path in (URL, "/", "/docs", "/static/main.js", "/nowhere\r\nX-Evil: 1", "/v1/labels"):
        for name in names:
            for method in ("GET", "POST"):
                sent = Exchange([form(b"none")], {name: EVIL}, path, method)
                asyncio.run(sent.through(app))
                for key, value in sent.answer_headers.items():
                    assert "evil" not in (key + value).lower(), (path, name)
                    assert "\r" not in key + value
                    assert "\n" not in key + value


def test_a_hostile_file_name_is_never_returned(client: TestClient) -> None:
    for name in ("../../x.png", EVIL.replace("\r\n", "%0d%0a"), "<b>canary</b>.png", "a" * 3000):
        for data in (as_file(drawn_image()), b"no image"):
            answer = client.post(URL, files={"image": (name, data)})
            assert name not in answer.text + str(answer.headers)
            assert "canary" not in answer.text


def part(head: str, body: bytes = b"x") -> bytes:
    return f"--{BOUNDARY}\r\n{head}\r\n\r\n".encode() + body + b"\r\n"


FIELD = 'Content-Disposition: form-data; name="f{}"'
END = f"--{BOUNDARY}--\r\n".encode()
FORMS = {
    "a thousand fields": b"".join(part(FIELD.format(n)) for n in range(1000)) + END,
    "twenty files": b"".join(part(FIELD.format(n) + '; filename="a"') for n in range(20)) + END,
    "a field of two megabytes": part(FIELD.format(0), b"x" * (2 << 20)) + END,
    "a head of a megabyte": part("X: " + "y" * (1 << 20)) + END,
    "a thousand heads": part("\r\n".join(f"X-{n}: y" for n in range(1000))) + END,
    "a name of a megabyte": part(FIELD.format("y" * (1 << 20))) + END,
    "no name": part("Content-Disposition: form-data") + END,
    "no head": part("X: y") + END,
    "no end": part(FIELD.format(0)),
    "nothing but line ends": b"\r\n" * 50_000,
    "dashes": b"--" * 50_000,
    "a form in a form": part(
        'Content-Disposition: form-data; name="image"\r\nContent-Type: multipart/mixed; boundary=b',
        b"--b\r\n\r\nx\r\n--b--",
    )
    + END,
}


@pytest.mark.parametrize("name", FORMS)
def test_forms_too_large_or_broken_are_refused(bundle: Any, name: str) -> None:
    app = create_app(LocalEngine(bundle), ServiceSettings(max_body_bytes=4 << 20))
    kind = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}
    with TestClient(app) as client:
        for path in (URL, "/v1/labels"):
            answer = client.post(path, content=FORMS[name], headers=kind)
            problem(answer, "bad_request", "invalid_field", "too_many_bytes")


@pytest.mark.parametrize(
    "kind",
    ["multipart/form-data", "multipart/form-data; boundary=", "multipart/form-data; boundary=\x80",
     "multipart/form-data; boundary=" + "b" * 5000, "multipart/mixed; boundary=b", "text/plain",
     "multipart/form-data; boundary=parted; charset=utf-7", "application/x-www-form-urlencoded"],
)  # fmt: skip
def test_forms_of_another_kind_are_refused(client: TestClient, kind: str) -> None:
    answer = client.post(
        URL, content=b"--b\r\n\r\n", headers={"Content-Type": kind.encode("latin-1")}
    )
    problem(answer, "unsupported_media_type", "bad_request", "invalid_field")


def bomb() -> bytes:
    """A PNG of 2.5 gigapixels in about 300 kB."""
    side = 50_000
    packer = zlib.compressobj(9)
    packed = packer.compress(bytes(1 + side // 8) * 4000) + packer.flush()

    def chunk(kind: bytes, body: bytes) -> bytes:
        check = zlib.crc32(kind + body)
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", check)

    head = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", packed) + chunk(b"IEND", b"")
    )


def test_a_decompression_bomb_is_refused_by_its_header(client: TestClient) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for _ in range(5):
        problem(client.post(URL, files={"image": bomb()}), "too_many_pixels")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # KiB


def test_compressed_bodies_are_not_decompressed(client: TestClient) -> None:
    """A body declared as gzip is refused unread, so that no bomb is unpacked."""
    packed = zlib.compress(b"--parted\r\n" * 1_000_000)
    headers = {
        "Content-Encoding": "gzip", "Content-Type": f"multipart/form-data; boundary={BOUNDARY}",
    }  # fmt: skip
    answer = client.post(URL, content=packed, headers=headers)
    assert "Content-Encoding" in problem(answer, "unsupported_media_type")


class Runs:
    """Leaves a file behind if it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return (Path.touch, (self.mark,))


def test_pickles_are_refused_and_never_run(client: TestClient, tmp_path: Path) -> None:
    mark = tmp_path / "ran"
    packed, array = io.BytesIO(), io.BytesIO()
    torch.save(Runs(mark), packed)
    np.save(array, np.array([Runs(mark)], object), allow_pickle=True)
    for data in (pickle.dumps(Runs(mark)), packed.getvalue(), array.getvalue()):
        problem(client.post(URL, files={"image": data}), "unreadable_image")
        problem(
            client.post("/v2/models/nerve/infer", content=data),
            "bad_request", "bad_tensor", "invalid_field",
        )  # fmt: skip
    assert not mark.exists()
    pickle.loads(pickle.dumps(Runs(mark)))
    assert mark.exists()  # else the test could not fail


def test_slow_senders_lose_their_slots_to_others(bundle: Any) -> None:
    """Each slot that a slow sender takes is freed after ``timeout_s``."""

    async def run() -> None:
        engine = GatedEngine(bundle)
        engine.gate.set()
        app = create_app(engine, ServiceSettings(max_in_flight=2, max_queued=0, timeout_s=4))

        async def drips() -> None:
            await asyncio.Event().wait()

        body = form(as_file(drawn_image()))
        slow = [asyncio.create_task(Exchange([b"--", drips]).through(app)) for _ in range(2)]
        await asyncio.sleep(0.1)
        assert (await Exchange([body]).through(app)).status == 503
        assert [one.status for one in await asyncio.gather(*slow)] == [408, 408]
        assert (await Exchange([body]).through(app)).status == 200

    asyncio.run(run())


def test_refusals_do_not_add_threads(client: TestClient) -> None:
    for _ in range(3):
        client.post(URL, files={"image": b"none"})
    before = threading.active_count()
    for _ in range(30):
        client.post(URL, files={"image": b"none"})
        client.get("/static/..%2fapi.py")
    assert threading.active_count() <= before + 2
