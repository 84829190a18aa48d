"""A bundle: one folder with everything that counting on new images needs.

``bundle.json`` (architecture, scale, thresholds, settings, versions, metrics, data
fingerprint and the hashes of the other files), ``nerve.safetensors``,
``dermis.safetensors`` and ``MODEL_CARD.md``. ``load(path)`` needs no further word.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from skinray.config import CrossingSettings, ModelSettings
from skinray.crossings import Crossings, find_crossings
from skinray.crossings.density import to_mm
from skinray.errors import BundleError, SettingsError
from skinray.learning.model_card import model_card
from skinray.learning.predict import predict_at_scale
from skinray.models import build

FORMAT = 1
INFO, ASIDE = "bundle.json", ".old"
STAGES: tuple[Literal["nerve", "dermis"], ...] = ("nerve", "dermis")


class BundleInfo(BaseModel):
    """The content of ``bundle.json``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: int = FORMAT
    models: dict[str, ModelSettings]
    crossings: CrossingSettings
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


@dataclass(frozen=True)
class Prediction:
    """Maps and crossings of one image, on its own pixels.

    Attributes
    ----------
    nerve, dermis : (H, W) float32, probability.
    crossings : the points, the boundary and its length.
    """

    nerve: NDArray[np.float32]
    dermis: NDArray[np.float32]
    crossings: Crossings


@dataclass(frozen=True)
class Bundle:
    """Trained networks with the settings they were trained for."""

    info: BundleInfo
    nerve: nn.Module
    dermis: nn.Module
    device: torch.device

    def predict(self, image: NDArray[np.uint8], um_per_px: float | None = None) -> Prediction:
        """Count the crossings of one image.

        Parameters
        ----------
        image : (H, W, 3) uint8, RGB.
        um_per_px : the image's scale, if known. An image at another scale than the
            training's is resampled for the networks; results are in its own pixels. An
            image of unknown scale is taken to be at the training's.

        Raises
        ------
        SkinrayError
            If the array is no RGB image of bytes, or the scale is not above 0.
        """
        to_mm(0, um_per_px)
        nerve, dermis = (
            predict_at_scale(network, image, um_per_px, self.info.um_per_px, self.device)
            for network in (self.nerve, self.dermis)
        )
        settings = self.info.crossings
        if um_per_px is None:
            settings = settings.at_scale(self.info.um_per_px)
        found = find_crossings(nerve, dermis, settings, um_per_px)
        return Prediction(nerve, dermis, found)


def save(folder: Path, info: BundleInfo, nerve: nn.Module, dermis: nn.Module) -> Path:
    """Write a bundle; it appears whole or not at all, and replaces an older one."""
    partial, aside = (folder.with_name(folder.name + end) for end in (".part", ASIDE))
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    for stage, network in zip(STAGES, (nerve, dermis), strict=True):
        tensors = {
            k: v.detach().cpu().contiguous().clone() for k, v in network.state_dict().items()
        }
        save_file(tensors, partial / f"{stage}.safetensors")
    (partial / "MODEL_CARD.md").write_text(model_card(info), encoding="utf-8")
    hashes = {path.name: _sha256(path) for path in sorted(partial.iterdir())}
    values = json.loads(info.model_copy(update={"sha256": hashes}).model_dump_json())
    hashes[INFO] = _values_sha256(values)
    text = json.dumps(values | {"sha256": hashes}, indent=1, ensure_ascii=False)
    (partial / INFO).write_text(text, encoding="utf-8")
    if folder.exists():
        # A folder cannot replace a full one in one step; between the two the old one is whole.
        shutil.rmtree(aside, ignore_errors=True)
        folder.replace(aside)
    partial.replace(folder)
    shutil.rmtree(aside, ignore_errors=True)
    return folder


def load(path: Path | str, device: torch.device | str | None = None) -> Bundle:
    """Load a bundle and check every hash.

    Raises
    ------
    BundleError
        If a file is missing, altered, or written by a version this one does not know.
    """
    folder = Path(path)
    place = torch.device(device) if device is not None else default_device()
    info = read_info(folder)
    for name, wanted in info.sha256.items():
        file = folder / name
        if name == INFO:  # checked as it was read
            continue
        if not file.is_file():
            raise BundleError(f"{file}: missing; copy the whole bundle folder again")
        if _sha256(file) != wanted:
            raise BundleError(
                f"{file}: altered since the bundle was written (SHA-256 differs); "
                "copy it again from where it was made"
            )
    networks = [_network(folder, info, stage).to(place) for stage in STAGES]
    return Bundle(info, networks[0], networks[1], place)


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
    except ValueError as error:
        raise BundleError(f"{path}: not valid JSON ({error}); copy the bundle again") from None
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
    missing = {INFO, *(f"{stage}.safetensors" for stage in STAGES)} - set(info.sha256)
    if missing or set(info.models) != set(STAGES):
        raise BundleError(
            f"{path}: names no {', '.join(sorted(missing)) or 'two models'}; "
            "copy it again from where it was made"
        )
    if info.sha256[INFO] != _values_sha256(values):
        raise BundleError(
            f"{path}: altered since the bundle was written (SHA-256 differs); "
            "copy it again from where it was made"
        )
    return info


def default_device() -> torch.device:
    """Return the first GPU where there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def _network(folder: Path, info: BundleInfo, stage: str) -> nn.Module:
    model, file = info.models[stage], folder / f"{stage}.safetensors"
    try:
        network = build(model.name, **model.options)
        network.load_state_dict(load_file(file))
    except (SettingsError, SafetensorError, RuntimeError) as error:
        raise BundleError(
            f"{file}: does not fit {model.name} of this skinray ({error}); "
            "use the skinray version that wrote it"
        ) from None
    return network.eval()


def _values_sha256(values: dict[str, Any]) -> str:
    """Hash the content of ``bundle.json`` but for this hash itself."""
    others = {name: value for name, value in values["sha256"].items() if name != INFO}
    text = json.dumps(values | {"sha256": others}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
