"""A bundle: one folder with everything that judging new images needs.

``bundle.json`` (what it is for, architecture, scale, thresholds, settings, versions, metrics, data
fingerprint and the hashes of the other files), the weights of each stage (``nerve.safetensors``
and ``dermis.safetensors`` for biopsies, ``skin.safetensors`` for photographs) and
``MODEL_CARD.md``. ``load(path)`` needs no further word. An ensemble has further members:
``nerve-2.safetensors`` and so on.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save_file
from torch import nn

from skinray.config.kinds import Stage
from skinray.crossings import Crossings
from skinray.crossings.density import to_mm
from skinray.errors import BundleError, SettingsError
from skinray.files import sha256_of
from skinray.images.photos.skin import Skin
from skinray.images.read import Image
from skinray.learning.bundle.info import (
    ASIDE,
    INFO,
    BundleInfo,
    StageModel,
    read_info,
    values_sha256,
    weight_files,
)
from skinray.learning.bundle.model_card import model_card
from skinray.learning.bundle.packed import pack
from skinray.models import build

Networks = nn.Module | Sequence[nn.Module]
Maps = Mapping[Stage, NDArray[np.float32]]


@dataclass(frozen=True)
class Prediction:
    """Maps and crossings of one biopsy, on its own pixels.

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
        """Return each network's map of one image, (H, W) float32, probability."""
        return {stage: model.map(image, um_per_px) for stage, model in self.stages.items()}

    def predict(
        self, image: Image | NDArray[np.uint8], um_per_px: float | None = None
    ) -> Prediction | Skin:
        """Count the crossings of one biopsy, or find the skin in one photograph.

        Parameters
        ----------
        image : what ``read_image`` returns, or an array, (H, W, 3) uint8, RGB; of any size: large
            biopsies go through in tiles.
        um_per_px : a biopsy's scale, if known; by default the one that the image's file states.
            An image at another scale than the training's is resampled for the networks; results
            are in its own pixels. An image of unknown scale is taken to be at the training's.

        Raises
        ------
        SkinrayError
            If the array is no RGB image of bytes, or the scale is not above 0.
        """
        if isinstance(image, Image):
            um_per_px = image.um_per_px if um_per_px is None else um_per_px
            image = image.pixels
        to_mm(0, um_per_px)
        maps = self.maps(image, um_per_px)
        if self.info.kind == "photo":
            return self.info.find_skin(image, maps["skin"])
        nerve, dermis = maps["nerve"], maps["dermis"]
        return Prediction(nerve, dermis, self.info.find_crossings(nerve, dermis, um_per_px))


def save(folder: Path, info: BundleInfo, networks: Mapping[Stage, Networks]) -> Path:
    """Write a bundle; it appears whole or not at all, and replaces an older one.

    Parameters
    ----------
    folder : where to.
    info : all but the hashes and the number of members, which are filled in here.
    networks : for each stage one, or as many of each as an ensemble has members.
    """
    partial, aside = (folder.with_name(folder.name + end) for end in (".part", ASIDE))
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    members = {stage: _members(networks[stage]) for stage in info.stages}
    info = info.model_copy(update={"members": len(members[info.stages[0]])})
    for stage, ours in members.items():
        for name, network in zip(weight_files(stage, info.members), ours, strict=True):
            tensors = {
                k: v.detach().cpu().contiguous().clone() for k, v in network.state_dict().items()
            }
            save_file(tensors, partial / name)
    (partial / "MODEL_CARD.md").write_text(model_card(info), encoding="utf-8")
    hashes = {path.name: sha256_of(path) for path in sorted(partial.iterdir())}
    values = json.loads(info.model_copy(update={"sha256": hashes}).model_dump_json())
    hashes[INFO] = values_sha256(values)
    text = json.dumps(values | {"sha256": hashes}, indent=1, ensure_ascii=False)
    (partial / INFO).write_text(text, encoding="utf-8")
    if folder.exists():
        # A folder cannot replace a full one in one step; between the two the old one is whole.
        shutil.rmtree(aside, ignore_errors=True)
        folder.replace(aside)
    partial.replace(folder)
    shutil.rmtree(aside, ignore_errors=True)
    return folder


def load(
    path: Path | str, device: torch.device | str | None = None, *, packed: bool = True
) -> Bundle:
    """Load a bundle and check every hash.

    Parameters
    ----------
    path : of the bundle's folder.
    device : where the networks go; none: the first GPU where there is one, else the CPU.
    packed : where one thread of a CPU runs the networks, bring them to the form that it runs
        fastest (``packed.pack``), as scoring's workers and the service's replicas do by default;
        False: leave them as they were trained, to be trained further or saved.

    Raises
    ------
    BundleError
        If a file is missing, altered, or written by a version this one does not know.
    """
    info = check(path)
    stages = {stage: load_stage(path, info, stage, device, packed=packed) for stage in info.stages}
    return Bundle(info, stages)


def check(path: Path | str) -> BundleInfo:
    """Read ``bundle.json`` and compare the hash of every file it names.

    Raises
    ------
    BundleError
        If a file is missing, altered, or written by a version this one does not know.
    """
    folder = Path(path)
    info = read_info(folder)
    for name, wanted in info.sha256.items():
        if name == INFO:  # checked as it was read
            continue
        if not (folder / name).is_file():
            raise BundleError(f"{folder / name}: missing; copy the whole bundle folder again")
        _check_hash(folder / name, sha256_of(folder / name), wanted)
    return info


def load_stage(
    path: Path | str,
    info: BundleInfo,
    stage: Stage,
    device: torch.device | str | None = None,
    *,
    packed: bool = True,
) -> StageModel:
    """Load the networks of one stage of the bundle that ``info`` was read from, as ``load`` does.

    Raises
    ------
    BundleError
        If a file is missing, does not have the hash that ``info`` names, or does not fit.
    """
    place = torch.device(device) if device is not None else default_device()
    networks = tuple(
        _network(Path(path) / name, info, stage).to(place)
        for name in weight_files(stage, info.members)
    )
    # Several threads are slower with packed weights than with plain ones.
    if packed and place.type == "cpu" and torch.get_num_threads() == 1:
        networks = tuple(pack(network) for network in networks)
    return StageModel(networks, info.um_per_px, info.predict, place)


def default_device() -> torch.device:
    """Return the first GPU where there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def _network(file: Path, info: BundleInfo, stage: Stage) -> nn.Module:
    model = info.models[stage]
    try:
        data = file.read_bytes()
    except OSError as error:
        raise BundleError(f"{file}: {error.strerror}; copy the whole bundle again") from None
    _check_hash(file, hashlib.sha256(data).hexdigest(), info.sha256[file.name])
    try:
        network = build(model.name, **model.options)
        network.load_state_dict(load_tensors(data))
    except (SettingsError, SafetensorError, RuntimeError) as error:
        raise BundleError(
            f"{file}: does not fit {model.name} of this skinray ({error}); "
            "use the skinray version that wrote it"
        ) from None
    return network.eval()


def _members(networks: Networks) -> Sequence[nn.Module]:
    return [networks] if isinstance(networks, nn.Module) else networks


def _check_hash(file: Path, found: str, wanted: str) -> None:
    if found != wanted:
        raise BundleError(
            f"{file}: altered since the bundle was written (SHA-256 differs); "
            "copy it again from where it was made"
        )
