"""Phantoms as many laboratories would make them: stain, polarity, focus, camera and anatomy vary.

A network that learns from these cannot rely on one stain or one microscope, so it starts better on
images it has not seen (domain randomisation, Tobin et al., 2017).
"""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
from numpy.typing import NDArray

from skinray.config.biopsies import PhantomSettings
from skinray.images.augment import Sample
from skinray.images.phantoms.phantom import make_phantom
from skinray.images.phantoms.texture import clouds

INVERTED, OTHER_HUE, BLURRED, NOISY, COMPRESSED, UNEVEN = 0.12, 0.6, 0.5, 0.5, 0.3, 0.4


def varied_phantom(seed: int, index: int, size: tuple[int, int]) -> Sample:
    """Draw one phantom of ``size`` (width, height) with the expert's labels, stained at random.

    Equal arguments, equal arrays.
    """
    rng = np.random.default_rng([seed, index, 5])
    settings = PhantomSettings(
        subjects=1 << 30,  # each image has a subject of its own
        mean_crossings=float(rng.uniform(4, 40)),
        neuropathy_ratio=float(rng.uniform(0.2, 1)),
        nerve_contrast=float(np.exp(rng.uniform(-0.7, 0.5))),
        clutter=float(rng.uniform(0, 2)),
        chromogen=("brown", "purple")[int(rng.integers(2))],
    )
    sample = make_phantom(settings, seed, index, size).sample
    return replace(sample, image=restained(rng, sample.image))


def restained(rng: np.random.Generator, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return an (H, W, 3) image in other colours, sharpness and quality; shapes stay in place."""
    view = image.astype(np.float32)
    if rng.random() < OTHER_HUE:
        view = _other_hue(view, float(rng.uniform(-np.pi, np.pi)), float(rng.uniform(0.2, 1.5)))
    if rng.random() < INVERTED:  # nerves bright on dark, as in fluorescence
        view = 255 - view
    if rng.random() < UNEVEN:
        view *= 1 + rng.uniform(0.05, 0.2) * clouds(rng, image.shape[:2], 120)[..., None]
    if rng.random() < BLURRED:
        view = np.asarray(cv2.GaussianBlur(view, (0, 0), float(rng.uniform(0.3, 1.6))), np.float32)
    if rng.random() < NOISY:
        view += rng.uniform(1, 9) * rng.standard_normal(view.shape, dtype=np.float32)
    result = np.clip(np.round(view), 0, 255).astype(np.uint8)
    if rng.random() < COMPRESSED:
        quality = int(rng.integers(30, 95))
        _, packed = cv2.imencode(".jpg", result, [cv2.IMWRITE_JPEG_QUALITY, quality])
        result = np.asarray(cv2.imdecode(packed, cv2.IMREAD_COLOR), np.uint8)
    return result


def _other_hue(view: NDArray[np.float32], angle: float, saturation: float) -> NDArray[np.float32]:
    """Turn the colours of an (H, W, 3) image of 0 to 255 about the grey axis of CIE L*a*b*."""
    lab = cv2.cvtColor(np.clip(view / 255, 0, 1).astype(np.float32), cv2.COLOR_RGB2LAB)
    a, b = lab[..., 1].copy(), lab[..., 2].copy()
    lab[..., 1] = saturation * (np.cos(angle) * a - np.sin(angle) * b)
    lab[..., 2] = saturation * (np.sin(angle) * a + np.cos(angle) * b)
    return np.asarray(255 * cv2.cvtColor(lab, cv2.COLOR_LAB2RGB), np.float32)
