"""Phantoms on real tissue: known nerves drawn onto the pixels of a window of a slide."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np

from skinray.config import PhantomSettings
from skinray.errors import CohortError
from skinray.images.phantom import Phantom, label, plan_scene
from skinray.images.phantom_junction import Float
from skinray.images.phantom_nerves import grow_nerves
from skinray.images.phantom_stain import CHROMOGENS, Subject, draw_subject
from skinray.images.phantom_stroke import stain_nerves
from skinray.images.phantom_texture import clouds
from skinray.images.phantom_window import Window, find_junction, living_tissue


def graft_phantom(settings: PhantomSettings, seed: int, index: int, window: Window) -> Phantom:
    """Draw nerves on a ``window`` of real tissue; equal arguments, equal arrays.

    The junction is the tissue's own. Subject is the section; the strength of stain and the
    density of nerves vary from image to image as between subjects of painted phantoms.

    Raises
    ------
    CohortError : the junction does not pass through the window in one line.
    """
    pixels, codes = window.look()
    junction = find_junction(codes)
    if junction is None:
        raise CohortError(
            f"{window.slide.section}: the junction does not pass through the window at "
            f"x={window.x}, y={window.y} in one line; choose another window"
        )
    donor = draw_subject(settings, seed, index)
    rng = np.random.default_rng([seed, index, 3])
    fibres = grow_nerves(rng, plan_scene(rng, settings, donor, junction, living_tissue(codes)))
    nerves, strengths = stain_nerves(rng, fibres, junction.shape)
    nerves = np.asarray(cv2.GaussianBlur(nerves, (0, 0), donor.blur_px), np.float32)
    uneven = np.clip(1 + 0.12 * clouds(rng, junction.shape, 60), 0.6, 1.3)
    amount = settings.nerve_contrast * donor.strength[2] * 0.8 * nerves * uneven
    density = amount[..., None] * _chromogen(donor)
    view = pixels * np.exp(-2.303 * density)
    view += 0.5 * donor.noise * rng.standard_normal(view.shape, dtype=np.float32)
    image = np.clip(np.round(view), 0, 255).astype(np.uint8)
    donor = replace(donor, name=window.slide.section, group="")
    phantom = label(rng, settings, donor, image, junction, fibres, strengths)
    return replace(phantom, window=f"{window.x},{window.y}")


def _chromogen(donor: Subject) -> Float:
    """Mix the chromogen half and half with the purple of the tissue, which it is seen through."""
    purple = np.array(CHROMOGENS["purple"])
    return np.asarray((donor.stains[2] + purple) / 2, np.float32)
