"""Rows of the store's tables back into records. Which rows, and on which connection, is left to `results.store`."""

from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar

import sqlalchemy as sa

from results import schema
from results.cases import Case, PlannedCase
from results.decided import Baseline
from results.errors import UsageError
from results.records import Environment, Failure, Measurement, Request, RowWarning, Run, Series, status_after

R = TypeVar("R")


@dataclass(frozen=True)
class RunSummary:
    """One line of a list of runs."""

    run_id: str
    suite: str
    started_at: datetime
    status: str
    """`finished`, `interrupted`, `failed` or `open`."""
    planned: int
    """Measurements that the run planned: cases × processes."""
    measured: int
    failed: int
    """Processes of cases that were tried and never measured: `results.summary.unresolved`."""
    tags: tuple[str, ...]
    models: tuple[str, ...]
    git_commit: str | None
    environment_id: str
    loads: int = 0
    """Planned cases that put a server under load."""


@dataclass(frozen=True)
class RequestOrigin:
    """Where a request was measured."""

    run_id: str
    suite: str
    planned: PlannedCase
    process: int
    started_at: datetime
    timing: str | None
    """How event times were taken; `None` when the case failed."""
    warnings: tuple[RowWarning, ...]
    """Of the whole row that the request belongs to."""
    failure: str | None
    """The kind of failure that ended the case after this request."""


def run_summaries(connection: sa.Connection, limit: int | None = None) -> list[RunSummary]:
    """Runs, newest first."""
    run, plan, attempt = schema.runs, schema.planned_cases, schema.attempts
    query = sa.select(run).order_by(run.c.started_at.desc(), run.c.run_id.desc()).limit(limit)
    rows = connection.execute(query).all()
    ids = sa.select(query.with_only_columns(run.c.run_id).subquery())  # no list of them: databases limit the values in a query
    events = _grouped(connection, schema.run_events, ids, lambda r: r.kind, order=schema.run_events.c.event_id)
    tags = _grouped(connection, schema.run_tags, ids, lambda r: r.tag, order=schema.run_tags.c.tag)
    plans = _grouped(connection, plan, ids, lambda r: r, order=plan.c.position)
    tries = (
        sa.select(attempt.c.run_id, (sa.func.count() - sa.func.count(schema.failures.c.attempt_id)).label("measured"))
        .select_from(attempt.outerjoin(schema.failures))
        .where(attempt.c.run_id.in_(ids))
        .group_by(attempt.c.run_id, attempt.c.case_id, attempt.c.process)
        .subquery()
    )
    lost = sa.func.sum(sa.case((tries.c.measured == 0, 1), else_=0))
    counts = connection.execute(sa.select(tries.c.run_id, sa.func.sum(tries.c.measured), lost).group_by(tries.c.run_id)).all()
    planned = sa.select(plan.c.case_id).where(plan.c.run_id.in_(ids))
    cases = connection.execute(sa.select(schema.cases).where(schema.cases.c.case_id.in_(planned)))
    loaded = {case.case_id for case in cases if case.facts.get("load")}  # PostgreSQL's JSON functions fail on a NUL anywhere
    attempts = {run_id: (int(measured), int(failed)) for run_id, measured, failed in counts}
    return [
        RunSummary(
            run_id=row.run_id,
            suite=row.suite,
            started_at=row.started_at,
            status=status_after(events[row.run_id]),
            planned=sum(one.plan["processes"] for one in plans[row.run_id]),
            measured=attempts.get(row.run_id, (0, 0))[0],
            failed=attempts.get(row.run_id, (0, 0))[1],
            tags=tuple(tags[row.run_id]),
            models=tuple(dict.fromkeys(one.plan["model"] for one in plans[row.run_id])),
            git_commit=row.git_commit,
            environment_id=row.environment_id,
            loads=sum(one.case_id in loaded for one in plans[row.run_id]),
        )
        for row in rows
    ]


def read_run(connection: sa.Connection, run_id: str) -> Run:
    row = connection.execute(
        sa.select(schema.runs, schema.environments.c.facts.label("environment"))
        .join(schema.environments)
        .where(schema.runs.c.run_id == run_id)
    ).one_or_none()
    if row is None:
        raise UsageError(f"No run {run_id!r} in this store: `bench show` lists what is there.")
    plans = connection.execute(
        sa.select(schema.planned_cases.c.plan, schema.cases.c.facts)
        .join(schema.cases)
        .where(schema.planned_cases.c.run_id == run_id)
        .order_by(schema.planned_cases.c.position)
    ).all()
    fields = {key: value for key, value in row._mapping.items() if key not in ("environment_id", "environment")}
    return Run(
        **fields,
        environment=Environment(facts=row.environment),
        planned=tuple(PlannedCase(case=Case(**plan.facts), **plan.plan) for plan in plans),
    )


def read_attempts(connection: sa.Connection, chosen: sa.ColumnElement[bool]) -> tuple[list[Measurement], list[Failure]]:
    attempt = schema.attempts
    ids = sa.select(attempt.c.attempt_id).where(chosen)
    values = _grouped_values(connection, schema.attempt_values, "attempt_id", ids)
    requests = _read_requests(connection, schema.requests.c.attempt_id.in_(ids))
    series = _series(connection, ids)

    failures = {
        row.attempt_id: row for row in connection.execute(sa.select(schema.failures).where(schema.failures.c.attempt_id.in_(ids)))
    }
    measured, failed = [], []
    for row in connection.execute(sa.select(attempt).where(chosen).order_by(attempt.c.started_at, attempt.c.attempt_id)):
        fields = {key: row._mapping[key] for key in ("attempt_id", "run_id", "case_id", "process", "started_at")}
        fields["requests"] = tuple(requests[row.attempt_id])
        if failure := failures.get(row.attempt_id):
            failed.append(Failure(**fields, **{k: v for k, v in failure._mapping.items() if k != "attempt_id"}))
        else:
            measured.append(
                Measurement(
                    **fields,
                    timing=row.timing,
                    warnings=row.warnings,
                    facts=row.facts or {},
                    values=values[row.attempt_id],
                    series=tuple(series[row.attempt_id]),
                )
            )
    return measured, failed


def read_baselines(connection: sa.Connection, name: str | None = None) -> list[Baseline]:
    """Every move of every baseline, or of one, oldest first."""
    table = schema.baselines
    query = sa.select(table).order_by(table.c.move_id)
    rows = connection.execute(query if name is None else query.where(table.c.name == name))
    return [Baseline(**{key: value for key, value in row._mapping.items() if key != "move_id"}) for row in rows]


def pins(moves: Iterable[Baseline]) -> dict[str, list[str]]:
    """Ids of the runs that baselines are pinned to after these moves, with the names of the baselines."""
    found: dict[str, list[str]] = defaultdict(list)
    for name, move in {move.name: move for move in moves}.items():
        for run_id in move.run_ids:
            found[run_id].append(name)
    return found


def read_request(connection: sa.Connection, request_id: str) -> tuple[RequestOrigin, Request]:
    """One request, without the others of its attempt, which may be thousands. It must exist."""
    request, attempt, plan, failure = schema.requests, schema.attempts, schema.planned_cases, schema.failures
    row = connection.execute(
        sa.select(attempt, schema.runs.c.suite, plan.c.plan, schema.cases.c.facts.label("case"), failure.c.kind.label("failure"))
        .select_from(request.join(attempt).join(schema.runs).outerjoin(failure, failure.c.attempt_id == attempt.c.attempt_id))
        .join(plan, sa.and_(plan.c.run_id == attempt.c.run_id, plan.c.case_id == attempt.c.case_id))
        .join(schema.cases, schema.cases.c.case_id == attempt.c.case_id)
        .where(request.c.request_id == request_id)
    ).one()
    origin = RequestOrigin(
        run_id=row.run_id,
        suite=row.suite,
        planned=PlannedCase(case=Case(**row.case), **row.plan),
        process=row.process,
        started_at=row.started_at,
        timing=row.timing,
        warnings=tuple(RowWarning(**one) for one in row.warnings),
        failure=row.failure,
    )
    (found,) = _read_requests(connection, request.c.request_id == request_id)[row.attempt_id]
    return origin, found


def _read_requests(connection: sa.Connection, chosen: sa.ColumnElement[bool]) -> dict[str, list[Request]]:
    """The chosen requests by attempt, in the order of their index."""
    request = schema.requests
    ids = sa.select(request.c.request_id).where(chosen)
    values = _grouped_values(connection, schema.request_values, "request_id", ids)
    contents = {
        row.request_id: row for row in connection.execute(sa.select(schema.contents).where(schema.contents.c.request_id.in_(ids)))
    }
    found: dict[str, list[Request]] = defaultdict(list)
    for row in connection.execute(sa.select(request).where(chosen).order_by(request.c.attempt_id, request.c.index)):
        fields = {key: value for key, value in row._mapping.items() if key != "attempt_id"}
        if content := contents.get(row.request_id):
            fields |= {"content_policy": content.policy, "prompt": content.prompt, "output": content.output}
        found[row.attempt_id].append(Request(**fields, values=values[row.request_id]))
    return found


def _series(connection: sa.Connection, ids: sa.Select[Any]) -> dict[str, list[Series]]:
    series, samples = schema.series, schema.samples
    points: dict[int, list[tuple[float, float]]] = defaultdict(list)
    of_series = sa.select(series.c.series_id).where(series.c.attempt_id.in_(ids))
    query = sa.select(samples).where(samples.c.series_id.in_(of_series)).order_by(samples.c.series_id, samples.c.time_s)
    for row in connection.execute(query):
        points[row.series_id].append((row.time_s, row.value))
    found: dict[str, list[Series]] = defaultdict(list)
    for row in connection.execute(sa.select(series).where(series.c.attempt_id.in_(ids)).order_by(series.c.series_id)):
        times, values = zip(*points[row.series_id], strict=True) if points[row.series_id] else ((), ())
        found[row.attempt_id].append(Series(name=row.name, unit=row.unit, times_s=times, values=values))
    return found


def _grouped(
    connection: sa.Connection, table: sa.Table, run_ids: sa.Select[Any], pick: Callable[[Any], R], order: sa.Column[Any]
) -> dict[str, list[R]]:
    found: dict[str, list[R]] = defaultdict(list)
    for row in connection.execute(sa.select(table).where(table.c.run_id.in_(run_ids)).order_by(order)):
        found[row.run_id].append(pick(row))
    return found


def _grouped_values(connection: sa.Connection, table: sa.Table, key: str, ids: sa.Select[Any]) -> dict[str, dict[str, float]]:
    found: dict[str, dict[str, float]] = defaultdict(dict)
    for row in connection.execute(sa.select(table).where(table.c[key].in_(ids)).order_by(*table.primary_key.columns)):
        found[row._mapping[key]][row.metric] = row.value
    return found
