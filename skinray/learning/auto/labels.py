"""Labels that the starter contradicts: it has never seen the images, but it knows skin."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean

from skinray.images.augment import Sample
from skinray.learning.bundle.info import read_info
from skinray.learning.bundle.networks import load_stage
from skinray.learning.metrics import dice
from skinray.models.predict import predict_map
from skinray.models.weights.published import STARTER

# Images below which nothing is said, and Dice of the starter with the labels and their opposite.
FEWEST, AGREES, DISAGREES = 5, 0.6, 0.35
# Short side at which the starter's dermis network has seen most drawings.
SIDE_PX = 192


def inverted_dermis(samples: Sequence[Sample]) -> str:
    """Say that the dermis labels mark the epidermis, if the starter is sure of it; else ""."""
    if len(samples) < FEWEST:
        return ""
    (dermis,) = load_stage(STARTER, read_info(STARTER), "dermis", "cpu").networks
    found = []
    for sample in samples:
        dermis.working_scale = min(1.0, SIDE_PX / min(sample.shape))  # type: ignore[assignment]
        seen, label = predict_map(dermis, sample.image) > 0.5, sample.masks["dermis"] > 0
        found.append((dice(seen, label), dice(seen, ~label)))
    own, opposite = (fmean(values) for values in zip(*found, strict=True))
    if own > DISAGREES or opposite < AGREES:
        return ""
    return (
        "the dermis labels seem to mark everything but the dermis (the starter's Dice with them is "
        f"{own:.2f}, and with their opposite {opposite:.2f}): invert the dermis labels"
    )
