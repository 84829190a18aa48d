"""Labelled images, and random views of them for training (paper 2.1).

A view is one affine map and one warp: translation, rotation, scale, shear, a quarter turn, a square
crop and flips; then a change of colour if the settings ask for one. ``draw`` makes every random
decision, and ``apply`` is a pure function of them. The generator depends only on the run, the epoch
and the image, so it does not matter which process augments, or in what order.

``paste`` puts the skin of one photograph in front of another.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from skinray.config.images import AugmentSettings, ColourSettings
from skinray.config.kinds import Stage
from skinray.errors import size_of

Matrix = NDArray[np.float64]
BORDERS = {"reflect": cv2.BORDER_REFLECT_101, "constant": cv2.BORDER_CONSTANT}
# Cosine and sine of the quarter turns, exact.
QUARTER_TURNS = {0: (1, 0), 90: (0, 1), 180: (-1, 0), 270: (0, -1)}


@dataclass(frozen=True)
class Sample:
    """An image and its masks on one pixel grid.

    Attributes
    ----------
    image : (H, W, 3) uint8, RGB.
    masks : by stage, (H, W) uint8: 1 on a nerve, in the dermis, or on skin.
    """

    image: NDArray[np.uint8]
    masks: Mapping[Stage, NDArray[np.uint8]]

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width in pixels."""
        height, width = self.image.shape[:2]
        return int(height), int(width)

    @property
    def nbytes(self) -> int:
        """Bytes of the image and its masks in memory."""
        return self.image.nbytes + sum(mask.nbytes for mask in self.masks.values())


@dataclass(frozen=True)
class Colour:
    """One change of colour. Every value is the natural logarithm of a factor: 0 changes nothing.

    Attributes
    ----------
    exposure : of all values.
    balance : of red, green and blue separately.
    contrast : of the distance from the image's mean.
    saturation : of the distance from each pixel's grey, the mean of its three values.
    gamma : of the exponent applied to values in 0..1; above 0 darkens.
    """

    exposure: float = 0.0
    balance: tuple[float, float, float] = (0.0, 0.0, 0.0)
    contrast: float = 0.0
    saturation: float = 0.0
    gamma: float = 0.0


UNCHANGED = Colour()


@dataclass(frozen=True)
class Transform:
    """One draw of the augmentation. Angles are counter-clockwise in the displayed image.

    Attributes
    ----------
    translate_px : shift to the right and down.
    rotate_deg : rotation about the image's centre.
    scale : magnification about the image's centre.
    shear_deg : angle by which vertical lines lean to the right at the bottom, and angle by which
        horizontal lines fall to the right, about the image's centre.
    orientation_deg : quarter turns of the whole frame, as with :func:`numpy.rot90`.
    crop : position of the crop in the free range of rows and of columns, each in [0, 1].
    flip_columns, flip_rows : mirror the crop left to right, top to bottom.
    colour : applied to the crop, last.
    """

    translate_px: tuple[float, float] = (0.0, 0.0)
    rotate_deg: float = 0.0
    shear_deg: tuple[float, float] = (0.0, 0.0)
    orientation_deg: int = 0
    crop: tuple[float, float] = (0.5, 0.5)
    flip_columns: bool = False
    flip_rows: bool = False
    scale: float = 1.0
    colour: Colour = UNCHANGED


def generator(run_seed: int, epoch: int, image_id: str, repeat: int = 0) -> np.random.Generator:
    """Return the random generator of one view, which depends on these arguments only."""
    key = f"{run_seed}:{epoch}:{repeat}:{image_id}"
    digest = hashlib.sha256(key.encode()).digest()
    return np.random.default_rng(int.from_bytes(digest[:16], "little"))


def draw(rng: np.random.Generator, settings: AugmentSettings) -> Transform:
    """Draw one transform; always the same number of random values, whatever the settings."""
    translate = rng.uniform(-1, 1, 2) * settings.translate_px
    rotate = rng.uniform(-1, 1) * settings.rotate_deg
    shear = rng.uniform(-1, 1, 2) * settings.shear_deg
    # Not ``integers``, which takes no value from the stream if there is only one choice.
    orientation = settings.orientations_deg[int(rng.random() * len(settings.orientations_deg))]
    crop = rng.random(2)
    flips = rng.random(2) < settings.flip_probability
    # Uniform on a logarithmic scale: twice as large is as likely as half as large.
    low, high = settings.scale
    scale = low * (high / low) ** rng.random()
    colour = _draw_colour(rng, settings.colour)
    return Transform(
        translate_px=(float(translate[0]), float(translate[1])),
        rotate_deg=float(rotate),
        shear_deg=(float(shear[0]), float(shear[1]) if settings.shear_axes == "both" else 0.0),
        orientation_deg=orientation,
        crop=(float(crop[0]), float(crop[1])),
        flip_columns=bool(flips[0]),
        flip_rows=bool(flips[1]) and settings.flip_axes == "both",
        scale=float(scale),
        colour=colour,
    )


def _draw_colour(rng: np.random.Generator, most: ColourSettings) -> Colour:
    exposure, red, green, blue, contrast, saturation, gamma = map(float, rng.uniform(-1, 1, 7))
    return Colour(
        exposure=exposure * most.exposure,
        balance=(red * most.balance, green * most.balance, blue * most.balance),
        contrast=contrast * most.contrast,
        saturation=saturation * most.saturation,
        gamma=gamma * most.gamma,
    )


def matrix(transform: Transform, shape: tuple[int, int], settings: AugmentSettings) -> Matrix:
    """Return the affine map from a pixel of the crop to its position in the source.

    Parameters
    ----------
    transform : the draw.
    shape : height and width of the source.
    settings : the side of the crop.

    Returns (2, 3) float64 that maps (x, y, 1): x to the right, y down, pixel centres at whole
    numbers.
    """
    height, width = shape
    turned = (width, height) if transform.orientation_deg in (90, 270) else (height, width)
    source_centre = ((width - 1) / 2, (height - 1) / 2)
    turned_centre = ((turned[1] - 1) / 2, (turned[0] - 1) / 2)
    # Undo the chain from its end: flips, crop, quarter turn, shear, scale, rotation, translation.
    steps = [
        _shift(-transform.translate_px[0], -transform.translate_px[1]),
        _shift(*source_centre),
        _rotation(-transform.rotate_deg),
        np.diag([1 / transform.scale, 1 / transform.scale, 1.0]),
        np.linalg.inv(_shear(transform.shear_deg)),
        _rotation(-transform.orientation_deg),
        _shift(-turned_centre[0], -turned_centre[1]),
        _shift(*_crop_corner(transform, turned, settings.crop_px)),
        _flips(transform, settings.crop_px),
    ]
    whole = np.eye(3)
    for step in steps:
        whole = whole @ step
    return whole[:2]


def apply(transform: Transform, sample: Sample, settings: AugmentSettings) -> Sample:
    """Return the crop of ``settings.crop_px`` that the transform shows of the sample.

    Image and masks go through one affine map straight to the crop, the image with linear and the
    masks with nearest interpolation. Beyond its frame the image is mirrored about the outermost
    pixel centres, or 0 with ``fill="constant"``; an image smaller than the crop is centred and
    filled in the same way. Returned masks are 0 and 1; any value above 0 is true.
    """
    to_source = matrix(transform, sample.shape, settings)
    rows, columns = _window(to_source, sample.shape, settings.crop_px)
    to_source[:, 2] -= (columns.start, rows.start)

    def warp(array: NDArray[Any], interpolation: int) -> NDArray[Any]:
        size = (settings.crop_px, settings.crop_px)
        flags = interpolation | cv2.WARP_INVERSE_MAP
        border = BORDERS[settings.fill]
        return cv2.warpAffine(array, to_source, size, flags=flags, borderMode=border)

    # OpenCV warps four channels faster than three, and all masks faster as bits of one array;
    # converting the part that the crop sees costs less than it saves.
    colours = cv2.cvtColor(sample.image[rows, columns], cv2.COLOR_RGB2RGBA)
    bits = np.zeros(colours.shape[:2], np.uint8)
    for at, mask in enumerate(sample.masks.values()):
        bits |= (mask[rows, columns] > 0).view(np.uint8) << np.uint8(at)
    warped = np.asarray(warp(bits, cv2.INTER_NEAREST), dtype=np.uint8)
    image = np.asarray(
        cv2.cvtColor(warp(colours, cv2.INTER_LINEAR), cv2.COLOR_RGBA2RGB), dtype=np.uint8
    )
    return Sample(
        image=recolour(image, transform.colour),
        masks={
            stage: warped >> np.uint8(at) & np.uint8(1) for at, stage in enumerate(sample.masks)
        },
    )


def _window(to_source: Matrix, shape: tuple[int, int], crop_px: int) -> tuple[slice, slice]:
    """Return the rows and columns of the source that the crop can see.

    If it sees past the image, all of that axis: mirrored pixels may come from anywhere on it.
    """
    last = crop_px - 1
    corners = to_source @ np.array([[0, last, 0, last], [0, 0, last, last], [1, 1, 1, 1]])
    window = []
    for places, size in zip(corners[::-1], shape, strict=True):
        low, high = math.floor(places.min()) - 1, math.ceil(places.max()) + 2
        window.append(slice(low, high) if low >= 0 and high <= size else slice(0, size))
    return window[0], window[1]


def _shift(x: float, y: float) -> Matrix:
    return np.array([[1, 0, x], [0, 1, y], [0, 0, 1]], dtype=np.float64)


def _rotation(degrees: float) -> Matrix:
    """Rotate counter-clockwise in the displayed image (y down); exact at quarter turns."""
    radians = math.radians(degrees)
    exact = QUARTER_TURNS.get(int(degrees % 360)) if degrees % 90 == 0 else None
    cosine, sine = exact or (math.cos(radians), math.sin(radians))
    return np.array([[cosine, sine, 0], [-sine, cosine, 0], [0, 0, 1]], dtype=np.float64)


def _shear(degrees: tuple[float, float]) -> Matrix:
    along_x, along_y = (math.tan(math.radians(angle)) for angle in degrees)
    return np.array([[1, along_x, 0], [along_y, 1, 0], [0, 0, 1]], dtype=np.float64)


def _crop_corner(
    transform: Transform, turned: tuple[int, int], crop_px: int
) -> tuple[float, float]:
    """Return x and y of the crop's first pixel: whole numbers, so that cropping never blurs."""
    corner = []
    for share, size in zip(transform.crop, turned, strict=True):
        free = size - crop_px
        corner.append(free // 2 if free < 0 else min(int(share * (free + 1)), free))
    return corner[1], corner[0]


def _flips(transform: Transform, crop_px: int) -> Matrix:
    x, y = (-1 if flip else 1 for flip in (transform.flip_columns, transform.flip_rows))
    last = crop_px - 1
    return np.array([[x, 0, last * (x < 0)], [0, y, last * (y < 0)], [0, 0, 1]], dtype=np.float64)


def recolour(image: NDArray[np.uint8], colour: Colour) -> NDArray[np.uint8]:
    """Return an RGB image, (H, W, 3), with changes of colour in the order of ``Colour``'s fields.

    Values are clipped to 0..255 before gamma. If nothing changes, it is the image itself.
    """
    if colour == UNCHANGED:
        return image
    gains = np.exp(np.array(colour.balance, dtype=np.float32) + np.float32(colour.exposure))
    values = image * gains
    values += (math.exp(colour.contrast) - 1) * (values - values.mean(dtype=np.float64))
    values += (math.exp(colour.saturation) - 1) * (values - values.mean(axis=2, keepdims=True))
    whole = np.clip(np.rint(values), 0, 255).astype(np.uint8)
    curve = 255 * (np.arange(256) / 255) ** math.exp(colour.gamma)
    return np.asarray(cv2.LUT(whole, np.rint(curve).astype(np.uint8)), dtype=np.uint8)


def paste(front: Sample, back: Sample) -> Sample:
    """Put the skin of ``front`` in front of ``back``; the mask then has the skin of both.

    Both are photographs with a mask of skin; ValueError if their sizes differ.
    """
    if front.shape != back.shape:
        raise ValueError(f"sizes {size_of(front.shape)} and {size_of(back.shape)} differ")
    skin = front.masks["skin"] > 0
    return Sample(
        image=np.where(skin[..., None], front.image, back.image),
        masks={"skin": np.where(skin, front.masks["skin"], back.masks["skin"])},
    )
