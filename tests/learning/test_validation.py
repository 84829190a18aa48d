from __future__ import annotations

import numpy as np
from tiny import DERMIS_TRUTH, NERVE_TRUTH, ColourNetwork, drawn_sample

from skinray.learning.metrics import dice, tolerant_dice
from skinray.learning.validation import scores, truth_of, validation_score

SAMPLES = [drawn_sample(seed) for seed in range(3)]


def test_each_stage_has_its_truth_and_tolerances() -> None:
    sample = SAMPLES[0]
    assert truth_of("nerve", sample) is sample.nerve
    assert truth_of("dermis", sample) is sample.dermis
    perfect = np.float32(sample.nerve)
    assert scores("nerve", perfect, sample.nerve) == {0: 1, 1: 1, 3: 1}
    assert scores("dermis", np.float32(sample.dermis), sample.dermis) == {0: 1}


def test_scores_are_those_of_the_thresholded_map() -> None:
    truth = SAMPLES[0].nerve
    shifted = np.roll(truth, 2, axis=1)
    probability = np.where(shifted > 0, np.float32(0.5), np.float32(0.49))
    assert scores("nerve", probability, truth) == {
        0: dice(shifted, truth),
        1: tolerant_dice(shifted, truth, 1),
        3: tolerant_dice(shifted, truth, 3),
    }
    below = np.where(shifted > 0, np.float32(0.4999), np.float32(0))
    assert scores("nerve", below, truth) == {0: 0, 1: 0, 3: 0}


def test_the_validation_score_is_the_mean_over_images_of_the_widest_tolerance() -> None:
    assert validation_score("nerve", NERVE_TRUTH, SAMPLES) == 1
    assert validation_score("dermis", DERMIS_TRUTH, iter(SAMPLES)) == 1
    blind = ColourNetwork(2)
    assert validation_score("nerve", blind, SAMPLES) == 0
    empty = drawn_sample(9, nerves=0)
    assert validation_score("nerve", blind, [*SAMPLES, empty]) == 0.25
