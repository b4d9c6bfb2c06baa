"""A run's load curves turned into the DataFrames that the page shows and draws. What a curve is, `results.load_curve` says.

Frames for tables hold text as people read it, frames for figures hold numbers in base units.
"""

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence

import pandas as pd

from dashboard.queries import case_names
from results.caveats import sentence
from results.definitions import FIGURES, TOOLS, definitions_of
from results.export_table import heading
from results.figures import MAX_POINTS
from results.format import number, plain, quantity
from results.load_curve import LATENCIES, LoadCurve, LoadPoint, error_kind, in_flight_steps, knee_of
from results.metrics import METRICS, process_value, request_values
from results.records import ERROR_KINDS, Measurement, Request
from results.summary import estimate_text

TABLE = ("ttft_s", "ttft_p99_s", "tpot_s", "tpot_p99_s", "output_tps", "goodput_rps")
"""The metrics of the table of loads, in its order; columns that no load fills are left out."""

MEDIANS = {metrics["p50"]: METRICS[metrics["p50"]].label + " p50 ↓" for metrics in LATENCIES.values()}


def curve_names(curves: Iterable[LoadCurve]) -> dict[str, str]:
    """Short names by curve id."""
    return case_names(curve.planned for curve in curves)


def loads_frame(points: Sequence[LoadPoint]) -> pd.DataFrame:
    """One row per load, from the least to the most."""
    filled = [name for name in TABLE if any(name in point.row.estimates for point in points)]
    marked = knee_of(points)
    columns = ["Load", "Status", "Offered", "Achieved ↑", "In flight", "Requests", "Errors"]
    columns += [MEDIANS.get(name) or heading(METRICS[name]) for name in filled]
    columns += ["Arrivals", "n", "Warnings"]
    rows = [
        (
            f"{point.label} (knee)" if point is marked else point.label,
            "over-saturated" if point.over_saturated else point.row.status,
            quantity(point.offered_rate, "1/s"),
            estimate_text(point.row.estimates.get("request_rate"), "request_rate"),
            "–" if point.in_flight is None else number(point.in_flight),
            len(point.requests),
            errors_text(point),
            *(estimate_text(point.row.estimates.get(name), name) for name in filled),
            arrivals_text(point.measurements),
            f"{point.row.processes}/{point.row.planned.processes}",
            "; ".join(plain(sentence(warning)) for warning in point.row.warnings),
        )
        for point in points
    ]
    return pd.DataFrame(rows, columns=columns)


def errors_text(point: LoadPoint) -> str:
    """Such as `3 timeout, 1 http_5xx`, the most frequent first."""
    kinds = ", ".join(f"{count} {kind}" for kind, count in point.errors.most_common())
    return kinds or ("0" if point.measurements else "–")


def arrivals_text(measurements: Sequence[Measurement]) -> str:
    """Whether the achieved arrivals passed their test against the schedule; a closed loop has no such test."""
    verdicts = [ok for one in measurements if (ok := process_value("arrivals_ok", one)) is not None]
    failed = sum(not verdict for verdict in verdicts)
    if not verdicts:
        return "–"
    return f"not as planned in {failed} of {len(verdicts)}" if failed else "as planned"


def error_meanings(points: Iterable[LoadPoint]) -> list[str]:
    """What the kinds of the errors that happened mean, one line each."""
    kinds = dict.fromkeys(kind for point in points for kind in point.errors)
    return [f"{kind}: {ERROR_KINDS.get(kind, 'of a kind that this version does not know')}" for kind in kinds]


def curve_frame(points: Sequence[LoadPoint], throughput: str, latency: str) -> pd.DataFrame:
    """Throughput against one latency's quantiles: `load`, `quantile`, `x`, `value`, its interval `low` and `high` over processes
    (unknown with one process), `over_saturated`, `knee`.

    Args:
        throughput: of `results.load_curve.THROUGHPUTS`.
        latency: of `results.load_curve.LATENCIES`.
    """
    marked = knee_of(points)
    rows = [
        (point.label, quantile, x, one.value, *_interval(point, metric), point.over_saturated, point is marked)
        for quantile, metric in LATENCIES[latency].items()
        for point in points
        if (x := point.value(throughput)) is not None and (one := point.row.estimates.get(metric))
    ]
    columns = ["load", "quantile", "x", "value", "low", "high", "over_saturated", "knee"]
    return pd.DataFrame(rows, columns=columns).astype(dict.fromkeys(columns[2:6], float))


def curve_table(points: Sequence[LoadPoint], throughput: str, latency: str) -> pd.DataFrame:
    """The table beside the curve: a row per load."""
    quantiles = LATENCIES[latency]
    rows = [
        (point.label, *(estimate_text(point.row.estimates.get(name), name) for name in (throughput, *quantiles.values())))
        for point in points
    ]
    return pd.DataFrame(rows, columns=["Load", METRICS[throughput].label, *quantiles])


def too_few(points: Sequence[LoadPoint], latency: str) -> list[str]:
    """Which quantiles which loads lack, and what they would need; one line per quantile."""
    lines = []
    for metric in LATENCIES[latency].values():
        lacking = [point.label for point in points if point.measurements and metric not in point.row.estimates]
        if lacking:
            lines.append(f"No {METRICS[metric].label} for {', '.join(lacking)}: {METRICS[metric].definition}")
    return lines


def goodput_frame(points: Sequence[LoadPoint]) -> pd.DataFrame:
    """Goodput of the loads that have a rate: `load`, `limits`, `x` (requests offered per second), `value`, `low`, `high`,
    `share` (of the scheduled requests that were good), `over_saturated`."""
    rows = [
        (
            point.label,
            point.row.planned.limits or "",
            rate,
            one.value,
            *_interval(point, "goodput_rps"),
            point.good_share,
            point.over_saturated,
        )
        for point in points
        if (rate := point.offered_rate) is not None and (one := point.row.estimates.get("goodput_rps"))
    ]
    columns = ["load", "limits", "x", "value", "low", "high", "share", "over_saturated"]
    return pd.DataFrame(rows, columns=columns).astype(dict.fromkeys(columns[2:7], float)).sort_values("x", ignore_index=True)


def goodput_table(frame: pd.DataFrame) -> pd.DataFrame:
    """The table beside `goodput_frame`'s figure."""
    rows = [
        (load, plain(limits), quantity(offered, "1/s"), quantity(good, "1/s"), f"{share:.0%}")
        for load, limits, offered, good, share in frame[["load", "limits", "x", "value", "share"]].itertuples(index=False)
    ]
    return pd.DataFrame(rows, columns=["Load", "Limits", "Offered", "Goodput", "Good of all scheduled"])


def in_flight_frame(measurement: Measurement, timeout_s: float) -> pd.DataFrame:
    """How many requests were in flight: `time_s`, `value`, a row per change."""
    return pd.DataFrame(in_flight_steps(measurement.requests, timeout_s), columns=["time_s", "value"])


def waits_frame(measurement: Measurement) -> pd.DataFrame:
    """Every request at the time for which it was scheduled: `time_s`, `value` (its TTFT from schedule; 0 when it failed), `state`
    (`answered`, or the kind of its error)."""
    rows = [
        (request.scheduled_s, next(iter(request_values("ttft_scheduled_s", request)), 0.0), state_of(request))
        for request in measurement.requests
    ]
    frame = pd.DataFrame(rows, columns=["time_s", "value", "state"])
    return frame.astype({"time_s": float, "value": float}).sort_values("time_s", ignore_index=True)


def state_of(request: Request) -> str:
    return error_kind(request.error) if request.error else "answered"


def requests_frame(requests: Sequence[Request]) -> pd.DataFrame:
    """The table beside a timeline: a row per request in the order of the schedule, the first `MAX_POINTS`."""
    columns = ("send_lag_s", "ttft_s", "tpot_s", "e2e_scheduled_s")
    rows = [
        (
            request.index,
            f"{request.scheduled_s:.3f} s",
            *(quantity(next(iter(request_values(name, request)), None), METRICS[name].unit) for name in columns),
            "–" if request.output_tokens is None else str(request.output_tokens),
            plain(request.error or request.finish_reason or "–"),
        )
        for request in sorted(requests, key=lambda one: one.scheduled_s)[:MAX_POINTS]
    ]
    return pd.DataFrame(
        rows, columns=["Request", "Scheduled", *(METRICS[name].label for name in columns), "Output tokens", "End"]
    )


def request_names(requests: Sequence[Request], limit: int) -> dict[str, str]:
    """Words for a choice among at most `limit` requests by their id: those without an answer, then the longest waits."""
    waits = {one.request_id: next(iter(request_values("ttft_scheduled_s", one)), None) for one in requests}
    ordered = sorted(requests, key=lambda one: -(waits[one.request_id] or math.inf))[:limit]
    return {
        one.request_id: f"request {one.index} · TTFT from schedule {quantity(waits[one.request_id], 's')} · {state_of(one)}"
        for one in ordered
    }


def definitions_frame(request: Request) -> pd.DataFrame:
    """A request's figures as each tool computes them: a row per tool, a column per figure."""
    figures: dict[str, dict[str, str]] = defaultdict(dict)
    for row in definitions_of(request):
        label, unit = FIGURES[row.figure]
        figures[row.tool][label] = quantity(row.value, unit).strip()
    rows = [
        {"Tool": tool.name, **figures[tool.name], "What sets it apart": tool.difference, "Version read": tool.version}
        for tool in TOOLS
    ]
    return pd.DataFrame(rows)


def formulas_frame(request: Request) -> pd.DataFrame:
    """How each tool computes each figure that it has, and why there is no value where there is none."""
    rows = [
        (row.tool, FIGURES[row.figure][0], row.name, row.formula, quantity(row.value, FIGURES[row.figure][1]).strip(), row.reason)
        for row in definitions_of(request)
        if row.name
    ]
    return pd.DataFrame(rows, columns=["Tool", "Figure", "Its name", "Formula", "Value", "Why there is none"])


def _interval(point: LoadPoint, metric: str) -> tuple[float | None, float | None]:
    one = point.row.estimates[metric]
    return (one.low, one.high) if one.basis == "processes" else (None, None)
