"""Folds: whole subjects, even groups, the same for the same seed whatever the order of rows."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skinray.config.biopsies import FoldSettings
from skinray.errors import CohortError
from skinray.images.cohort.folds import TRAINED_ALWAYS, assign_folds, hold_out
from skinray.images.cohort.rows import Biopsy, Cohort
from tests.support import tiny


def cohort(images: list[tuple[str, str | None]]) -> Cohort:
    """A cohort of (subject, group) images, without files."""
    blank = dict.fromkeys(
        ("nerves", "dermis", "boundary", "dermis_side", "count", "second_count", "um_per_px")
    )
    biopsies = tuple(
        Biopsy(f"{row}.png", Path(f"{row}.png"), subject, group, **blank, row=row + 2)
        for row, (subject, group) in enumerate(images)
    )
    return Cohort(Path("cohort"), biopsies)


def paper_cohort() -> Cohort:
    """24 subjects, 13 HIV and 11 control, 94 images."""
    sizes = [4] * 22 + [3, 3]
    return cohort(
        [
            (f"s{subject:02d}", "HIV" if subject < 13 else "control")
            for subject, size in enumerate(sizes)
            for _ in range(size)
        ]
    )


subjects = st.lists(
    st.tuples(st.integers(1, 6), st.sampled_from([None, "a", "b", "c"])), min_size=2
)


def drawn(members: list[tuple[int, str | None]]) -> Cohort:
    return cohort(
        [(f"s{n}", group) for n, (size, group) in enumerate(members) for _ in range(size)]
    )


def test_the_papers_cohort_is_split_evenly():
    whole = paper_cohort()
    folds = assign_folds(whole, FoldSettings(), 0)
    sizes = Counter(folds.tolist())
    assert sorted(sizes) == [0, 1, 2, 3, 4]
    assert max(sizes.values()) - min(sizes.values()) <= 4
    for fold in range(5):
        members = {
            b.subject: b.group for b, f in zip(whole.biopsies, folds, strict=True) if f == fold
        }
        assert Counter(members.values())["HIV"] in (2, 3)
        assert Counter(members.values())["control"] in (2, 3)


def test_image_folds_of_the_paper_have_18_or_19_images():
    folds = assign_folds(paper_cohort(), FoldSettings(unit="image"), 3)
    assert sorted(Counter(folds.tolist()).values()) == [18, 19, 19, 19, 19]


@settings(deadline=None, max_examples=60)
@given(members=subjects, count=st.integers(2, 6), seed=st.integers(0, 2**32))
def test_subjects_stay_together_and_no_fold_is_empty(members, count, seed):
    whole = drawn(members)
    split = FoldSettings(count=count)
    if len(members) < count:
        with pytest.raises(CohortError, match=rf"{len(members)} subjects? cannot fill {count}"):
            assign_folds(whole, split, seed)
        return
    folds = assign_folds(whole, split, seed)
    assert set(folds.tolist()) == set(range(count))
    for subject in {biopsy.subject for biopsy in whole.biopsies}:
        rows = [row for row, b in enumerate(whole.biopsies) if b.subject == subject]
        assert len(set(folds[rows].tolist())) == 1


@settings(deadline=None, max_examples=60)
@given(members=subjects, count=st.integers(2, 6), seed=st.integers(0, 2**32))
def test_folds_are_balanced_to_about_a_subject_of_each_group(members, count, seed):
    if len(members) < count:
        return
    sizes = Counter(assign_folds(drawn(members), FoldSettings(count=count), seed).tolist())
    groups = len({group for _, group in members})
    largest = max(size for size, _ in members)
    assert max(sizes.values()) - min(sizes.values()) <= groups * largest


@settings(deadline=None, max_examples=60)
@given(
    members=subjects,
    seed=st.integers(0, 1000),
    unit=st.sampled_from(["subject", "image"]),
    data=st.data(),
)
def test_the_order_of_rows_changes_nothing(members, seed, unit, data):
    whole = drawn(members)
    order = data.draw(st.permutations(range(len(whole.biopsies))))
    mixed = Cohort(whole.root, tuple(whole.biopsies[row] for row in order))
    split = FoldSettings(count=2, unit=unit)
    assert np.array_equal(assign_folds(mixed, split, seed), assign_folds(whole, split, seed)[order])
    if len(whole.biopsies) > 1:
        held = hold_out(whole, 1, split, seed)
        assert np.array_equal(hold_out(mixed, 1, split, seed), held[order])


def test_the_seed_decides():
    whole = paper_cohort()
    draws = {assign_folds(whole, FoldSettings(), seed).tobytes() for seed in range(10)}
    again = {assign_folds(whole, FoldSettings(), seed).tobytes() for seed in range(10)}
    assert draws == again
    assert len(draws) > 5


def test_holding_out_images_takes_exactly_as_many_in_proportion():
    whole = paper_cohort()
    held = hold_out(whole, 10, FoldSettings(unit="image"), 0)
    assert held.sum() == 10
    groups = Counter(b.group for b, out in zip(whole.biopsies, held, strict=True) if out)
    assert groups["HIV"] in (5, 6)


@settings(deadline=None, max_examples=60)
@given(members=subjects, seed=st.integers(0, 1000), data=st.data())
def test_holding_out_subjects_comes_as_near_as_whole_subjects_can(members, seed, data):
    whole = drawn(members)
    images = len(whole.biopsies)
    count = data.draw(st.integers(1, images - 1))
    held = hold_out(whole, count, FoldSettings(), seed)
    sums = {0}
    for size, _ in members:
        sums |= {total + size for total in sums}
    nearest = min(abs(total - count) for total in sums if 0 < total < images)
    assert abs(int(held.sum()) - count) == nearest
    inside = {b.subject for b, out in zip(whole.biopsies, held, strict=True) if out}
    outside = {b.subject for b, out in zip(whole.biopsies, held, strict=True) if not out}
    assert inside
    assert outside
    assert not inside & outside


def test_holding_out_subjects_keeps_the_groups_in_proportion():
    whole = paper_cohort()
    share = []
    for seed in range(40):
        held = hold_out(whole, 24, FoldSettings(), seed)
        out = {b.subject: b.group for b, h in zip(whole.biopsies, held, strict=True) if h}
        assert set(out.values()) == {"HIV", "control"}
        share.append(Counter(out.values())["HIV"] / len(out))
    assert np.mean(share) == pytest.approx(13 / 24, abs=0.06)


@pytest.mark.parametrize("count", [0, 94, 95])
def test_holding_out_nothing_or_everything_is_an_error(count):
    with pytest.raises(CohortError, match=r"set folds\.components_held_out below"):
        hold_out(paper_cohort(), count, FoldSettings(unit="image"), 0)


def test_a_single_subject_cannot_be_held_out():
    with pytest.raises(CohortError, match="add subjects"):
        hold_out(cohort([("one", None)] * 5), 2, FoldSettings(), 0)


# labels by a model alone


def with_model(whole: Cohort, rows: list[tuple[str, int]]) -> Cohort:
    """Images of subjects that a model labelled, put before the others."""
    own = [tiny.biopsy(f"model/{who}_{at}.png", who, source="model") for who, at in rows]
    return Cohort(whole.root, (*own, *whole.biopsies))


@pytest.mark.parametrize("unit", ["subject", "image"])
def test_a_model_s_labels_change_no_fold_and_follow_their_subject(unit):
    whole, split = paper_cohort(), FoldSettings(unit=unit)
    known = whole.biopsies[0].subject
    more = with_model(whole, [(known, 0), ("nobody", 0), ("nobody", 1)])
    folds = assign_folds(more, split, 3)
    assert np.array_equal(folds[3:], assign_folds(whole, split, 3))
    theirs = folds[3] if unit == "subject" else TRAINED_ALWAYS
    assert folds[:3].tolist() == [theirs, TRAINED_ALWAYS, TRAINED_ALWAYS]
    held, before = hold_out(more, 20, split, 3), hold_out(whole, 20, split, 3)
    assert np.array_equal(held[3:], before)
    assert held[:3].tolist() == [bool(before[0]) and unit == "subject", False, False]


def test_a_model_s_labels_fill_no_folds():
    few = cohort([("one", None), ("two", None)])
    more = with_model(few, [(f"model {at}", 0) for at in range(9)])
    with pytest.raises(CohortError, match="2 subjects, without the 9 images labelled by a model"):
        assign_folds(more, FoldSettings(), 0)
