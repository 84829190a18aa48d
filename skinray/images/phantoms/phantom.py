"""Drawn biopsies with exact truth and two experts' labels, on drawn skin or real tissue."""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from skinray.config.biopsies import PhantomSettings
from skinray.config.kinds import Stage
from skinray.errors import CohortError, SettingsError
from skinray.images.augment import Sample
from skinray.images.cohort.polylines import Points
from skinray.images.phantoms.experts import draw_lines, second_opinion, shaky, trace_by_hand
from skinray.images.phantoms.junction import Bool, Float, Junction, draw_junction
from skinray.images.phantoms.nerves import NerveField, grow_nerves
from skinray.images.phantoms.skin import lay_skin, paint_skin
from skinray.images.phantoms.strokes import stain_nerves, strength_at
from skinray.images.phantoms.subject import (
    CHROMOGENS,
    PhantomSubject,
    draw_subject,
    photograph,
    transmit,
)
from skinray.images.phantoms.texture import clouds
from skinray.images.phantoms.walk import Fibre
from skinray.images.phantoms.windows import Window, find_junction, living_tissue

SMALLEST_PX = 192


@dataclass(frozen=True)
class Phantom:
    """A biopsy whose nerves, dermis and crossings are known.

    Attributes
    ----------
    image : (H, W, 3) uint8, RGB.
    nerve_truth : (H, W) bool, exact centre-lines 3 px wide.
    dermis_truth : (H, W) bool.
    nerve_label : (H, W) bool, as an expert traced it by hand.
    dermis_label : (H, W) bool, below the boundary that the expert drew.
    crossings : (N, 2) float64, row and column of the true crossings.
    count : N.
    second_count : a second expert's count.
    um_per_px : scale.
    boundary_line : (M, 2) float64, x and y of the junction from frame to frame.
    boundary_label : (M, 2) float64, the same as the expert drew it.
    subject, group : the subject, and "control" or "neuropathy" (empty: unknown).
    window : x,y on the slide of the tissue that it is drawn on; empty: drawn skin.
    """

    image: NDArray[np.uint8]
    nerve_truth: Bool
    dermis_truth: Bool
    nerve_label: Bool
    dermis_label: Bool
    crossings: Points
    count: int
    second_count: int
    um_per_px: float
    boundary_line: Points
    boundary_label: Points
    subject: str
    group: str
    window: str = ""

    @property
    def sample(self) -> Sample:
        """The image with the expert's labels, as used for training."""
        masks: dict[Stage, NDArray[np.uint8]] = {
            "nerve": self.nerve_label.astype(np.uint8),
            "dermis": self.dermis_label.astype(np.uint8),
        }
        return Sample(self.image, masks)


def make_phantom(
    settings: PhantomSettings, seed: int, index: int, size: tuple[int, int] = (1600, 1200)
) -> Phantom:
    """Make image ``index`` of the cohort ``seed``; equal arguments, equal arrays.

    ``size`` is width and height in pixels; a smaller one is a smaller field at the same scale.
    Raises SettingsError if ``size`` is too small for the layers of the skin, or ``seed`` is
    negative.
    """
    check_request(seed, size)
    subject = draw_subject(settings, seed, index % settings.subjects)
    rng = np.random.default_rng([seed, index, 2])
    junction = draw_junction(rng, size)
    skin = lay_skin(rng, junction, subject.thickness)
    fibres = grow_nerves(rng, plan_nerves(rng, settings, subject, junction, skin.living))
    layers = paint_skin(rng, skin, settings.clutter, subject.pigment)
    nerves, strengths = stain_nerves(rng, fibres, junction.shape)
    layers[2] += settings.nerve_contrast * 0.76 * nerves
    image = photograph(rng, transmit(layers, subject), subject.blur_px, subject.noise)
    return label(rng, settings, subject, image, junction, fibres, strengths)


def graft_phantom(settings: PhantomSettings, seed: int, index: int, window: Window) -> Phantom:
    """Draw nerves on a ``window`` of real tissue; equal arguments, equal arrays.

    The junction is the tissue's own, and the subject is the section. The strength of stain and
    the density of nerves vary between images as between subjects of drawn phantoms.

    Raises CohortError if the junction does not cross the window in one line.
    """
    pixels, codes = window.look()
    junction = find_junction(codes)
    if junction is None:
        raise CohortError(
            f"{window.slide.section}: the junction does not cross the window at "
            f"x={window.x}, y={window.y} in one line: choose another window"
        )
    donor = draw_subject(settings, seed, index)
    rng = np.random.default_rng([seed, index, 3])
    fibres = grow_nerves(rng, plan_nerves(rng, settings, donor, junction, living_tissue(codes)))
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


def check_request(seed: int, size: tuple[int, int]) -> None:
    """Raise SettingsError if the size or the seed cannot be drawn."""
    if min(size) < SMALLEST_PX:
        raise SettingsError(
            f"phantom of {size[0]}x{size[1]} px has no room for the layers of the skin: "
            f"use at least {SMALLEST_PX} px in both directions"
        )
    if seed < 0:
        raise SettingsError(f"phantom seed {seed}: use 0 or a positive number")


def plan_nerves(
    rng: np.random.Generator,
    settings: PhantomSettings,
    subject: PhantomSubject,
    junction: Junction,
    living: Bool,
) -> NerveField:
    """Draw how many nerves grow in one field of ``subject``; its images vary."""
    mean = expected_crossings(settings, junction) * subject.density * rng.gamma(8, 1 / 8)
    others = (0.4 + 0.6 * min(1.0, subject.density)) * rng.gamma(5, 1 / 5)
    return NerveField(junction, living, int(rng.poisson(mean)), float(others))


def expected_crossings(settings: PhantomSettings, junction: Junction) -> float:
    """Return the mean number of crossings of a control in a field with this ``junction``."""
    return float(settings.mean_crossings * (junction.length_px / 1600) ** settings.field_exponent)


def label(
    rng: np.random.Generator,
    settings: PhantomSettings,
    subject: PhantomSubject,
    image: NDArray[np.uint8],
    junction: Junction,
    fibres: list[Fibre],
    strengths: list[NDArray[np.float64]],
) -> Phantom:
    """Add truth and experts' labels to an ``image`` of known ``fibres``."""
    shape = junction.shape
    passes = np.vstack([np.empty((0, 2)), *(fibre.passes for fibre in fibres)])
    seen = np.array([
        strength_at(fibre, strength, at)
        for fibre, strength in zip(fibres, strengths, strict=True)
        for at in fibre.passes
    ])  # fmt: skip
    drawn = shaky(rng, junction.line, 1.3, 24)
    drawn[[0, -1]] = junction.line[[0, -1]]
    return Phantom(
        image=image,
        nerve_truth=draw_lines([fibre.path for fibre in fibres], shape),
        dermis_truth=junction.dermis,
        nerve_label=draw_lines(trace_by_hand(rng, fibres, strengths), shape),
        dermis_label=_redraw(junction, drawn),
        crossings=passes[:, ::-1],
        count=len(passes),
        second_count=second_opinion(rng, seen, expected_crossings(settings, junction)),
        um_per_px=settings.um_per_px,
        boundary_line=junction.line,
        boundary_label=drawn,
        subject=subject.name,
        group=subject.group,
    )


def _redraw(junction: Junction, line: Points) -> Bool:
    """Return the dermis divided by ``line`` instead of the true junction."""
    height, width = junction.shape
    wall = np.ones((height + 2, width + 2), np.uint8)
    wall[1:-1, 1:-1] = 0
    cv2.polylines(wall, [np.round(line * 16 + 16).astype(np.int32)], False, 1, 1, cv2.LINE_4, 4)
    _, parts = cv2.connectedComponents(1 - wall, connectivity=4)
    parts = parts[1:-1, 1:-1]
    inside = np.bincount(parts[junction.dermis], minlength=parts.max() + 1)
    outside = np.bincount(parts[~junction.dermis], minlength=parts.max() + 1)
    dermis = (inside > outside)[parts]
    dermis[parts == 0] = True
    return np.asarray(dermis)


def _chromogen(donor: PhantomSubject) -> Float:
    """Mix the chromogen half and half with the purple of the tissue around it."""
    purple = np.array(CHROMOGENS["purple"])
    return np.asarray((donor.stains[2] + purple) / 2, np.float32)
