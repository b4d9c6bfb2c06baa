"""A run's cases under load as curves: the same case at several loads, from the least to the most, and where its knee is.

What a point measured is `results.summary`'s, drawing is `results.load_figures`'s.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from results.cases import Load, PlannedCase
from results.limits import parse_limits
from results.records import ERROR_KINDS, Measurement, Report, Request
from results.saturation import knee
from results.summary import CaseRow, by_case, summarize

THROUGHPUTS = ("output_tps", "output_tps_steady", "request_rate")
"""The metrics that may stand against a latency."""

LATENCIES: Mapping[str, Mapping[str, str]] = {
    "ttft": {"p50": "ttft_s", "p90": "ttft_p90_s", "p99": "ttft_p99_s"},
    "tpot": {"p50": "tpot_s", "p90": "tpot_p90_s", "p99": "tpot_p99_s"},
    "e2e": {"p50": "e2e_scheduled_s", "p90": "e2e_scheduled_p90_s", "p99": "e2e_scheduled_p99_s"},
}
"""Each latency's quantiles over the requests, by the name of their metric."""


@dataclass(frozen=True)
class LoadPoint:
    """One load of a curve."""

    load: Load
    label: str
    """Unlike that of any other point of the curve."""
    row: CaseRow
    measurements: tuple[Measurement, ...]

    @property
    def case_id(self) -> str:
        return self.row.planned.case.case_id

    @property
    def requests(self) -> tuple[Request, ...]:
        """Of all processes."""
        return tuple(request for measurement in self.measurements for request in measurement.requests)

    @property
    def errors(self) -> Counter[str]:
        """Failed requests by kind."""
        return Counter(error_kind(request.error) for request in self.requests if request.error)

    @property
    def over_saturated(self) -> bool:
        """In at least half of the processes."""
        estimate = self.row.estimates.get("over_saturated")
        return estimate is not None and estimate.value >= 0.5

    @property
    def in_flight(self) -> float | None:
        """Mean number of requests in flight, over the processes."""
        found = [mean for one in self.measurements if (mean := mean_in_flight(one, self.timeout_s)) is not None]
        return fmean(found) if found else None

    @property
    def offered_rate(self) -> float | None:
        """Requests per second that arrive, however many are served: the plan's, or a trace's own. A closed loop has none."""
        if self.load.arrivals != "trace":
            return self.load.rate
        rates = [rate for one in self.measurements if (rate := scheduled_rate(one.requests))]
        return fmean(rates) if rates else None

    @property
    def good_share(self) -> float | None:
        """Requests that met the limits / all that were scheduled, of all processes; `None` without limits or requests."""
        if not self.row.planned.limits or not self.requests:
            return None
        limits = parse_limits(self.row.planned.limits)
        return fmean(limits.met(request) for request in self.requests)

    @property
    def timeout_s(self) -> float:
        return self.row.planned.request_timeout_s

    def value(self, metric: str) -> float | None:
        """Its typical value, as `CaseRow.estimates` has it."""
        estimate = self.row.estimates.get(metric)
        return None if estimate is None else estimate.value


@dataclass(frozen=True)
class LoadCurve:
    """One case without its load, and all loads that a run put on it."""

    planned: PlannedCase
    """Without a load."""
    points: tuple[LoadPoint, ...]
    """From the fewest requests in flight to the most; those of which that is unknown at the end."""

    @property
    def curve_id(self) -> str:
        return self.planned.case.case_id


def load_curves(report: Report) -> list[LoadCurve]:
    """The curves of a run in the order of its plan."""
    measured, _ = by_case(report)
    groups: dict[str, list[tuple[Load, CaseRow]]] = defaultdict(list)
    for row in summarize(report):
        if load := row.planned.case.load:
            groups[without_load(row.planned).case.case_id].append((load, row))
    curves = []
    for rows in groups.values():
        labels = load_labels([load for load, _ in rows])
        points = [
            LoadPoint(load, label, row, tuple(measured[row.planned.case.case_id]))
            for (load, row), label in zip(rows, labels, strict=True)
        ]
        curves.append(LoadCurve(without_load(rows[0][1].planned), tuple(sorted(points, key=_pressure))))
    return curves


def without_load(planned: PlannedCase) -> PlannedCase:
    """The same, at one request at a time."""
    return planned.model_copy(update={"case": planned.case.model_copy(update={"load": None})})


def load_labels(loads: Sequence[Load]) -> list[str]:
    """Short labels; loads that these do not tell apart have the facts in which they may differ behind them."""
    times = Counter(load.label for load in loads)
    return [load.label if times[load.label] == 1 else " ".join((load.label, *_details(load))) for load in loads]


def knee_of(points: Iterable[LoadPoint]) -> LoadPoint | None:
    """The load at which the curve of request rate and median end-to-end time from schedule bends, as `results.saturation.knee`
    says; `None` where that is not seen, or would be at a load whose waits only grew."""
    bends = {
        (rate, time): point
        for point in points
        if (rate := point.value("request_rate")) and (time := point.value("e2e_scheduled_s"))
    }
    bend = knee(list(bends))
    return None if bend is None or bends[bend].over_saturated else bends[bend]


def in_flight_steps(requests: Iterable[Request], timeout_s: float) -> list[tuple[float, int]]:
    """(time, requests in flight from then on), in order of time, from the first request sent until the last one ended."""
    steps: dict[float, int] = defaultdict(int)
    for start, end in _flights(requests, timeout_s):
        steps[start] += 1
        steps[end] -= 1
    count, counts = 0, []
    for time in sorted(steps):
        count += steps[time]
        counts.append((time, count))
    return counts


def mean_in_flight(measurement: Measurement, timeout_s: float) -> float | None:
    """Mean over the time from the first request sent until the last one was sent: what drains after it, time-outs above all, would
    thin it. `None` where that is no time."""
    flights = list(_flights(measurement.requests, timeout_s))
    first, last = min((start for start, _ in flights), default=0.0), max((start for start, _ in flights), default=0.0)
    return sum(min(end, last) - start for start, end in flights) / (last - first) if last > first else None


def scheduled_rate(requests: Sequence[Request]) -> float | None:
    """Requests per second of a schedule: gaps / the time from the first to the last; `None` where there is no gap."""
    times = [request.scheduled_s for request in requests]
    seconds = max(times) - min(times) if times else 0.0
    return (len(times) - 1) / seconds if seconds > 0 else None


def error_kind(error: str) -> str:
    """The kind that an error begins with, `other` when it is none that we know."""
    kind = error.split(":", 1)[0]
    return kind if kind in ERROR_KINDS else "other"


def _flights(requests: Iterable[Request], timeout_s: float) -> Iterator[tuple[float, float]]:
    """When each request was sent and ended. One that timed out was given up after its limit; of another failure the last
    event is the last that is known."""
    for request in requests:
        kind = error_kind(request.error) if request.error else None
        if kind in ("unsent", "connect"):
            continue
        last = (
            request.last_content_s if request.last_content_s is not None else max(request.event_times_s, default=request.sent_s)
        )
        yield request.sent_s, request.sent_s + timeout_s if kind == "timeout" else last


def _pressure(point: LoadPoint) -> tuple[bool, float]:
    mean = point.in_flight
    return (True, 0.0) if mean is None else (False, mean)


def _details(load: Load) -> list[str]:
    return [
        *([f"burstiness {load.burstiness:g}"] if load.burstiness is not None else ()),
        *([f"ramp {load.ramp_s:g} s"] if load.ramp_s else ()),
        *([load.trace[:8]] if load.trace else ()),
    ]
