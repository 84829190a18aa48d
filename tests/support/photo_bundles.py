"""Photo bundles for tests: a narrow network with random weights that gives both labels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

from skinray.config.photos import WHOLE, SkinSettings
from skinray.config.training import ModelSettings
from skinray.learning.bundle import save
from skinray.learning.bundle.info import BundleInfo
from skinray.models import build

OPTIONS = {"filters": [2, 2], "bottleneck": 3}


def skin_network(seed: int = 0) -> nn.Module:
    """Return a skin U-Net of 2 levels, its map on both sides of the threshold on noise."""
    torch.manual_seed(seed)
    network = build("skin_unet", **OPTIONS).eval()
    with torch.no_grad():
        network.end.weight *= 50
        values = network(torch.rand(1, 3, 128, 128))
        network.end.bias -= values.median() / 2
    return network


def photo_bundle(folder: Path, network: nn.Module | None = None, **changes: Any) -> Path:
    """Write a photo bundle and return its folder."""
    values: dict[str, Any] = {
        "kind": "photo",
        "models": {"skin": ModelSettings(name="skin_unet", options=OPTIONS)},
        "skin": SkinSettings(),
        "predict": WHOLE,
        "um_per_px": None,
        "fold": "clinical",
        "settings": {},
        "metrics": {"Jaccard (mean over 3 test photographs)": 0.5},
        "versions": {"skinray": "0.1.0"},
        "data_fingerprint": "9f2c" * 16,
        "images": 10,
        "subjects": 10,
        "created": "2025-01-01T08:00:00+00:00",
    }
    return save(folder, BundleInfo(**values | changes), {"skin": network or skin_network()})
