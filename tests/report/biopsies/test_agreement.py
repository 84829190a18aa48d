from __future__ import annotations

import math
import warnings

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from statsmodels.formula.api import ols
from statsmodels.stats.anova import anova_lm

from skinray.report.biopsies.agreement import Agreement, agreement, correlation_interval, intraclass

# Bland and Altman, Lancet 1986: peak expiratory flow, first reading with each meter (l/min).
WRIGHT = [494, 395, 516, 434, 476, 557, 413, 442, 650, 433, 417, 656, 267, 478, 178, 423, 427]
MINI = [512, 430, 520, 428, 500, 600, 364, 380, 658, 445, 432, 626, 260, 477, 259, 350, 451]

# Shrout and Fleiss, Psychological Bulletin 1979, table 2: six targets, four judges.
JUDGES = np.array(
    [[9, 2, 5, 8], [6, 1, 3, 2], [8, 4, 6, 8], [7, 1, 2, 6], [10, 5, 6, 9], [6, 2, 4, 7]], float
)

counts = st.lists(st.tuples(st.integers(0, 40), st.integers(0, 40)), min_size=0, max_size=25)


@pytest.fixture(scope="module")
def flow() -> Agreement:
    return agreement(WRIGHT, MINI)


def test_limits_of_bland_and_altman_1986(flow: Agreement) -> None:
    assert flow.n == 17
    assert flow.r == pytest.approx(0.94, abs=0.005)
    assert flow.bias == pytest.approx(-2.1, abs=0.05)
    assert flow.sd == pytest.approx(38.8, abs=0.05)
    assert flow.bias_interval == pytest.approx((-22.0, 17.8), abs=0.1)
    # The paper of 1986 rounds 1.96 to 2 in the limits: compare the distances to the bias.
    assert flow.limits is not None
    assert flow.limits[1] - flow.limits[0] == pytest.approx(2 * 1.96 * 38.8, abs=0.2)


def test_limit_intervals_of_bland_and_altman_1986(flow: Agreement) -> None:
    assert flow.limits is not None
    assert flow.limits_intervals is not None
    for limit, (low, high) in zip(flow.limits, flow.limits_intervals, strict=True):
        assert (low + high) / 2 == pytest.approx(limit)
        # 34.6 in the paper, by its simpler sqrt(3 sd^2 / n).
        assert (high - low) / 2 == pytest.approx(34.6, abs=0.3)


def test_limit_intervals_of_bland_and_altman_1999() -> None:
    # 85 blood pressures, bias -16.29, sd 19.61: limits -54.7 and 22.1, whose standard error
    # is 1.71 * 2.13 = 3.64, hence -61.9 to -47.5 and 14.9 to 29.3.
    z = np.random.default_rng(0).normal(size=85)
    difference = -16.29 + 19.61 * (z - z.mean()) / z.std(ddof=1)
    found = agreement(200 + difference, np.full(85, 200.0))
    assert found.limits == pytest.approx((-54.7, 22.1), abs=0.05)
    assert found.limits_intervals is not None
    assert found.limits_intervals[0] == pytest.approx((-61.9, -47.5), abs=0.1)
    assert found.limits_intervals[1] == pytest.approx((14.9, 29.3), abs=0.15)


def test_intraclass_of_shrout_and_fleiss() -> None:
    icc, band = intraclass(JUDGES)
    assert icc == pytest.approx(0.29, abs=0.005)
    assert band == pytest.approx((0.019, 0.761), abs=0.0005)


def test_intraclass_from_the_mean_squares_of_statsmodels() -> None:
    frame = pd.DataFrame(
        [(i, j, JUDGES[i, j]) for i in range(6) for j in range(4)], columns=["row", "judge", "y"]
    )
    squares = anova_lm(ols("y ~ C(row) + C(judge)", data=frame).fit())["mean_sq"]
    rows, judges, error = squares["C(row)"], squares["C(judge)"], squares["Residual"]
    expected = (rows - error) / (rows + 3 * error + 4 * (judges - error) / 6)
    assert intraclass(JUDGES)[0] == pytest.approx(expected)


def test_concordance_of_the_flow_meters(flow: Agreement) -> None:
    x, y = np.array(WRIGHT, float), np.array(MINI, float)
    covariance = ((x - x.mean()) * (y - y.mean())).mean()
    expected = 2 * covariance / (x.var() + y.var() + (x.mean() - y.mean()) ** 2)
    assert flow.concordance == pytest.approx(expected)
    assert flow.concordance == pytest.approx(0.943, abs=0.0005)


@pytest.mark.parametrize(("shift", "scale", "rho"), [(0.5, 1.5, 0.8), (0.0, 1.0, 0.6)])
def test_concordance_interval_holds_the_truth_19_times_in_20(
    shift: float, scale: float, rho: float
) -> None:
    rng = np.random.default_rng(1)
    covariance = [[1, rho * scale], [rho * scale, scale**2]]
    truth = 2 * rho * scale / (1 + scale**2 + shift**2)
    draws = rng.multivariate_normal([0, shift], covariance, size=(400, 250))
    held = 0
    for draw in draws:
        band = agreement(draw[:, 0], draw[:, 1]).concordance_interval
        assert band is not None
        held += band[0] <= truth <= band[1]
    assert held / 400 == pytest.approx(0.95, abs=0.03)


def test_intraclass_interval_holds_the_truth_19_times_in_20() -> None:
    rng = np.random.default_rng(2)
    held = 0
    for _ in range(600):
        # Raters are drawn anew each time: the model behind ICC(2,1).
        people, raters = rng.normal(0, 3, (30, 1)), rng.normal(0, 0.5, (1, 2))
        band = intraclass(people + raters + rng.normal(0, 1.5, (30, 2)))[1]
        assert band is not None
        held += band[0] <= 9 / (9 + 0.25 + 2.25) <= band[1]
    assert held / 600 == pytest.approx(0.95, abs=0.03)


@pytest.mark.parametrize(("r", "low", "high"), [(0.834, 0.43, 0.96), (0.467, -0.23, 0.85)])
def test_intervals_of_the_paper_s_ten_images(r: float, low: float, high: float) -> None:
    assert correlation_interval(r, 10) == pytest.approx((low, high), abs=0.005)


def test_equal_counts_agree_perfectly() -> None:
    found = agreement([1, 4, 9, 2], [1, 4, 9, 2])
    assert (found.r, found.icc, found.concordance) == pytest.approx((1, 1, 1))
    assert [found.bias, found.sd, found.mean_absolute_error] == [0, 0, 0]
    assert found.limits == (0.0, 0.0)
    assert found.reason == ""


def test_a_constant_offset_leaves_r_and_lowers_the_rest() -> None:
    found = agreement([6, 9, 14, 7], [1, 4, 9, 2])
    assert found.r == pytest.approx(1)
    assert found.bias == 5
    assert found.sd == pytest.approx(0)
    assert found.icc is not None
    assert found.icc < 0.6
    assert found.concordance is not None
    assert found.concordance < 0.5


@pytest.mark.parametrize(
    ("model", "expert", "reason"),
    [
        ([], [], "no image"),
        ([3], [4], "1 image: at least 3 are needed"),
        ([3, 5], [4, 5], "2 images: at least 3 are needed"),
        ([3, 3, 3], [1, 2, 3], "the model counted the same in every image: no correlation"),
        ([1, 2, 3], [3, 3, 3], "the expert counted the same in every image: no correlation"),
        ([2, 2, 2], [3, 3, 3], "the model and the expert counted the same in every image: "
                               "no correlation"),
    ],
)  # fmt: skip
def test_what_cannot_be_known_is_none_with_a_reason(
    model: list[int], expert: list[int], reason: str
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = agreement(model, expert)
    assert found.r is None
    assert found.p is None
    assert found.r_interval is None
    assert found.reason == reason


def test_three_images_leave_r_wide_open() -> None:
    assert agreement([1, 2, 4], [1, 3, 4]).r_interval == (-1, 1)


@pytest.mark.parametrize(
    ("model", "expert"), [([1, 2], [1, 2, 3]), ([[1]], [[1]]), ([1, math.nan], [1, 2])]
)
def test_counts_that_do_not_pair_are_refused(model: list[float], expert: list[float]) -> None:
    with pytest.raises(ValueError, match="two finite vectors of one length"):
        agreement(model, expert)


@given(counts)
@settings(max_examples=100, deadline=None)
def test_every_figure_is_finite_in_range_and_within_its_interval(
    pairs: list[tuple[int, int]],
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = agreement([p[0] for p in pairs], [p[1] for p in pairs])
    for value, band in (
        (found.r, found.r_interval),
        (found.icc, found.icc_interval),
        (found.concordance, found.concordance_interval),
    ):
        if value is not None:
            assert -1 - 1e-9 <= value <= 1 + 1e-9
            if band is not None:
                assert band[0] - 1e-9 <= value <= band[1] + 1e-9
    if found.limits is not None and found.bias is not None:
        assert found.limits[0] <= found.bias <= found.limits[1]
    if found.r is not None and found.concordance is not None:
        assert abs(found.concordance) <= abs(found.r) + 1e-9


@given(counts)
@settings(max_examples=50, deadline=None)
def test_swapping_the_counters_turns_the_bias_alone(pairs: list[tuple[int, int]]) -> None:
    one = agreement([p[0] for p in pairs], [p[1] for p in pairs])
    other = agreement([p[1] for p in pairs], [p[0] for p in pairs])
    assert one.n == other.n
    if one.bias is not None:
        assert other.bias == pytest.approx(-one.bias)
    for name in ("r", "icc", "concordance", "sd", "mean_absolute_error"):
        assert getattr(other, name) == pytest.approx(getattr(one, name), abs=1e-9)
