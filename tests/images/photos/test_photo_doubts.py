"""Doubts about masks of photographs that read well: inverted, or of pixels that were turned."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from skinray.images.photos.doubts import FEWEST, PhotoDoubts
from skinray.images.read import Image
from tests.images.photos.test_pairs import named

SKIN, WALL = (210, 150, 125), (90, 110, 120)


def look(
    count: int, inverted: int = 0, orientation: int = 1, side: int = 48, coding: str = "mask"
) -> PhotoDoubts:
    """Look at arms before walls; the first masks are inverted."""
    doubts, rng = PhotoDoubts(), np.random.default_rng(0)
    for at, photo in enumerate(named(count)):
        mask = np.zeros((40, side), np.uint8)
        cv2.ellipse(mask, (24, 20), tuple(rng.integers(6, 16, 2).tolist()), 0, 0, 360, 1, -1)
        pixels = np.where(mask[..., None] > 0, SKIN, WALL) + rng.integers(-20, 20, (40, side, 3))
        image = Image(np.clip(pixels, 0, 255).astype(np.uint8), None, "a", "0", orientation)
        shown = (mask > 0) != (at < inverted)
        doubts.add(photo.__class__(**{**vars(photo), "coding": coding}), image, shown)
    return doubts


def test_masks_that_are_all_inverted_are_noted() -> None:
    (note,) = look(12, inverted=12).notes()
    assert note.startswith("In 12 of 12 photographs the marked area is less red than the rest.")
    assert "Are the masks inverted? Skin must be the brighter" in note


@pytest.mark.parametrize(("count", "inverted"), [(12, 0), (12, 8), (FEWEST - 1, FEWEST - 1)])
def test_no_word_where_masks_fit_or_too_few_say_otherwise(count: int, inverted: int) -> None:
    assert look(count, inverted).notes() == []


def test_other_codings_are_not_taken_for_inverted() -> None:
    assert look(12, inverted=12, coding="dark mask").notes() == []
    assert look(12, inverted=12, coding="no skin").notes() == []
    assert look(12, orientation=3, coding="no skin").notes() == []


@pytest.mark.parametrize("orientation", [2, 3, 4])
def test_photographs_turned_within_their_sides_are_named(orientation: int) -> None:
    (note,) = look(7, orientation=orientation).notes()
    assert note.startswith("7 photographs rotated or mirrored by EXIF data: a/")
    assert "and 2 more" in note


def test_a_quarter_turn_shows_by_its_size_unless_the_photograph_is_square() -> None:
    assert look(3, orientation=6).notes() == []
    (note,) = look(3, orientation=6, side=40).notes()
    assert note.startswith("3 photographs rotated")


def test_masks_without_skin_are_named_and_not_compared() -> None:
    doubts = PhotoDoubts()
    (photo,) = named(1)
    doubts.add(photo, Image(np.zeros((4, 6, 3), np.uint8), None, "a", "0"), np.zeros((4, 6), bool))
    assert doubts.unmarked == [f"a/{photo.name}"]
    assert doubts.notes() == []
