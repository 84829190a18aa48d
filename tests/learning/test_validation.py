from __future__ import annotations

import numpy as np
import pytest
import torch

from skinray.images.augment import Sample
from skinray.learning.metrics import dice, tolerant_dice
from skinray.learning.validation import image_scores, scores
from tests.support.tiny import DERMIS_TRUTH, NERVE_TRUTH, ColourNetwork, drawn_sample

SAMPLES = [drawn_sample(seed) for seed in range(3)]


def test_each_stage_has_its_truth_and_tolerances() -> None:
    sample = SAMPLES[0]
    perfect = np.float32(sample.masks["nerve"])
    assert scores("nerve", perfect, sample.masks["nerve"]) == {0: 1, 1: 1, 3: 1}
    assert scores("dermis", np.float32(sample.masks["dermis"]), sample.masks["dermis"]) == {0: 1}


def test_scores_are_those_of_the_thresholded_map() -> None:
    truth = SAMPLES[0].masks["nerve"]
    shifted = np.roll(truth, 2, axis=1)
    probability = np.where(shifted > 0, np.float32(0.5), np.float32(0.49))
    assert scores("nerve", probability, truth) == {
        0: dice(shifted, truth),
        1: tolerant_dice(shifted, truth, 1),
        3: tolerant_dice(shifted, truth, 3),
    }
    below = np.where(shifted > 0, np.float32(0.4999), np.float32(0))
    assert scores("nerve", below, truth) == {0: 0, 1: 0, 3: 0}


def test_the_score_of_an_image_is_the_dice_of_the_widest_tolerance() -> None:
    assert image_scores("nerve", NERVE_TRUTH, SAMPLES) == [1, 1, 1]
    assert image_scores("dermis", DERMIS_TRUTH, iter(SAMPLES)) == [1, 1, 1]
    blind = ColourNetwork(2)
    assert image_scores("nerve", blind, SAMPLES) == [0, 0, 0]
    empty = drawn_sample(9, nerves=0)
    assert image_scores("nerve", blind, [*SAMPLES, empty]) == [0, 0, 0, 1]


def test_the_score_of_skin_is_1_minus_the_jaccard_loss() -> None:
    class RedIsProbability(torch.nn.Module):
        """Takes the strength of red for the probability of skin."""

        def forward(self, image: torch.Tensor) -> torch.Tensor:
            return torch.logit(image[:, :1])

    def photo(red: list[int], skin: list[int]) -> Sample:
        image = np.zeros((2, 2, 3), np.uint8)
        image[..., 0] = np.reshape(red, (2, 2))
        mask = np.reshape(skin, (2, 2)).astype(np.uint8)
        return Sample(image, {"skin": mask, "dermis": mask})

    # Probabilities .2, .6, .8 and 0: by its threshold perfect, by the loss 1.4 / 1.64.
    unsure = photo([51, 153, 204, 0], [0, 1, 1, 0])
    # Nowhere more than .4 of what is skin everywhere: Dice 0, by the loss 1.6 / 3.04.
    faint = photo([102] * 4, [1] * 4)
    blank = photo([0] * 4, [0] * 4)
    network = RedIsProbability()
    both = [1.4 / 1.64, 1.6 / 3.04]
    assert image_scores("skin", network, iter([unsure, faint])) == pytest.approx(both)
    assert image_scores("skin", network, [blank]) == [1]
    assert image_scores("dermis", network, [unsure, faint]) == [1, 0]
