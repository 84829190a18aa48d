"""Which backend computes a bundle on this machine: the fastest of those that pass the gate.

The gate compares a backend's maps and counts with the reference's, on images. What it found is
kept in the user's cache, for this bundle, processor, versions and number of threads; nothing is
written into the bundle.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict, ValidationError

from skinray.config.scoring import BackendName
from skinray.files import cache_folder, sha256_of, write_whole
from skinray.learning.bundle.gate import Comparison, Expected, Stages, compare, middle, telling
from skinray.learning.bundle.info import BundleInfo
from skinray.learning.bundle.networks import (
    Seen,
    calibrate_stage,
    computed_by,
    converted_files,
    load_stage,
)
from skinray.models.backends import BACKENDS, REFERENCE, offered, seconds

try:
    import fcntl
except ImportError:  # no such locks on Windows
    fcntl = None  # type: ignore[assignment]

LOG = logging.getLogger(__name__)
# Images that are compared at most; as many others calibrate, each cut to this side.
IMAGES, CALIBRATED_PX = 6, 512
# A backend must be this much faster to replace the reference.
PAYS = 1.05
# Calibration takes as long as dozens of images, and narrow networks gain nothing from integers: it
# is tried where the reference takes this long for the frames of a trial, in seconds.
CALIBRATES_FROM_S = 0.3


class Choice(BaseModel):
    """The backend of a bundle on a machine, and how it was chosen.

    Attributes
    ----------
    backend : the fastest that passed.
    made_for : bundle, processor, versions and threads; it holds for no other.
    tried : what was found about each.
    files : SHA-256 of the converted networks, by path.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    backend: BackendName
    made_for: dict[str, Any]
    tried: dict[BackendName, Comparison]
    files: dict[str, str] = {}

    def words(self) -> str:
        """Return the choice in one line."""
        found = self.tried[self.backend]
        times = self.tried[REFERENCE].seconds / max(found.seconds, 1e-9)
        if self.backend == REFERENCE:
            return f"{self.backend}, since no faster backend gives the same counts here"
        return (
            f"{self.backend}, {times:.1f} times as fast as float32 in torch; compared on "
            f"{found.images} images: counts change by {found.apart:.2g} on average, "
            f"{found.flipped:.2%} of mask pixels"
        )


def choose(
    folder: Path,
    info: BundleInfo,
    device: torch.device,
    images: Callable[[], Iterable[Seen]] | None = None,
) -> BackendName:
    """Return the backend for a bundle on this machine, from the cache or by trial.

    Parameters
    ----------
    folder, info : the bundle.
    device : that computes it, with as many threads as torch has now.
    images : gives images to compare on; None: only a choice made before counts, else the reference.
    """
    made_for = _made_for(info, device)
    try:
        place = cache_folder("backends") / f"{_digest(made_for)}.json"
        place.parent.mkdir(parents=True, exist_ok=True)
        with _alone(place):
            known = _read(place, made_for)
            if known is None and images is not None:
                seen = [middle(one) for one in islice(images(), 2 * IMAGES)]
                # So that not every process finds out again that these images show too little.
                vain = place.with_name(f"{place.stem}-{_digest_of(seen)}.vain")
                known = None if vain.exists() else _by_trial(folder, info, device, seen, made_for)
                if known is not None:
                    write_whole(place, known.model_dump_json(indent=1))
                else:
                    vain.touch()
    except (OSError, RuntimeError) as error:  # RuntimeError: this user has no home
        LOG.warning("backends cannot be compared (%s): computing in float32", error)
        return REFERENCE
    if known is None:
        return REFERENCE
    LOG.info("backend: %s", known.words())
    return known.backend


def _made_for(info: BundleInfo, device: torch.device) -> dict[str, Any]:
    return {"bundle": info.id, **computed_by(device)}


def _digest(values: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:32]


def _digest_of(images: Sequence[Seen]) -> str:
    digest = hashlib.sha256()
    for pixels, um_per_px in images:
        digest.update(f"{pixels.shape} {um_per_px};".encode())
        digest.update(pixels.tobytes())
    return digest.hexdigest()[:16]


@contextmanager
def _alone(place: Path) -> Iterator[None]:
    """Let one process of this machine choose; others wait and find its choice."""
    with place.with_suffix(".lock").open("ab") as file:
        if fcntl is not None:
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _read(place: Path, made_for: dict[str, Any]) -> Choice | None:
    """Read a choice; None if there is none, or it holds for other things.

    If a converted network has changed since, or a part of it is gone, all of them are removed, to
    be converted again.
    """
    try:
        known = Choice.model_validate_json(place.read_bytes())
        if known.made_for != made_for:
            return None
        sound = all(_has(Path(name), digest) for name, digest in known.files.items())
        for name in known.files if not sound else ():
            Path(name).unlink(missing_ok=True)
    except (OSError, ValidationError):
        return None
    return known if sound else None


def _has(file: Path, digest: str) -> bool:
    return file.is_file() and sha256_of(file) == digest


def _by_trial(
    folder: Path,
    info: BundleInfo,
    device: torch.device,
    images: Sequence[Seen],
    made_for: dict[str, Any],
) -> Choice | None:
    """Time every backend, and compare the faster ones with the reference, fastest first.

    None: the images show too little.
    """
    reference = stages_by(REFERENCE, folder, info, device)
    expected = [Expected(info, reference, seen) for seen in images[:IMAGES]]
    typical = [middle(seen, CALIBRATED_PX) for seen in images[IMAGES:]]
    if not telling(info, expected):
        LOG.info("the first images show too little to compare backends: computing in float32")
        return None
    tried = {REFERENCE: Comparison(seconds=_seconds(reference))}
    faster: list[tuple[float, BackendName, Stages]] = []
    for name in others(reference, device):
        if BACKENDS[name].calibrate is not None and (
            not typical or tried[REFERENCE].seconds < CALIBRATES_FROM_S
        ):
            continue
        try:
            if BACKENDS[name].calibrate is not None:
                for stage, model in reference.items():
                    calibrate_stage(info, model, stage, name, typical)
            models = stages_by(name, folder, info, device)
            taken = _seconds(models)
        except Exception as error:  # whatever a library does, the reference still works
            LOG.warning("backend %s does not work here: %s", name, error)
            continue
        if taken * PAYS < tried[REFERENCE].seconds:
            faster.append((taken, name, models))
        else:
            tried[name] = Comparison(seconds=taken, refused="not faster")
    chosen = REFERENCE
    for taken, name, models in sorted(faster, key=lambda one: one[0]):
        try:
            found = compare(info, models, expected, exact=BACKENDS[name].exact)
        except Exception as error:
            found = Comparison(seconds=taken, refused=f"it fails: {type(error).__name__}")
        tried[name] = found.model_copy(update={"seconds": taken})
        if not found.refused:
            chosen = name
            break
    files = {
        str(file): sha256_of(file)
        for stage in info.stages
        for file in converted_files(info, stage, device)
        if file.exists()
    }
    return Choice(backend=chosen, made_for=made_for, tried=tried, files=files)


def stages_by(name: BackendName, folder: Path, info: BundleInfo, device: torch.device) -> Stages:
    """Load all stages of a bundle, computed by one backend."""
    return {stage: load_stage(folder, info, stage, device, name) for stage in info.stages}


def others(reference: Stages, device: torch.device) -> list[BackendName]:
    """Return the backends besides the reference that can compute all its networks on a device."""
    reasons = [offered(model.networks[0], device) for model in reference.values()]
    return [
        name for name in BACKENDS if name != REFERENCE and not any(why[name] for why in reasons)
    ]


def _seconds(models: Stages) -> float:
    """Time the networks of all stages, each for its share of an image's pixels."""
    return sum(
        seconds(network, model.device) * float(getattr(network, "working_scale", 1.0)) ** 2
        for model in models.values()
        for network in model.networks
    )
