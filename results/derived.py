"""Figures that follow from a record's raw times: one request's, and one process's. Which metric each is, `results.metrics` says."""

from collections.abc import Callable
from itertools import pairwise

from results.records import Measurement, Request


def ttft(request: Request) -> tuple[float, ...]:
    return () if request.first_content_s is None else (request.first_content_s - request.sent_s,)


def ttft_scheduled(request: Request) -> tuple[float, ...]:
    return () if request.first_content_s is None else (request.first_content_s - request.scheduled_s,)


def e2e(request: Request) -> tuple[float, ...]:
    return () if request.last_content_s is None else (request.last_content_s - request.sent_s,)


def e2e_scheduled(request: Request) -> tuple[float, ...]:
    return () if request.last_content_s is None else (request.last_content_s - request.scheduled_s,)


def tpot(request: Request) -> tuple[float, ...]:
    """(last content - first content) / tokens of the events after the first content event up to the last."""
    first, last = request.first_content_s, request.last_content_s
    if first is None or last is None or request.output_tokens is None:
        return ()
    events = zip(request.event_times_s, request.event_tokens, strict=True)
    from_first = [tokens for time, tokens in events if tokens > 0 and first <= time <= last]
    after_first = sum(from_first[1:])
    return ((last - first) / after_first,) if after_first > 0 else ()


def itl(request: Request) -> tuple[float, ...]:
    times = [time for time, tokens in zip(request.event_times_s, request.event_tokens, strict=True) if tokens > 0]
    return tuple(later - earlier for earlier, later in pairwise(times))


def send_lag(request: Request) -> tuple[float, ...]:
    return (request.sent_s - request.scheduled_s,)


def per(
    count: Callable[[Request], float | None], time: Callable[[Request], tuple[float, ...]]
) -> Callable[[Request], tuple[float, ...]]:
    def rate(request: Request) -> tuple[float, ...]:
        counted, seconds = count(request), time(request)
        return (counted / seconds[0],) if counted is not None and seconds and seconds[0] > 0 else ()

    return rate


def window_s(measurement: Measurement) -> float | None:
    """From the first request sent to the last content, or to the last one sent where that is later: failed requests took time
    too. Where none succeeded there is no window."""
    ends = [one.last_content_s for one in measurement.requests if one.last_content_s is not None and not one.error]
    sent = [one.sent_s for one in measurement.requests if not (one.error or "").startswith("unsent")]
    seconds = max(*ends, *sent) - min(sent) if ends else 0.0
    return seconds if seconds > 0 else None


def output_tps(measurement: Measurement) -> float | None:
    window = window_s(measurement)
    counts = [request.output_tokens for request in measurement.requests if not request.error]
    known = [count for count in counts if count is not None]
    return sum(known) / window if window and len(known) == len(counts) else None


def request_rate(measurement: Measurement) -> float | None:
    window = window_s(measurement)
    return sum(not request.error for request in measurement.requests) / window if window else None


def steady_output_tps(measurement: Measurement) -> float | None:
    """Tokens of the events from the end of the first request, but not of the ramp, to the last time that one was sent."""
    done = [request for request in measurement.requests if not request.error]
    ends = [request.last_content_s for request in done if request.last_content_s is not None]
    if not ends or any(request.output_tokens is None for request in done):
        return None
    full = min(request.scheduled_s for request in measurement.requests) + measurement.values.get("ramp_s", 0.0)
    start, end = max(min(ends), full), max(request.sent_s for request in done)
    if start >= end:
        return None
    return sum(
        tokens
        for request in measurement.requests
        for time, tokens in zip(request.event_times_s, request.event_tokens, strict=True)
        if start < time <= end
    ) / (end - start)  # fmt: skip


def error_share(measurement: Measurement) -> float | None:
    return (
        sum(bool(request.error) for request in measurement.requests) / len(measurement.requests) if measurement.requests else None
    )


def output_or_trained_tokens(measurement: Measurement) -> float | None:
    """Tokens that the successful requests put out, or learned from; `None` where a count is missing, or there are none."""
    counts = [one.values.get("trained_tokens", one.output_tokens) for one in measurement.requests if not one.error]
    known = [count for count in counts if count is not None]
    return sum(known) or None if len(known) == len(counts) else None


def energy_per_token(measurement: Measurement) -> float | None:
    energy, tokens = measurement.values.get("energy_j"), output_or_trained_tokens(measurement)
    return energy / tokens if energy and tokens else None


def cost_per_million_tokens(measurement: Measurement) -> float | None:
    price, tokens = measurement.values.get("price_per_hour"), output_or_trained_tokens(measurement)
    seconds = sum(one.values.get("step_s", 0.0) for one in measurement.requests) or window_s(measurement)
    return price / 3600 * seconds / tokens * 1e6 if price and tokens and seconds else None


def tail(derive: Callable[[Request], tuple[float, ...]], share: float) -> Callable[[Measurement], float | None]:
    """A quantile over the requests of one process, by linear interpolation (type 7 of Hyndman and Fan 1996); `None` where fewer than
    two independent values lie beyond it, as it would be little but the maximum. Sequences of one batch, which share their times, are
    one value."""

    def quantile(measurement: Measurement) -> float | None:
        found = {(request.sent_s, value) for request in measurement.requests if not request.error for value in derive(request)}
        values = sorted(value for _, value in found)
        if len(values) * (1 - share) < 2 - 1e-9:
            return None
        place = (len(values) - 1) * share
        low = int(place)
        return values[low] + (place - low) * (values[min(low + 1, len(values) - 1)] - values[low])

    return quantile
