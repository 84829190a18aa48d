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
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, overload

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file
from torch import nn

from skinray.config.images import ReadSettings
from skinray.config.kinds import Kind, Stage
from skinray.config.scoring import BackendName
from skinray.crossings import Crossings
from skinray.crossings.density import to_mm
from skinray.errors import BundleError
from skinray.files import as_path, sha256_of
from skinray.images.cohort.common_scale import refuse_too_large
from skinray.images.photos.skin import Skin
from skinray.images.read import Image, read_image
from skinray.learning.bundle.info import (
    ASIDE,
    INFO,
    BundleInfo,
    check,
    read_info,
    values_sha256,
    weight_files,
)
from skinray.learning.bundle.model_card import model_card
from skinray.learning.bundle.networks import StageModel, joined, load_stage
from skinray.models.backends import REFERENCE
from skinray.models.predict import refuse_other_arrays
from skinray.models.weights.files import on_cpu

Networks = nn.Module | Sequence[nn.Module]
Input = Path | str | Image | NDArray[np.uint8]

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
class Bundle(ABC):
    """Trained networks, by stage, with the settings they were trained for."""

    info: BundleInfo
    stages: Mapping[Stage, StageModel]

    def __repr__(self) -> str:
        info = self.info
        networks = ", ".join(f"{stage}: {info.models[stage].name}" for stage in info.stages)
        return f"<Bundle {info.id[:8]}: {networks}, trained on {info.images} images>"

    @property
    def backend(self) -> str:
        """What computes the networks; more than one name if stages differ."""
        return joined(model.backend for model in self.stages.values())

    def maps(
        self, image: NDArray[np.uint8], um_per_px: float | None = None
    ) -> dict[Stage, NDArray[np.float32]]:
        """Return the probability map of each stage for one image, (H, W) float32."""
        return {stage: model.map(image, um_per_px) for stage, model in self.stages.items()}

    def seen(self, image: Input, um_per_px: float | None) -> tuple[NDArray[np.uint8], float | None]:
        """Return the pixels and the scale of an image that a user gave.

        Parameters
        ----------
        image, um_per_px : as in :meth:`predict`, which has the errors too.

        Returns
        -------
        (H, W, 3) uint8, RGB, and um per pixel (None: unknown).
        """
        to_mm(0, um_per_px)
        if isinstance(image, str | Path):
            image = read_image(image)
        if isinstance(image, Image):
            um_per_px = image.um_per_px if um_per_px is None else um_per_px
            image = image.pixels
        refuse_other_arrays(image)
        refuse_too_large(image.shape, um_per_px, self.info.um_per_px, ReadSettings().max_pixels)
        return image, um_per_px

    @abstractmethod
    def predict(self, image: Input, um_per_px: float | None = None) -> Prediction | Skin:
        """Return what the networks find in one image."""


class BiopsyBundle(Bundle):
    """A bundle that counts the crossings in biopsies."""

    def predict(self, image: Input, um_per_px: float | None = None) -> Prediction:
        """Count the crossings of one biopsy.

        Parameters
        ----------
        image : the path of a file, what ``read_image`` returns, or an array, (H, W, 3) uint8, RGB;
            of any size: large biopsies are processed in tiles.
        um_per_px : the scale, if known; by default the one that the image's file states. If it
            differs from the training scale, the image is resampled for the networks; results refer
            to the image's own pixels. An image of unknown scale is assumed to have the training
            scale.

        Raises
        ------
        SkinrayError
            If the file cannot be read, the array is not an 8-bit RGB image, the scale is not a
            number above 0, or the image is too large at the training scale.
        """
        pixels, um_per_px = self.seen(image, um_per_px)
        maps = self.maps(pixels, um_per_px)
        nerve, dermis = maps["nerve"], maps["dermis"]
        return Prediction(nerve, dermis, self.info.find_crossings(nerve, dermis, um_per_px))


class PhotoBundle(Bundle):
    """A bundle that finds the skin in photographs."""

    def predict(self, image: Input, um_per_px: float | None = None) -> Skin:
        """Find the skin in one photograph.

        Parameters
        ----------
        image : the path of a file, what ``read_image`` returns, or an array, (H, W, 3) uint8, RGB.
        um_per_px : not used: a photograph has no scale.

        Raises
        ------
        SkinrayError
            If the file cannot be read, or the array is not an 8-bit RGB image.
        """
        pixels, um_per_px = self.seen(image, um_per_px)
        return self.info.find_skin(pixels, self.maps(pixels, um_per_px)["skin"])


_FOR: dict[Kind, str] = {"biopsy": "biopsies", "photo": "photographs"}
_CLASS: dict[Kind, type[Bundle]] = {"biopsy": BiopsyBundle, "photo": PhotoBundle}


def save(folder: Path | str, info: BundleInfo, networks: Mapping[Stage, Networks]) -> Path:
    """Write a bundle atomically; an existing one is replaced.

    Parameters
    ----------
    folder : the bundle's folder.
    info : everything but the hashes and the number of members, which are filled in here.
    networks : one per stage, or for an ensemble the same number of members for each stage.
    """
    folder = as_path(folder, "bundle")
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


def load(
    path: Path | str,
    device: torch.device | str | None = None,
    backend: BackendName = REFERENCE,
) -> Bundle:
    """Load a bundle of either kind and check every hash.

    Parameters
    ----------
    path : the bundle's folder.
    device : device of the networks; None: the first GPU if there is one, else the CPU.
    backend : how to compute them; see :mod:`skinray.learning.bundle.backend`.

    Raises
    ------
    BundleError
        If a file is missing or altered, or the bundle is of an unknown format.
    """
    path = as_path(path, "bundle")
    info = check(path, weights=False)
    if info.failures:
        LOG.warning("%s did not learn its task: %s", path, " ".join(info.failures))
    stages = {stage: load_stage(path, info, stage, device, backend) for stage in info.stages}
    return _CLASS[info.kind](info, stages)


@overload
def load_bundle(
    path: Path | str, kind: Literal["biopsy"] = "biopsy", device: torch.device | str | None = None
) -> BiopsyBundle: ...
@overload
def load_bundle(
    path: Path | str, kind: Literal["photo"], device: torch.device | str | None = None
) -> PhotoBundle: ...
def load_bundle(
    path: Path | str, kind: Kind = "biopsy", device: torch.device | str | None = None
) -> Bundle:
    """Load a bundle and check every hash.

    Parameters
    ----------
    path : the bundle's folder.
    kind : ``"biopsy"``: its ``predict`` returns the crossings of a biopsy. ``"photo"``: the skin in
        a photograph.
    device : device of the networks; None: the first GPU if there is one, else the CPU.

    Raises
    ------
    BundleError
        If a file is missing or altered, or the bundle is of another kind or an unknown format.
    """
    found = read_info(as_path(path, "bundle")).kind
    if found != kind:
        raise BundleError(f'{path}: this bundle is for {_FOR[found]}: load it with kind="{found}"')
    return load(path, device)
