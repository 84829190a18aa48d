"""The last stage: from the map of a photograph to an answer."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

from skinray.errors import BundleError, SkinrayError
from skinray.images.photos.skin import SkinArea
from skinray.service.answers.biopsies import CountWant
from skinray.service.answers.photos import SkinWant, cut_out, run_lengths
from tests.support.drawn_photos import drawn_photo


@pytest.mark.parametrize(
    ("rows", "lengths"),
    [
        (["0"], [1]),
        (["1"], [0, 1]),
        (["00", "00"], [4]),
        (["11", "11"], [0, 4]),
        (["0110", "1110", "0011"], [1, 1, 1, 2, 1, 3, 2, 1]),
    ],
)
def test_runs_go_down_the_columns_and_begin_with_background(rows, lengths):
    mask = np.array([[sign == "1" for sign in row] for row in rows])
    assert run_lengths(mask) == lengths


def test_what_is_cut_out_is_gone():
    image = np.full((2, 2, 3), 200, np.uint8)
    cut = cut_out(image, np.array([[True, False], [False, True]]))
    assert cut.tolist() == [
        [[200, 200, 200, 255], [0, 0, 0, 0]], [[0, 0, 0, 0], [200, 200, 200, 255]],
    ]  # fmt: skip


def test_only_what_is_asked_for_is_made(skin_bundle):
    image = drawn_photo()[0]
    answer = SkinWant().answer(skin_bundle.info, image, skin_bundle.maps(image), None, "eager")
    found = {name: value for name, value in vars(answer).items() if value is not None}
    assert set(found) - set(SkinArea.model_fields) == {
        "threshold", "mask", "request_id", "bundle", "note", "image_sha256",
        "synthetic", "backend",
    }  # fmt: skip
    assert answer.mask.counts == []
    assert pickle.loads(pickle.dumps(answer)) == answer


def test_each_wish_needs_its_bundle(bundle, skin_bundle):
    image = drawn_photo()[0]
    maps = {"skin": np.zeros(image.shape[:2], np.float32)}
    with pytest.raises(BundleError, match="for photographs"):
        SkinWant().answer(bundle.info, image, maps, None, "eager")
    with pytest.raises(SkinrayError, match="photograph is not given"):
        SkinWant().answer(skin_bundle.info, None, maps, None, "eager")
    with pytest.raises(BundleError, match="for biopsies"):
        CountWant().thresholds(skin_bundle.info)
