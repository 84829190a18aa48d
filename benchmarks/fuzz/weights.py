"""More targets: weights, bundles, and whole requests to the service."""

from __future__ import annotations

import asyncio
import io
import json
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save

from benchmarks.fuzz.targets import TARGETS, GarbageError, Target, photo, saved, written
from benchmarks.photos.phone_files import random_state, tflite_file
from benchmarks.stand_in import stand_in_bundle
from skinray.config.scoring import ServiceSettings
from skinray.learning import bundle as bundles
from skinray.learning.bundle.info import read_info
from skinray.models.weights.files import read_state
from skinray.service.app import create_app
from skinray.service.engine import LocalEngine

PARTED = "parted"


def state() -> dict[str, torch.Tensor]:
    """Return a small state of a network."""
    return {"a.weight": torch.arange(12.0).reshape(3, 4), "a.bias": torch.ones(3).half()}


def weights_files() -> list[bytes]:
    """Weights as safetensors, as torch saves them (with a pickle inside), and a phone's network."""
    old, new = io.BytesIO(), io.BytesIO()
    torch.save(state(), new)
    torch.save(state(), old, _use_new_zipfile_serialization=False)
    phone = tflite_file(random_state(blocks=(2, 2, 3), stem=2, pyramid=4))
    return [save(state()), new.getvalue(), old.getvalue(), phone]


def run_weights(data: bytes, folder: Path) -> None:
    """Read under both names, so that each reader sees each kind of file."""
    errors = []
    for name in ("weights.safetensors", "weights.pth"):
        try:
            found, _ = read_state(written(folder / name, data))
        except TARGETS["weights"].allowed as error:
            errors.append(error)
            continue
        if not all(isinstance(value, torch.Tensor) for value in found.values()):
            raise GarbageError("no tensors")
    if errors:
        raise errors[0]


@cache
def sound_bundle() -> Path:
    """Return a bundle of stand-ins, written once per process."""
    return stand_in_bundle(Path(tempfile.mkdtemp(prefix="fuzz-")) / "bundle")


def bundle_files() -> list[bytes]:
    """Return the bundle's description."""
    return [(sound_bundle() / "bundle.json").read_bytes()]


def run_bundle(data: bytes, folder: Path) -> None:
    """Read a description: what is let through is the one that was written."""
    info = read_info(written(folder / "bundle.json", data).parent)
    if info.id != read_info(sound_bundle()).id:
        raise GarbageError("an altered bundle is let through")


def request_files() -> list[bytes]:
    """Bodies of all three routes that take one: head, then a line, then the body."""
    image = saved(photo(), "PNG")
    head = 'Content-Disposition: form-data; name="image"; filename="a.png"'
    scale = f'--{PARTED}\r\nContent-Disposition: form-data; name="um_per_px"\r\n\r\n0.5\r\n'
    points = f'--{PARTED}\r\nContent-Disposition: form-data; name="points"\r\n\r\n[[24,5]]\r\n'
    form = f"--{PARTED}\r\n{head}\r\n\r\n".encode() + image + b"\r\n"
    end = f"--{PARTED}--\r\n".encode()
    tensor = {
        "inputs": [
            {"name": "image", "shape": [2, 3, 3], "datatype": "UINT8", "data": list(range(18))}
        ],
        "outputs": [{"name": "count", "parameters": {"binary_data": True}}],
    }
    kind = f"multipart/form-data; boundary={PARTED}"
    return [
        f"/v1/biopsies|{kind}\n".encode() + form + scale.encode() + end,
        f"/v1/labels|{kind}\n".encode() + form + points.encode() + end,
        b"/v2/models/biopsies/infer|application/json\n" + json.dumps(tensor).encode(),
    ]


@cache
def service() -> Any:
    """Return the service with stand-in networks and small limits."""
    folder = tempfile.mkdtemp(prefix="fuzz-labels-")
    limits = ServiceSettings(max_body_bytes=100_000, max_pixels=20_000, timeout_s=5, labels=folder)
    return create_app(LocalEngine(bundles.load(sound_bundle(), "cpu")), limits)


def run_request(data: bytes, folder: Path) -> None:
    """Send it: an answer or a refusal, never a failure of the service."""
    head, _, body = data.partition(b"\n")
    path, _, kind = head.partition(b"|")
    status, answer = asyncio.run(sent(path.decode("latin-1"), kind.strip(b"\r\n\0"), body))
    if status >= 500 or status < 200:
        raise GarbageError(f"status {status}: {answer[:300]!r}")


async def sent(path: str, kind: bytes, body: bytes) -> tuple[int, bytes]:
    """Pass one request through the application; returns its status and body."""
    messages: list[dict[str, Any]] = []
    pieces = [body[at : at + 2000] for at in range(0, len(body), 2000)] or [b""]

    async def receive() -> dict[str, Any]:
        if not pieces:  # the client waits for its answer; if it left, the work would end
            await asyncio.Event().wait()
        piece = pieces.pop(0)
        return {"type": "http.request", "body": piece, "more_body": bool(pieces)}

    async def send(message: dict[str, Any]) -> None:
        messages.append(message)

    scope = {
        "type": "http", "http_version": "1.1", "method": "POST", "path": path, "raw_path": b"",
        "query_string": b"", "root_path": "", "scheme": "http", "server": ("here", 80),
        "client": ("there", 1), "headers": [(b"content-type", kind)],
    }  # fmt: skip
    await service()(scope, receive, send)
    answer = b"".join(message.get("body", b"") for message in messages[1:])
    return messages[0]["status"], answer


TARGETS["weights"] = Target("bytes", weights_files, run_weights)
TARGETS["bundle"] = Target("text", bundle_files, run_bundle)
TARGETS["request"] = Target("text", request_files, run_request)
