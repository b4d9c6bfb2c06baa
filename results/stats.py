"""Statistics of processes: medians, intervals and two-sample tests on logarithms. Pure functions over numbers; SciPy does the sums."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

CONFIDENCE = 0.95


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
    from scipy.special import stdtrit

    logs = all(value > 0 for value in values)
    points = [math.log(value) for value in values] if logs else list(values)
    centre = statistics.fmean(points)
    half = float(stdtrit(len(points) - 1, (1 + confidence) / 2)) * statistics.stdev(points) / math.sqrt(len(points))
    ends = (centre - half, centre + half)
    return (math.exp(ends[0]), math.exp(ends[1])) if logs else ends
