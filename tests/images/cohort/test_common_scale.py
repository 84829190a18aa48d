from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skinray.config.images import ReadSettings
from skinray.images.augment import Sample
from skinray.images.cohort.common_scale import LabelledReader, common_scale, resampled
from skinray.images.cohort.manifest import load_sample, read_manifest
from tests.support.tiny import biopsy, drawn_sample


def test_the_common_scale_is_the_median_of_those_known() -> None:
    rows = [biopsy(str(at), um_per_px=um) for at, um in enumerate([0.5, None, 0.25, 0.5])]
    assert common_scale(rows) == 0.5
    assert common_scale(rows[1:3]) == 0.25
    assert common_scale([rows[1]]) is None
    assert common_scale([]) is None


def test_images_at_the_common_scale_are_unchanged() -> None:
    sample = drawn_sample()
    assert resampled(sample, 1.0) is sample


@pytest.mark.parametrize("factor", [0.25, 0.5, 0.61, 1.5, 2.0])
def test_everything_is_resampled_together(factor: float) -> None:
    sample = drawn_sample(size=(96, 128))
    found = resampled(sample, factor)
    shape = (round(96 * factor), round(128 * factor))
    assert found.shape == found.masks["nerve"].shape == found.masks["dermis"].shape == shape
    for part in (found.image, found.masks["nerve"], found.masks["dermis"]):
        assert part.dtype == np.uint8
    assert set(np.unique(found.masks["nerve"])) == set(np.unique(found.masks["dermis"])) == {0, 1}
    assert found.masks["dermis"].mean() == pytest.approx(0.5, abs=0.02)


def test_a_doubled_sample_is_every_pixel_twice() -> None:
    sample = drawn_sample()
    double = resampled(sample, 2.0)
    assert np.array_equal(double.masks["dermis"], sample.masks["dermis"].repeat(2, 0).repeat(2, 1))
    assert double.masks["nerve"].mean() == pytest.approx(sample.masks["nerve"].mean(), rel=0.02)


def test_a_halved_image_is_averaged() -> None:
    sample = drawn_sample()
    half = resampled(sample, 0.5)
    blocks = sample.image.reshape(48, 2, 64, 2, 3).astype(float).mean((1, 3))
    assert np.abs(half.image - blocks).max() <= 0.5


def test_the_dermis_stays_in_place() -> None:
    dermis = np.zeros((96, 96), np.uint8)
    dermis[32:64, 32:64] = 1
    blank = Sample(np.zeros((96, 96, 3), np.uint8), {"nerve": dermis.copy(), "dermis": dermis})
    for factor in (0.25, 0.5, 1.5, 3.0):
        rows, _ = np.nonzero(resampled(blank, factor).masks["dermis"])
        # the middle of the square stays the middle of the image
        assert rows.mean() == pytest.approx(96 * factor / 2 - 0.5, abs=0.26), factor


@settings(deadline=None, max_examples=60)
@given(
    st.floats(0.25, 0.97), st.integers(0, 95), st.integers(0, 95), st.integers(1, 3), st.booleans()
)
def test_a_thin_tracing_does_not_break(
    factor: float, start: int, end: int, width: int, across: bool
) -> None:
    nerve = np.zeros((96, 96), np.uint8)
    ends = [(0, start), (95, end)] if across else [(start, 0), (end, 95)]
    cv2.line(nerve, *ends, 1, width)
    sample = Sample(np.zeros((96, 96, 3), np.uint8), {"nerve": nerve, "dermis": nerve})
    found = resampled(sample, factor).masks["nerve"]
    pieces, _ = cv2.connectedComponents(found, connectivity=8)
    assert pieces == 2  # background and one line
    places = np.nonzero(found)[1 if across else 0]
    assert places.max() - places.min() + 1 == found.shape[0]  # from edge to edge


def test_the_reader_brings_a_biopsy_to_the_common_scale(tiny_cohort) -> None:
    first = read_manifest(tiny_cohort).biopsies[0]
    plain = load_sample(first, ReadSettings())
    for um_per_px, shape in ((None, (96, 128)), (0.5, (96, 128)), (1.0, (48, 64))):
        found = LabelledReader(ReadSettings(), um_per_px)(first)
        assert found.shape == shape
    unknown = LabelledReader(ReadSettings(), 1.0)(replace(first, um_per_px=None))
    assert np.array_equal(unknown.image, plain.image)
