"""Which photographs are shown, and how skin is drawn on them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image as Pillow

from skinray.config.images import ReadSettings
from skinray.images.photos.pairs import find_photos
from skinray.learning.photos.scores import Look, PhotoScore
from skinray.report.photos.examples import WIDTH, draw_confidence, draw_skin, pick, write_examples
from skinray.scoring.overlays import SHADE
from tests.support.drawn_photos import write_photos
from tests.support.fake_photo_run import red_is_skin


def score(both: int, md5: str = "0") -> PhotoScore:
    return PhotoScore(name=f"{both}.jpg", md5=md5, pixels=9, skin=100, predicted=100, both=both)


def test_best_median_and_worst_are_by_jaccard() -> None:
    scores = [score(30), score(90), score(60), score(10), score(80)]
    assert pick(scores) == [("Best", 1), ("Median", 2), ("Worst", 3)]
    assert pick(scores[:2]) == [("Median", 1), ("Worst", 0)]
    assert [rank for rank, _ in pick(scores[:1])] == ["Worst"]
    assert pick([]) == []
    ties = [score(50, md5) for md5 in "cab"]
    assert [at for _, at in pick(ties)] == [1, 2, 0]


def test_skin_is_unchanged_and_the_rest_is_darkened() -> None:
    image = np.full((60, 80, 3), 200, np.uint8)
    skin = np.zeros((60, 80), np.bool_)
    skin[20:40, 20:60] = True
    drawn = draw_skin(image, skin, (20, 70, 255))
    assert drawn.shape == image.shape
    assert (drawn[25:35, 25:55] == 200).all()
    assert (drawn[:15] == int(SHADE * 200)).all()
    assert tuple(drawn[20, 40]) == (20, 70, 255)
    assert (image == 200).all()


def test_large_photographs_are_drawn_small_and_thin_ones_too() -> None:
    image = np.zeros((30, 3 * WIDTH, 3), np.uint8)
    assert draw_skin(image, np.ones(image.shape[:2], np.bool_), (0, 0, 0)).shape == (10, WIDTH, 3)
    assert draw_skin(image[:1, :1], np.ones((1, 1), np.bool_), (0, 0, 0)).shape == (1, 1, 3)
    thin = np.zeros((1, 20 * WIDTH, 3), np.uint8)
    assert draw_skin(thin, np.ones(thin.shape[:2], np.bool_), (0, 0, 0)).shape == (1, WIDTH, 3)


def test_drawings_are_written_where_the_record_says(tmp_path: Path) -> None:
    photos = find_photos(write_photos(tmp_path / "set", 3))
    scores = [score(30), score(90), score(60)]
    found = write_examples(tmp_path, "key", photos, scores, red_is_skin, ReadSettings())
    assert [one.rank for one in found] == ["Best", "Median", "Worst"]
    assert [one.name for one in found] == ["90.jpg", "60.jpg", "30.jpg"]
    for one in found:
        for path in (one.found, one.traced, one.confidence):
            with Pillow.open(tmp_path / path) as image:
                assert image.size == (80, 60)
                assert image.mode == ("L" if path == one.confidence else "RGB")


def test_confidence_is_drawn_as_the_network_gives_it_from_black_to_white(tmp_path: Path) -> None:
    ramp = np.tile(np.linspace(0, 1, 80, dtype=np.float32), (60, 1))
    assert (draw_confidence(ramp) == np.rint(255 * ramp)).all()
    wide = draw_confidence(np.tile(np.linspace(0, 1, 2 * WIDTH, dtype=np.float32), (4, 1)))
    assert wide.shape == (2, WIDTH)
    assert (np.diff(wide[0].astype(int)) >= 0).all()
    # In the file: what the network answered, neither its mask nor the mask's edges.
    photos = find_photos(write_photos(tmp_path / "set", 1))
    skin = ramp >= 0.5
    (one,) = write_examples(
        tmp_path, "key", photos, [score(50)], lambda image: Look(ramp, skin), ReadSettings()
    )
    with Pillow.open(tmp_path / one.confidence) as image:
        drawn = np.asarray(image).astype(int)
    assert np.abs(drawn - np.rint(255 * ramp)).max() <= 4  # JPEG's own loss
