from __future__ import annotations

import numpy as np
import pytest

from skinray.images.augment import Sample, paste
from tests.support.tiny import as_photo, drawn_sample


def flat(value: int, skin: list[list[int]]) -> Sample:
    mask = np.array(skin, np.uint8)
    return Sample(np.full((*mask.shape, 3), value, np.uint8), {"skin": mask})


def test_skin_hides_the_background_and_the_mask_has_both() -> None:
    both = paste(flat(200, [[1, 0, 0], [1, 0, 0]]), flat(9, [[1, 1, 0], [0, 0, 0]]))
    assert both.image[..., 0].tolist() == [[200, 9, 9], [200, 9, 9]]
    assert both.masks["skin"].tolist() == [[1, 1, 0], [1, 0, 0]]


def test_without_skin_only_the_background_is_left() -> None:
    back = as_photo(drawn_sample(1))
    front = Sample(drawn_sample(2).image, {"skin": np.zeros_like(back.masks["skin"])})
    both = paste(front, back)
    assert np.array_equal(both.image, back.image)
    assert np.array_equal(both.masks["skin"], back.masks["skin"])


def test_sizes_have_to_agree() -> None:
    with pytest.raises(ValueError, match="differ"):
        paste(flat(1, [[1]]), flat(1, [[1, 0]]))
