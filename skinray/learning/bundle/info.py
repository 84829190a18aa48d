"""What a bundle says of itself: ``bundle.json``, which names all its files and their hashes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from torch import nn

from skinray.config.biopsies import CrossingSettings
from skinray.config.images import PredictSettings
from skinray.config.kinds import STAGES, Kind, Stage
from skinray.config.photos import SkinSettings
from skinray.config.training import ModelSettings
from skinray.crossings import Crossings, find_crossings
from skinray.errors import BundleError
from skinray.images.photos.skin import Skin, find_skin
from skinray.models.predict import predict_at_scale

FORMAT = 2
INFO, ASIDE = "bundle.json", ".old"
# The networks of a bundle, by what it is for.


class BundleInfo(BaseModel):
    """The content of ``bundle.json``.

    A bundle for biopsies has the settings ``crossings``, one for photographs ``skin``.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: int = FORMAT
    kind: Kind = "biopsy"
    models: dict[Stage, ModelSettings]
    members: int = Field(1, ge=1)
    crossings: CrossingSettings | None = None
    skin: SkinSettings | None = None
    predict: PredictSettings = PredictSettings()
    um_per_px: float | None
    fold: str
    settings: dict[str, Any]
    metrics: dict[str, Any]
    versions: dict[str, str]
    data_fingerprint: str
    images: int
    subjects: int
    created: str
    sha256: dict[str, str] = {}

    @model_validator(mode="after")
    def _fits_its_kind(self) -> Self:
        if set(self.models) != set(self.stages):
            raise ValueError(f"a {self.kind} bundle has the models {', '.join(self.stages)}")
        if (self.crossings is not None, self.skin is not None) != (
            self.kind == "biopsy",
            self.kind == "photo",
        ):
            raise ValueError("a biopsy bundle has settings of crossings, a photo bundle of skin")
        return self

    @property
    def stages(self) -> tuple[Stage, ...]:
        """The stages whose networks it holds."""
        return STAGES[self.kind]

    @property
    def id(self) -> str:
        """SHA-256 of all that the bundle is: of ``bundle.json``, which names the files' own."""
        return self.sha256[INFO]

    @property
    def counting(self) -> CrossingSettings:
        """Settings of the crossings; BundleError where the bundle is for photographs."""
        if self.crossings is None:
            raise BundleError("a photo bundle finds skin, not crossings: give one for biopsies")
        return self.crossings

    @property
    def finding(self) -> SkinSettings:
        """Settings of the skin's mask; BundleError where the bundle is for biopsies."""
        if self.skin is None:
            raise BundleError("a biopsy bundle finds crossings, not skin: give one for photographs")
        return self.skin

    def find_crossings(
        self,
        nerve: NDArray[Any],
        dermis: NDArray[np.float32],
        um_per_px: float | None = None,
    ) -> Crossings:
        """Find the crossings on the maps of one image; the bundle's last stage.

        Parameters
        ----------
        nerve, dermis : (H, W) float32, probability, on the image's own pixels; for the nerves,
            a uint8 mask of where it is above ``crossings.nerve_threshold`` will do.
        um_per_px : the image's scale; unknown: taken to be the training's, without lengths
            in millimetres.
        """
        settings = self.counting
        if um_per_px is None:
            settings = settings.at_scale(self.um_per_px)
        return find_crossings(nerve, dermis, settings, um_per_px)

    def find_skin(self, image: NDArray[np.uint8], probability: NDArray[np.float32]) -> Skin:
        """Find the skin on the map of one photograph; the bundle's last stage.

        Parameters
        ----------
        image : (H, W, 3) uint8, RGB.
        probability : (H, W) float32, of skin, on the photograph's own pixels.
        """
        return find_skin(image, probability, self.finding)


def read_info(folder: Path) -> BundleInfo:
    """Read ``bundle.json`` alone; BundleError if it is missing or not understood."""
    path, aside = folder / INFO, folder.with_name(folder.name + ASIDE)
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except OSError:
        remedy = "name the folder a training wrote"
        if aside.is_dir() and not folder.exists():
            remedy = f"its writing was interrupted; rename {aside}, the one before, or write anew"
        raise BundleError(f"{folder}: no {INFO}; {remedy}") from None
    except (ValueError, RecursionError) as error:
        reason = "nested too deep" if isinstance(error, RecursionError) else str(error)
        raise BundleError(f"{path}: not valid JSON ({reason}); copy the bundle again") from None
    if not isinstance(values, dict) or values.get("format") != FORMAT:
        raise BundleError(
            f"{path}: not bundle format {FORMAT}; use the skinray version that wrote it"
        )
    try:
        info = BundleInfo.model_validate(values)
    except ValidationError as error:
        keys = ", ".join(sorted({".".join(map(str, e["loc"])) for e in error.errors()}))
        raise BundleError(
            f"{path}: missing, unknown or unfit: {keys}; copy it again from where it was made"
        ) from None
    files = {name for stage in info.stages for name in weight_files(stage, info.members)}
    missing = {INFO, *files} - set(info.sha256)
    if missing:
        raise BundleError(
            f"{path}: names no {', '.join(sorted(missing))}; copy it again from where it was made"
        )
    if info.sha256[INFO] != values_sha256(values):
        raise BundleError(
            f"{path}: altered since the bundle was written (SHA-256 differs); "
            "copy it again from where it was made"
        )
    return info


def weight_files(stage: Stage, members: int) -> list[str]:
    """Return the names of a stage's weight files."""
    return [f"{stage}.safetensors", *(f"{stage}-{n}.safetensors" for n in range(2, members + 1))]


def values_sha256(values: dict[str, Any]) -> str:
    """Hash the content of ``bundle.json`` but for this hash itself."""
    others = {name: value for name, value in values["sha256"].items() if name != INFO}
    text = json.dumps(values | {"sha256": others}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


PROBE_PX = 64


@dataclass(frozen=True)
class StageModel:
    """The networks of one stage, nerve or dermis.

    Attributes
    ----------
    networks : one, or the folds' as an ensemble, whose mean probability is the map.
    um_per_px : the scale they were trained at; None: unknown.
    settings : from which size on an image goes through them in tiles.
    device : where they lie.
    """

    networks: tuple[nn.Module, ...]
    um_per_px: float | None
    settings: PredictSettings
    device: torch.device

    def map(self, image: NDArray[np.uint8], um_per_px: float | None = None) -> NDArray[np.float32]:
        """Return the probability map of one image, (H, W) float32; see :meth:`maps`."""
        result: NDArray[np.float32] = self.maps([image], um_per_px)[0]
        return result

    def maps(
        self, images: Sequence[NDArray[np.uint8]], um_per_px: float | None = None
    ) -> NDArray[np.float32]:
        """Return the probability maps of images, (N, H, W) float32 on their own pixels.

        Parameters
        ----------
        images : N of (H, W, 3) uint8, RGB, all of one size. They share the networks' passes, so
            that a map may differ from the one of its image alone by
            :data:`skinray.models.predict.STACK_TOLERANCE`.
        um_per_px : the scale of all of them, if known; at another scale than the training's they
            are resampled for the networks, and the maps brought back.

        Raises
        ------
        ImageError
            If an array is no RGB image of bytes.
        """
        total = None
        for network in self.networks:
            values = predict_at_scale(
                network, images, um_per_px, self.um_per_px, self.device, self.settings
            )
            total = values if total is None else total + values
        assert total is not None  # noqa: S101 - a stage has at least one network
        if len(self.networks) == 1:
            return total
        return np.asarray(total / np.float32(len(self.networks)), np.float32)

    def answers(self) -> bool:
        """Say whether the networks give finite probabilities of a small grey image."""
        grey = np.full((PROBE_PX, PROBE_PX, 3), 128, np.uint8)
        return bool(np.isfinite(self.map(grey)).all())
