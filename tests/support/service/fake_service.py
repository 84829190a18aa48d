"""A service without networks for the page: answers as a test wants, and keeps what it was sent."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from starlette.applications import Starlette
from starlette.datastructures import UploadFile
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from skinray.config.biopsies import CrossingSettings
from skinray.config.training import ModelSettings
from skinray.learning.bundle.info import INFO, BundleInfo
from skinray.service.answers.biopsies import CountWant
from skinray.service.answers.request import THRESHOLDS
from skinray.service.app import PAGE

BUNDLE = "9f2c0d5e" * 8
SHAPE = (240, 320)
COLUMNS = (80, 160, 240)


def drawn_biopsy(*columns: int) -> NDArray[np.uint8]:
    """Dermis (green) in the lower half, one nerve (red) at each column; (H, W, 3) RGB."""
    image = np.full((*SHAPE, 3), 30, np.uint8)
    image[SHAPE[0] // 2 :, :, 1] = 200
    for column in columns:
        image[80:160, column - 1 : column + 2, 0] = 220
    return image


def png(image: NDArray[np.uint8]) -> bytes:
    return bytes(cv2.imencode(".png", image[..., ::-1])[1])


@dataclass
class FakeService:
    """What the service says, to be set by a test, and what the page sent.

    Attributes
    ----------
    bundle : the description of the bundle in service.
    warnings : of an image, by its file's name.
    bare : names of the images that show no tissue; they have no density.
    refusals : the next answers, as (status, headers, detail), before any other.
    most_um_per_px : larger scales are refused, as an image can become too large by its scale.
    labels : the fields of every form of a label.
    asked : how often each route was asked.
    """

    bundle: dict[str, Any] = field(
        default_factory=lambda: {
            "id": BUNDLE,
            "kind": "biopsy",
            "um_per_px": 0.5,
            "synthetic": False,
            "limits_of_agreement": [-2.04, 1.5],
        }
    )
    warnings: dict[str, list[str]] = field(default_factory=dict)
    bare: set[str] = field(default_factory=set)
    refusals: list[tuple[int, dict[str, str], str]] = field(default_factory=list)
    most_um_per_px: float = 20.0
    labels: list[dict[str, str]] = field(default_factory=list)
    asked: Counter[str] = field(default_factory=Counter)

    def app(self) -> Starlette:
        """Return the service as an ASGI application."""
        return Starlette(
            routes=[
                Route("/", lambda _: FileResponse(PAGE / "index.html")),
                Route("/v1/bundle", self._describe),
                Route("/v1/biopsies", self._count, methods=["POST"]),
                Route("/v1/labels", self._labels, methods=["GET", "POST"]),
                Mount("/static", StaticFiles(directory=PAGE)),
            ]
        )

    async def _describe(self, _: Request) -> Response:
        return JSONResponse(self.bundle)

    async def _count(self, request: Request) -> Response:
        if refusal := self._refusal("biopsies"):
            return refusal
        fields, name, data = await _form(request)
        scale = float(fields["um_per_px"]) if "um_per_px" in fields else None
        if scale is not None and scale > self.most_um_per_px:
            return _problem(422, {}, f"too large once resampled from {scale:g} um per pixel")
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), 1)
        if pixels is None:
            return _problem(422, {}, "not an image")
        image = np.asarray(pixels[..., ::-1], np.uint8)
        want = CountWant(maps=True, image=True, boundary=True, sweep=THRESHOLDS)
        maps = {"nerve": image[..., 0] / np.float32(255), "dermis": image[..., 1] / np.float32(255)}
        answer = json.loads(
            want.answer(INFO_OF_FAKE, image, maps, scale, "eager").model_dump_json()
        )
        answer |= {"synthetic": self.bundle["synthetic"], "warnings": self.warnings.get(name, [])}
        if name in self.bare:
            answer["density_per_mm"] = None
        return JSONResponse(answer)

    async def _labels(self, request: Request) -> Response:
        if request.method == "GET":
            return JSONResponse({"enabled": True, "images": len(self.labels)})
        if refusal := self._refusal("labels"):
            return refusal
        fields, _, _ = await _form(request)
        self.labels.append(fields)
        count = len(json.loads(fields["points"]))
        return JSONResponse({"count": count, "replaced": False, "images": len(self.labels)})

    def _refusal(self, route: str) -> Response | None:
        self.asked[route] += 1
        return _problem(*self.refusals.pop(0)) if self.refusals else None


INFO_OF_FAKE = BundleInfo(
    models={"nerve": ModelSettings(name="pixel"), "dermis": ModelSettings(name="pixel")},
    crossings=CrossingSettings(),
    um_per_px=0.5,
    fold="none",
    settings={},
    metrics={},
    versions={},
    data_fingerprint="0" * 64,
    images=0,
    subjects=0,
    created="2026-01-01T00:00:00Z",
    sha256={INFO: BUNDLE},
)


async def _form(request: Request) -> tuple[dict[str, str], str, bytes]:
    """Return the fields of a form, and the name and the bytes of its image."""
    form = await request.form()
    file = form["image"]
    assert isinstance(file, UploadFile)
    fields = {name: value for name, value in form.items() if isinstance(value, str)}
    return fields, file.filename or "", await file.read()


def _problem(status: int, headers: dict[str, str], detail: str) -> Response:
    content = {"title": "Refused", "detail": detail, "status": status}
    return JSONResponse(content, status, headers, media_type="application/problem+json")
