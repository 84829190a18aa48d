"""Pictures inside an answer in JSON: PNG files as text."""

from __future__ import annotations

import base64

import numpy as np
from numpy.typing import NDArray
from pydantic import JsonValue

PNG_SCHEMA: dict[str, JsonValue] = {"contentEncoding": "base64", "contentMediaType": "image/png"}


def as_text(data: bytes | None) -> str | None:
    """Return a file as base64; None stays None."""
    return None if data is None else base64.b64encode(data).decode("ascii")


def to_grey(probability: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Return a probability map as (H, W) uint8, 255 for 1."""
    return np.asarray(np.rint(probability * np.float32(255)), np.uint8)
