"""Colours with an ICC profile, such as Display P3 of phones, as sRGB."""

from __future__ import annotations

import io
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow
from PIL import ImageCms

# A profile that changes no colour by more than this, of 255, is sRGB under another name.
SAME_AS_SRGB = 3


def to_srgb(rgb: NDArray[np.uint8], profile: bytes) -> NDArray[np.uint8]:
    """Convert (H, W, 3) RGB; a profile that cannot be used leaves the pixels as they are."""
    transform = _transform(profile)
    if transform is None:
        return rgb
    return np.array(ImageCms.applyTransform(Pillow.fromarray(rgb), transform))


@lru_cache(maxsize=16)
def _transform(profile: bytes) -> Any:
    """Return the conversion from a profile; None: it is sRGB, or no profile of RGB."""
    try:
        transform = ImageCms.buildTransform(
            ImageCms.ImageCmsProfile(io.BytesIO(profile)),
            ImageCms.createProfile("sRGB"),
            "RGB",
            "RGB",
            ImageCms.Intent.RELATIVE_COLORIMETRIC,
        )
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return None
    steps = np.arange(0, 256, 51, dtype=np.uint8)
    grid = np.stack(np.meshgrid(steps, steps, steps), axis=-1).reshape(1, -1, 3)
    changed = np.array(ImageCms.applyTransform(Pillow.fromarray(grid), transform))
    difference = np.abs(changed.astype(np.int16) - grid)
    return None if difference.max() <= SAME_AS_SRGB else transform
