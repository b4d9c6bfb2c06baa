"""What a load says as a whole: goodput, arrivals, saturation, the client's own cost, and what may have spoiled the row."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from bench.arrivals import ArrivalTest, arrival_test
from bench.client_protocol import Usage
from bench.request_warnings import cache_hits, early_stop, prompt_count, request_errors, uneven_events
from results.cases import Load, PlannedCase
from results.limits import parse_limits
from results.load_curve import scheduled_rate
from results.metrics import request_values
from results.records import Request, RowWarning
from results.saturation import over_saturated

BUSY_SHARE = 0.7
"""Of a core: beyond it a client queues by itself, as arrivals cluster and the rest of the machine wants its share."""
LATE_S = 0.005
LATE_SHARE = 0.05
"""Of the median TTFT: a client that is late by less than 5 ms, or by less than the margin that TTFT is judged with, changes no
verdict."""


@dataclass(frozen=True)
class Told:
    """A request, and what else is known of it."""

    request: Request
    end_s: float
    """When its client had done with it, on the clock of the record's times."""
    turn: int
    attempts: int
    connect_s: float
    """Of the first attempt."""
    prompt_tokens: int | None
    """That were asked for; `None` where a prompt is as long as it is."""
    output_tokens: int
    uneven: bool


def load_values(
    planned: PlannedCase, told: Sequence[Told], usages: Sequence[Usage], rss_bytes: int, test: ArrivalTest | None
) -> dict[str, float]:
    """Metrics of the whole, by name.

    Args:
        told: all that was scheduled, in that order.
        usages: of the clients that had something to send.
        rss_bytes: highest resident memory of the clients and of their coordinator.
        test: of the arrivals, as `tested_arrivals` gives it.
    """
    values = {
        "client_cpu_share": max(one.cpu_s / one.wall_s for one in usages),
        "client_stall_p99_s": max(one.stall_p99_s for one in usages),
        "client_stall_max_s": max(one.stall_max_s for one in usages),
        "client_peak_rss_bytes": float(rss_bytes),
    }
    load = planned.case.load
    if planned.limits and told:
        limits = parse_limits(planned.limits)
        values["goodput_rps"] = sum(limits.met(one.request) for one in told) / _scheduled_s(load, told)
    if load and load.ramp_s:
        values["ramp_s"] = load.ramp_s
    if load and test:
        saturation = over_saturated([one.request for one in told if one.turn == 1], load.rate)
        values |= test.values() | saturation.values()
    return values


def _scheduled_s(load: Load | None, told: Sequence[Told]) -> float:
    """The time that the load is spread over.

    An open loop's is its schedule's: as many gaps as there are first turns. How long the last answers take, or time out, is no
    part of it. A closed loop schedules by its answers, so it takes until the last of them.
    """
    first = [one.request for one in told if one.turn == 1]
    if load and load.arrivals != "closed" and (rate := scheduled_rate(first) or load.rate):
        return len(first) / rate
    return max(one.end_s for one in told) - min(one.request.scheduled_s for one in told)


def load_warnings(
    planned: PlannedCase, told: Sequence[Told], values: dict[str, float], test: ArrivalTest | None
) -> list[RowWarning]:
    """What may have spoiled the row; `values` and `test` as in `load_values`."""
    case = planned.case
    done = [one for one in told if not one.request.error]
    found = [
        bottleneck(told, values),
        _arrivals(test),
        _short(planned, told),
        request_errors([one.request for one in told]),
        uneven_events(sum(one.uneven for one in done)),
        cache_hits(case, [one.request for one in done]),
        prompt_count((one.prompt_tokens, one.request) for one in done if one.turn == 1),  # later ones hold what was said before
        early_stop(case, [(one.output_tokens, one.request) for one in done]),
        RowWarning(kind="over_saturated") if values.get("over_saturated") else None,
    ]
    return [warning for warning in found if warning]


def tested_arrivals(load: Load, told: Sequence[Told]) -> ArrivalTest | None:
    """The test of an open loop's arrivals, first turns only: when later ones are due depends on the server."""
    if load.arrivals == "closed":
        return None
    first = [one for one in told if one.turn == 1]
    # The wait for a connection is the server's.
    sent = [one.request.sent_s - one.connect_s if one.attempts else None for one in first]
    return arrival_test(load, [one.request.scheduled_s for one in first], sent)


def bottleneck(told: Sequence[Told], values: dict[str, float]) -> RowWarning | None:
    """Whether the client was so busy or so late that times may be its own."""
    ttft = [value for one in told for value in request_values("ttft_s", one.request)]
    late_s = max(LATE_S, LATE_SHARE * statistics.median(ttft)) if ttft else LATE_S
    lags = sorted(one.request.sent_s - one.request.scheduled_s - one.connect_s for one in told if one.attempts)
    lag_s = lags[int(0.99 * (len(lags) - 1))] if lags else 0.0
    if values["client_cpu_share"] > BUSY_SHARE:
        return _bottleneck(f"busy for {values['client_cpu_share']:.0%} of the time", values["client_cpu_share"])
    if lag_s > late_s:
        return _bottleneck(f"1 % of requests were sent more than {lag_s * 1e3:.0f} ms late", lag_s)
    if values["client_stall_p99_s"] > late_s:
        stall_s = values["client_stall_p99_s"]
        return _bottleneck(f"it stood still for more than {stall_s * 1e3:.0f} ms in 1 % of the time", stall_s)
    return None


def _bottleneck(why: str, value: float) -> RowWarning:
    return RowWarning(kind="client_bottleneck", facts={"why": why, "value": value})


def _arrivals(test: ArrivalTest | None) -> RowWarning | None:
    return None if test is None or test.ok else RowWarning(kind="arrivals", facts={"what": test.why})


def _short(planned: PlannedCase, told: Sequence[Told]) -> RowWarning | None:
    """Whether a closed loop ended before its seconds: it was stopped, or the prompts that were made for it were used up."""
    if planned.case.load is None or planned.case.load.arrivals != "closed" or not told:
        return None
    seconds = max(one.end_s for one in told) - min(one.request.scheduled_s for one in told)
    facts = {"seconds": seconds, "wanted": planned.min_seconds}
    return RowWarning(kind="short_load", facts=facts) if seconds < planned.min_seconds else None
