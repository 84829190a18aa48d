"""The gate of the backends: whether one gives a bundle's maps and counts as the reference does."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from skinray.config.kinds import Stage
from skinray.learning.bundle.info import BundleInfo
from skinray.learning.bundle.networks import Seen, StageModel

# The side to which larger images are cut.
SIDE_PX = 1536
# Sums in float32: a pixel may change sides only if its probability is as close to the threshold.
AT_THRESHOLD = 1e-4
# Other sums: mean change of a probability, share of pixels that change sides, overlap of a stage's
# masks over all images, and change of a count in one image and on average. For comparison, two
# experts differ by 1.5 crossings per mm (one standard deviation).
MOST_CHANGED, MOST_FLIPPED, LEAST_DICE = 0.005, 0.005, 0.985
MOST_APART, MEAN_APART = 1, 0.34
# Masks of a smaller or larger share of all pixels say nothing about a backend.
LEAST_MASK = 1e-4
Stages = dict[Stage, StageModel]


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


def middle(seen: Seen, side_px: int = SIDE_PX) -> Seen:
    """Return the middle of an image, at most ``side_px`` wide and high."""
    pixels, um_per_px = seen
    top, left = (max(0, (side - side_px) // 2) for side in pixels.shape[:2])
    return pixels[top : top + side_px, left : left + side_px], um_per_px


class Expected:
    """What the reference finds in one image, which is cut if it is large.

    Attributes
    ----------
    pixels, um_per_px : the part that is compared.
    maps : of the reference, by stage.
    result : from :func:`result_of`.
    """

    def __init__(self, info: BundleInfo, reference: Stages, seen: Seen) -> None:
        self.pixels, self.um_per_px = middle(seen)
        self.maps = {s: model.map(self.pixels, self.um_per_px) for s, model in reference.items()}
        self.result = result_of(info, self.maps, self.pixels, self.um_per_px)


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


def telling(info: BundleInfo, expected: Sequence[Expected]) -> bool:
    """Whether images show enough to compare on: each stage marks something, but not everything."""
    for stage in info.stages:
        limit = np.float32(threshold_of(info, stage))
        marked = sum(int((one.maps[stage] > limit).sum()) for one in expected)
        pixels = sum(one.maps[stage].size for one in expected)
        if not LEAST_MASK * pixels < marked < (1 - LEAST_MASK) * pixels:
            return False
    return bool(expected)


def compare(
    info: BundleInfo,
    models: Stages,
    expected: Sequence[Expected],
    *,
    exact: bool,
) -> Comparison:
    """Compare a backend's maps and counts with the reference's.

    Parameters
    ----------
    models : of the backend.
    expected : of the reference, on images that are :func:`telling`.
    exact : the backend computes in float32, so that only rounding may differ.
    """
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
    findings = Comparison(
        seconds=0,
        images=len(expected),
        changed=max(changed.values()) / pixels,
        flipped=max(flips.values()) / pixels,
        dice=min(both / max(1, total) for both, total in overlap.values()),
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
