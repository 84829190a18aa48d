"""The networks of one stage of a bundle: loading them and predicting with their mean."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from torch import nn

from skinray import models
from skinray.config.images import PredictSettings
from skinray.config.kinds import Stage
from skinray.config.scoring import BackendName
from skinray.errors import BundleError, SettingsError
from skinray.files import cache_folder
from skinray.learning.bundle.info import (
    BundleInfo,
    check_file,
    check_hash,
    unreadable,
    weight_files,
)
from skinray.learning.provenance import hardware, versions
from skinray.models import NoRandomWeights, build
from skinray.models.backends import BACKENDS, REFERENCE
from skinray.models.compute import instructions
from skinray.models.layers import WholeImage
from skinray.models.predict import Gone, predict_at_scale

Maps = Mapping[Stage, NDArray[np.float32]]
# An image, (H, W, 3) uint8 RGB, and its scale.
Seen = tuple[NDArray[np.uint8], float | None]
PROBE_PX = 64


@dataclass(frozen=True)
class StageModel:
    """The networks of one stage.

    Attributes
    ----------
    networks : one network, or the members of an ensemble, whose mean probability is the map.
    um_per_px : the scale they were trained at; None: unknown.
    settings : how large images are cut into tiles.
    device : the networks' device.
    backend : how they are computed.
    """

    networks: tuple[nn.Module, ...]
    um_per_px: float | None
    settings: PredictSettings
    device: torch.device
    backend: BackendName = REFERENCE

    def __repr__(self) -> str:
        members = f"{len(self.networks)} x {type(self.networks[0]).__name__}"
        scale = "scale unknown" if self.um_per_px is None else f"{self.um_per_px:g} um/px"
        return f"<StageModel: {members}, {scale}, on {self.device}>"

    def map(
        self,
        image: NDArray[np.uint8],
        um_per_px: float | None = None,
        gone: Gone = lambda: False,
    ) -> NDArray[np.float32]:
        """Return the probability map of one image, (H, W) float32; see :meth:`maps`."""
        result: NDArray[np.float32] = self.maps([image], um_per_px, gone)[0]
        return result

    def maps(
        self,
        images: Sequence[NDArray[np.uint8]],
        um_per_px: float | None = None,
        gone: Gone = lambda: False,
    ) -> NDArray[np.float32]:
        """Return the probability maps of images, (N, H, W) float32 on their own pixels.

        Parameters
        ----------
        images : N of (H, W, 3) uint8, RGB, all of one size. They go through the networks
            together, so a map may differ from that of its image alone by up to
            :data:`skinray.models.predict.STACK_TOLERANCE`.
        um_per_px : their common scale, if known. If it differs from the training scale, they are
            resampled for the networks and the maps are resampled back.
        gone : asked before each pass of a network, such as a tile; True ends the work.

        Raises
        ------
        ImageError
            If an array is not an 8-bit RGB image.
        AbandonedError
            If the work was ended.
        """
        total = None
        for network in self.networks:
            values = predict_at_scale(
                network, images, um_per_px, self.um_per_px, self.device, self.settings, gone
            )
            total = values if total is None else total + values
        assert total is not None  # noqa: S101 - a stage has at least one network
        if len(self.networks) == 1:
            return total
        return np.asarray(total / np.float32(len(self.networks)), np.float32)

    def answers(self) -> bool:
        """Whether the networks give finite probabilities for a small grey image."""
        grey = np.full((PROBE_PX, PROBE_PX, 3), 128, np.uint8)
        return bool(np.isfinite(self.map(grey)).all())


def joined(backends: Iterable[BackendName]) -> str:
    """Return the names of the backends that computed an image's stages, joined."""
    return " and ".join(sorted(set(backends)))


def load_stage(
    path: Path | str,
    info: BundleInfo,
    stage: Stage,
    device: torch.device | str | None = None,
    backend: BackendName = REFERENCE,
) -> StageModel:
    """Load the networks of one stage of the bundle in folder ``path``, described by ``info``.

    Parameters
    ----------
    device : None: the first GPU if there is one, else the CPU.
    backend : how to compute them; see :mod:`skinray.learning.bundle.backend`.

    Raises
    ------
    BundleError
        If a file is missing, has another hash than ``info`` names, or does not fit.
    """
    place = torch.device(device) if device is not None else default_device()
    networks = []
    for name in weight_files(stage, info.members):
        file = Path(path) / name
        if backend == REFERENCE:  # which needs no cache
            network = _network(file, info, stage).to(place)
        else:
            folder = _converted(info, name, place)
            kept = BACKENDS[backend].kept(folder)
            if kept is not None:
                # The folder goes by the hash that the bundle names; its file may have been altered.
                check_file(file, info.sha256[name])
                network = kept
            else:
                network = _network(file, info, stage).to(place)
                network = BACKENDS[backend].prepare(network, place, folder)
        networks.append(network.eval())
    return StageModel(tuple(networks), info.um_per_px, info.predict, place, backend)


def calibrate_stage(
    info: BundleInfo, model: StageModel, stage: Stage, backend: BackendName, images: Sequence[Seen]
) -> None:
    """Prepare a backend that needs typical frames, for the networks of a stage.

    Parameters
    ----------
    model : the stage as the reference computes it.
    backend : one with ``calibrate``.
    images : each with its scale.
    """
    calibrate = BACKENDS[backend].calibrate
    assert calibrate is not None  # noqa: S101 - said above
    for name, network in zip(weight_files(stage, info.members), model.networks, strict=True):
        assert isinstance(network, WholeImage)  # noqa: S101 - `offered` lets no other pass
        framed: list[torch.Tensor] = []
        hook = network.register_forward_pre_hook(
            lambda module, inputs, to=framed: to.append(module.framed(inputs[0]))
        )
        try:
            for pixels, um_per_px in images:
                model.map(pixels, um_per_px)
        finally:
            hook.remove()
        calibrate(network, _converted(info, name, model.device), framed)


def converted_files(info: BundleInfo, stage: Stage, device: torch.device) -> list[Path]:
    """Return where the networks of a stage are kept in other formats, once they are converted."""
    folders = [_converted(info, name, device) for name in weight_files(stage, info.members)]
    return sorted(file for folder in folders for file in folder.glob("[!.]*"))


def computed_by(device: torch.device) -> dict[str, Any]:
    """Return what decides how sums round, and how fast they are: processor, versions, threads."""
    return {
        "hardware": hardware(),
        "instructions": instructions(),
        "device": device.type,
        "threads": torch.get_num_threads() if device.type == "cpu" else 0,
        "versions": versions(),
        "code": _code(),
    }


@cache
def _code() -> str:
    """Return a hash of the networks' code, which changes in development while the version stays."""
    digest = hashlib.sha256()
    for file in sorted(Path(models.__file__).parent.rglob("*.py")):
        digest.update(file.read_bytes())
    return digest.hexdigest()[:16]


def _converted(info: BundleInfo, name: str, device: torch.device) -> Path:
    """Return the folder of one network in other formats: for its weights, options and machine.

    So nothing that the choice of one machine or number of threads rests on is changed by another.
    """
    stage = cast(Stage, name.removesuffix(".safetensors").partition("-")[0])
    facts = [info.sha256[name], info.models[stage].model_dump(mode="json"), computed_by(device)]
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
    return cache_folder("backends") / digest[:32]


def default_device() -> torch.device:
    """Return the first GPU if there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def _network(file: Path, info: BundleInfo, stage: Stage) -> nn.Module:
    model = info.models[stage]
    try:
        data = file.read_bytes()
    except OSError as error:
        raise unreadable(file, error) from None
    check_hash(file, hashlib.sha256(data).hexdigest(), info.sha256[file.name])
    try:
        with NoRandomWeights():
            network = build(model.name, **model.options)
        network.load_state_dict(load_tensors(data))
    except (SettingsError, SafetensorError, RuntimeError) as error:
        raise BundleError(
            f"{file}: does not fit {model.name} in this version of skinray ({error}); "
            "use the version of skinray that wrote the bundle"
        ) from None
    return network.eval()
