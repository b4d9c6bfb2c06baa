"""Whether more requests arrived than a server could serve, from their times alone; and where a curve of loads bends."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from results.metrics import request_values
from results.record import Values
from results.records import Request

MIN_REQUESTS = 50
"""With fewer there is no verdict: the blocks would hold four or less."""
BLOCKS = 12
_TREND = 0.3
"""Level at which the count in flight and the time to first token must rise. It is lenient, as the third test is strict."""
_BACKLOG_TREND = 0.005
"""Level at which the backlog must rise."""
_BACKLOG_TREND_UNPLANNED = 0.025
"""The same where no rate is known: the arrivals' own chance is in it, and makes it harder to pass."""
_MATTERS = 0.04
"""Share of the requests by which the backlog must grow: less is a load within 4 % of what the server can do."""


@dataclass(frozen=True)
class Saturation:
    in_flight_slope: float | None
    """Growth of the number of requests that are in the system, waiting or served, in 1/s."""
    ttft_slope: float | None
    """Growth of the time to first token from schedule, in s/s."""
    over_saturated: bool | None
    """`None`: too few requests, or answers, to tell."""

    def values(self) -> Values:
        """What is known of it, by metric name."""
        known = {"in_flight_slope": self.in_flight_slope, "ttft_slope": self.ttft_slope, "over_saturated": self.over_saturated}
        return {name: float(value) for name, value in known.items() if value is not None}


def over_saturated(requests: Sequence[Request], rate: float | None = None) -> Saturation:
    """Whether the queue of an open loop grew all through the load.

    Neighbouring requests meet the same queue, so regression takes every long wave for a trend. The null hypothesis
    here is the worst of the stable cases, a server just at its capacity: its queue is a random walk, which has
    independent steps. So the load is cut into equal blocks, and the steps between the means of neighbouring blocks are
    held against zero with a one-sided t test; queues below capacity fall back to their mean, and pass it even less
    often. Three series must rise: the count in flight, the time to first token, and, strictly, the backlog: what a
    steady stream of `rate` would have brought minus what was completed. Its chance is the server's alone, so that a
    few arrivals more than planned are not taken for a server too slow. The two growths must also matter.

    `benchmarks/saturation.py` simulates how often it errs.

    Args:
        requests: all that were scheduled. What failed counts as having left at once, time-outs as having stayed.
        rate: requests per second that the load was to bring; `None`: what was scheduled is taken as meant.
    """
    ordered = sorted(requests, key=lambda request: request.scheduled_s)
    if len(ordered) < MIN_REQUESTS or ordered[0].scheduled_s == ordered[-1].scheduled_s:
        return Saturation(None, None, None)
    start, end = ordered[0].scheduled_s, ordered[-1].scheduled_s
    edges = [start + (end - start) * block / BLOCKS for block in range(BLOCKS + 1)]
    middles = [(early + late) / 2 for early, late in pairwise(edges)]
    arrived = _mean_counts([one.scheduled_s for one in ordered], edges)
    left = _mean_counts([_left_s(one, end) for one in ordered], edges)
    meant = arrived if rate is None else [rate * (middle - start) for middle in middles]
    in_flight = [(at, came - gone) for at, came, gone in zip(middles, arrived, left, strict=True)]
    backlog = [(at, came - gone) for at, came, gone in zip(middles, meant, left, strict=True)]
    ttft = _block_means([(one.scheduled_s, ttft) for one in ordered for ttft in request_values("ttft_scheduled_s", one)], middles)
    if len(ttft) < 3:
        return Saturation(_slope(in_flight), None, None)
    strict = _BACKLOG_TREND_UNPLANNED if rate is None else _BACKLOG_TREND
    grown = min(_slope(in_flight), _slope(backlog)) * (end - start)
    return Saturation(
        in_flight_slope=_slope(in_flight),
        ttft_slope=_slope(ttft),
        over_saturated=max(_p_of_rise(in_flight), _p_of_rise(ttft)) < _TREND
        and _p_of_rise(backlog) < strict
        and grown >= _MATTERS * len(ordered),
    )


def knee(points: Sequence[tuple[float, float]]) -> tuple[float, float] | None:
    """The (rate, latency) at which a load curve bends: that of the highest power, rate / latency.

    There a ray from the origin just touches the curve; past it latency grows faster than the rate (Kleinrock, Power and
    deterministic rules of thumb, ICC 1979). Of equal ones the highest rate. `None` with fewer than three points, or
    when power still rises at the highest rate, so that the bend lies beyond.
    """
    ordered = sorted(points)
    if len(ordered) < 3:
        return None
    best = max(ordered, key=lambda point: (point[0] / point[1], point[0]))
    return None if best == ordered[-1] else best


def _left_s(request: Request, end: float) -> float:
    if request.error:
        return end if request.error.startswith("timeout") else request.scheduled_s
    return end if request.last_content_s is None else request.last_content_s


def _mean_counts(times: Sequence[float], edges: Sequence[float]) -> list[float]:
    """For each block, the average over its time of how many of the times have passed."""
    return [sum(max(0.0, late - max(time, early)) for time in times) / (late - early) for early, late in pairwise(edges)]


def _block_means(points: Sequence[tuple[float, float]], middles: Sequence[float]) -> list[tuple[float, float]]:
    """(middle of the block, mean of the values in it); blocks without any are left out."""
    half = (middles[1] - middles[0]) / 2
    blocks: list[list[float]] = [[] for _ in middles]
    for at, value in points:
        blocks[min(int((at - middles[0] + half) / (2 * half)), len(blocks) - 1)].append(value)
    return [(middle, statistics.fmean(values)) for middle, values in zip(middles, blocks, strict=True) if values]


def _slope(series: Sequence[tuple[float, float]]) -> float:
    """Of the least-squares line."""
    return statistics.linear_regression(*zip(*series, strict=True)).slope


def _p_of_rise(series: Sequence[tuple[float, float]]) -> float:
    """How likely steps with the mean zero rise as much by chance: one-sided, by their t statistic."""
    from scipy.special import stdtr

    steps = [late - early for (_, early), (_, late) in pairwise(series)]
    if len(steps) < 2:
        return 1.0
    mean, deviation = statistics.fmean(steps), statistics.stdev(steps)
    if deviation == 0:
        return 0.0 if mean > 0 else 1.0
    return float(stdtr(len(steps) - 1, -mean / (deviation / len(steps) ** 0.5)))
