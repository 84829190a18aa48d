"""From the map of a photograph to all that a client asked for: the last stage, everywhere."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from skinray.errors import SkinrayError
from skinray.learning.bundle import Maps
from skinray.learning.bundle_info import BundleInfo, Kind, Stage
from skinray.learning.skin import Skin
from skinray.learning.skin_area import SkinArea
from skinray.report.overlays import encode_png
from skinray.service.pictures import to_grey
from skinray.service.want import Want


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
