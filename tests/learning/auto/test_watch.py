"""What is said and done about a network that did not learn."""

from __future__ import annotations

import re

import numpy as np
import pytest
from torch import Tensor, nn

from skinray.images.augment import Sample
from skinray.learning.auto.watch import finding, tries
from skinray.learning.checkpoint import EpochEnd
from skinray.learning.metrics import has_learned
from skinray.learning.trial import TrialOutcome
from skinray.learning.validation import Judgement, chance, judged
from tests.support.tiny import (
    DERMIS_TRUTH,
    NERVE_TRUTH,
    Spy,
    drawn_sample,
    tiny_spec,
)

SAMPLES = [drawn_sample(seed) for seed in range(6)]
NOTHING = Judgement(score=0.0, chance=0.6, marked=0.0, truth=0.5)


class Constant(nn.Module):
    """Gives every pixel of every image the same logit."""

    def __init__(self, logit: float) -> None:
        super().__init__()
        self.logit = logit

    def forward(self, image: Tensor) -> Tensor:
        return image[:, :1] * 0 + self.logit


def outcome(judgement: Judgement | None, *losses: float) -> TrialOutcome:
    history = [EpochEnd(at, loss, 1e-3, None, 12, 1.0) for at, loss in enumerate(losses)]
    return TrialOutcome(
        key="k", fingerprint="f", score=None, history=history, seconds=1.0, judgement=judgement
    )


def test_weights_that_stayed_where_they_began_learned_nothing() -> None:
    """A pretrained network is better than chance before its first step."""
    good = Judgement(score=0.8, chance=0.3, marked=0.4, truth=0.4)
    still = outcome(good, 0.3, 0.3).model_copy(update={"moved": 0.0002})
    assert not still.learned
    said = finding(tiny_spec().override({"arm.train.learning_rate": 1e-7}), still)
    assert "moved its weights by only 0.02%" in said
    assert "the learning rate 1e-07 is probably far too low" in said
    assert still.model_copy(update={"moved": 0.02}).learned  # a few steps at a low rate
    assert outcome(good, 0.3, 0.3).learned  # of a version that did not measure it


def test_chance_is_of_the_better_mask_that_ignores_the_image() -> None:
    half = np.zeros((10, 10), np.uint8)
    half[5:] = 1
    assert chance("dermis", half) == pytest.approx(2 / 3)
    assert chance("skin", half) == pytest.approx(0.5)
    assert chance("nerve", half * 0) == 1  # empty against empty


@pytest.mark.parametrize(
    ("score", "by_chance", "learned"),
    [(0.05, 0.62, False), (0.62, 0.62, False), (0.65, 0.62, False), (0.7, 0.62, True),
     (0.1, 0.0, False), (0.2, 0.0, True), (1.0, 1.0, False)],
)  # fmt: skip
def test_learning_is_measured_from_chance(score: float, by_chance: float, learned: bool) -> None:
    assert has_learned(score, by_chance) == learned


def test_a_network_that_sees_the_labels_has_learned() -> None:
    for stage, network in (("nerve", NERVE_TRUTH), ("dermis", DERMIS_TRUTH)):
        found = judged(stage, network, SAMPLES, range(6))  # type: ignore[arg-type]
        assert found is not None
        assert found.score == 1
        assert found.learned
        assert found.marked == pytest.approx(found.truth)


@pytest.mark.parametrize(("constant", "marked"), [(-9.0, 0), (9.0, 1)])
def test_a_network_that_marks_nothing_or_everything_has_not(constant: float, marked: float) -> None:
    found = judged("dermis", Constant(constant), SAMPLES, range(6))
    assert found is not None
    assert found.marked == marked
    assert not found.learned


def test_a_few_images_with_labels_are_enough() -> None:
    bare = Sample(SAMPLES[0].image, {"dermis": np.zeros((96, 128), np.uint8)})
    spy = Spy([bare, *SAMPLES])
    assert judged("dermis", DERMIS_TRUTH, spy, range(7)) is not None
    assert set(spy.read) == {0, 1, 2, 3, 4}
    assert judged("dermis", DERMIS_TRUTH, [bare], [0]) is None


@pytest.mark.parametrize(
    ("judgement", "losses", "said"),
    [
        (None, (1.0, 0.5), "none of its labels marks anything"),
        (NOTHING, (0.69, 0.69, 0.69), "it marks nothing .* its loss stayed at 0.69: the learning"),
        (NOTHING, (0.899, 0.8991), "loss stayed at 0.899: .* far too low or too high"),
        (NOTHING, (0.69, 2.0), "loss rose from 0.69 to 2: the learning rate .* too high"),
        (NOTHING, (0.69, 0.4), "loss fell from 0.69 to 0.4: .* labels may belong to other images"),
        (NOTHING.model_copy(update={"marked": 1.0}), (0.7, 0.4), "it marks everything"),
        (NOTHING.model_copy(update={"marked": 0.3}), (0.7, 0.4), "30% of the pixels .* 50%, but"),
        (NOTHING.model_copy(update={"marked": None}), (0.7, 0.4), "it is no better than chance"),
    ],
)
def test_the_likely_cause_is_said(
    judgement: Judgement | None, losses: tuple[float, ...], said: str
) -> None:
    assert re.search(said, finding(tiny_spec(), outcome(judgement, *losses)))


def test_of_a_network_that_learned_nothing_is_said() -> None:
    good = NOTHING.model_copy(update={"score": 0.9})
    assert finding(tiny_spec(), outcome(good, 0.7, 0.4)) == ""


def test_other_rates_are_lower_then_higher_in_folders_of_their_own() -> None:
    spec = tiny_spec(arm__train__learning_rate=1e-3)
    lower, higher = tries(spec)
    assert lower.arm.train.learning_rate == pytest.approx(2e-4)
    assert higher.arm.train.learning_rate == pytest.approx(5e-3)
    assert len({spec.key, lower.key, higher.key}) == 3
    assert lower.override({"key": spec.key, "arm.train.learning_rate": 1e-3}) == spec
