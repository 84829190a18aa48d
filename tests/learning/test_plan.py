from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from skinray.config.training import ClusterSettings
from skinray.learning.crops import PlanRow, epoch_plan, remaining_steps
from skinray.learning.spec import TrialSpec, scaled
from tests.support.tiny import tiny_spec

NAMES = [f"{at}.png" for at in range(7)]


def test_every_image_stands_in_the_plan_once() -> None:
    rows = epoch_plan(NAMES, seed=3, epoch=5)
    assert sorted(row.image for row in rows) == list(range(7))
    assert {(row.epoch, row.repeat) for row in rows} == {(5, 0)}


def test_further_draws_have_their_own_numbers() -> None:
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


def test_padding_uses_new_draws_of_the_first_images() -> None:
    whole, padded = epoch_plan(NAMES, 3, 5, draws=2), epoch_plan(NAMES, 3, 5, draws=2, step=4)
    assert padded[:14] == whole
    assert padded[14:] == [PlanRow(5, whole[0].image, 2), PlanRow(5, whole[1].image, 3)]


def test_few_images_fill_a_large_multiple() -> None:
    rows = epoch_plan(["a", "b"], 0, 0, step=8)
    assert Counter(row.image for row in rows) == {0: 4, 1: 4}
    assert len(set(rows)) == 8


def test_no_image_gives_no_row() -> None:
    assert epoch_plan([], 0, 0, step=4) == []


@given(st.integers(1, 12), st.integers(1, 3), st.integers(1, 9), st.integers(0, 4))
def test_a_plan_fills_its_last_step_and_never_repeats_itself(
    images: int, draws: int, step: int, epoch: int
) -> None:
    names = [str(at) for at in range(images)]
    rows = epoch_plan(names, 1, epoch, draws, step)
    assert len(rows) % step == 0
    assert 0 <= len(rows) - images * draws < step
    assert len(set(rows)) == len(rows)


def spec_of(images: int, batch: int, workers: int) -> TrialSpec:
    names = tuple(str(at) for at in range(images))
    return tiny_spec(
        train=tuple(range(images)), names=names, arm__train__batch_size=batch,
        step_crops=batch * workers,
    )  # fmt: skip


@given(st.integers(1, 40), st.integers(1, 4), st.integers(1, 6), st.integers(1, 6))
def test_the_rows_of_all_workers_are_the_plans_whatever_their_number(
    images: int, batch: int, workers: int, there: int
) -> None:
    """``there`` workers train what was planned for ``workers``: none doubled, none left out."""
    spec = spec_of(images, batch, workers)
    plan = epoch_plan(spec.names, spec.seed, 2, 1, spec.step)
    shares = [remaining_steps(spec, 2, 0, rank, there) for rank in range(there)]
    rows = [row for share in shares for step in share for row in step]
    assert Counter(rows) == Counter(plan)
    assert {len(share) for share in shares} == {len(plan) // spec.step}
    # Step for step, every row stands in the step that the plan has it in.
    for at, parts in enumerate(zip(*shares, strict=True)):
        own = Counter(row for part in parts for row in part)
        assert own == Counter(plan[at * spec.step : (at + 1) * spec.step])


def test_a_row_belongs_to_the_worker_at_its_place_in_the_step() -> None:
    spec = spec_of(images=8, batch=2, workers=2)
    plan = epoch_plan(spec.names, spec.seed, 0, 1, 4)
    assert remaining_steps(spec, 0, 0, rank=1, size=2) == [[plan[1], plan[3]], [plan[5], plan[7]]]
    assert remaining_steps(spec, 0, 0, rank=2, size=3) == [[plan[2]], [plan[6]]]


def test_another_number_of_workers_can_continue_within_an_epoch() -> None:
    spec = spec_of(images=10, batch=2, workers=2)
    plan = epoch_plan(spec.names, spec.seed, 0, 1, 4)
    before = [r for rank in range(2) for r in remaining_steps(spec, 0, 0, rank, 2)[0]]
    after = [
        row for rank in range(3) for step in remaining_steps(spec, 0, 4, rank, 3) for row in step
    ]
    assert Counter(before + after) == Counter(plan)


def test_an_epoch_is_as_long_for_a_range_of_workers_as_for_its_most() -> None:
    """Its length once was a multiple of every number in the range: 1,441,440 crops of 75 images."""
    cluster = ClusterSettings(workers=(1, 16))
    arm, step = scaled(tiny_spec().arm, cluster)
    assert step == 16 * arm.train.batch_size == scaled(arm, ClusterSettings(workers=16))[1]
    assert len(epoch_plan([str(at) for at in range(75)], 0, 0, 1, step)) == 96
