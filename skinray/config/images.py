"""How images are read, augmented for training, and passed through the networks."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from skinray.config.base import Settings


class ReadSettings(Settings):
    """How images are decoded."""

    max_pixels: int = Field(
        250_000_000,
        gt=0,
        description="larger images are refused from their header, before they are decoded",
    )
    bits: int | None = Field(
        None,
        ge=8,
        le=16,
        description="depth of files with 16 bits per sample that do not declare it, such as 12",
    )


class PredictSettings(Settings):
    """How the networks see a whole image. Stored in the bundle, so every count uses the same."""

    max_pixels: int = Field(
        3_000_000, ge=4096, description="larger images go through the networks in tiles"
    )
    tile_px: int = Field(1536, ge=64, multiple_of=32, description="side of a tile")
    overlap_px: int = Field(
        384, ge=32, multiple_of=32, description="overlap of neighbouring tiles, which is blended"
    )
    mirrored: Literal[1, 2, 4] = Field(
        1,
        description="views whose maps are averaged: 1, the image; 2, also mirrored left to right; "
        "4, both also upside down",
    )

    @model_validator(mode="after")
    def _tiles_move_on(self) -> Self:
        if 2 * self.overlap_px > self.tile_px:
            raise ValueError(
                f"overlap_px {self.overlap_px} is more than half of tile_px {self.tile_px}"
            )
        return self


class ColourSettings(Settings):
    """Changes of colour in augmentation, which neither paper makes.

    Each setting is the natural logarithm of the largest factor: with 0.35, values are multiplied
    or divided by up to 1.42. 0: no change.
    """

    exposure: float = Field(0, ge=0, le=2, description="of all values")
    balance: float = Field(0, ge=0, le=2, description="of red, green and blue separately")
    contrast: float = Field(0, ge=0, le=2, description="of the distance from the image's mean")
    saturation: float = Field(0, ge=0, le=2, description="of the distance from each pixel's grey")
    gamma: float = Field(0, ge=0, le=2, description="of the exponent applied to values in 0..1")


class AugmentSettings(Settings):
    """Online augmentation (paper 2.1), composed into one affine map and one warp."""

    translate_px: float = Field(100, ge=0)
    rotate_deg: float = Field(10, ge=0, le=180)
    scale: tuple[float, float] = Field(
        (1.0, 1.0), description="smallest and largest magnification about the image's centre"
    )
    shear_deg: float = Field(5, ge=0, lt=60)
    shear_axes: Literal["x", "both"] = Field("x", description="the paper names no axis")
    orientations_deg: tuple[Literal[0, 90, 180, 270], ...] = (0, 90, 180, 270)
    crop_px: int = Field(800, ge=8)
    flip_probability: float = Field(0.5, ge=0, le=1)
    flip_axes: Literal["both", "columns"] = Field(
        "both", description="columns: left to right only, for pictures with an up and a down"
    )
    colour: ColourSettings = ColourSettings()
    fill: Literal["reflect", "constant"] = Field(
        "reflect", description="how to fill beyond the image's edge; the paper does not say"
    )

    @model_validator(mode="after")
    def _scale_is_a_range(self) -> Self:
        low, high = self.scale
        if not 0.1 <= low <= high <= 10:
            raise ValueError(f"scale must satisfy 0.1 <= low <= high <= 10, got {self.scale}")
        return self
