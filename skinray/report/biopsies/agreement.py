"""How well two counters agree: correlation, ICC, concordance and limits of agreement.

The paper (section 4.3) gives only Pearson's r, which does not notice that one counter always
finds twice as many. The other figures do.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from skinray.crossings.fit import concordance

Bounds = tuple[float, float]

CONFIDENCE = 0.95
_NORMAL = float(stats.norm.ppf(0.5 + CONFIDENCE / 2))
FEWEST = 3


@dataclass(frozen=True)
class Agreement:
    """Agreement of the model's counts with the expert's, in crossings per image.

    A figure that the data cannot give is None, and ``reason`` says why. Intervals have 95 %
    confidence and treat the images as independent.

    Attributes
    ----------
    n : images.
    r, p, r_interval : Pearson's correlation, two-sided p value, interval by Fisher's z.
    icc, icc_interval : ICC(2,1), two-way random, absolute agreement, single rater.
    concordance, concordance_interval : Lin's concordance correlation, interval by his z.
    bias, bias_interval : mean of model minus expert.
    sd : standard deviation of the differences (n - 1).
    limits : Bland and Altman's limits of agreement, bias -/+ 1.96 sd.
    limits_intervals : the interval of the lower and of the upper limit.
    mean_absolute_error : mean distance of model and expert.
    reason : why figures are missing; empty if none is.
    """

    n: int
    r: float | None = None
    p: float | None = None
    r_interval: Bounds | None = None
    icc: float | None = None
    icc_interval: Bounds | None = None
    concordance: float | None = None
    concordance_interval: Bounds | None = None
    bias: float | None = None
    bias_interval: Bounds | None = None
    sd: float | None = None
    limits: Bounds | None = None
    limits_intervals: tuple[Bounds, Bounds] | None = None
    mean_absolute_error: float | None = None
    reason: str = ""


def agreement(model: ArrayLike, expert: ArrayLike) -> Agreement:
    """Measure the agreement of two counts of the same images.

    Parameters
    ----------
    model, expert : (n,) counts, paired by position.

    Raises
    ------
    ValueError
        The two are not finite vectors of one length.
    """
    x = np.asarray(model, dtype=np.float64)
    y = np.asarray(expert, dtype=np.float64)
    if x.ndim != 1 or x.shape != y.shape or not np.isfinite([x, y]).all():
        raise ValueError(f"counts must be two finite vectors of one length: {x.shape}, {y.shape}")
    n = len(x)
    if n == 0:
        return Agreement(0, reason="no image")
    difference = x - y
    bias = float(difference.mean())
    error = float(np.abs(difference).mean())
    if n < FEWEST:
        reason = f"{n} image{'s' * (n > 1)}: at least {FEWEST} are needed"
        return Agreement(n, bias=bias, mean_absolute_error=error, reason=reason)
    sd = float(difference.std(ddof=1))
    bias_interval, limits, limits_intervals = _limits(bias, sd, n)
    r, p, r_interval = _correlation(x, y)
    icc, icc_interval = intraclass(np.stack([x, y], axis=1))
    lin, lin_interval = _lin(x, y, r)
    return Agreement(
        n=n,
        r=r,
        p=p,
        r_interval=r_interval,
        icc=icc,
        icc_interval=icc_interval,
        concordance=lin,
        concordance_interval=lin_interval,
        bias=bias,
        bias_interval=bias_interval,
        sd=sd,
        limits=limits,
        limits_intervals=limits_intervals,
        mean_absolute_error=error,
        reason=_constant(x, y),
    )


def correlation_interval(r: float, n: int) -> Bounds:
    """Fisher's z interval of a correlation ``r`` over ``n`` pairs; [-1, 1] where n < 4."""
    if n <= FEWEST:
        return -1.0, 1.0
    if abs(r) >= 1:
        return r, r
    half = _NORMAL / math.sqrt(n - 3)
    return math.tanh(math.atanh(r) - half), math.tanh(math.atanh(r) + half)


def intraclass(ratings: NDArray[np.float64]) -> tuple[float | None, Bounds | None]:
    """ICC(2,1) of Shrout and Fleiss (1979), with McGraw and Wong's (1996) interval.

    Parameters
    ----------
    ratings : (n, k), one row an image, one column a rater.

    Returns
    -------
    The coefficient, at least -1 even if few ratings give a lower estimate, and its interval; None
    where the ratings do not give them.
    """
    n, k = ratings.shape
    rows, columns, error = _mean_squares(ratings)
    below = rows + (k - 1) * error + k * (columns - error) / n
    if below <= 0:
        return None, None
    icc = (rows - error) / below
    if error == 0 and columns == 0:
        return icc, (icc, icc)
    return max(icc, -1.0), _intraclass_interval(icc, rows, columns, error, n, k)


def _intraclass_interval(
    icc: float, rows: float, columns: float, error: float, n: int, k: int
) -> Bounds | None:
    """McGraw and Wong (1996), table 7, case 2A, from the three mean squares."""
    a = k * icc / (n * (1 - icc))
    b = 1 + k * icc * (n - 1) / (n * (1 - icc))
    spread = (a * columns) ** 2 / (k - 1) + (b * error) ** 2 / ((n - 1) * (k - 1))
    mean = a * columns + b * error
    if spread == 0 or mean <= 0:
        return None
    freedom = mean**2 / spread
    tail = 0.5 + CONFIDENCE / 2
    over = float(stats.f.ppf(tail, n - 1, freedom))
    under = float(stats.f.ppf(tail, freedom, n - 1))
    if not math.isfinite(over + under):
        return None
    noise = k * columns + (k * n - k - n) * error
    low = n * (rows - over * error) / (over * noise + n * rows)
    high = n * (under * rows - error) / (noise + n * under * rows)
    # Satterthwaite's approximation breaks down where the ratings run against each other.
    return (max(low, -1.0), min(high, 1.0)) if max(low, -1.0) <= icc <= high else None


def _mean_squares(ratings: NDArray[np.float64]) -> tuple[float, float, float]:
    """Two-way analysis of variance: mean squares of rows, columns and the residual."""
    n, k = ratings.shape
    centred = ratings - ratings.mean()
    of_rows = centred.mean(axis=1, keepdims=True)
    of_columns = centred.mean(axis=0, keepdims=True)
    residual = centred - of_rows - of_columns
    # Rounding must not turn perfect agreement into a tiny disagreement.
    dust = 1e-20 * n * k * max(1.0, float(np.square(ratings).max()))
    squares = [float((part**2).sum()) for part in (of_rows, of_columns, residual)]
    rows, columns, error = (0.0 if square < dust else square for square in squares)
    return k * rows / (n - 1), n * columns / (k - 1), error / ((n - 1) * (k - 1))


def _correlation(
    x: NDArray[np.float64], y: NDArray[np.float64]
) -> tuple[float | None, float | None, Bounds | None]:
    """Pearson's r, its p value and interval; None where a vector is constant."""
    if _constant(x, y):
        return None, None, None
    result = stats.pearsonr(x, y)
    r = float(result.statistic)
    return r, float(result.pvalue), correlation_interval(r, len(x))


def _lin(
    x: NDArray[np.float64], y: NDArray[np.float64], r: float | None
) -> tuple[float | None, Bounds | None]:
    """Lin's coefficient (1989) with the variance of his correction (2000)."""
    scale = float(x.std() * y.std())
    shift = float(x.mean() - y.mean()) ** 2
    below = float(x.var() + y.var()) + shift
    if below == 0:
        return None, None
    value = concordance(x, y)
    if r is None:
        return value, None
    accuracy = 2 * scale / below
    if value**2 >= 1:
        return value, (value, value)
    u2 = shift / scale
    variance = (
        (1 - r**2) * accuracy**2 * (1 - value**2)
        + 2 * value**2 * (1 - value) * accuracy * u2
        - value**2 * accuracy**2 * u2**2 / 2
    ) / (len(x) - 2)
    half = _NORMAL * math.sqrt(max(variance, 0.0)) / (1 - value**2)
    z = math.atanh(value)
    return value, (math.tanh(z - half), math.tanh(z + half))


def _limits(bias: float, sd: float, n: int) -> tuple[Bounds, Bounds, tuple[Bounds, Bounds]]:
    """Bland and Altman (1986): limits of agreement; intervals after their paper of 1999."""
    t = float(stats.t.ppf(0.5 + CONFIDENCE / 2, n - 1))
    low, high = bias - _NORMAL * sd, bias + _NORMAL * sd
    half_bias = t * sd / math.sqrt(n)
    half = t * sd * math.sqrt(1 / n + _NORMAL**2 / (2 * (n - 1)))
    return (
        (bias - half_bias, bias + half_bias),
        (low, high),
        ((low - half, low + half), (high - half, high + half)),
    )


def _constant(x: NDArray[np.float64], y: NDArray[np.float64]) -> str:
    """Say which counter gave the same count everywhere; empty if neither did."""
    same = [name for name, v in (("model", x), ("expert", y)) if np.ptp(v) == 0]
    if not same:
        return ""
    return f"the {' and the '.join(same)} counted the same in every image: no correlation"
