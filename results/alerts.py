"""Evaluates alert rules over the newest requests of each case. Pure: the same points and time give the same alerts.

What happens between two evaluations (pending, recovering, notifying) is no part of it.
"""

import statistics
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Literal

from results.cases import PlannedCase
from results.format import quantity
from results.metrics import request_values
from results.records import Alert, Failure, Measurement, Report, Request
from results.rules import RULE_METRICS, SUCCESS_RATE, SUCCESSFUL_REQUESTS, Rule
from results.summary import FAULTS, unresolved

if TYPE_CHECKING:
    from results.store import Store


@dataclass(frozen=True)
class Point:
    """A request that was made, or the failure that stands for one."""

    at: datetime
    outcome: Request | Failure

    @property
    def ok(self) -> bool:
        return isinstance(self.outcome, Request) and not self.outcome.error


@dataclass(frozen=True)
class Target:
    """What a rule watches: one case under its name for people."""

    label: str
    points: tuple[Point, ...]
    """In order of time."""


def points_of(attempts: Iterable[Measurement | Failure]) -> tuple[Point, ...]:
    """Every request of the attempts, and one point for each failure of `FAULTS` after its finished requests."""
    points = []
    for attempt in attempts:
        points += [Point(request.sent_at, request) for request in attempt.requests]
        if isinstance(attempt, Failure) and attempt.kind in FAULTS:
            points.append(Point(max([attempt.started_at, *(request.sent_at for request in attempt.requests)]), attempt))
    return tuple(sorted(points, key=lambda point: point.at))


def report_targets(report: Report) -> list[Target]:
    """The speed cases of one run."""
    attempts: tuple[Measurement | Failure, ...] = (*report.measurements, *unresolved(report.measurements, report.failures))
    return _targets(
        (planned, points_of(one for one in attempts if one.case_id == planned.case.case_id))
        for planned in report.run.planned
        if planned.case.purpose == "speed"
    )


def stored_targets(store: "Store", last: int) -> list[Target]:
    """Every speed case that the store knows, with its newest `last` points over all runs, or all if there are fewer."""
    return _targets(
        (planned, _newest_points(store, planned.case.case_id, last))
        for planned in store.planned_cases()
        if planned.case.purpose == "speed"
    )


def evaluate(rules: Sequence[Rule], targets: Sequence[Target], now: datetime) -> list[Alert]:
    """One alert per rule and target, in that order. Without enough values its state is `no_data`: missing is never zero."""
    return [_alert(rule, target, now) for rule in rules for target in targets]


def samples(rule: Rule, target: Target) -> list[float]:
    """What the rule looks at among the newest `rule.last` points: one value per request that has the metric, oldest first."""
    points = target.points[-rule.last :]
    if rule.metric in (SUCCESS_RATE.name, SUCCESSFUL_REQUESTS.name):
        return [float(point.ok) for point in points]
    requests = [point.outcome for point in points if isinstance(point.outcome, Request)]
    return [statistics.fmean(values) for request in requests if (values := request_values(rule.metric, request))]


def _alert(rule: Rule, target: Target, now: datetime) -> Alert:
    metric, values = RULE_METRICS[rule.metric], samples(rule, target)
    value: float | None = None
    state: Literal["ok", "firing", "no_data"] = "no_data"
    message = (
        f"{metric.label}: unknown (n = {len(values)}), at least {rule.min_samples} of the last {rule.last} requests must tell it."
    )
    if len(values) >= rule.min_samples:
        value = sum(values) if rule.metric == SUCCESSFUL_REQUESTS.name else statistics.fmean(values)
        state = "firing" if rule.fires(value) else "ok"
        verdict = f"{'' if state == 'firing' else 'not '}{'above' if rule.above is not None else 'below'}"
        limit = quantity(rule.threshold, metric.unit)
        message = f"{metric.label}: {quantity(value, metric.unit)} (n = {len(values)}), {verdict} {limit}."
    return Alert(
        rule=rule.name,
        target=target.label,
        severity=rule.severity,
        state=state,
        value=value,
        threshold=rule.threshold,
        message=message,
        at=now,
    )


def _newest_points(store: "Store", case_id: str, last: int) -> tuple[Point, ...]:
    attempts = last
    while True:  # attempts without a point, such as unsupported ones, must not hide older requests
        measured, failed = store.recent_attempts(case_id, attempts)
        points = points_of([*measured, *unresolved(measured, failed)])
        if len(points) >= last or len(measured) + len(failed) < attempts:
            return points[-last:]
        attempts *= 4


def _targets(found: Iterable[tuple[PlannedCase, tuple[Point, ...]]]) -> list[Target]:
    """Targets whose labels tell them apart: equal labels get the case's id behind them."""
    cases = list(found)
    uses = Counter(planned.label for planned, _ in cases)
    return [
        Target(planned.label if uses[planned.label] == 1 else f"{planned.label} ({planned.case.case_id})", points)
        for planned, points in cases
    ]
