"""Whether more requests arrived than a server could serve, from their times alone; and where a curve of loads bends."""

import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from results.records import Request

MIN_REQUESTS = 50
"""With fewer there is no verdict: the blocks would hold four or less."""
BLOCKS = 12
_TREND = 0.3
"""Level at which the count in flight and the time to first token must rise. It is lenient, as the third test is strict."""
_BACKLOG = {True: 0.005, False: 0.025}
"""Level at which the backlog must rise, by whether the rate is known: without it the arrivals' own chance is in it."""
_MATTERS = 0.04
"""Share of the requests by which the backlog must grow: less is a load within 4 % of what the server can do."""


@dataclass(frozen=True)
class Saturation:
    in_flight_slope: float | None
    """Growth of the number of requests that are in the system, waiting or served, in 1/s."""
    ttft_slope: float | None
    """Growth of the time to first token from schedule, in s/s."""
    over_saturated: bool | None
    """`None`: too few requests to tell."""


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
    answered = [one for one in ordered if one.first_content_s is not None and not one.error]
    if len(ordered) < MIN_REQUESTS or len(answered) < MIN_REQUESTS or ordered[0].scheduled_s == ordered[-1].scheduled_s:
        return Saturation(None, None, None)
    start, end = ordered[0].scheduled_s, ordered[-1].scheduled_s
    width = (end - start) / BLOCKS
    edges = [start + block * width for block in range(BLOCKS + 1)]
    arrived = _mean_counts([one.scheduled_s for one in ordered], edges)
    left = _mean_counts([_left_s(one) for one in ordered], edges)
    in_flight = [came - gone for came, gone in zip(arrived, left, strict=True)]
    meant = arrived if rate is None else [1 + rate * (edge + width / 2 - start) for edge in edges[:-1]]
    backlog = [came - gone for came, gone in zip(meant, left, strict=True)]
    ttft = _block_means([(one.scheduled_s, one.first_content_s - one.scheduled_s) for one in answered if one.first_content_s], edges)
    middles = [edge + width / 2 for edge in edges[:-1]]
    growths = [_slope(middles, series) * (end - start) / len(ordered) for series in (in_flight, backlog)]
    rising = _p_of_rise(in_flight) < _TREND and _p_of_rise(ttft) < _TREND and _p_of_rise(backlog) < _BACKLOG[rate is not None]
    return Saturation(
        in_flight_slope=_slope(middles, in_flight),
        ttft_slope=_slope(
            [one.scheduled_s for one in answered],
            [one.first_content_s - one.scheduled_s for one in answered if one.first_content_s is not None],
        ),
        over_saturated=rising and min(growths) >= _MATTERS,
    )
