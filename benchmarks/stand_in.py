"""Bundles with stand-in networks, and images drawn for them, where no training is needed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from skinray.config.biopsies import CrossingSettings
from skinray.config.training import ModelSettings
from skinray.learning.bundle import save
from skinray.learning.bundle.info import BundleInfo
from skinray.learning.provenance import now, versions
from skinray.models import build

# In drawn images red marks nerves and green the dermis, so each pixel shows the truth.
SEES_RED = {"weights": (60.0, 0.0, 0.0), "bias": -30.0}
SEES_GREEN = {"weights": (0.0, 60.0, 0.0), "bias": -30.0}


def stand_in_bundle(folder: Path, um_per_px: float | None = 0.5, **changes: Any) -> Path:
    """Write a bundle that counts drawn images exactly, almost for free."""
    nerve = ModelSettings(name="pixel", options=SEES_RED)
    dermis = ModelSettings(name="pixel", options=SEES_GREEN)
    return bundle_of(folder, nerve, dermis, um_per_px, **changes)


def bundle_of(
    folder: Path,
    nerve: ModelSettings,
    dermis: ModelSettings,
    um_per_px: float | None = 0.5,
    **changes: Any,
) -> Path:
    """Write a bundle of two networks as they are built, with random weights if they have any."""
    info = BundleInfo(
        models={"nerve": nerve, "dermis": dermis},
        crossings=CrossingSettings(),
        um_per_px=um_per_px,
        fold="none",
        settings={},
        metrics={},
        versions=versions(),
        data_fingerprint="0" * 64,
        images=0,
        subjects=0,
        created=now(),
    ).model_copy(update=changes)
    networks = [build(model.name, **model.options) for model in (nerve, dermis)]
    return save(folder, info, {"nerve": networks[0], "dermis": networks[1]})


def drawn_image(
    seed: int = 0, size: tuple[int, int] = (96, 128), nerves: int = 2
) -> NDArray[np.uint8]:
    """Draw a biopsy of (height, width): dermis below, ``nerves`` lines that cross its edge."""
    height, width = size
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 60, (height, width, 3), np.uint8)
    image[height // 2 :, :, 1] += 180
    nerve = np.zeros(size, np.uint8)
    for at in np.linspace(0, width, nerves + 2)[1:-1].astype(int):
        cv2.line(nerve, (int(at), height // 4), (int(at), 3 * height // 4), 1, 3)
    image[..., 0] += 180 * nerve
    return image
