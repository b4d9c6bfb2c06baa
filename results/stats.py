"""Statistics of processes: medians, intervals and two-sample tests on logarithms. Pure functions over numbers; SciPy does the sums."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

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
    """Lower end of the 95 % interval; `None` where there are too few values for one."""
    high: float | None
    detectable: float | None
    """The smallest true shift, as a positive number, that this test finds with 80 % power at this n and spread."""


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
        low, high = t_interval(medians)
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


def welch(a: Sequence[float], b: Sequence[float]) -> Shift:
    """The mean of `b` minus the mean of `a`, which may spread differently (Welch 1947, degrees of freedom after Satterthwaite).

    Each side needs one value, and two for an interval.
    """
    value = statistics.fmean(b) - statistics.fmean(a)
    if min(len(a), len(b)) < 2:
        return Shift(value, None, None, None)
    errors = [statistics.variance(side) / len(side) for side in (a, b)]
    total = sum(errors)
    if total == 0:
        return Shift(value, value, value, 0.0)
    shares = [error / total for error in errors]
    freedom = 1 / sum(share**2 / (len(side) - 1) for share, side in zip(shares, (a, b), strict=True))
    return _shift(value, math.sqrt(total), freedom)


def paired(differences: Sequence[float]) -> Shift:
    """The mean difference of pairs. Needs one pair, and two for an interval."""
    value = statistics.fmean(differences)
    if len(differences) < 2:
        return Shift(value, None, None, None)
    error = statistics.stdev(differences) / math.sqrt(len(differences))
    return _shift(value, error, len(differences) - 1) if error > 0 else Shift(value, value, value, 0.0)


def exp(value: float) -> float:
    """e to the value, the largest finite number instead of an overflow."""
    return math.exp(min(value, 709.7))


def _shift(value: float, error: float, freedom: float) -> Shift:
    """A mean with its standard error as a shift.

    The t statistic of a true shift d follows the noncentral t distribution with noncentrality d / error, so the shift found
    with 80 % power has the noncentrality at which 20 % lie below the critical value (Cohen, Statistical Power Analysis, 1988,
    chapter 2; the far tail is left out, as it adds less than one in a million).
    """
    from scipy.special import nctdtrinc

    critical = _t_quantile(freedom, (1 + CONFIDENCE) / 2)
    detectable = float(nctdtrinc(freedom, 1 - POWER, critical)) * error
    return Shift(value, value - critical * error, value + critical * error, detectable)


def _t_quantile(freedom: float, share: float) -> float:
    from scipy.special import stdtrit

    return float(stdtrit(freedom, share))
