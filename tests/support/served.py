"""Bundles to switch to, and one request."""

from __future__ import annotations

import io
from pathlib import Path

import cv2
import numpy as np
import requests
from numpy.typing import NDArray

from benchmarks.stand_in import SEES_GREEN, bundle_of
from skinray.config.training import ModelSettings
from skinray.learning.bundle import save
from skinray.learning.bundle.info import read_info
from skinray.models import build

BLIND = {"weights": (0.0, 0.0, 0.0), "bias": -30.0}


def blind_bundle(folder: Path) -> Path:
    """Write a bundle that finds no nerves."""
    nerve = ModelSettings(name="pixel", options=BLIND)
    return bundle_of(folder, nerve, ModelSettings(name="pixel", options=SEES_GREEN))


def sick_bundle(folder: Path) -> Path:
    """Write a bundle with correct hashes whose nerve network returns NaN."""
    info = read_info(blind_bundle(folder))
    nerve, dermis = (build(info.models[s].name, **info.models[s].options) for s in info.stages)
    for values in nerve.parameters():
        values.data.fill_(float("nan"))
    return save(folder, info, {"nerve": nerve, "dermis": dermis})


def png(image: NDArray[np.uint8]) -> bytes:
    return bytes(cv2.imencode(".png", image[..., ::-1])[1])


def post(
    address: str, data: bytes, um_per_px: float = 0.5, timeout: float = 60, token: str = ""
) -> requests.Response:
    return requests.post(
        f"{address}/v1/biopsies",
        files={"image": ("image.png", io.BytesIO(data), "image/png")},
        data={"um_per_px": str(um_per_px)},
        headers={"Authorization": f"Bearer {token}"} if token else {},
        timeout=timeout,
    )
