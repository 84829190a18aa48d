"""A bundle: one folder with everything needed to analyse new images.

``bundle.json`` (kind, architecture, scale, thresholds, settings, versions, metrics, data
fingerprint and the hashes of the other files), the weights of each stage (``nerve.safetensors``
and ``dermis.safetensors`` for biopsies, ``skin.safetensors`` for photographs) and
``MODEL_CARD.md``. ``load(path)`` needs no other arguments. An ensemble has more members:
``nerve-2.safetensors`` and so on.
"""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file
from torch import nn

from skinray.config.kinds import Kind, Stage
from skinray.crossings import Crossings
from skinray.crossings.density import to_mm
from skinray.files import sha256_of
from skinray.images.photos.skin import Skin
from skinray.images.read import Image
from skinray.learning.bundle.info import (
    ASIDE,
    INFO,
    BundleInfo,
    check,
    values_sha256,
    weight_files,
)
from skinray.learning.bundle.model_card import model_card
from skinray.learning.bundle.networks import Maps, StageModel, load_stage
from skinray.models.weights.files import on_cpu

Networks = nn.Module | Sequence[nn.Module]

LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Prediction:
    """Probability maps and crossings of one biopsy, on its own pixels.

    Attributes
    ----------
    nerve, dermis : (H, W) float32, probability.
    crossings : the points, the boundary and its length.
    """

    nerve: NDArray[np.float32]
    dermis: NDArray[np.float32]
    crossings: Crossings

    def __repr__(self) -> str:
        height, width = self.nerve.shape
        return f"<Prediction: {width}x{height} px, crossings={self.crossings}>"


@dataclass(frozen=True)
class Bundle:
    """Trained networks, by stage, with the settings they were trained for."""

    info: BundleInfo
    stages: Mapping[Stage, StageModel]

    def __repr__(self) -> str:
        info = self.info
        networks = ", ".join(f"{stage}: {info.models[stage].name}" for stage in info.stages)
        return f"<Bundle {info.id[:8]}: {networks}, trained on {info.images} images>"

    def maps(
        self, image: NDArray[np.uint8], um_per_px: float | None = None
    ) -> dict[Stage, NDArray[np.float32]]:
        """Return the probability map of each stage for one image, (H, W) float32."""
        return {stage: model.map(image, um_per_px) for stage, model in self.stages.items()}

    def predict(
        self, image: Image | NDArray[np.uint8], um_per_px: float | None = None
    ) -> Prediction | Skin:
        """Count the crossings of one biopsy, or find the skin in one photograph.

        Parameters
        ----------
        image : what ``read_image`` returns, or an array, (H, W, 3) uint8, RGB; of any size: large
            biopsies are processed in tiles.
        um_per_px : the scale of a biopsy, if known; by default the one that the image's file
            states. If it differs from the training scale, the image is resampled for the
            networks; results refer to the image's own pixels. An image of unknown scale is
            assumed to have the training scale.

        Raises
        ------
        SkinrayError
            If the array is not an 8-bit RGB image, or the scale is not positive.
        """
        if isinstance(image, Image):
            um_per_px = image.um_per_px if um_per_px is None else um_per_px
            image = image.pixels
        to_mm(0, um_per_px)
        return _RESULT[self.info.kind](self.info, image, self.maps(image, um_per_px), um_per_px)


def _crossings(
    info: BundleInfo, image: NDArray[np.uint8], maps: Maps, um_per_px: float | None
) -> Prediction:
    nerve, dermis = maps["nerve"], maps["dermis"]
    return Prediction(nerve, dermis, info.find_crossings(nerve, dermis, um_per_px))


def _skin(info: BundleInfo, image: NDArray[np.uint8], maps: Maps, um_per_px: float | None) -> Skin:
    return info.find_skin(image, maps["skin"])


_Result = Callable[[BundleInfo, NDArray[np.uint8], Maps, float | None], Prediction | Skin]
_RESULT: dict[Kind, _Result] = {"biopsy": _crossings, "photo": _skin}


def save(folder: Path, info: BundleInfo, networks: Mapping[Stage, Networks]) -> Path:
    """Write a bundle atomically; an existing one is replaced.

    Parameters
    ----------
    folder : the bundle's folder.
    info : everything but the hashes and the number of members, which are filled in here.
    networks : one per stage, or for an ensemble the same number of members for each stage.
    """
    partial, aside = (folder.with_name(folder.name + end) for end in (".part", ASIDE))
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    members = {stage: _members(networks[stage]) for stage in info.stages}
    info = info.model_copy(update={"members": len(members[info.stages[0]])})
    for stage, ours in members.items():
        for name, network in zip(weight_files(stage, info.members), ours, strict=True):
            save_file(on_cpu(network.state_dict()), partial / name)
    (partial / "MODEL_CARD.md").write_text(model_card(info), encoding="utf-8")
    hashes = {path.name: sha256_of(path) for path in sorted(partial.iterdir())}
    values = json.loads(info.model_copy(update={"sha256": hashes}).model_dump_json())
    hashes[INFO] = values_sha256(values)
    text = json.dumps(values | {"sha256": hashes}, indent=1, ensure_ascii=False)
    (partial / INFO).write_text(text, encoding="utf-8")
    if folder.exists():
        # A folder cannot replace a non-empty one in one step, so the old bundle is kept aside.
        shutil.rmtree(aside, ignore_errors=True)
        folder.replace(aside)
    partial.replace(folder)
    shutil.rmtree(aside, ignore_errors=True)
    return folder


def _members(networks: Networks) -> Sequence[nn.Module]:
    return [networks] if isinstance(networks, nn.Module) else networks


def load(path: Path | str, device: torch.device | str | None = None) -> Bundle:
    """Load a bundle and check every hash.

    Parameters
    ----------
    path : the bundle's folder.
    device : device of the networks; None: the first GPU if there is one, else the CPU.

    Raises
    ------
    BundleError
        If a file is missing or altered, or the bundle is of an unknown format.
    """
    info = check(path)
    if info.failures:
        LOG.warning("%s did not learn its task: %s", path, " ".join(info.failures))
    return Bundle(info, {stage: load_stage(path, info, stage, device) for stage in info.stages})
