"""Photographs fall into the right bins, and few photographs give no figure."""

from __future__ import annotations

import pytest

from skinray.learning.photos.scores import PhotoScore
from skinray.learning.photos.views import LEAST, MEASURES, View, views


def score(
    both: int, ita: float | None = 30.0, light: float | None = 50.0, skin: int = 500
) -> PhotoScore:
    return PhotoScore(
        name="a", md5="0", pixels=1000, skin=skin, predicted=both, both=both, ita_deg=ita,
        lightness=light,
    )  # fmt: skip


def view(scores: list[PhotoScore], name: str) -> View:
    return next(one for one in views(scores, 200, 0) if one.name == name)


def bin_of(found: View) -> str:
    (label,) = [one.label for one in found.bins if one.images]
    return label


@pytest.mark.parametrize(
    ("ita", "label"),
    [
        (-31, "dark"), (-30, "brown"), (9.9, "brown"), (10, "tan"), (28, "intermediate"),
        (40.9, "intermediate"), (41, "light"), (55, "very light"), (80, "very light"),
    ],
)  # fmt: skip
def test_tones_are_the_classes_of_chardon(ita: float, label: str) -> None:
    assert bin_of(view([score(400, ita=ita)], "skin tone")) == label


def test_lighting_and_share_of_skin() -> None:
    for light, label in ((0, "very dark"), (20, "dark"), (59.9, "medium"), (100, "very bright")):
        assert bin_of(view([score(1, light=light)], "lighting")) == label
    for skin, label in ((0, "up to a quarter"), (250, "up to half"), (1000, "more")):
        assert bin_of(view([score(0, skin=skin)], "share of skin")) == label


def test_figures_are_those_of_their_own_photographs() -> None:
    scores = [score(500, ita=60)] * LEAST + [score(250, ita=0)] * (LEAST + 2)
    found = view(scores, "skin tone")
    assert [(one.label, one.images) for one in found.known] == [
        ("brown", LEAST + 2),
        ("very light", LEAST),
    ]
    worst, best = found.known
    assert worst.jaccard is not None
    assert best.jaccard is not None
    assert (worst.jaccard.value, best.jaccard.value) == (0.5, 1.0)


def test_few_photographs_give_their_number_and_no_figure() -> None:
    found = view([score(500, ita=60)] * (LEAST - 1), "skin tone")
    assert [one.images for one in found.bins if one.images] == [LEAST - 1]
    assert found.known == []
    assert all(one.jaccard is None for one in found.bins)


def test_photographs_without_the_measure_are_counted_apart() -> None:
    found = view([score(1, ita=None)] * 3 + [score(1)], "skin tone")
    assert found.unknown == 3
    assert sum(one.images for one in found.bins) == 1


def test_every_photograph_has_one_bin_at_most() -> None:
    for measure in MEASURES:
        for before, after in zip(measure.bins, measure.bins[1:], strict=False):
            assert before.high == after.low
