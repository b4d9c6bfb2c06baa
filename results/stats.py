"""Statistics of processes: medians, intervals and two-sample tests on logarithms. Pure functions over numbers; SciPy does the sums."""

import math
import statistics
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

CONFIDENCE = 0.95
POWER = 0.8


@dataclass(frozen=True)
class Estimate:
    """A typical value with its doubt."""

    value: float
    """Median of the processes' values, or of the requests' where there is one process only."""
    low: float | None
    high: float | None
    n: int
    """How many processes (or requests) stand behind it."""
    basis: Literal["processes", "requests"]
    """What the interval is of: 95 % t interval over processes, or the quartiles within one process."""


@dataclass(frozen=True)
class Shift:
    """How far one side lies from the other on an additive scale: logarithms for ratios, the values themselves for scores."""

    value: float
    low: float | None
    """Lower end of the interval; `None` where there are too few values for one."""
    high: float | None
    detectable: float | None
    """The smallest true shift, as a positive number, that this test finds with 80 % power at this n and spread."""
    p_value: float | None = None
    """Two-sided, of no shift; `None` without an interval, and where nothing spreads: then there is no doubt to speak of."""


def estimate(processes: Sequence[Sequence[float]]) -> Estimate | None:
    """Estimate from the values of each process; the process is the unit of replication.

    With two or more processes: the median of the process medians, and the 95 % t interval of their location (of the
    logarithms when all are positive). With one: its median and quartiles. `None` without values.
    """
    groups = [group for group in processes if group]
    if not groups:
        return None
    medians = [statistics.median(group) for group in groups]
    if len(medians) > 1:
        low, high = t_interval(medians) if all(map(math.isfinite, medians)) else (None, None)
        return Estimate(statistics.median(medians), low, high, len(medians), "processes")
    values = groups[0]
    if len(values) < 2:
        return Estimate(medians[0], None, None, len(values), "requests")
    low, _, high = statistics.quantiles(values, n=4, method="inclusive")
    return Estimate(medians[0], low, high, len(values), "requests")


def t_interval(values: Sequence[float], confidence: float = CONFIDENCE) -> tuple[float, float]:
    """Student's t interval of the mean, taken on logarithms when every value is positive. Needs two values."""
    logs = all(value > 0 for value in values)
    points = [math.log(value) for value in values] if logs else list(values)
    centre = statistics.fmean(points)
    half = _t_quantile(len(points) - 1, (1 + confidence) / 2) * statistics.stdev(points) / math.sqrt(len(points))
    ends = (centre - half, centre + half)
    return (exp(ends[0]), exp(ends[1])) if logs else ends


def welch(a: Sequence[float], b: Sequence[float], confidence: float = CONFIDENCE) -> Shift:
    """The mean of `b` minus the mean of `a`, which may spread differently (Welch 1947, degrees of freedom after Satterthwaite).

    Each side needs one value, and two for an interval.
    """
    value = statistics.fmean(b) - statistics.fmean(a)
    if min(len(a), len(b)) < 2:
        return Shift(value, None, None, None)
    if _constant(a) and _constant(b):
        return Shift(value, value, value, 0.0)
    from scipy.stats import ttest_ind

    return _shift(value, lambda: ttest_ind(b, a, equal_var=False), confidence)


def paired(differences: Sequence[float], confidence: float = CONFIDENCE) -> Shift:
    """The mean difference of pairs. Needs one pair, and two for an interval."""
    value = statistics.fmean(differences)
    if len(differences) < 2:
        return Shift(value, None, None, None)
    if _constant(differences):
        return Shift(value, value, value, 0.0)
    from scipy.stats import ttest_1samp

    return _shift(value, lambda: ttest_1samp(differences, 0.0), confidence)


def blocked(a: Sequence[float], b: Sequence[float], confidence: float = CONFIDENCE) -> Shift:
    """The mean of `b` minus the mean of `a`, where value i of both was taken side by side in time.

    Paired where the pairs correlate (Pearson's r, one-sided p < 5 %), as what happened to both then drops out; Welch's test
    elsewhere, as pairing alone halves the degrees of freedom. Choosing by the data costs little: of pairs without correlation
    and without a change 5.6 % differ at 5 % instead of 4.4 % (5 pairs, simulated), and 1.8 % instead of 1.2 % at 1.4 %.
    """
    if len(a) < 3 or _constant(a) or _constant(b):
        return welch(a, b, confidence)
    from scipy.stats import pearsonr

    if pearsonr(a, b, alternative="greater").pvalue < 0.05:
        return paired([after - before for before, after in zip(a, b, strict=True)], confidence)
    return welch(a, b, confidence)


def changed_answers_p(a: Sequence[float], b: Sequence[float]) -> float | None:
    """Exact two-sided p of as many right answers as before, where every score is 0 or 1 (McNemar 1947, exact form).

    Value i of both is the same item. `None` where scores are no such answers, or where none changed.
    """
    if not {*a, *b} <= {0.0, 1.0} or list(a) == list(b):
        return None
    from scipy.stats import binomtest

    changes = [after - before for before, after in zip(a, b, strict=True) if after != before]
    return float(binomtest(changes.count(1.0), len(changes)).pvalue)


def exp(value: float) -> float:
    """e to the value, the largest finite number instead of an overflow."""
    return math.exp(min(value, 709.7))


def false_discovery_adjusted(p_values: Sequence[float]) -> list[float]:
    """Each p value such that calling all below q false in at most a share of q of the calls (Benjamini and Hochberg 1995)."""
    if not p_values:
        return []
    from scipy.stats import false_discovery_control

    return [float(p) for p in false_discovery_control(p_values)]


@cache
def alpha_per_look(looks: tuple[int, ...], alpha: float) -> float:
    """The two-sided alpha of each of several looks at growing data that together err with `alpha` (Pocock 1977).

    The same z is used at each look. The chance to cross it at none of them is a recursive integral over the score statistic,
    whose increments are independent (Armitage, McPherson and Rowe 1969), here with Gauss-Legendre nodes.

    Args:
        looks: values a side at each look, growing; only their ratios count.
    """
    if len(looks) == 1:
        return alpha
    from numpy.polynomial.legendre import leggauss
    from scipy.optimize import brentq
    from scipy.special import ndtr, ndtri

    nodes = leggauss(100)
    shares = [look / looks[-1] for look in looks]
    start = float(-ndtri(alpha / 2))
    bound = brentq(lambda z: _crossing(z, shares, *nodes) - alpha, start, start + 3)
    return float(2 * ndtr(-bound))


def _crossing(bound: float, shares: Sequence[float], nodes: Any, weights: Any) -> float:
    """The chance that |z| is beyond the bound at any look, without a change, at looks that have these shares of all values."""
    import numpy as np
    from scipy.stats import norm

    reached, mass = np.zeros(1), np.ones(1)
    for before, share in zip([0.0, *shares], shares, strict=False):
        half = bound * math.sqrt(share)
        density = norm.pdf(half * nodes[:, None], loc=reached, scale=math.sqrt(share - before)) @ mass
        reached, mass = half * nodes, half * weights * density
    return 1.0 - float(mass.sum())


def _constant(values: Sequence[float]) -> bool:
    return len(set(values)) == 1


def _shift(value: float, test: Callable[[], Any], confidence: float) -> Shift:
    """SciPy's t test as a shift.

    The t statistic of a true shift d follows the noncentral t distribution with noncentrality d / error, so the shift found
    with 80 % power has the noncentrality at which 20 % lie below the critical value (Cohen, Statistical Power Analysis, 1988,
    chapter 2; the far tail is left out, as it adds less than one in a million).
    """
    from scipy.special import nctdtrinc

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # one side may be constant, which SciPy takes for a loss of precision
        found = test()
        interval = found.confidence_interval(confidence)
    half = float(interval.high - interval.low) / 2
    critical = _t_quantile(float(found.df), (1 + confidence) / 2)
    detectable = float(nctdtrinc(float(found.df), 1 - POWER, critical)) * half / critical
    return Shift(value, value - half, value + half, detectable, float(found.pvalue))


def _t_quantile(freedom: float, share: float) -> float:
    from scipy.special import stdtrit

    return float(stdtrit(freedom, share))
