"""From the map of a photograph to all that a client asked for: the last stage, everywhere."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from skinray.config.kinds import Kind, Stage
from skinray.errors import SkinrayError
from skinray.images.photos.skin import Skin, SkinArea
from skinray.learning.bundle import Maps
from skinray.learning.bundle.info import BundleInfo
from skinray.scoring.overlays import encode_png
from skinray.service.answers.request import PNG_SCHEMA, Want, as_text, to_grey


@dataclass(frozen=True)
class SkinWant(Want["SkinAnswer"]):
    """The skin in a photograph, and what a client asked for beside its area.

    Attributes
    ----------
    array : the mask as an array.
    runs : the mask as run lengths.
    mask : the mask as a picture.
    cutout : the photograph with all that is no skin taken out, as a picture.
    maps : the probability map, as a grey picture.
    image : the decoded photograph itself, upright, for browsers that cannot show its format.
    sweep : thresholds to tell the area at, beside the one used.
    threshold : probability from which on it is skin; None: the bundle's own.
    """

    kind: ClassVar[Kind] = "photo"

    array: bool = False
    runs: bool = False
    mask: bool = False
    cutout: bool = False
    maps: bool = False
    image: bool = False
    sweep: tuple[float, ...] = ()
    threshold: float | None = None

    @property
    def pixels(self) -> bool:
        """Always: the photograph's edges may draw the mask's."""
        return True

    def thresholds(self, info: BundleInfo) -> dict[Stage, float]:
        """Ask for the whole map: how sure the network is counts as well."""
        return {}

    def answer(
        self,
        info: BundleInfo,
        image: NDArray[np.uint8] | None,
        maps: Maps,
        um_per_px: float | None,
    ) -> SkinAnswer:
        """Find the skin, and draw what was asked for; see :class:`Want`."""
        if image is None:
            raise SkinrayError("skin is asked for, but the photograph is not given")
        return skin_answer(info, image, maps["skin"], self)


@dataclass(frozen=True)
class AreaPoint:
    """The area of the skin at one threshold."""

    threshold: float
    skin_px: int
    skin_fraction: float


@dataclass(frozen=True)
class SkinAnswer:
    """What one photograph gave. Pictures are PNG files, of its own size; None: not asked for.

    Attributes
    ----------
    area : the record that a scored cohort would hold, at ``threshold``.
    array : (H, W) uint8, 1 on skin.
    runs : lengths of runs in the mask, see :func:`run_lengths`.
    mask_png : 8-bit grey, 255 on skin.
    cutout_png : RGBA; black and clear where there is no skin.
    skin_png : 8-bit grey, probability times 255.
    sweep : in the order of the thresholds asked for.
    """

    area: SkinArea
    threshold: float
    bundle_id: str
    array: NDArray[np.uint8] | None
    runs: list[int] | None
    mask_png: bytes | None
    cutout_png: bytes | None
    skin_png: bytes | None
    image_png: bytes | None
    sweep: list[AreaPoint] | None


def skin_answer(
    info: BundleInfo, image: NDArray[np.uint8], probability: NDArray[np.float32], want: SkinWant
) -> SkinAnswer:
    """Find the skin, and draw what was asked for.

    Parameters
    ----------
    info : of the bundle that made the map.
    image : (H, W, 3) uint8 RGB.
    probability : (H, W) float32, of skin, on the photograph's own pixels.

    Raises
    ------
    SkinrayError
        If the map is not finite, or does not have the photograph's size.
    """
    found = info.find_skin(image, probability)
    threshold = info.finding.threshold if want.threshold is None else want.threshold
    found = Skin(found.probability >= np.float32(threshold), found.probability)
    mask = found.mask.view(np.uint8)
    return SkinAnswer(
        area=SkinArea.of(found),
        threshold=threshold,
        bundle_id=info.id,
        array=mask if want.array else None,
        runs=run_lengths(found.mask) if want.runs else None,
        mask_png=encode_png(mask * 255) if want.mask else None,
        cutout_png=encode_png(cut_out(image, found.mask)) if want.cutout else None,
        skin_png=encode_png(to_grey(found.probability)) if want.maps else None,
        image_png=encode_png(image) if want.image else None,
        sweep=[area_at(found.probability, one) for one in want.sweep] if want.sweep else None,
    )


def area_at(probability: NDArray[np.float32], threshold: float) -> AreaPoint:
    """Return the area of the skin at another threshold."""
    pixels = int(np.count_nonzero(probability >= np.float32(threshold)))
    return AreaPoint(threshold, pixels, pixels / probability.size)


def run_lengths(mask: NDArray[np.bool_]) -> list[int]:
    """Return the lengths of runs of equal pixels, down the columns; the first is of no skin.

    That is COCO's uncompressed run-length encoding; a mask that begins with skin begins with 0.
    """
    pixels = np.asarray(mask).ravel(order="F")
    changes = np.flatnonzero(pixels[1:] != pixels[:-1]) + 1
    edges = np.concatenate([[0] if pixels[0] else [], [0], changes, [pixels.size]])
    return [int(length) for length in np.diff(edges)]


def cut_out(image: NDArray[np.uint8], mask: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Return (H, W, 4) uint8 RGBA of the skin alone.

    What is clear is black as well: a picture whose ground is only hidden would still carry it.
    """
    kept = mask[..., None].astype(np.uint8)
    return np.concatenate([image * kept, 255 * kept], axis=2)


EXAMPLE: dict[str, Any] = {
    "skin_px": 5,
    "skin_fraction": 0.4166666666666667,
    "confidence": 0.8725,
    "width": 4,
    "height": 3,
    "threshold": 0.5,
    "mask": {"size": [3, 4], "counts": [1, 2, 1, 3, 5]},
    "request_id": "5f0c0a8e7d3b4a7f9d2e6c1b8a4f3e21",
    "bundle": "9f2c0d5e6a7b8c1d3e4f50617283940a1b2c3d4e5f60718293a4b5c6d7e8f901",
    "image_sha256": "2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae",
}


class RunLengths(BaseModel):
    """A mask as COCO's uncompressed run-length encoding."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    size: tuple[int, int] = Field(description="height and width")
    counts: list[int] = Field(
        description="lengths of runs down the columns, in turn not skin and skin; the first may "
        "be 0"
    )


class Area(BaseModel):
    """The area of the skin at another threshold."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    threshold: float = Field(gt=0, lt=1)
    skin_px: int = Field(ge=0)
    skin_fraction: float = Field(ge=0, le=1)


class PhotoSkin(SkinArea):
    """The skin of one photograph: what a scored cohort holds of it, and what was asked for."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", json_schema_extra={"examples": [EXAMPLE]}
    )

    threshold: float = Field(gt=0, lt=1, description="probability from which on it is skin")
    mask: RunLengths
    request_id: str = Field(description="as in the header X-Request-ID and in the service's log")
    bundle: str = Field(description="SHA-256 that names the bundle which answered")
    image_sha256: str = Field(description="of the file that was sent")
    skin_png: str | None = Field(
        None, description="skin probability, 255 for 1 (include=maps)", json_schema_extra=PNG_SCHEMA
    )
    image_png: str | None = Field(
        None,
        description="the photograph as decoded, upright (include=image)",
        json_schema_extra=PNG_SCHEMA,
    )
    sweep: list[Area] | None = Field(
        None, description="areas at thresholds .05 to .95 (include=sweep)"
    )

    @classmethod
    def from_answer(cls, answer: SkinAnswer, image_sha256: str, request_id: str) -> PhotoSkin:
        """Tell of an answer, its run lengths among it, on the file with this hash."""
        area, points = answer.area, answer.sweep
        return cls(
            **area.model_dump(),
            threshold=answer.threshold,
            mask=RunLengths(size=(area.height, area.width), counts=answer.runs or []),
            request_id=request_id,
            bundle=answer.bundle_id,
            image_sha256=image_sha256,
            skin_png=as_text(answer.skin_png),
            image_png=as_text(answer.image_png),
            sweep=None if points is None else [Area(**vars(one)) for one in points],
        )
