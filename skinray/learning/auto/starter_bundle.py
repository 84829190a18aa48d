"""The bundle of the starters; other drawings fit its crossing parameters and measure its error."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
from torch import nn

from skinray.config.biopsies import CrossingSettings, FitSettings, PhantomSettings
from skinray.config.kinds import Stage
from skinray.crossings import find_crossings
from skinray.crossings.fit import FitPair
from skinray.images.augment import Sample
from skinray.images.phantoms.varied import varied_phantom
from skinray.learning import bundle as bundles
from skinray.learning.auto.starter import BATCH, CROPS, EPOCH_STEPS, Starter, StarterSettings
from skinray.learning.bundle.info import BundleInfo
from skinray.learning.held_out import fitted
from skinray.learning.metrics import dice, tolerant_dice
from skinray.learning.provenance import now, versions
from skinray.models.predict import predict_map

# Drawings of other seeds: some to fit the crossing parameters to, others to measure the error on.
FITTED, MEASURED = 40, 60
SIZE = (960, 768)


def save_starters(
    out: Path,
    settings: Mapping[Stage, StarterSettings],
    starters: Mapping[Stage, Starter],
    images: tuple[int, int] = (FITTED, MEASURED),
) -> Path:
    """Write the starters as a bundle, float16; return its folder.

    Parameters
    ----------
    images : drawings to fit the crossing parameters to, and to measure the error on.
    """
    scale = PhantomSettings().um_per_px
    pair = starters["nerve"].network, starters["dermis"].network
    fit, measured = images
    seed = settings["nerve"].seed + 1
    seen = [_maps(pair, varied_phantom(seed, at, SIZE)) for at in range(fit + measured)]
    crossings, _ = fitted(
        [one.pair(scale) for one in seen[:fit]], CrossingSettings(), FitSettings()
    )
    recipe = {stage: one.model_dump(mode="json") for stage, one in settings.items()}
    drawn = max(one.steps for one in starters.values()) * BATCH // CROPS
    info = BundleInfo(
        models={stage: one.model for stage, one in settings.items()},
        crossings=crossings,
        um_per_px=scale,
        fold="drawn biopsies",
        settings=recipe
        | {
            "first_steps": EPOCH_STEPS,
            "beginning": {s: one.beginning for s, one in starters.items()},
        },
        metrics=_figures(seen[fit:], crossings, scale),
        starter=True,
        versions=versions(),
        data_fingerprint=hashlib.sha256(repr(recipe).encode()).hexdigest(),
        images=drawn,
        subjects=drawn,
        created=now(),
    )
    return bundles.save(out, info, {stage: one.network.half() for stage, one in starters.items()})


@dataclass(frozen=True)
class _Drawing:
    """A drawing, and the networks' maps of it."""

    sample: Sample
    nerve: Any
    dermis: Any

    def pair(self, scale: float) -> FitPair:
        truth = self.sample.masks
        return FitPair(self.nerve, self.dermis, truth["nerve"] > 0, truth["dermis"] > 0, scale)


def _maps(networks: tuple[nn.Module, nn.Module], sample: Sample) -> _Drawing:
    nerve, dermis = (predict_map(network, sample.image) for network in networks)
    return _Drawing(sample, nerve, dermis)


def _figures(seen: list[_Drawing], crossings: CrossingSettings, scale: float) -> dict[str, Any]:
    """Compare counts and maps with the truth that was drawn."""
    found = [find_crossings(one.nerve, one.dermis, crossings, scale).count for one in seen]
    truth = [
        find_crossings(one.sample.masks["nerve"], one.sample.masks["dermis"], um_per_px=scale).count
        for one in seen
    ]
    nerves = [(one.nerve > crossings.nerve_threshold, one.sample.masks["nerve"]) for one in seen]
    figures: dict[str, Any] = {
        "other drawn biopsies": len(seen),
        "dermis Dice (mean)": round(
            fmean(dice(o.dermis > 0.5, o.sample.masks["dermis"]) for o in seen), 3
        ),
        "nerve Dice, k = 3 (mean)": round(fmean(tolerant_dice(*pair, 3) for pair in nerves), 3),
        "error of a count (mean, crossings)": round(
            fmean(abs(a - b) for a, b in zip(found, truth, strict=True)), 2
        ),
    }
    if len(set(found)) > 1 and len(set(truth)) > 1:
        r = float(np.corrcoef(found, truth)[0, 1])
        figures["Pearson r with the crossings drawn"] = round(r, 3)
    return figures
