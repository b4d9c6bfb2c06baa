"""Series of the store: each metric of each case on each machine, a point per run. What they say is `results.history`'s.

Requests are read case by case and reduced to one value per process at once, so that a long history fits into memory.
"""

import statistics
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import groupby
from types import SimpleNamespace
from typing import Any, cast

import sqlalchemy as sa

from results import schema
from results.cases import Case, PlannedCase
from results.database import readable_errors
from results.errors import UsageError
from results.format import plain
from results.history import FailedRun, MetricSeries, Point, RunOrigin
from results.metrics import METRICS, process_value
from results.records import Environment, Measurement, Request, Score, status_after
from results.summary import request_scores
from results.validation import nearest

JUDGED = tuple(name for name, one in METRICS.items() if one.better and (one.margin is not None or one.exact))
"""The metrics of a history unless others are asked for: those that a gate judges."""

_ENDED = ("finished", "interrupted")
_RAW = (
    "request_id", "scheduled_s", "sent_s", "first_content_s", "last_content_s", "event_times_s", "event_tokens", "prompt_tokens",
    "output_tokens", "error",
)  # fmt: skip
"""What metrics of requests are derived from."""
_BESIDE = ("ramp_s", "energy_j", "price_per_hour")
"""Stored values that derived metrics of processes are made of."""


def read_history(
    engine: sa.Engine, *, cases: Collection[str] | None = None, metrics: Collection[str] = JUDGED, branch: str | None = None,
    dirty: bool = False, release: Collection[str] = (),
) -> list[MetricSeries]:  # fmt: skip
    """The series of finished and interrupted benchmark runs, each in order of time, by case and metric.

    Args:
        cases: case ids; `None`: all.
        branch: only runs of this branch.
        dirty: whether runs of changed working trees count.
        release: runs of the pinned release, which are read whatever their branch.

    Raises:
        UsageError: there is no such metric, or no run of that branch.
    """
    if (unknown := next((name for name in metrics if name not in METRICS), None)) is not None:
        raise UsageError(f"No metric is called {unknown!r}{nearest(unknown, METRICS)}")
    with readable_errors("The store cannot be read", "Look for damage with `bench db check`."), engine.connect() as connection:
        runs = _runs(connection, set(release))
        shown = {key: run for key, run in runs.items() if (dirty or not run.dirty) and branch in (None, run.branch)}
        if branch is not None and not shown:
            names = ", ".join(sorted({run.branch for run in runs.values() if run.branch})) or "none"
            raise UsageError(plain(f"No finished run is of branch {branch!r}: the store has runs of {names}."))
        wanted = {key: run for key, run in runs.items() if key in shown or key in release}
        found = []
        for one in _measured_cases(connection, wanted, cases):
            values = _values(connection, one, [name for name in metrics if _fits(name, one)])
            found += [made for name in metrics for made in _series(one, name, values, shown, wanted, set(release))]
    return found


@dataclass
class _MeasuredCase:
    """A case under its newest plan, with its attempts."""

    planned: PlannedCase
    limits: dict[str, str | None]
    """By run."""
    attempts: dict[str, str] = field(default_factory=dict)
    """Measured ones, with their runs."""
    stopped_early: set[str] = field(default_factory=set)
    """Attempts whose answers did."""
    failures: dict[str, str] = field(default_factory=dict)
    """The kind of the failure that stands, by run."""


Values = dict[str, dict[str, float]]
"""By metric and attempt."""


def _runs(connection: sa.Connection, release: set[str]) -> dict[str, RunOrigin]:
    """Runs that ended, in order of time."""
    run, event = schema.runs, schema.run_events
    events: dict[str, list[str]] = defaultdict(list)
    for run_id, kind in connection.execute(sa.select(event.c.run_id, event.c.kind).order_by(event.c.at, event.c.event_id)):
        events[run_id].append(kind)
    environments = {
        key: Environment(facts=facts)
        for key, facts in connection.execute(sa.select(schema.environments.c.environment_id, schema.environments.c.facts))
    }
    machines = {key: one.machine_id for key, one in environments.items()}
    names = ("run_id", "started_at", "suite", "git_commit", "git_branch", "git_dirty", "environment_id")
    query = sa.select(*(run.c[name] for name in names)).where(sa.or_(run.c.kind == "bench", run.c.run_id.in_(release)))
    return {
        row.run_id: RunOrigin(
            run_id=row.run_id,
            at=row.started_at,
            suite=row.suite,
            commit=row.git_commit,
            branch=row.git_branch,
            dirty=bool(row.git_dirty),
            machine_id=machines[row.environment_id],
            facts=environments[row.environment_id].facts,
        )
        for row in connection.execute(query.order_by(run.c.started_at, run.c.run_id))
        if status_after(events[row.run_id]) in _ENDED
    }


def _measured_cases(connection: sa.Connection, runs: dict[str, RunOrigin], cases: Collection[str] | None) -> list[_MeasuredCase]:
    """The cases that these runs planned, in the order in which they came."""
    plan, attempt, failure = schema.planned_cases, schema.attempts, schema.failures
    chosen = [] if cases is None else [plan.c.case_id.in_(cases)]
    plans: dict[str, dict[str, dict[str, Any]]] = defaultdict(dict)
    for row in connection.execute(sa.select(plan.c.run_id, plan.c.case_id, plan.c.plan).where(*chosen).order_by(plan.c.position)):
        if row.run_id in runs:
            plans[row.case_id][row.run_id] = row.plan
    case = schema.cases
    facts = {key: one for key, one in connection.execute(sa.select(case.c.case_id, case.c.facts))}
    found = {}
    for key, mine in plans.items():
        newest = mine[max(mine, key=lambda run_id: runs[run_id].at)]
        limits = {run_id: one.get("limits") for run_id, one in mine.items()}
        found[key] = _MeasuredCase(PlannedCase(case=Case(**facts[key]), **newest), limits)
    early = sa.cast(attempt.c.warnings, sa.String).contains('"early_stop"')
    columns = (attempt.c.attempt_id, attempt.c.run_id, attempt.c.case_id, failure.c.kind, early.label("early"))
    tries = sa.select(*columns).select_from(attempt.outerjoin(failure))
    for row in connection.execute(tries.order_by(attempt.c.started_at, attempt.c.attempt_id)):
        if (one := found.get(row.case_id)) is None or row.run_id not in runs:
            continue
        if row.kind is None:
            one.attempts[row.attempt_id] = row.run_id
        elif row.kind != "interrupted" or row.run_id not in one.failures:
            one.failures[row.run_id] = row.kind
        if row.early:
            one.stopped_early.add(row.attempt_id)
    return list(found.values())


def _fits(name: str, one: _MeasuredCase) -> bool:
    """Whether a case can have the metric: scores belong to quality passes, and errors are counted under load."""
    case = one.planned.case
    if (METRICS[name].level == "score") != (case.purpose == "quality"):
        return False
    return name != "error_share" or case.load is not None


def _values(connection: sa.Connection, one: _MeasuredCase, names: list[str]) -> Values:
    """One value per process of each metric that it has."""
    if not names or not one.attempts:
        return {}
    if one.planned.case.purpose == "quality":
        return _scores(connection, one, names)
    stored, told = _stored_values(connection, one, names), _told_values(connection, one, names)
    there = {name for mine in (*stored.values(), *told.values()) for name in mine}
    derived = [name for name in names if METRICS[name].derive or METRICS[name].derive_process]
    from_requests = derived or there & {name for name in names if METRICS[name].level == "request"}
    requests = _requests(connection, one, told) if from_requests else ((key, ()) for key in one.attempts)
    found: Values = defaultdict(dict)
    for attempt_id, mine in requests:
        known: dict[str, Any] = {"requests": mine, "values": stored[attempt_id]}
        measurement = Measurement.model_construct(**known)
        for name in [name for name in names if name in there or name in derived]:
            if (value := process_value(name, measurement)) is not None:
                found[name][attempt_id] = value
    return found


def _stored_values(connection: sa.Connection, one: _MeasuredCase, names: list[str]) -> dict[str, dict[str, float]]:
    table, attempt = schema.attempt_values, schema.attempts
    query = sa.select(table.c.attempt_id, table.c.metric, table.c.value).join(attempt)
    query = query.where(attempt.c.case_id == one.planned.case.case_id, table.c.metric.in_([*names, *_BESIDE]))
    found: dict[str, dict[str, float]] = defaultdict(dict)
    for attempt_id, metric, value in connection.execute(query):
        found[attempt_id][metric] = value
    return found


def _told_values(connection: sa.Connection, one: _MeasuredCase, names: list[str]) -> dict[str, dict[str, float]]:
    """What was measured of single requests and is no time, by request."""
    request, attempt, value = schema.requests, schema.attempts, schema.request_values
    wanted = {name for name in names if METRICS[name].level == "request"} | {"trained_tokens", "step_s"}
    query = sa.select(value.c.request_id, value.c.metric, value.c.value).select_from(value.join(request).join(attempt))
    found: dict[str, dict[str, float]] = defaultdict(dict)
    for request_id, metric, number in connection.execute(
        query.where(attempt.c.case_id == one.planned.case.case_id, value.c.metric.in_(wanted))
    ):
        found[request_id][metric] = number
    return found


def _requests(
    connection: sa.Connection, one: _MeasuredCase, told: Mapping[str, dict[str, float]]
) -> Iterator[tuple[str, tuple[Request, ...]]]:
    """The requests of each measured attempt: plain objects with what metrics are derived from, which are
    made faster than records."""
    request, attempt = schema.requests, schema.attempts
    query = sa.select(request.c.attempt_id, *(request.c[name] for name in _RAW)).join(attempt)
    query = query.where(attempt.c.case_id == one.planned.case.case_id).order_by(request.c.attempt_id, request.c.index)
    found = connection.execute(query, execution_options={"yield_per": 1000})
    left = dict.fromkeys(one.attempts)
    for attempt_id, rows in groupby(found, lambda row: row[0]):
        if attempt_id in left:
            del left[attempt_id]
            made = (SimpleNamespace(**dict(zip(_RAW, row[1:], strict=True)), values=told.get(row[1], {})) for row in rows)
            yield attempt_id, cast("tuple[Request, ...]", tuple(made))
    yield from ((attempt_id, ()) for attempt_id in left)


def _scores(connection: sa.Connection, one: _MeasuredCase, names: list[str]) -> Values:
    """Each process's mean over its requests."""
    score, request, attempt = schema.scores, schema.requests, schema.attempts
    query = sa.select(request.c.attempt_id, score).select_from(score.join(request).join(attempt))
    query = query.where(attempt.c.case_id == one.planned.case.case_id)
    scores: dict[str, dict[str, list[Score]]] = defaultdict(lambda: defaultdict(list))
    for row in connection.execute(query.order_by(*score.primary_key.columns)).mappings():
        scores[row["attempt_id"]][row["request_id"]].append(Score(**{name: row[name] for name in Score.model_fields}))
    found: Values = defaultdict(dict)
    for attempt_id, requests in scores.items():
        items = [request_scores(mine) for mine in requests.values()]
        for name in names:
            if values := [mine[name] for mine in items if name in mine]:
                found[name][attempt_id] = statistics.fmean(values)
    return found


def _series(
    one: _MeasuredCase, name: str, values: Values, shown: dict[str, RunOrigin], runs: dict[str, RunOrigin], release: set[str]
) -> Iterator[MetricSeries]:
    """One series for each machine that measured the metric."""
    processes: dict[str, list[float]] = defaultdict(list)
    for attempt_id, value in values.get(name, {}).items():
        run_id = one.attempts.get(attempt_id)
        stopped = name == "e2e_s" and attempt_id in one.stopped_early
        other_limits = name == "goodput_rps" and one.limits.get(run_id or "") != one.planned.limits
        if run_id and not stopped and not other_limits:
            processes[run_id].append(value)
    points = [Point(run, statistics.median(processes[key]), len(processes[key])) for key, run in runs.items() if key in processes]
    lost = set(one.failures) - set(one.attempts.values())
    failed = [FailedRun(run, one.failures[key]) for key, run in runs.items() if key in lost]
    for machine in dict.fromkeys(point.run.machine_id for point in points if point.run.run_id in shown):
        here = [point for point in points if point.run.machine_id == machine]
        yield MetricSeries(
            planned=one.planned,
            metric=name,
            machine_id=machine,
            points=tuple(point for point in here if point.run.run_id in shown),
            failed=tuple(each for each in failed if each.run.machine_id == machine and each.run.run_id in shown),
            release=tuple(point for point in here if point.run.run_id in release),
        )
