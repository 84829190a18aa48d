"""Figures of a scored cohort, gathered batch by batch."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from skinray.report.cohorts.biopsies import CountTally
from skinray.report.cohorts.subjects import SubjectRow, Subjects
from skinray.report.cohorts.tally import (
    BINS,
    ELSE,
    EXAMPLES,
    MOST_REASONS,
    Histogram,
    Moments,
    split_error,
)
from tests.support.scored_rows import failed, scored


def test_moments_are_those_of_all_values_however_they_come() -> None:
    values = np.random.default_rng(0).normal(5, 2, 1000)
    found = Moments()
    for batch in (values[:1], values[1:1], values[1:300], values[300:]):
        found.add(batch)
    assert found.n == 1000
    assert found.mean == pytest.approx(values.mean(), rel=1e-12)
    assert found.sd == pytest.approx(values.std(ddof=1), rel=1e-12)
    assert (found.low, found.high) == (values.min(), values.max())


def test_one_value_has_no_spread() -> None:
    found = Moments()
    found.add(np.array([3.0]))
    assert (found.n, found.mean, found.sd) == (1, 3.0, None)


def test_histogram_of_whole_numbers_has_exact_quantiles() -> None:
    found = Histogram(1)
    found.add(np.array([0, 1, 1, 2, 7, 9], np.float64))
    assert found.times[:10].tolist() == [1, 2, 1, 0, 0, 0, 0, 1, 0, 1]
    assert [found.quantile(share) for share in (0, 0.5, 0.75, 1)] == [0, 1, 7, 9]


def test_histogram_joins_bins_for_values_beyond_it_in_any_order() -> None:
    values = np.array([0, 3, 5, 100, 2, 63], np.float64)
    one, other = Histogram(1, bins=8), Histogram(1, bins=8)
    one.add(values)
    for value in values[::-1]:
        other.add(np.array([value]))
    assert one.width == other.width == 16
    assert one.times.tolist() == other.times.tolist() == [4, 0, 0, 1, 0, 0, 1, 0]


def test_quantile_of_nothing_is_not_known() -> None:
    assert Histogram(1).quantile(0.5) is None


@pytest.mark.parametrize(
    ("error", "parts"),
    [
        ("/data/a.png: damaged PNG (x: y): copy it again", ("damaged PNG (x: y)", "copy it again")),
        ("the file is empty: copy or export it", ("the file is empty", "copy or export it")),
        ("s3://b/sub/a.png: gone: restore it", ("gone", "restore it")),
        ("something\n else", ("something else", "")),
    ],
)
def test_an_error_message_is_split_into_reason_and_remedy(
    error: str, parts: tuple[str, str]
) -> None:
    assert split_error("sub/a.png", error) == parts


def test_cohort_adds_up() -> None:
    found = CountTally()
    found.add([scored("a", 2, 1000), scored("b", 4, 3000), scored("c", 0, 500)])
    found.add(
        [
            scored("d", 6, 1000, um_per_px=None),
            scored("e", 0, 0),
            scored("f", 2, 1000, duplicate_of="a"),
            scored("g", 3, 100, um_per_px=1.5),
            failed("h", "the file is empty: copy it"),
            failed("i", "the file is empty: copy it", duplicate_of="h"),
        ]
    )
    assert (found.images, found.scored, found.failed, found.duplicates) == (9, 7, 2, 2)
    assert (found.counts.n, found.counts.mean) == (5, 3.0)
    assert (found.densities.n, found.crossings) == (4, 9)
    assert found.boundary_mm == pytest.approx(0.5 + 1.5 + 0.25 + 0.15)
    assert found.pooled_density == pytest.approx(9 / 2.4)
    assert (found.without_scale, found.without_boundary, found.without_crossing) == (1, 1, 1)
    (reason,) = found.failures.most_first
    assert (reason.reason, reason.remedy, reason.images) == ("the file is empty", "copy it", 2)
    assert reason.examples == ["h", "i"]


def test_reasons_that_differ_in_figures_are_one() -> None:
    found = CountTally()
    found.add([failed(f"{n}", f"ends at byte {n}: copy it again") for n in range(10)])
    (reason,) = found.failures.most_first
    assert reason.images == 10
    assert len(reason.examples) == EXAMPLES


def size(value: Any) -> int:
    """Numbers, texts and array cells that an accumulator holds, at any depth."""
    if isinstance(value, np.ndarray):
        return int(value.size)
    if isinstance(value, dict | list | tuple):
        members = value.values() if isinstance(value, dict) else value
        return sum(size(member) for member in members)
    return sum(size(member) for member in vars(value).values()) if hasattr(value, "__dict__") else 1


def test_what_is_held_of_200_000_images_is_of_fixed_size() -> None:
    found = CountTally()
    sizes = []
    for batch in range(50):
        rows = []
        for n in range(batch * 4000, (batch + 1) * 4000):
            # Reasons that differ in more than figures, the worst that messages can be.
            name = "".join(chr(97 + int(digit)) for digit in str(n))
            rows.append(failed(f"{n}", f"{name}: mend") if n % 4 else scored(f"{n}", n, 1000))
        found.add(rows)
        sizes.append(size(found))
    assert found.images == 200_000
    assert found.counts.high == 199_996
    assert sizes[0] == sizes[-1] <= 2 * BINS + 8 * (MOST_REASONS + 1) + 50
    assert found.failures.by_reason[ELSE].images == 150_000 - MOST_REASONS


def test_subjects_have_their_own_means() -> None:
    rows = [
        scored("a", 2, 1000, subject="P2"),
        scored("b", 4, 4000, subject="P2"),
        scored("c", 5, 100, subject="P2", um_per_px=None),
        scored("g", 0, 0, subject="P2"),
        scored("d", 2, 1000, subject="P2", duplicate_of="a"),
        failed("e", "x: y", subject="P1"),
        scored("f", 9, 1000, subject=None),
    ]
    with Subjects() as found:
        found.add(rows[:2])
        found.add(rows[2:])
        lost, second = found
        assert len(found) == 2
    assert lost == SubjectRow("P1", 1, 0, 1, 0, 0, None, None, None, None)
    assert second == SubjectRow("P2", 5, 5, 0, 1, 11, 11 / 3, 2.5, (2 / 0.5 + 4 / 2) / 2, 6 / 2.5)


def test_same_bytes_under_two_subjects_are_reported() -> None:
    rows = [
        scored("a", 1, 1000, subject="P1"),
        scored("b", 1, 1000, subject="P1", duplicate_of="a"),
        scored("c", 1, 1000, subject="P2", duplicate_of="a"),
        scored("d", 1, 1000, subject="P3", duplicate_of="a"),
    ]
    with Subjects() as found:
        found.add(rows)
        found.look_up(rows)
        images, first = found.shared(1)
    assert images == 2
    assert [(s.image, s.subject, s.original, s.other_subject) for s in first] == [
        ("c", "P2", "a", "P1")
    ]
