from __future__ import annotations

import numpy as np
import pytest

from skinray.images.augment import Sample, paste
from tests.support.tiny import drawn_sample


def flat(value: int, skin: list[list[int]]) -> Sample:
    mask = np.array(skin, np.uint8)
    return Sample(np.full((*mask.shape, 3), value, np.uint8), np.zeros_like(mask), mask)


def test_skin_hides_what_lies_behind_and_is_skin_of_either() -> None:
    both = paste(flat(200, [[1, 0, 0], [1, 0, 0]]), flat(9, [[1, 1, 0], [0, 0, 0]]))
    assert both.image[..., 0].tolist() == [[200, 9, 9], [200, 9, 9]]
    assert both.dermis.tolist() == [[1, 1, 0], [1, 0, 0]]


def test_without_skin_there_is_only_what_lies_behind() -> None:
    back = drawn_sample(1)
    front = Sample(drawn_sample(2).image, back.nerve, np.zeros_like(back.dermis))
    both = paste(front, back)
    assert np.array_equal(both.image, back.image)
    assert np.array_equal(both.dermis, back.dermis)


def test_sizes_have_to_agree() -> None:
    with pytest.raises(ValueError, match="differ"):
        paste(flat(1, [[1]]), flat(1, [[1, 0]]))
