"""Records into rows of the store's tables. Which transaction they belong to is left to `results.store`."""

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from results import schema
from results.cases import PlannedCase
from results.errors import UsageError
from results.records import Failure, Measurement, Report, Request, Run

Row = dict[str, Any]

_INSERTS = {"sqlite": sqlite.insert, "postgresql": postgresql.insert}
"""Inserts that know `ON CONFLICT`, by dialect."""


def insert_run(connection: sa.Connection, run: Run) -> None:
    """Insert a run, its plan, and its environment and cases where they are new.

    Raises:
        UsageError: there is a run of this id.
    """
    environment = run.environment
    insert_missing(connection, schema.environments, [{"environment_id": environment.environment_id, "facts": environment.facts}])
    row = run.model_dump(exclude={"planned", "environment"}) | {"environment_id": environment.environment_id}
    added = _insert(connection, schema.runs).on_conflict_do_nothing().returning(schema.runs.c.run_id)
    if connection.execute(added, row).first() is None:
        raise UsageError(f"Run {run.run_id} is in this store already: `bench rm` removes it.")
    insert_planned(connection, run.run_id, run.planned)


def insert_planned(connection: sa.Connection, run_id: str, planned: Sequence[PlannedCase]) -> None:
    cases, plans = [], []
    for position, one in enumerate(planned):
        case_id = one.case.case_id
        facts = one.case.model_dump(mode="json", exclude_defaults=True)
        cases.append({"case_id": case_id, "config_id": one.case.config_id, "facts": facts})
        plan = one.model_dump(mode="json", exclude={"case"})
        plans.append({"run_id": run_id, "position": position, "case_id": case_id, "plan": plan})
    insert_missing(connection, schema.cases, cases)
    insert(connection, schema.planned_cases, plans)


def insert_report(connection: sa.Connection, report: Report) -> None:
    insert_run(connection, report.run)
    insert(connection, schema.run_events, [event.model_dump() for event in report.events])
    insert_missing(connection, schema.run_tags, [{"run_id": report.run.run_id, "tag": tag} for tag in report.tags])
    for measurement in report.measurements:
        insert_measurement(connection, measurement)
    for failure in report.failures:
        insert_failure(connection, failure)
    insert(connection, schema.scores, [score.model_dump() for score in report.scores])


def check_own(report: Report) -> None:
    """Refuse a report that would add to another run.

    Raises:
        UsageError: it has events, attempts or scores of other runs, or attempts of cases that it did not plan.
    """
    attempts: list[Measurement | Failure] = [*report.measurements, *report.failures]
    runs = {one.run_id for one in attempts} | {event.run_id for event in report.events}
    cases = {one.case_id for one in attempts} - {one.case.case_id for one in report.run.planned}
    requests = {one.request_id for one in report.scores} - {one.request_id for attempt in attempts for one in attempt.requests}
    if runs - {report.run.run_id} or cases or requests:
        raise UsageError(f"The report of run {report.run.run_id} has parts that are not of this run: export it again.")


def insert_measurement(connection: sa.Connection, measurement: Measurement) -> None:
    warnings = [warning.model_dump(mode="json") for warning in measurement.warnings]
    rest = {"timing": measurement.timing, "facts": measurement.facts or None, "warnings": warnings}
    _insert_attempt(connection, measurement, rest)
    insert(connection, schema.attempt_values, _value_rows("attempt_id", measurement.attempt_id, measurement.values))
    for one in measurement.series:
        row = {"attempt_id": measurement.attempt_id, "name": one.name, "unit": one.unit}
        key = connection.execute(schema.series.insert().returning(schema.series.c.series_id), row).scalar_one()
        points = zip(one.times_s, one.values, strict=True)
        insert(connection, schema.samples, [{"series_id": key, "time_s": time, "value": value} for time, value in points])


def insert_failure(connection: sa.Connection, failure: Failure) -> None:
    _insert_attempt(connection, failure, {"timing": None, "facts": None, "warnings": []})
    columns = set(schema.failures.c.keys())
    connection.execute(schema.failures.insert(), failure.model_dump(include=columns))


def _insert_attempt(connection: sa.Connection, attempt: Measurement | Failure, rest: Row) -> None:
    row = attempt.model_dump(include={"attempt_id", "run_id", "case_id", "process", "started_at"})
    connection.execute(schema.attempts.insert(), row | rest)
    columns = set(schema.requests.c.keys()) & set(Request.model_fields)
    owner = {"attempt_id": attempt.attempt_id}
    insert(connection, schema.requests, [one.model_dump(include=columns) | owner for one in attempt.requests])
    values = [row for one in attempt.requests for row in _value_rows("request_id", one.request_id, one.values)]
    insert(connection, schema.request_values, values)
    contents = [
        {"request_id": one.request_id, "policy": one.content_policy, "prompt": one.prompt, "output": one.output}
        for one in attempt.requests
        if one.content_policy != "none"
    ]
    insert(connection, schema.contents, contents)


def insert(connection: sa.Connection, table: sa.Table, rows: Sequence[Row]) -> None:
    if rows:
        connection.execute(table.insert(), list(rows))


def insert_missing(connection: sa.Connection, table: sa.Table, rows: Sequence[Row]) -> None:
    """Insert the rows whose primary key is not there yet, safely beside other writers."""
    if rows:
        connection.execute(_insert(connection, table).on_conflict_do_nothing(), _ordered(table, rows))


def insert_or_replace(connection: sa.Connection, table: sa.Table, rows: Sequence[Row]) -> None:
    """Insert rows, or put their values in the place of those with the same primary key, safely beside other writers."""
    if rows:
        new = _insert(connection, table)
        key = list(table.primary_key.columns)
        values = {column.name: new.excluded[column.name] for column in table.columns if column not in set(key)}
        connection.execute(new.on_conflict_do_update(index_elements=key, set_=values), _ordered(table, rows))


def _insert(connection: sa.Connection, table: sa.Table) -> Any:
    return _INSERTS[connection.dialect.name](table)


def _ordered(table: sa.Table, rows: Sequence[Row]) -> list[Row]:
    """By their keys: writers that lock the same rows in the same order never wait for one another in a circle."""
    return sorted(rows, key=lambda row: [row[column.name] for column in table.primary_key.columns])


def _value_rows(key: str, owner: str, values: dict[str, float]) -> list[Row]:
    return [{key: owner, "metric": metric, "value": value} for metric, value in values.items()]
