"""The store: records in, records out, one transaction each. Opening and migrating is left to `results.database`, the rows that
records become to `results.writing`, and what becomes of rows to `results.reading`."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Self

import sqlalchemy as sa

from results import database, schema, writing
from results.cases import Case, PlannedCase
from results.coverage import Covered
from results.decided import Baseline, Calibration, Mark
from results.errors import StoreWriteError, UsageError
from results.reading import (
    RequestOrigin,
    RunSummary,
    pins,
    read_attempts,
    read_baselines,
    read_request,
    read_run,
    run_summaries,
)
from results.records import Failure, Measurement, Report, Request, Run, RunEvent, Score


class Store:
    """Records in one database. Make one with `Store.writing(url)` or `Store.reading(url)`."""

    def __init__(self, engine: sa.Engine) -> None:
        self.engine = engine
        self._snapshots = database.snapshots(engine)

    @classmethod
    def writing(cls, url: str) -> "Store":
        return cls(database.open_for_writing(url))

    @classmethod
    def reading(cls, url: str) -> "Store":
        return cls(database.open_for_reading(url))

    def close(self) -> None:
        self.engine.dispose()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # ---- writing

    def add_run(self, run: Run) -> None:
        """Add a run and its plan.

        Raises:
            UsageError: the store has one of this id.
        """
        with self._transaction(shared=True) as connection:
            writing.insert_run(connection, run)

    def extend_run(self, run: Run, further: Sequence[PlannedCase]) -> Run:
        """The run with these planned cases too, or in place of those of the same id: of a sweep that decides by what it
        measured."""
        changed = {one.case.case_id: one for one in further}
        planned = [changed.pop(one.case.case_id, one) for one in run.planned]
        planned += changed.values()
        with self._transaction(shared=True) as connection:
            connection.execute(schema.planned_cases.delete().where(schema.planned_cases.c.run_id == run.run_id))
            writing.insert_planned(connection, run.run_id, planned)
        return run.model_copy(update={"planned": tuple(planned)})

    def add_report(self, report: Report) -> None:
        """Add a whole run, or nothing of it.

        Raises:
            UsageError: the store has a run of this id, or the report has parts of other runs, or values that no store takes.
        """
        writing.check_own(report)
        try:
            with self._transaction(shared=True) as connection:
                writing.insert_report(connection, report)
        except StoreWriteError as error:
            if (cause := error.__cause__) and database.refuses_values(cause):
                found = f"The report of run {report.run.run_id} cannot be stored ({database.reason(cause)})"
                raise UsageError(f"{found}: export it again.") from error
            raise

    def add_event(self, event: RunEvent) -> None:
        with self._transaction() as connection:
            connection.execute(schema.run_events.insert(), event.model_dump())

    def add_measurement(self, measurement: Measurement, scores: Iterable[Score] = ()) -> None:
        with self._transaction() as connection:
            writing.insert_measurement(connection, measurement)
            writing.insert(connection, schema.scores, [score.model_dump() for score in scores])

    def add_failure(self, failure: Failure) -> None:
        with self._transaction() as connection:
            writing.insert_failure(connection, failure)

    def add_scores(self, scores: Iterable[Score]) -> None:
        """Add scores; one of the same request, scorer, version and item is replaced."""
        with self._transaction() as connection:
            writing.insert_or_replace(connection, schema.scores, [score.model_dump() for score in scores])

    def tag(self, run_id: str, tags: Iterable[str], *, remove: bool = False) -> None:
        with self._transaction() as connection:
            if remove:
                table = schema.run_tags
                connection.execute(table.delete().where(table.c.run_id == run_id, table.c.tag.in_(list(tags))))
            else:
                writing.insert_missing(connection, schema.run_tags, [{"run_id": run_id, "tag": tag} for tag in tags])

    def add_baseline(self, move: Baseline) -> None:
        """Move a baseline; what it was before stays in the store."""
        self._add_decided(schema.baselines, move.model_dump())

    def add_mark(self, mark: Mark) -> None:
        self._add_decided(schema.marks, mark.model_dump())

    def add_calibration(self, found: Calibration) -> None:
        key = {"suite", "machine_id", "at"}
        row = found.model_dump(include=key) | {"found": found.model_dump(mode="json", exclude=key)}
        self._add_decided(schema.calibrations, row)

    def remove_run(self, run_id: str) -> None:
        """Remove a run and all that was measured in it.

        Raises:
            UsageError: a baseline is pinned to it.
        """
        with self._transaction(shared=False) as connection:
            if names := pins(read_baselines(connection)).get(run_id):
                raise UsageError(
                    f"Run {run_id} is what the baseline {names[0]!r} is pinned to: move or remove the baseline first."
                )
            connection.execute(schema.runs.delete().where(schema.runs.c.run_id == run_id))
            used = sa.select(schema.planned_cases.c.case_id)
            connection.execute(schema.cases.delete().where(schema.cases.c.case_id.not_in(used)))
            used = sa.select(schema.runs.c.environment_id)
            connection.execute(schema.environments.delete().where(schema.environments.c.environment_id.not_in(used)))

    # ---- reading

    def runs(self, limit: int | None = None) -> list[RunSummary]:
        """Runs, newest first."""
        with self._reading() as connection:
            return run_summaries(connection, limit)

    def resolve_run(self, reference: str) -> str:
        """The id of the run that a person means: `latest`, an id or its unique beginning, or a tag (its newest run).

        Raises:
            UsageError: no run, or several, answer to it.
        """
        run, tag = schema.runs, schema.run_tags
        newest = sa.select(run.c.run_id).order_by(run.c.started_at.desc(), run.c.run_id.desc())
        with self._reading() as connection:
            if reference == "latest":
                found = list(connection.execute(newest.limit(1)).scalars())
                if not found:
                    raise UsageError("The store holds no runs yet: run `bench run SUITE` first.")
                return str(found[0])
            found = list(connection.execute(newest.join(tag).where(tag.c.tag == reference).limit(1)).scalars())
            if not found:
                starts = run.c.run_id.startswith(reference, autoescape=True)
                found = list(connection.execute(newest.where(starts).limit(3)).scalars())
        if len(found) == 1 or reference in found:
            return reference if reference in found else str(found[0])
        if found:
            raise UsageError(f"{reference!r} means several runs ({', '.join(found)} …): give more of the id.")
        raise UsageError(f"No run or tag {reference!r} in this store: `bench show` lists what is there.")

    def report(self, run_id: str) -> Report:
        """All that is stored of one run, in order of time.

        Raises:
            UsageError: there is no such run.
        """
        with self._reading() as connection:
            run = read_run(connection, run_id)
            events = connection.execute(
                sa.select(schema.run_events)
                .where(schema.run_events.c.run_id == run_id)
                .order_by(schema.run_events.c.at, schema.run_events.c.event_id)
            ).all()
            tags = connection.execute(
                sa.select(schema.run_tags.c.tag).where(schema.run_tags.c.run_id == run_id).order_by(schema.run_tags.c.tag)
            ).scalars()
            measurements, failures = read_attempts(connection, schema.attempts.c.run_id == run_id)
            scored = (
                sa.select(schema.scores)
                .join_from(schema.scores, schema.requests)
                .join(schema.attempts, schema.requests.c.attempt_id == schema.attempts.c.attempt_id)
                .where(schema.attempts.c.run_id == run_id)
                .order_by(*schema.scores.primary_key.columns)
            )
            return Report(
                run=run,
                events=tuple(RunEvent(**{k: v for k, v in row._mapping.items() if k != "event_id"}) for row in events),
                tags=tuple(tags),
                measurements=tuple(measurements),
                failures=tuple(failures),
                scores=tuple(Score(**row._mapping) for row in connection.execute(scored)),
            )

    def recent_attempts(self, case_id: str, limit: int) -> tuple[list[Measurement], list[Failure]]:
        """The newest attempts of one case over all runs, oldest first, in two lists."""
        newest = (
            sa.select(schema.attempts.c.attempt_id)
            .where(schema.attempts.c.case_id == case_id)
            .order_by(schema.attempts.c.started_at.desc())
            .limit(limit)
        )
        with self._reading() as connection:
            return read_attempts(connection, schema.attempts.c.attempt_id.in_(newest))

    def runs_of(self, attempt_ids: Iterable[str]) -> set[str]:
        """The runs that have attempts of these ids."""
        table = schema.attempts
        query = sa.select(table.c.run_id).where(table.c.attempt_id == sa.bindparam("id"))
        with self._reading() as connection:  # one by one: databases limit the values in a query
            found = [connection.execute(query, {"id": one}).scalar_one_or_none() for one in attempt_ids]
        return {run_id for run_id in found if run_id is not None}

    def planned_cases(self) -> list[PlannedCase]:
        """Every case that any run planned, once each, under its newest plan."""
        plan = schema.planned_cases
        query = (
            sa.select(plan.c.case_id, plan.c.plan, schema.cases.c.facts)
            .join(schema.runs, plan.c.run_id == schema.runs.c.run_id)
            .join(schema.cases, plan.c.case_id == schema.cases.c.case_id)
            .order_by(schema.runs.c.started_at, plan.c.position)
        )
        with self._reading() as connection:
            rows = connection.execute(query)
            newest = {row.case_id: PlannedCase(case=Case(**row.facts), **row.plan) for row in rows}
        return list(newest.values())

    def baselines(self, name: str | None = None) -> list[Baseline]:
        """Every move of every baseline, or of one, oldest first."""
        with self._reading() as connection:
            return read_baselines(connection, name)

    def marks(self) -> list[Mark]:
        """All marks, oldest first, the expired ones too."""
        with self._reading() as connection:
            rows = connection.execute(sa.select(schema.marks).order_by(schema.marks.c.mark_id))
            return [Mark(**{key: value for key, value in row._mapping.items() if key != "mark_id"}) for row in rows]

    def calibration(self, suite: str, machine_id: str) -> Calibration | None:
        """The newest of a suite on a machine."""
        table = schema.calibrations
        query = sa.select(table).where(table.c.suite == suite, table.c.machine_id == machine_id)
        with self._reading() as connection:
            row = connection.execute(query.order_by(table.c.calibration_id.desc()).limit(1)).one_or_none()
        return None if row is None else Calibration(suite=row.suite, machine_id=row.machine_id, at=row.at, **row.found)

    def coverage(self) -> list[Covered]:
        """Every case that any run planned, with how often it was measured and how it last failed."""
        attempt, failure = schema.attempts, schema.failures
        joined = (
            sa.select(attempt.c.case_id, failure.c.kind).select_from(attempt.outerjoin(failure)).order_by(attempt.c.started_at)
        )
        measured: dict[str, int] = {}
        failed: dict[str, str] = {}
        with self._reading() as connection:
            for case_id, kind in connection.execute(joined):
                if kind is None:
                    measured[case_id] = measured.get(case_id, 0) + 1
                else:
                    failed[case_id] = kind
        ids = [(planned, planned.case.case_id) for planned in self.planned_cases()]
        return [Covered(planned, measured.get(case_id, 0), failed.get(case_id)) for planned, case_id in ids]

    def resolve_request(self, reference: str) -> str:
        """The id of the request with this id or unique beginning.

        Raises:
            UsageError: no request, or several, answer to it.
        """
        column = schema.requests.c.request_id
        with self._reading() as connection:
            query = sa.select(column).where(column.startswith(reference, autoescape=True)).order_by(column).limit(2)
            found = list(connection.execute(query).scalars())
        if len(found) != 1 and reference not in found:
            wrong = "No request" if not found else "More than one request"
            raise UsageError(f"{wrong} has an id that begins with {reference!r}: `bench show RUN --requests` lists them.")
        return reference if reference in found else str(found[0])

    def find_request(self, reference: str) -> tuple[RequestOrigin, Request]:
        """The request with this id or unique beginning, and where it was measured.

        Raises:
            UsageError: no request, or several, answer to it.
        """
        request_id = self.resolve_request(reference)
        with self._reading() as connection:
            return read_request(connection, request_id)

    # ---- inside

    @contextmanager
    def _reading(self) -> Iterator[sa.Connection]:
        remedy = "End what holds it, or look for damage with `bench db check`."
        with database.readable_errors("The store cannot be read", remedy), self._snapshots.connect() as connection:
            yield connection

    @contextmanager
    def _transaction(self, shared: bool | None = None) -> Iterator[sa.Connection]:
        """A transaction that writes.

        Args:
            shared: whether it adds what refers to rows of other runs (true) or removes such rows (false), else neither.
        """
        remedy = "Free it or its disk and go on with --resume, or look for damage with `bench db check`."
        with (
            database.readable_errors("The store could not be written", remedy, StoreWriteError),
            self.engine.begin() as connection,
        ):
            if shared is not None:
                database.lock(connection, exclusive=not shared)
            yield connection

    def _add_decided(self, table: sa.Table, row: dict[str, Any]) -> None:
        with self._transaction() as connection:
            connection.execute(table.insert(), row)
