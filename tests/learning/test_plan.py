from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skinray.learning.plan import PlanRow, epoch_plan, rows_multiple

NAMES = [f"{at}.png" for at in range(7)]


def test_every_image_stands_in_the_plan_once() -> None:
    rows = epoch_plan(NAMES, seed=3, epoch=5)
    assert sorted(row.image for row in rows) == list(range(7))
    assert {(row.epoch, row.repeat) for row in rows} == {(5, 0)}


def test_further_draws_are_told_apart() -> None:
    rows = epoch_plan(NAMES, seed=3, epoch=0, draws=3)
    assert Counter(row.image for row in rows) == dict.fromkeys(range(7), 3)
    assert len(set(rows)) == 21


def test_the_order_is_of_the_seed_and_the_epoch() -> None:
    assert epoch_plan(NAMES, 3, 5) == epoch_plan(NAMES, 3, 5)
    orders = {
        tuple(row.image for row in epoch_plan(NAMES, seed, epoch))
        for seed in range(3)
        for epoch in range(3)
    }
    assert len(orders) == 9


def test_padding_takes_fresh_draws_of_the_first_images() -> None:
    whole, padded = epoch_plan(NAMES, 3, 5, draws=2), epoch_plan(NAMES, 3, 5, draws=2, multiple=4)
    assert padded[:14] == whole
    assert padded[14:] == [PlanRow(5, whole[0].image, 2), PlanRow(5, whole[1].image, 3)]


def test_few_images_fill_a_large_multiple() -> None:
    rows = epoch_plan(["a", "b"], 0, 0, multiple=8)
    assert Counter(row.image for row in rows) == {0: 4, 1: 4}
    assert len(set(rows)) == 8


def test_no_image_gives_no_row() -> None:
    assert epoch_plan([], 0, 0, multiple=4) == []


@given(st.integers(1, 12), st.integers(1, 3), st.integers(1, 9), st.integers(0, 4))
def test_a_plan_is_the_shortest_multiple_and_never_repeats_itself(
    images: int, draws: int, multiple: int, epoch: int
) -> None:
    names = [str(at) for at in range(images)]
    rows = epoch_plan(names, 1, epoch, draws, multiple)
    assert len(rows) % multiple == 0
    assert 0 <= len(rows) - images * draws < multiple
    assert len(set(rows)) == len(rows)


@pytest.mark.parametrize(
    ("batch", "workers", "multiple"),
    [(2, (1, 1), 2), (2, (3, 3), 6), (2, (1, 4), 24), (4, (2, 3), 24), (1, (2, 4), 12)],
)
def test_rows_multiple(batch: int, workers: tuple[int, int], multiple: int) -> None:
    assert rows_multiple(batch, workers) == multiple
    assert all(multiple % (batch * n) == 0 for n in range(workers[0], workers[1] + 1))
