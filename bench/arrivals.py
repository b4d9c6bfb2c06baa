"""When the requests of an open-loop load are due, and whether those that were sent arrived as promised.

A schedule is absolute and made before the start from one generator; who sends by it is left to `bench.load`. The test
judges what was sent, so that it also fails a schedule that is itself wrong, such as one merged from workers of one seed.
"""

import itertools
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from results.cases import Load

if TYPE_CHECKING:
    from numpy import float64
    from numpy.typing import NDArray

    Offsets = NDArray[float64]

TAIL = 0.001 / 5 / 2
"""Of one side of one interval: with five statistics a right client is called wrong about once in 1,000 loads."""
RANDOM = ("poisson", "gamma")
RATE_SLACK = 0.005
TOLERANCE = 0.15
"""Of the pattern of arrivals that are not random; random ones are allowed as much at the most, for what timers round."""
LATE_S = 0.05
"""Lag that one request in a hundred may exceed, and by which the first or last one may change the rate."""
TIMER_S = 0.001
"""Scatter of the sends around the schedule that is put down to timers and not to the client."""
WINDOW_COUNT = 5
"""Arrivals expected in each window of the dispersion."""
FEWEST_WINDOWS = 10
FEWEST_GAPS = 30
SIMULATIONS = 200
REACH = 1.5
"""How far an interval goes from the median of the simulated values, in distances of their furthest: 200 of them show
tails of 1 in 200 only, and half as far again is beyond 1 in 5,000, be they normal or skewed like an exponential."""


def schedule(load: Load, count: int, seed: int) -> tuple[float, ...]:
    """Seconds after the start at which each of `count` requests is due, never decreasing.

    Raises:
        ValueError: the load draws no schedule (closed loop, trace), or has no positive rate or burstiness.
    """
    if load.arrivals in ("closed", "trace"):
        raise ValueError(f"{load.arrivals} arrivals draw no schedule")
    rate = _rate(load)
    if load.arrivals == "constant":
        return tuple(number / rate for number in range(count))
    shape, generator = _shape(load), random.Random(seed)  # noqa: S311 a schedule, not a secret
    return tuple(itertools.accumulate(generator.gammavariate(shape, 1 / (shape * rate)) for _ in range(count)))


def deal(offsets: Sequence[float], clients: int) -> list[list[int]]:
    """The indexes of each client's requests: disjoint, in order, together the whole schedule."""
    if clients < 1:
        raise ValueError("a schedule is dealt to at least one client")
    return [list(range(client, len(offsets), clients)) for client in range(clients)]


@dataclass(frozen=True)
class Statistic:
    """A figure of the arrivals, and the interval in which a right client's lies."""

    value: float
    low: float
    high: float

    @property
    def ok(self) -> bool:
        return self.low <= self.value <= self.high


@dataclass(frozen=True)
class ArrivalTest:
    """What the arrivals were like. A statistic for which there were too few is `None` and not judged."""

    unsent: int
    rate: Statistic | None = None
    """Achieved requests per second, against the load's rate, or the trace's."""
    ratio: Statistic | None = None
    """Achieved rate / rate of this schedule."""
    dispersion: Statistic | None = None
    """Variance / mean of the counts in windows of five expected arrivals: 1 for Poisson, more in bursts."""
    lag1: Statistic | None = None
    """Correlation of each gap between arrivals with the next one; `None` where only timers make the gaps differ."""
    cv: Statistic | None = None
    """Standard deviation / mean of the gaps."""
    windows: int = 0
    """How many there are for the dispersion."""
    lag_mean_s: float | None = None
    """Sent − scheduled."""
    lag_p99_s: Statistic | None = None

    @property
    def ok(self) -> bool:
        return not self.unsent and self.rate is not None and all(one.ok for one in self._judged().values())

    @property
    def why(self) -> str:
        """The reason of the verdict, one clause."""
        if self.unsent:
            return f"{self.unsent} scheduled requests were never sent"
        if self.rate is None:
            return "fewer than two requests, or all at one time, have no rate"
        for name, one in self._judged().items():
            if not one.ok:
                return f"{name} {one.value:.4g} is outside {one.low:.4g} to {one.high:.4g}"
        return ", ".join(f"{name} {one.value:.4g}" for name, one in self._judged().items()) + " are as promised"

    def values(self) -> dict[str, float]:
        """By metric name; what is unknown is left out."""
        named = {"arrival_rate": self.rate, "arrival_dispersion": self.dispersion, "arrival_lag1": self.lag1}
        return {name: one.value for name, one in named.items() if one} | {"arrivals_ok": float(self.ok)}

    def _judged(self) -> dict[str, Statistic]:
        named = {
            "achieved / scheduled rate": self.ratio,
            "requests per second": self.rate,
            "dispersion of counts": self.dispersion,
            "variation of gaps": self.cv,
            "lag-1 correlation of gaps": self.lag1,
            "99th percentile of lags": self.lag_p99_s,
        }
        return {name: one for name, one in named.items() if one}


def arrival_test(load: Load, scheduled: Sequence[float], sent: Sequence[float | None]) -> ArrivalTest:
    """Judge an open-loop load by its arrivals.

    Args:
        scheduled: seconds, in order.
        sent: seconds on the same clock, request by request; `None`: never sent.

    Raises:
        ValueError: a closed loop, or not one `sent` for each `scheduled`.
    """
    import numpy as np

    if load.arrivals == "closed":
        raise ValueError("a closed loop has no schedule to be tested against")
    pairs = [(due, at) for due, at in zip(scheduled, sent, strict=True) if at is not None]
    due, at = np.array(pairs, dtype=float).reshape(-1, 2).T
    lags, arrivals, unsent = at - due, np.sort(at), len(scheduled) - len(pairs)
    if len(pairs) < 2 or due[0] == due[-1] or arrivals[0] == arrivals[-1]:
        return ArrivalTest(unsent)
    planned_rate = (len(due) - 1) / float(due[-1] - due[0])
    rate, ratio = _rates(load, planned_rate, arrivals)
    found, windows = _pattern(arrivals, _first_window(load, due) + float(min(lags)), load.rate or planned_rate)
    limits = _limits(load, due, min(float(np.std(lags)), TIMER_S), windows)
    judged = {name: Statistic(value, *limits[name]) for name, value in found.items() if name in limits}
    return ArrivalTest(
        unsent,
        rate,
        ratio,
        judged.get("dispersion"),
        judged.get("lag1"),
        judged.get("cv"),
        windows,
        lag_mean_s=float(np.mean(lags)),
        lag_p99_s=Statistic(float(np.quantile(lags, 0.99, method="inverted_cdf")), -TIMER_S, LATE_S),
    )


def _rates(load: Load, planned_rate: float, arrivals: "Offsets") -> tuple[Statistic, Statistic]:
    """The achieved rate, and its ratio to this schedule's."""
    from scipy.stats import gamma

    gaps, span = len(arrivals) - 1, float(arrivals[-1] - arrivals[0])
    slack = RATE_SLACK + LATE_S / span
    low = high = load.rate or planned_rate
    if load.arrivals in RANDOM:
        shape = _shape(load)
        shortest, longest = gamma.ppf((TAIL, 1 - TAIL), gaps * shape, scale=1 / (shape * _rate(load)))
        low, high = gaps / float(longest), gaps / float(shortest)
    ratio = Statistic(gaps / span / planned_rate, 1 - slack, 1 + slack)
    return Statistic(gaps / span, low * (1 - slack), high * (1 + slack)), ratio


def _pattern(arrivals: "Offsets", start: float, rate: float) -> tuple[dict[str, float], int]:
    """Variation and lag-1 correlation of the gaps, dispersion of the counts, where there is enough; how many windows."""
    import numpy as np

    gaps, found = np.diff(arrivals), {}
    if len(gaps) >= FEWEST_GAPS and np.ptp(gaps) > 0:
        found["cv"] = float(np.std(gaps, ddof=1) / np.mean(gaps))
        found["lag1"] = float(np.corrcoef(gaps[:-1], gaps[1:])[0, 1])
    numbers = ((arrivals - start) * rate / WINDOW_COUNT).astype(int)
    windows = int(numbers[-1])  # the last one is cut short by the end
    if windows >= FEWEST_WINDOWS:
        counts = np.bincount(numbers[numbers < windows], minlength=windows)
        found["dispersion"] = float(np.var(counts, ddof=1) / np.mean(counts))
    return found, windows


def _limits(load: Load, due: "Offsets", scatter: float, windows: int) -> dict[str, tuple[float, float]]:
    """The interval of each statistic that can be judged.

    Args:
        scatter: standard deviation of a right client's lags, in seconds.
        windows: behind the dispersion that is to be judged.
    """
    import numpy as np
    from scipy.stats import chi2

    rate = load.rate or (len(due) - 1) / float(due[-1] - due[0])
    rows = [_pattern(arrivals, start, rate)[0] for start, arrivals in _right_clients(load, due, scatter)]
    limits = {}
    for name in ("dispersion", "cv", "lag1"):
        values = [row[name] for row in rows if name in row]
        if len(values) == SIMULATIONS:
            low, middle, high = (float(value) for value in np.quantile(values, (0, 0.5, 1)))
            slack = min(scatter * rate / 2, TOLERANCE) if load.arrivals in RANDOM else TOLERANCE * (1 + abs(middle))
            limits[name] = (middle - REACH * (middle - low) - slack, middle + REACH * (high - middle) + slack)
    if load.arrivals == "poisson" and windows >= FEWEST_WINDOWS:
        low, high = chi2.ppf((TAIL, 1 - TAIL), windows - 1) / (windows - 1)
        limits["dispersion"] = (float(low), float(high))
    if load.arrivals == "constant" or (load.arrivals == "trace" and np.std(np.diff(due)) < 10 * TIMER_S):
        limits.pop("lag1", None)
    return limits


def _right_clients(load: Load, due: "Offsets", scatter: float) -> Iterator[tuple[float, "Offsets"]]:
    """Where the windows begin, and the arrivals, of simulated clients that send by other schedules of this load."""
    import numpy as np

    generator = np.random.default_rng(0)
    for _ in range(SIMULATIONS):
        if load.arrivals == "trace":
            base = due
        elif load.arrivals == "constant":
            base = np.arange(len(due)) / _rate(load)
        else:
            base = np.cumsum(generator.gamma(_shape(load), 1 / (_shape(load) * _rate(load)), len(due)))
        yield _first_window(load, base), np.sort(base + generator.exponential(scatter, len(due)))


def _first_window(load: Load, due: "Offsets") -> float:
    """Where it begins: so that no evenly spaced or rounded arrival lies on an edge, where any lag would move it over."""
    return float(due[0]) - (0.5 / load.rate if load.rate else TIMER_S / 1000)


def _rate(load: Load) -> float:
    if load.rate is None or load.rate <= 0:
        raise ValueError(f"{load.arrivals} arrivals need a positive rate")
    return load.rate


def _shape(load: Load) -> float:
    """Of the gamma distribution of the gaps."""
    if load.arrivals == "poisson":
        return 1.0
    if load.burstiness is None or load.burstiness <= 0:
        raise ValueError("gamma arrivals need a positive burstiness")
    return load.burstiness
