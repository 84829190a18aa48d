"""What differs between subjects, and how stained tissue becomes pixels.

The law of Beer and Lambert turns concentrations of stain into colours; the microscope then adds
uneven light, defocus and noise.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from skinray.config.biopsies import PhantomSettings
from skinray.images.phantoms.junction import Float
from skinray.images.phantoms.texture import clouds

# Optical density of one unit of stain in red, green and blue.
HAEMATOXYLIN = (0.65, 0.60, 0.29)
PROTEIN = (0.16, 0.46, 0.30)
CHROMOGENS = {"brown": (0.43, 0.64, 0.74), "purple": (0.55, 0.80, 0.38)}


@dataclass(frozen=True)
class PhantomSubject:
    """One subject: what all of its images share.

    Attributes
    ----------
    name, group : such as "S01" and "control" or "neuropathy".
    stains : (3, 3) float64, optical density (RGB) of haematoxylin, protein and chromogen.
    strength : (3,) float64, how strongly each stained.
    light : (3,) float64, RGB of the empty slide, 0 to 255.
    density : of nerves; 1 for an average control.
    thickness : of epidermis and stratum corneum; 1 is average.
    pigment : melanin of the basal layer; 1 is average.
    blur_px : standard deviation of the best focus.
    noise : standard deviation of the camera's noise in grey values.
    """

    name: str
    group: str
    stains: NDArray[np.float64]
    strength: NDArray[np.float64]
    light: NDArray[np.float64]
    density: float
    thickness: float
    pigment: float
    blur_px: float
    noise: float


def draw_subject(settings: PhantomSettings, seed: int, number: int) -> PhantomSubject:
    """Draw subject ``number`` (from 0); it is the same in all its images."""
    rng = np.random.default_rng([seed, number, 1])
    group = "neuropathy" if number % 2 == 0 else "control"
    stains = np.array([HAEMATOXYLIN, PROTEIN, CHROMOGENS[settings.chromogen]])
    density = settings.neuropathy_ratio if group == "neuropathy" else 1.0
    return PhantomSubject(
        name=f"S{number + 1:02d}",
        group=group,
        stains=stains * rng.normal(1, 0.07, (3, 3)).clip(0.8, 1.2),
        strength=rng.normal(1, 0.14, 3).clip(0.7, 1.35),
        light=rng.uniform(228, 248) * rng.normal(1, 0.018, 3).clip(0.94, 1.02),
        density=density * float(rng.lognormal(0, 0.25)),
        thickness=float(rng.uniform(0.8, 1.25)),
        pigment=float(rng.uniform(0.2, 1.6)),
        blur_px=float(rng.uniform(0.45, 0.95)),
        noise=float(rng.uniform(1.4, 3.4)),
    )


def transmit(layers: list[Float], subject: PhantomSubject) -> Float:
    """Convert three concentrations (H, W) to linear RGB of 0 to 255, (H, W, 3) float32."""
    density = np.zeros((*layers[0].shape, 3), np.float32)
    for layer, stain, strength in zip(layers, subject.stains, subject.strength, strict=True):
        density += layer[..., None] * (stain * strength).astype(np.float32)
    return np.asarray(np.exp(-2.303 * density) * subject.light.astype(np.float32), np.float32)


def photograph(
    rng: np.random.Generator, scene: Float, blur_px: float, noise: float
) -> NDArray[np.uint8]:
    """Return ``scene`` (H, W, 3) as a microscope's camera sees it: uneven light, focus, noise."""
    shape = (scene.shape[0], scene.shape[1])
    sharp = cv2.GaussianBlur(scene, (0, 0), blur_px)
    soft = cv2.GaussianBlur(scene, (0, 0), blur_px + 1.3)
    out = np.clip(0.28 + 0.4 * clouds(rng, shape, 170), 0, 1)[..., None]
    view = sharp + out * (soft - sharp)
    row, column = np.mgrid[-1 : 1 : shape[0] * 1j, -1 : 1 : shape[1] * 1j].astype(np.float32)
    east, south, dim = rng.normal(0, 0.035), rng.normal(0, 0.035), rng.uniform(0, 0.06)
    light = 1 + east * column + south * row - dim * (row**2 + column**2)
    light += 0.02 * clouds(rng, shape, 300)
    view *= light[..., None]
    grain = rng.standard_normal(scene.shape, dtype=np.float32)
    grain = 0.6 * grain + 0.9 * cv2.GaussianBlur(grain, (0, 0), 0.8)
    view += noise * grain * np.sqrt(np.maximum(view, 8) / 160)
    return np.asarray(np.clip(np.round(view), 0, 255), np.uint8)
