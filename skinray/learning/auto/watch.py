"""What to say and do about a network that did not learn."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean

from skinray.learning.checkpoint import EpochEnd
from skinray.learning.spec import TrialSpec
from skinray.learning.trial import TrialOutcome
from skinray.learning.validation import Judgement

# A loss that falls by less than this share of its first value counts as flat.
FLAT = 0.02
# A network that marks less than this share of what the labels mark counts as marking nothing.
NOTHING = 0.01
# Factors of the learning rate of a second and a third try: first down, which helps after a wild
# start, then up, which helps where the loss hardly moved.
OTHER_RATES = (0.2, 5.0)


def finding(spec: TrialSpec, outcome: TrialOutcome) -> str:
    """Say what a training that did not learn did instead, and the likely cause; else ""."""
    if outcome.learned:
        return ""
    judgement = outcome.judgement
    if judgement is None:
        return "none of its labels marks anything: export them again"
    steps = sum(end.images for end in outcome.history) // spec.step
    if outcome.stayed and judgement.learned:
        rate = spec.arm.train.learning_rate
        return (
            f"{steps} steps moved its weights by only {outcome.moved:.2%}, so it is still what it "
            f"started from: the learning rate {rate:g} is probably far too low"
        )
    return (
        f"{_does(judgement)} (score {judgement.score:.2f}; a mask that ignores the image reaches "
        f"{judgement.chance:.2f}), and its loss {_loss(outcome.history)}: "
        f"{_cause(spec, outcome.history, steps)}"
    )


def tries(spec: TrialSpec) -> list[TrialSpec]:
    """List the same training with other learning rates, for a network that did not learn."""
    rate = spec.arm.train.learning_rate
    return [
        spec.override({"key": f"{spec.key}-rate-{at}", "arm.train.learning_rate": rate * factor})
        for at, factor in enumerate(OTHER_RATES, 2)
    ]


def _does(judgement: Judgement) -> str:
    if judgement.marked is None:
        return "it is no better than chance"
    if judgement.marked < NOTHING * judgement.truth:
        return "it marks nothing"
    if 1 - judgement.marked < NOTHING * (1 - judgement.truth):
        return "it marks everything"
    return (
        f"it marks {judgement.marked:.0%} of the pixels where the labels mark "
        f"{judgement.truth:.0%}, but not the same ones"
    )


def _loss(history: Sequence[EpochEnd]) -> str:
    first, last = history[0].loss, history[-1].loss
    if is_flat(history):
        return f"stayed at {last:.3g}"
    return f"{'fell' if last < first else 'rose'} from {first:.3g} to {last:.3g}"


def is_flat(history: Sequence[EpochEnd]) -> bool:
    """Whether the loss of a training ended where it began."""
    early = history[0].loss
    late = fmean(end.loss for end in history[-3:])
    return abs(early - late) < FLAT * abs(early)


def _cause(spec: TrialSpec, history: Sequence[EpochEnd], steps: int) -> str:
    rate = spec.arm.train.learning_rate
    if is_flat(history):
        return (
            f"the learning rate {rate:g} is probably far too low or too high, or {steps} steps are "
            "too few"
        )
    if history[-1].loss > history[0].loss:
        return f"the learning rate {rate:g} is probably too high"
    return (
        f"{steps} steps may be too few, or the labels may belong to other images or to another "
        "structure: compare some labels with their images"
    )
