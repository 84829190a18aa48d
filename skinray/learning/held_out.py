"""Score the held-out images of a split with the whole pipeline: maps, crossings, counts."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from skinray.config.biopsies import CrossingSettings, FitSettings, RunSettings
from skinray.config.images import PredictSettings
from skinray.config.kinds import Stage
from skinray.crossings import Crossings, find_crossings
from skinray.crossings.fit import FitPair, fit_crossings
from skinray.files import whole
from skinray.images.augment import Sample, generator
from skinray.images.cohort.rows import Biopsy
from skinray.learning.search import Split
from skinray.learning.spec import TrialSpec
from skinray.learning.trial import trained_network
from skinray.learning.validation import chance, scores
from skinray.models.predict import WHOLE, predict_map

LONGEST_NAME = 200  # bytes; file systems allow 255, and the ending needs some


@dataclass(frozen=True)
class HeldOut:
    """One held-out image: counts, scores and the file of its maps.

    ``chance``: the score of the better of an empty and a full mask, for nerves with the largest
    tolerance.
    """

    position: int
    expert: int
    model: int
    nerve_dice: dict[int, float]
    dermis_dice: float
    boundary_px: float
    prediction: str
    chance: dict[Stage, float]


@dataclass(frozen=True)
class SplitScores:
    """A split's held-out images, and the crossing parameters used to count them."""

    images: list[HeldOut]
    crossings: CrossingSettings
    consistency: float | None


def expert_count(biopsy: Biopsy, sample: Sample, um_per_px: float | None = None) -> int:
    """Return the expert's count from the manifest, or else the count of the labels."""
    if biopsy.count is not None:
        return biopsy.count
    return find_crossings(sample.masks["nerve"], sample.masks["dermis"], um_per_px=um_per_px).count


def fitted(
    pairs: Sequence[FitPair], settings: CrossingSettings, search: FitSettings
) -> tuple[CrossingSettings, float | None]:
    """Fit the crossing parameters to labelled maps, if the search is on."""
    if not search.enabled or not pairs:
        return settings, None
    result = fit_crossings(pairs, settings, search)
    return result.settings, result.consistency


@dataclass(frozen=True)
class ScoringInputs:
    """What the scoring tasks of a run share; ``out`` is its folder, ``source`` the samples."""

    source: Sequence[Sample]
    biopsies: tuple[Biopsy, ...]
    out: Path
    settings: RunSettings
    um_per_px: float | None

    def network(self, spec: TrialSpec, device: torch.device) -> nn.Module:
        """Return the network of a trial."""
        return trained_network(spec, self.out / "trials" / spec.key).to(device)


def split_scores(
    device: torch.device, split: Split, nerve: TrialSpec, dermis: TrialSpec, inputs: ScoringInputs
) -> SplitScores:
    """Score a split's held-out images with the networks of two trials."""
    return score_split(
        (inputs.network(nerve, device), inputs.network(dermis, device)),
        inputs.source,
        inputs.biopsies,
        split.train,
        split.held_out,
        inputs.settings.crossings,
        inputs.settings.fit,
        inputs.out / "predictions" / split.name,
        um_per_px=inputs.um_per_px,
        device=device,
        seed=inputs.settings.seed,
    )


def arm_dice(
    device: torch.device, spec: TrialSpec, split: Split, inputs: ScoringInputs
) -> dict[int, list[float]]:
    """Return an arm's Dice by tolerance, one value for each held-out image of the split."""
    network = inputs.network(spec, device)
    rows = []
    for at in split.held_out:
        sample = inputs.source[at]
        probability = predict_map(network, sample.image, device)
        rows.append(scores(spec.stage, probability, sample.masks[spec.stage]))
    return {k: [row[k] for row in rows] for k in rows[0]}


def score_split(
    networks: tuple[nn.Module, nn.Module],
    samples: Sequence[Sample],
    biopsies: Sequence[Biopsy],
    train: Sequence[int],
    held_out: Sequence[int],
    settings: CrossingSettings,
    search: FitSettings,
    folder: Path,
    *,
    um_per_px: float | None = None,
    device: torch.device | None = None,
    seed: int = 0,
    predict: PredictSettings = WHOLE,
) -> SplitScores:
    """Fit the crossing parameters to training images, then count the held-out images.

    Parameters
    ----------
    networks : the nerve and the dermis network.
    samples, biopsies : the cohort by position, at one scale (``um_per_px``).
    train, held_out : positions. Only those of ``train`` that a person labelled are used for
        fitting.
    folder : receives one ``.npz`` file of maps for each held-out image.
    predict : how the networks see a whole image.
    """
    pairs = []
    labelled = [at for at in train if biopsies[at].is_scored]
    for at in images_to_fit(labelled, search, seed):
        sample = samples[at]
        pairs.append(_pair(*_maps(networks, sample, device, predict), sample, um_per_px))
    chosen, consistency = fitted(pairs, settings, search)
    images = []
    for at in held_out:
        sample = samples[at]
        nerve, dermis = _maps(networks, sample, device, predict)
        found = find_crossings(nerve, dermis, chosen, um_per_px)
        path = _store(folder, biopsies[at].name, nerve, dermis, found)
        images.append(
            HeldOut(
                position=at,
                expert=expert_count(biopsies[at], sample, um_per_px),
                model=found.count,
                nerve_dice=scores("nerve", nerve, sample.masks["nerve"]),
                dermis_dice=scores("dermis", dermis, sample.masks["dermis"])[0],
                boundary_px=float(found.boundary_px),
                prediction=path.name,
                chance={s: chance(s, mask) for s, mask in sample.masks.items()},
            )
        )
    return SplitScores(images, chosen, consistency)


def images_to_fit(positions: Sequence[int], search: FitSettings, seed: int) -> list[int]:
    """Draw the images used to fit the crossing parameters: at most ``max_images``."""
    if not search.enabled:
        return []
    order = generator(seed, 0, "fit").permutation(len(positions))
    return sorted(positions[int(i)] for i in order[: search.max_images])


def stored_pair(path: Path, sample: Sample, um_per_px: float | None) -> FitPair:
    """Read the stored maps of a held-out image; return them with its truth."""
    with np.load(path, allow_pickle=False) as maps:
        nerve = maps["nerve"].astype(np.float32) / 255
        dermis = maps["dermis_probability"].astype(np.float32) / 255
    return _pair(nerve, dermis, sample, um_per_px)


def _pair(
    nerve: NDArray[np.float32],
    dermis: NDArray[np.float32],
    sample: Sample,
    um_per_px: float | None,
) -> FitPair:
    return FitPair(nerve, dermis, sample.masks["nerve"] > 0, sample.masks["dermis"] > 0, um_per_px)


def _maps(
    networks: tuple[nn.Module, nn.Module],
    sample: Sample,
    device: torch.device | None,
    predict: PredictSettings,
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    nerve, dermis = (predict_map(network, sample.image, device, predict) for network in networks)
    return nerve, dermis


def _file_name(name: str) -> str:
    """Return a unique file name for an image's path, short enough for any file system."""
    plain = name.replace("/", "__")
    if "__" in name or len(plain.encode()) > LONGEST_NAME:
        plain = f"{plain[-40:]}-{hashlib.sha256(name.encode()).hexdigest()[:12]}"
    return plain + ".npz"


def _store(
    folder: Path,
    name: str,
    nerve: NDArray[np.float32],
    dermis: NDArray[np.float32],
    found: Crossings,
) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / _file_name(name)
    with whole(path) as partial, partial.open("wb") as file:
        np.savez_compressed(
            file,
            nerve=np.rint(nerve * 255).astype(np.uint8),
            dermis_probability=np.rint(dermis * 255).astype(np.uint8),
            dermis=found.dermis,
            boundary=found.boundary,
            points=found.points,
        )
    return path
