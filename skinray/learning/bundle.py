"""A bundle: one folder with everything that counting on new images needs.

``bundle.json`` (architecture, scale, thresholds, settings, versions, metrics, data
fingerprint and the hashes of the other files), ``nerve.safetensors``,
``dermis.safetensors`` and ``MODEL_CARD.md``. ``load(path)`` needs no further word. An
ensemble has further members: ``nerve-2.safetensors`` and so on.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save_file
from torch import nn

from skinray.config import CrossingSettings, ModelSettings, PredictSettings
from skinray.crossings import Crossings, find_crossings
from skinray.crossings.density import to_mm
from skinray.errors import BundleError, SettingsError
from skinray.learning.model_card import model_card
from skinray.learning.stage import StageModel
from skinray.models import build

FORMAT = 1
INFO, ASIDE = "bundle.json", ".old"
Stage = Literal["nerve", "dermis"]
Networks = nn.Module | Sequence[nn.Module]
STAGES: tuple[Stage, ...] = ("nerve", "dermis")


class BundleInfo(BaseModel):
    """The content of ``bundle.json``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: int = FORMAT
    models: dict[str, ModelSettings]
    members: int = Field(1, ge=1)
    crossings: CrossingSettings
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

    @property
    def id(self) -> str:
        """SHA-256 of all that the bundle is: of ``bundle.json``, which names the files' own."""
        return self.sha256[INFO]

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
        settings = self.crossings
        if um_per_px is None:
            settings = settings.at_scale(self.um_per_px)
        return find_crossings(nerve, dermis, settings, um_per_px)


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
    nerve: StageModel
    dermis: StageModel

    def predict(self, image: NDArray[np.uint8], um_per_px: float | None = None) -> Prediction:
        """Count the crossings of one image.

        Parameters
        ----------
        image : (H, W, 3) uint8, RGB, of any size: large ones go through in tiles.
        um_per_px : the image's scale, if known. An image at another scale than the
            training's is resampled for the networks; results are in its own pixels. An
            image of unknown scale is taken to be at the training's.

        Raises
        ------
        SkinrayError
            If the array is no RGB image of bytes, or the scale is not above 0.
        """
        to_mm(0, um_per_px)
        nerve, dermis = self.nerve.map(image, um_per_px), self.dermis.map(image, um_per_px)
        return Prediction(nerve, dermis, self.info.find_crossings(nerve, dermis, um_per_px))


def save(folder: Path, info: BundleInfo, nerve: Networks, dermis: Networks) -> Path:
    """Write a bundle; it appears whole or not at all, and replaces an older one.

    Parameters
    ----------
    folder : where to.
    info : all but the hashes and the number of members, which are filled in here.
    nerve, dermis : a network, or as many of each as an ensemble has members.
    """
    partial, aside = (folder.with_name(folder.name + end) for end in (".part", ASIDE))
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    pairs = [_members(nerve), _members(dermis)]
    info = info.model_copy(update={"members": len(pairs[0])})
    for stage, networks in zip(STAGES, pairs, strict=True):
        for name, network in zip(weight_files(stage, info.members), networks, strict=True):
            tensors = {
                k: v.detach().cpu().contiguous().clone() for k, v in network.state_dict().items()
            }
            save_file(tensors, partial / name)
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
    info = check(path)
    nerve, dermis = (load_stage(path, info, stage, device) for stage in STAGES)
    return Bundle(info, nerve, dermis)


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
        _check_hash(folder / name, _sha256(folder / name), wanted)
    return info


def load_stage(
    path: Path | str, info: BundleInfo, stage: Stage, device: torch.device | str | None = None
) -> StageModel:
    """Load the networks of one stage of the bundle that ``info`` was read from.

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
    return StageModel(networks, info.um_per_px, info.predict, place)


def weight_files(stage: Stage, members: int) -> list[str]:
    """Return the names of a stage's weight files."""
    return [f"{stage}.safetensors", *(f"{stage}-{n}.safetensors" for n in range(2, members + 1))]


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
    files = {name for stage in STAGES for name in weight_files(stage, info.members)}
    missing = {INFO, *files} - set(info.sha256)
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


def _values_sha256(values: dict[str, Any]) -> str:
    """Hash the content of ``bundle.json`` but for this hash itself."""
    others = {name: value for name, value in values["sha256"].items() if name != INFO}
    text = json.dumps(values | {"sha256": others}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
