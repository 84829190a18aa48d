"""The last stage: from two maps to an answer."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

from benchmarks.stand_in import drawn_image
from skinray.crossings import find_crossings
from skinray.crossings.detect import NO_BOUNDARY, CrossingsRecord
from skinray.errors import SkinrayError
from skinray.images.doubts import NO_TISSUE, doubts
from skinray.scoring.geojson import to_geojson
from skinray.scoring.overlays import overlay
from skinray.service.answers.biopsies import BiopsyCount, CountWant
from skinray.service.answers.request import THRESHOLDS
from tests.support.service.image_files import from_png

EVERYTHING = CountWant(
    geojson=True, overlay=True, maps=True, image=True, boundary=True, sweep=THRESHOLDS
)


def soft_maps(seed: int = 3) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """An image, and maps with nerves of several probabilities across a straight boundary."""
    image = drawn_image(seed, (120, 200), nerves=6)
    rng = np.random.default_rng(seed)
    nerve = np.zeros((120, 200), np.float32)
    for at, value in zip(range(15, 200, 30), (0.97, 0.8, 0.62, 0.44, 0.26, 0.12), strict=False):
        nerve[30:90, at : at + 3] = value
    nerve += rng.uniform(0, 0.02, nerve.shape).astype(np.float32)
    dermis = np.zeros_like(nerve)
    dermis[60:] = 1
    return image, nerve, dermis


def answered(bundle, want, image, nerve, dermis, um_per_px) -> BiopsyCount:
    return want.answer(bundle.info, image, {"nerve": nerve, "dermis": dermis}, um_per_px, "eager")


def test_only_what_is_asked_for_is_made(bundle):
    answer = answered(bundle, CountWant(), *soft_maps(), None)
    assert (answer.geojson, answer.overlay_png, answer.nerve_png) == (None, None, None)
    assert (answer.dermis_png, answer.boundary_png, answer.image_png) == (None, None, None)
    assert answer.sweep is None
    assert answer.bundle == bundle.info.id
    assert answer.note == ""


def test_an_answer_says_what_is_wrong_with_its_bundle(bundle):
    starter = bundle.info.model_copy(update={"starter": True, "failures": ("the nerve network",)})
    answer = CountWant().answer(
        starter, None, dict(zip(("nerve", "dermis"), soft_maps()[1:], strict=True)), None, "eager"
    )
    assert answer.note == "starter, untrained on your images; its training did not learn"


def test_an_answer_warns_of_scale_blank_images_and_no_boundary(bundle):
    image, nerve, dermis = soft_maps()
    blank = CountWant().about(np.full_like(image, 240))
    answer = answered(bundle, blank, None, nerve, dermis, 0.5)
    assert answer.warnings == [NO_TISSUE]
    assert (answer.density_per_mm, answer.count > 0) == (None, True)
    assert answer.tensors()["density_per_mm"].size == 0
    shown = CountWant().about(image)
    assert answered(bundle, shown, None, nerve, dermis, 0.5).warnings == []
    far = answered(bundle, shown, None, nerve, dermis, 1.2)
    assert far.warnings == doubts(True, 1.2, 0.5) != []
    cut = CountWant().about(np.vstack([np.maximum(image, 90)[:60], 0 * image[60:]]))
    (said,) = answered(bundle, cut, None, nerve, dermis, 0.5).warnings
    assert said.startswith("the bottom ")
    nowhere = answered(bundle, shown, None, nerve, np.zeros_like(dermis), 0.5)
    assert (nowhere.warnings, nowhere.density_per_mm) == ([NO_BOUNDARY], None)


@pytest.mark.parametrize("um_per_px", [None, 0.5, 0.8])
def test_every_part_of_an_answer_matches_the_crossings(bundle, um_per_px):
    image, nerve, dermis = soft_maps()
    found = bundle.info.find_crossings(nerve, dermis, um_per_px)
    answer = answered(bundle, EVERYTHING, image, nerve, dermis, um_per_px)
    record = answer.model_dump(include=set(CrossingsRecord.model_fields))
    assert CrossingsRecord.model_validate(record) == CrossingsRecord.of(found, um_per_px)
    assert answer.count > 0
    assert answer.geojson == to_geojson(found.points, found.dermis)
    drawn = overlay(image, nerve > 0.5, found.boundary, found.points)
    assert np.array_equal(from_png(answer.overlay_png), drawn)
    assert np.array_equal(from_png(answer.nerve_png), np.rint(nerve * 255))
    assert np.array_equal(from_png(answer.dermis_png), np.rint(dermis * 255))
    assert np.array_equal(from_png(answer.boundary_png), found.boundary * 255)
    assert np.array_equal(from_png(answer.image_png), image)


@pytest.mark.parametrize("um_per_px", [None, 0.5, 0.8])
def test_the_sweep_counts_like_a_bundle_with_that_threshold(bundle, um_per_px):
    image, nerve, dermis = soft_maps()
    answer = answered(bundle, EVERYTHING, image, nerve, dermis, um_per_px)
    assert [point.nerve_threshold for point in answer.sweep] == list(THRESHOLDS)
    scale = bundle.info.um_per_px if um_per_px is None else um_per_px
    for point in answer.sweep:
        settings = bundle.info.crossings.override({"nerve_threshold": point.nerve_threshold})
        wanted = find_crossings(nerve, dermis, settings.at_scale(scale), None).points
        assert point.points == [tuple(row) for row in wanted.tolist()]
        assert point.count == len(point.points)
    counts = [point.count for point in answer.sweep]
    assert counts[0] == 6
    assert counts[-1] == 1
    assert answer.count == dict(zip(THRESHOLDS, counts, strict=True))[0.5]


def test_no_boundary_no_crossings(bundle):
    image, nerve, dermis = soft_maps()
    answer = answered(bundle, EVERYTHING, image, nerve, np.zeros_like(dermis), 0.5)
    assert answer.count == 0
    assert answer.density_per_mm is None
    assert {point.count for point in answer.sweep} == {0}
    assert answer.geojson["features"] == []


def test_an_answer_can_be_sent_between_processes(bundle):
    answer = answered(bundle, EVERYTHING, *soft_maps(), 0.5)
    assert pickle.loads(pickle.dumps(answer)) == answer
    assert pickle.loads(pickle.dumps(EVERYTHING)) == EVERYTHING


def test_a_nerve_mask_without_the_image_gives_the_same_count(bundle):
    image, nerve, dermis = soft_maps()
    whole = answered(bundle, CountWant(geojson=True), image, nerve, dermis, 0.5)
    mask = (nerve > bundle.info.crossings.nerve_threshold).astype(np.uint8)
    assert answered(bundle, CountWant(geojson=True), None, mask, dermis, 0.5) == whole
    assert whole.count > 0


def test_a_picture_needs_the_image(bundle):
    _, nerve, dermis = soft_maps()
    with pytest.raises(SkinrayError, match="image is not given"):
        answered(bundle, CountWant(overlay=True), None, nerve, dermis, 0.5)
