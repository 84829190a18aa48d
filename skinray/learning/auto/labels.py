"""Labels that the starter contradicts: it has never seen the images, but it knows skin."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean

import numpy as np
from numpy.typing import NDArray
from torch import nn

from skinray.config.biopsies import CrossingSettings
from skinray.config.images import ReadSettings
from skinray.crossings import find_crossings
from skinray.files import STARTER
from skinray.images.augment import Sample
from skinray.images.cohort.manifest import load_sample
from skinray.images.cohort.plausible import Trace, of_other_polarity, shifted_labels
from skinray.images.file_errors import counted
from skinray.learning.bundle.info import read_info
from skinray.learning.bundle.networks import load_stage
from skinray.learning.metrics import dice
from skinray.models.predict import predict_map

# Images below which nothing is said, and Dice of the starter with the labels and their opposite.
FEWEST, AGREES, DISAGREES = 5, 0.6, 0.35
# Images that are judged because they look unlike the others.
MOST_SUSPECTS = 24
_READ = ReadSettings()
# Short side at which the starter's dermis network has seen most drawings.
SIDE_PX = 192


def label_crossings(
    nerves: NDArray[np.bool_], dermis: NDArray[np.bool_], um_per_px: float | None
) -> int:
    """Count the crossings of two labels, (H, W), with the paper's settings at a scale."""
    settings = CrossingSettings().at_scale(um_per_px)
    return find_crossings(nerves, dermis.astype(np.float32), settings, um_per_px).count


def doubts(samples: Sequence[Sample], traces: Sequence[Trace], read: ReadSettings = _READ) -> str:
    """Say why the labels of a cohort cannot be right; "" if nothing speaks against them.

    Parameters
    ----------
    samples : some images of the cohort, with their labels.
    traces : of all its images.
    """
    return shifted_labels(traces) or inverted_dermis(samples, traces, read)


def inverted_dermis(
    samples: Sequence[Sample], traces: Sequence[Trace] = (), read: ReadSettings = _READ
) -> str:
    """Say that dermis labels mark the epidermis, if the starter is sure of it; else "".

    Parameters
    ----------
    samples : some images of the cohort.
    traces : of all its images; those whose dermis looks unlike that of the others are judged too.
    """
    if len(samples) < FEWEST:
        return ""
    (dermis,) = load_stage(STARTER, read_info(STARTER), "dermis", "cpu").networks
    own, opposite = (fmean(values) for values in zip(*_agreements(dermis, samples), strict=True))
    if own <= DISAGREES and opposite >= AGREES:
        return (
            "the dermis labels seem to mark everything but the dermis (the starter's Dice with "
            f"them is {own:.2f}, and with their opposite {opposite:.2f}): invert the dermis labels"
        )
    suspects = of_other_polarity(traces)[:MOST_SUSPECTS]
    judged = _agreements(dermis, [load_sample(biopsy, read) for biopsy in suspects])
    odd = [
        f"row {biopsy.row}, {biopsy.name}"
        for biopsy, (own, opposite) in zip(suspects, judged, strict=True)
        if own <= DISAGREES and opposite >= AGREES
    ]
    if not odd:
        return ""
    return (
        f"the dermis label of {counted(len(odd), 'image')} seems to mark everything but the dermis "
        f"({'; '.join(odd)}): invert it"
    )


def _agreements(network: nn.Module, samples: Sequence[Sample]) -> list[tuple[float, float]]:
    """Return the Dice of the starter with each dermis label, and with its opposite."""
    found = []
    for sample in samples:
        network.working_scale = min(1.0, SIDE_PX / min(sample.shape))  # type: ignore[assignment]
        seen, label = predict_map(network, sample.image) > 0.5, sample.masks["dermis"] > 0
        found.append((dice(seen, label), dice(seen, ~label)))
    return found
