"""Drawn photographs of skin: a warm ellipse on a cool ground, with its mask."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow


def write_photos(folder: Path, count: int, seed: int = 0, size: tuple[int, int] = (60, 80)) -> Path:
    """Write ``images/*.jpg`` and ``masks/*.png`` of (height, width); the same for a seed."""
    for part in ("images", "masks"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    for at in range(count):
        image, mask = drawn_photo([seed, at], size)
        Pillow.fromarray(image).save(folder / "images" / f"{at:03d}.jpg", quality=95)
        Pillow.fromarray(mask).save(folder / "masks" / f"{at:03d}.png")
    return folder


def drawn_photo(
    seed: int | list[int] = 0, size: tuple[int, int] = (60, 80)
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Draw a photograph, (height, width, 3) RGB, and its mask, 255 on skin."""
    rng = np.random.default_rng(seed)
    mask = np.zeros(size, np.uint8)
    centre = [int(rng.integers(side // 4, 3 * side // 4)) for side in size[::-1]]
    axes = [int(rng.integers(side // 6, side // 3)) for side in size[::-1]]
    cv2.ellipse(mask, centre, axes, float(rng.uniform(0, 180)), 0, 360, 255, -1)
    cool, warm = rng.integers(20, 120, 3), rng.integers((150, 90, 60), (230, 170, 130))
    image = np.where(mask[..., None] > 0, warm, cool) + rng.normal(0, 8, (*size, 3))
    return image.clip(0, 255).astype(np.uint8), mask
