"""Which backend computes a bundle on this machine: the fastest of those that pass the gate.

The gate compares a backend's maps and counts with the reference's, on images. What it found is
kept in the user's cache, for this bundle, processor, versions and number of threads; nothing is
written into the bundle.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, ValidationError

from skinray.config.kinds import Stage
from skinray.config.scoring import BackendName
from skinray.files import cache_folder, sha256_of, write_whole
from skinray.learning.bundle.info import BundleInfo
from skinray.learning.bundle.networks import StageModel, converted_files, load_stage
from skinray.learning.provenance import hardware, versions
from skinray.models.backends import BACKENDS, REFERENCE, offered, seconds

try:
    import fcntl
except ImportError:  # no such locks on Windows
    fcntl = None  # type: ignore[assignment]

LOG = logging.getLogger(__name__)
# Images that are compared, and the side to which larger ones are cut.
IMAGES, SIDE_PX = 6, 1536
# Sums in float32: a pixel may change sides only if its probability is as close to the threshold.
AT_THRESHOLD = 1e-4
# Other sums: mean change of a probability, share of pixels that change sides, overlap of a stage's
# masks over all images, and change of a count in one image and on average. For comparison, two
# experts differ by 1.5 crossings per mm (one standard deviation).
MOST_CHANGED, MOST_FLIPPED, LEAST_DICE = 0.005, 0.005, 0.985
MOST_APART, MEAN_APART = 1, 0.34
# A mask of fewer pixels than this share says nothing about overlap.
LEAST_MASK = 1e-4
# A backend must be this much faster to replace the reference.
PAYS = 1.05
# An image, (H, W, 3) uint8 RGB, and its scale.
Seen = tuple[NDArray[np.uint8], float | None]


class Comparison(BaseModel):
    """What was found about one backend.

    Attributes
    ----------
    seconds : of its networks, on frames of a fixed size.
    images : that were compared; 0: none, so nothing below is known.
    changed, flipped : mean change of a probability, and share of mask pixels that changed sides;
        the worst of all stages.
    dice : of its masks with the reference's, the worst of all stages.
    apart, most_apart : change of an image's count (of a photograph's share of skin): mean, largest.
    refused : why it may not be used; "" if it may.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    seconds: float
    images: int = 0
    changed: float = 0.0
    flipped: float = 0.0
    dice: float = 1.0
    apart: float = 0.0
    most_apart: float = 0.0
    refused: str = ""


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
    images: Callable[[], Sequence[Seen]] | None = None,
) -> BackendName:
    """Return the backend for a bundle on this machine, from the cache or by trial.

    Parameters
    ----------
    folder, info : the bundle.
    device : that computes it, with as many threads as torch has now.
    images : gives images to compare on; None: only a choice made before counts, else the reference.
    """
    made_for = _made_for(info, device)
    place = cache_folder("backends") / f"{_digest(made_for)}.json"
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        with _alone(place):
            known = _read(place, made_for)
            if known is None and images is not None:
                known = _by_trial(folder, info, device, list(images())[:IMAGES], made_for)
                write_whole(place, known.model_dump_json(indent=1))
    except OSError as error:
        LOG.warning("backends cannot be compared (%s): computing in float32", error)
        return REFERENCE
    if known is None:
        return REFERENCE
    LOG.info("backend: %s", known.words())
    return known.backend


def _made_for(info: BundleInfo, device: torch.device) -> dict[str, Any]:
    return {
        "bundle": info.id,
        "hardware": hardware(),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "device": device.type,
        "threads": torch.get_num_threads() if device.type == "cpu" else 0,
        "versions": versions(),
    }


def _digest(values: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:32]


@contextmanager
def _alone(place: Path) -> Iterator[None]:
    """Let one process of this machine choose; others wait and find its choice."""
    with place.with_suffix(".lock").open("ab") as file:
        if fcntl is not None:
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _read(place: Path, made_for: dict[str, Any]) -> Choice | None:
    """Read a choice; None if there is none, or it holds for other things."""
    try:
        known = Choice.model_validate_json(place.read_bytes())
        sound = all(sha256_of(Path(file)) == digest for file, digest in known.files.items())
    except (OSError, ValidationError):
        return None
    return known if sound and known.made_for == made_for else None


def _by_trial(
    folder: Path,
    info: BundleInfo,
    device: torch.device,
    images: Sequence[Seen],
    made_for: dict[str, Any],
) -> Choice:
    """Time every backend, and compare the faster ones with the reference, fastest first."""
    reference = {stage: load_stage(folder, info, stage, device) for stage in info.stages}
    tried = {REFERENCE: Comparison(seconds=_seconds(reference))}
    faster: list[tuple[float, BackendName, dict[Stage, StageModel]]] = []
    for name in BACKENDS:
        why = {offered(model.networks[0], device)[name] for model in reference.values()} - {""}
        if name == REFERENCE or why:
            continue
        try:
            models = {s: load_stage(folder, info, s, device, name) for s in info.stages}
            taken = _seconds(models)
        except Exception as error:  # whatever a library does, the reference still works
            LOG.warning("backend %s does not work here: %s", name, error)
            continue
        if taken * PAYS < tried[REFERENCE].seconds:
            faster.append((taken, name, models))
        else:
            tried[name] = Comparison(seconds=taken, refused="not faster")
    expected = [_Expected.of(info, reference, *_cut(seen)) for seen in images]
    chosen = REFERENCE
    for taken, name, models in sorted(faster, key=lambda one: one[0]):
        found = compare(info, models, expected, exact=BACKENDS[name].exact)
        tried[name] = found.model_copy(update={"seconds": taken})
        if not found.refused:
            chosen = name
            break
    files = {
        str(file): sha256_of(file)
        for stage in info.stages
        for file in converted_files(info, stage)
        if file.exists()
    }
    return Choice(backend=chosen, made_for=made_for, tried=tried, files=files)


def _seconds(models: dict[Stage, StageModel]) -> float:
    """Time the networks of all stages, each for its share of an image's pixels."""
    return sum(
        seconds(network, model.device) * float(getattr(network, "working_scale", 1.0)) ** 2
        for model in models.values()
        for network in model.networks
    )


def _cut(seen: Seen) -> Seen:
    """Return the middle of an image."""
    pixels, um_per_px = seen
    top, left = (max(0, (side - SIDE_PX) // 2) for side in pixels.shape[:2])
    return pixels[top : top + SIDE_PX, left : left + SIDE_PX], um_per_px


class _Expected:
    """What the reference finds in one image."""

    def __init__(
        self,
        pixels: NDArray[np.uint8],
        um_per_px: float | None,
        maps: dict[Stage, NDArray[np.float32]],
        result: float,
    ) -> None:
        self.pixels, self.um_per_px, self.maps, self.result = pixels, um_per_px, maps, result

    @classmethod
    def of(
        cls,
        info: BundleInfo,
        models: dict[Stage, StageModel],
        pixels: NDArray[np.uint8],
        um_per_px: float | None,
    ) -> _Expected:
        maps = {stage: model.map(pixels, um_per_px) for stage, model in models.items()}
        return cls(pixels, um_per_px, maps, result_of(info, maps, pixels, um_per_px))


def result_of(
    info: BundleInfo,
    maps: dict[Stage, NDArray[np.float32]],
    pixels: NDArray[np.uint8],
    um_per_px: float | None,
) -> float:
    """Return the count of a biopsy, or how many hundredths of a photograph are skin."""
    if info.kind == "biopsy":
        return float(info.find_crossings(maps["nerve"], maps["dermis"], um_per_px).count)
    return 100 * info.find_skin(pixels, maps["skin"]).fraction


def threshold_of(info: BundleInfo, stage: Stage) -> float:
    """Return the probability above which a pixel of a stage belongs to its mask."""
    if stage == "skin":
        return info.finding.threshold
    counting = info.counting
    return counting.nerve_threshold if stage == "nerve" else counting.dermis_threshold


def compare(
    info: BundleInfo,
    models: dict[Stage, StageModel],
    expected: Sequence[_Expected],
    *,
    exact: bool,
) -> Comparison:
    """Compare a backend's maps and counts with the reference's.

    Parameters
    ----------
    models : of the backend.
    expected : of the reference.
    exact : the backend computes in float32, so that only rounding may differ.
    """
    if not expected:
        return Comparison(seconds=0, refused="no image to compare on")
    flips = dict.fromkeys(models, 0)
    beyond, changed, apart = 0, dict.fromkeys(models, 0.0), []
    overlap = {stage: [0, 0] for stage in models}
    pixels = sum(one.pixels.shape[0] * one.pixels.shape[1] for one in expected)
    for one in expected:
        maps = {stage: model.map(one.pixels, one.um_per_px) for stage, model in models.items()}
        for stage, found in maps.items():
            if not np.isfinite(found).all():
                return Comparison(seconds=0, refused="it gives values that are not finite")
            limit, right = np.float32(threshold_of(info, stage)), one.maps[stage]
            flipped = (found > limit) != (right > limit)
            flips[stage] += int(flipped.sum())
            beyond += int((flipped & (np.abs(right - limit) > AT_THRESHOLD)).sum())
            changed[stage] += float(np.abs(found - right).sum())
            overlap[stage][0] += 2 * int(((found > limit) & (right > limit)).sum())
            overlap[stage][1] += int((found > limit).sum() + (right > limit).sum())
        apart.append(abs(result_of(info, maps, one.pixels, one.um_per_px) - one.result))
    dice = [both / total for both, total in overlap.values() if total > 2 * LEAST_MASK * pixels]
    findings = Comparison(
        seconds=0,
        images=len(expected),
        changed=max(changed.values()) / pixels,
        flipped=max(flips.values()) / pixels,
        dice=min(dice, default=1.0),
        apart=float(np.mean(apart)),
        most_apart=max(apart),
    )
    return findings.model_copy(update={"refused": _refused(findings, beyond, exact=exact)})


def _refused(found: Comparison, beyond: int, *, exact: bool) -> str:
    """Say which limit a backend exceeds; "" if none."""
    if exact:
        if beyond:
            return f"{beyond} mask pixels differ away from the threshold"
        return f"a count differs by {found.most_apart:g}" if found.most_apart else ""
    limits = (
        (found.changed > MOST_CHANGED, f"probabilities change by {found.changed:.2g}"),
        (found.flipped > MOST_FLIPPED, f"{found.flipped:.2%} of mask pixels change sides"),
        (found.dice < LEAST_DICE, f"masks overlap by {found.dice:.3f} only (Dice)"),
        (found.most_apart > MOST_APART, f"a count differs by {found.most_apart:g}"),
        (found.apart > MEAN_APART, f"counts differ by {found.apart:.2g} on average"),
    )
    return next((why for exceeded, why in limits if exceeded), "")
