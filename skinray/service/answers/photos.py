"""From the map of a photograph to everything that a client asked for: the last stage."""

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
from skinray.service.answers.request import Png, Want, png_field, to_grey
from skinray.service.metrics import Meter


@dataclass(frozen=True)
class SkinWant(Want["PhotoSkin"]):
    """The area of the skin in a photograph, and whatever else the client asked for.

    Attributes
    ----------
    request_id : for the answer to repeat.
    runs : the mask as run lengths.
    mask : the mask as a picture.
    cutout : the photograph with everything but the skin removed, as a picture.
    maps : the probability map, as a grey picture.
    image : the decoded photograph itself, upright, for browsers that cannot show its format.
    sweep : thresholds to report the area at, in addition to the one used.
    threshold : lowest probability that counts as skin; None: the bundle's own.
    """

    kind: ClassVar[Kind] = "photo"

    request_id: str = ""
    runs: bool = False
    mask: bool = False
    cutout: bool = False
    maps: bool = False
    image: bool = False
    sweep: tuple[float, ...] = ()
    threshold: float | None = None

    @property
    def pixels(self) -> bool:
        """Always: the mask may follow the photograph's edges."""
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
        backend: str,
    ) -> PhotoSkin:
        """Find the skin, and draw what was asked for; see :class:`Want`."""
        if image is None:
            raise SkinrayError("skin is asked for, but the photograph is not given")
        probability = info.find_skin(image, maps["skin"]).probability
        threshold = info.finding.threshold if self.threshold is None else self.threshold
        found = Skin(probability >= np.float32(threshold), probability)
        grey = found.mask.view(np.uint8) * 255
        runs = run_lengths(found.mask) if self.runs else []
        return PhotoSkin(
            **dict(SkinArea.of(found)),
            threshold=threshold,
            mask=RunLengths(size=found.mask.shape, counts=runs),
            request_id=self.request_id,
            bundle=info.id,
            backend=backend,
            synthetic=info.synthetic,
            note=info.note_on(self.image_sha256),
            image_sha256=self.image_sha256,
            skin_png=encode_png(to_grey(probability)) if self.maps else None,
            image_png=encode_png(image) if self.image else None,
            sweep=[area_at(probability, one) for one in self.sweep] if self.sweep else None,
            mask_png=encode_png(grey) if self.mask else None,
            cutout_png=encode_png(cut_out(image, found.mask)) if self.cutout else None,
        )


def area_at(probability: NDArray[np.float32], threshold: float) -> Area:
    """Return the area of the skin at another threshold."""
    pixels = int(np.count_nonzero(probability >= np.float32(threshold)))
    return Area(threshold=threshold, skin_px=pixels, skin_fraction=pixels / probability.size)


def run_lengths(mask: NDArray[np.bool_]) -> list[int]:
    """Return the lengths of runs of equal pixels, down the columns; the first is not skin.

    This is COCO's uncompressed run-length encoding; a mask that begins with skin begins with 0.
    """
    pixels = np.asarray(mask).ravel(order="F")
    changes = np.flatnonzero(pixels[1:] != pixels[:-1]) + 1
    edges = np.concatenate([[0] if pixels[0] else [], [0], changes, [pixels.size]])
    return [int(length) for length in np.diff(edges)]


def cut_out(image: NDArray[np.uint8], mask: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Return (H, W, 4) uint8 RGBA of the skin alone.

    Transparent pixels are black as well, or the file would still contain the background.
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
    "backend": "eager",
    "image_sha256": "2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae",
}


class RunLengths(BaseModel):
    """A mask as COCO's uncompressed run-length encoding."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    size: tuple[int, int] = Field(description="height and width")
    counts: list[int] = Field(
        description="lengths of runs down the columns, alternately not skin and skin; the first "
        "may be 0"
    )


class Area(BaseModel):
    """The area of the skin at another threshold."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    threshold: float = Field(gt=0, lt=1)
    skin_px: int = Field(ge=0)
    skin_fraction: float = Field(ge=0, le=1)


class PhotoSkin(SkinArea):
    """The skin of one photograph: its record in a scored cohort, and the extras asked for."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", json_schema_extra={"examples": [EXAMPLE]}
    )

    threshold: float = Field(gt=0, lt=1, description="lowest probability that counts as skin")
    mask: RunLengths
    request_id: str = Field(description="as in the header X-Request-ID and in the service's log")
    bundle: str = Field(description="SHA-256 of the bundle that answered")
    backend: str = Field(
        description="what computed the networks: eager is float32 in torch, the reference"
    )
    synthetic: bool = Field(
        False, description="whether the bundle was trained on drawn images alone"
    )
    note: str = Field(
        "", description="what is wrong with the bundle or with this use of it, if anything"
    )
    image_sha256: str = Field(description="SHA-256 of the uploaded file")
    skin_png: Png | None = png_field("skin probability, 255 for 1 (include=maps)")
    image_png: Png | None = png_field("the decoded photograph, upright (include=image)")
    sweep: list[Area] | None = Field(
        None, description="areas at thresholds .05 to .95 (include=sweep)"
    )
    # Answers of their own media type, not part of the JSON.
    mask_png: bytes | None = Field(None, exclude=True)
    cutout_png: bytes | None = Field(None, exclude=True)

    def measure(self, meter: Meter) -> None:
        """Report the share of skin."""
        meter.covered(self.skin_fraction)

    def tensors(self) -> dict[str, NDArray[Any]]:
        """Return the output of the model ``photos``: the mask, (H, W) uint8, 1 on skin."""
        height, width = self.mask.size
        skin = (np.arange(len(self.mask.counts)) % 2).astype(np.uint8)
        return {"skin": np.repeat(skin, self.mask.counts).reshape(width, height).T}
