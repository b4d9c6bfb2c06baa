"""One side of a comparison: one run, or several that stand for one thing, pooled process by process. Which runs is `bench.sides`'."""

from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import TypeVar

from results.cases import PlannedCase
from results.errors import NotComparableError
from results.record import Scalar
from results.records import HARD_FACTS, Environment, Failure, Measurement, Report, Run

Attempt = TypeVar("Attempt", Measurement, Failure)


@dataclass(frozen=True)
class Side:
    """What is compared, and what people call it."""

    name: str
    """Such as `20260301-120000-aaaa`, `baseline main (3 runs)` or `report.json`."""
    report: Report
    """Of several runs: pooled, under the newest one's run."""
    run_ids: tuple[str, ...]
    """Oldest first."""


def pooled(reports: Sequence[Report]) -> Report:
    """Several runs as one: all of their processes count, renumbered, under the newest run with the union of the plans.

    The newest run keeps the numbers of its processes, and those of the others follow; each attempt keeps its own `run_id`. Of a
    case that several planned, the newest plan counts, with the processes of all. A soft fact of the environment that differs
    holds all of its values, oldest first: `3.11.7, 3.12.1`. A failure of an older run is left out where any of the runs measured
    that case: it was made good, as by a later try. One of the newest run stays, as that is how the case stands now.

    Args:
        reports: in any order; at least one.

    Raises:
        NotComparableError: hard facts of their environments differ.
    """
    found = {report.run.run_id: report for report in reports}
    ordered = sorted(found.values(), key=lambda report: (report.run.started_at, report.run.run_id))
    newest = ordered[-1].run
    if len(ordered) == 1:
        return ordered[0]
    numbers = _numbers(ordered)
    measured = {one.case_id for report in ordered for one in report.measurements}
    return Report(
        run=newest.model_copy(
            update={"planned": _union(ordered), "environment": _environment([one.run for one in ordered]), "paired_with": None}
        ),
        events=tuple(event for report in ordered for event in report.events),
        tags=tuple(dict.fromkeys(tag for report in ordered for tag in report.tags)),
        measurements=tuple(_numbered(one, numbers) for report in ordered for one in report.measurements),
        failures=tuple(
            _numbered(one, numbers)
            for report in ordered
            for one in report.failures
            if report.run is newest or one.case_id not in measured
        ),
        scores=tuple(score for report in ordered for score in report.scores),
    )


def without(report: Report, case_ids: Collection[str]) -> Report:
    """A report without these cases: neither planned, nor measured, nor failed."""
    if not case_ids:
        return report
    requests = {request.request_id for one in _attempts(report) if one.case_id not in case_ids for request in one.requests}
    planned = tuple(one for one in report.run.planned if one.case.case_id not in case_ids)
    return report.model_copy(
        update={
            "run": report.run.model_copy(update={"planned": planned}),
            "measurements": tuple(one for one in report.measurements if one.case_id not in case_ids),
            "failures": tuple(one for one in report.failures if one.case_id not in case_ids),
            "scores": tuple(score for score in report.scores if score.request_id in requests),
        }
    )


def _attempts(report: Report) -> list[Measurement | Failure]:
    return [*report.measurements, *report.failures]


def _numbers(ordered: Sequence[Report]) -> dict[tuple[str, str], int]:
    """What is added to the process numbers of each (run, case), so that no two runs of a case share one."""
    added: dict[tuple[str, str], int] = {}
    free: dict[str, int] = defaultdict(int)
    for report in reversed(ordered):
        last: dict[str, int] = {}
        for one in _attempts(report):
            last[one.case_id] = max(last.get(one.case_id, 0), one.process)
        for case_id, process in last.items():
            added[report.run.run_id, case_id] = free[case_id]
            free[case_id] += process + 1
    return added


def _numbered(attempt: Attempt, numbers: dict[tuple[str, str], int]) -> Attempt:
    return attempt.model_copy(update={"process": attempt.process + numbers[attempt.run_id, attempt.case_id]})


def _union(ordered: Sequence[Report]) -> tuple[PlannedCase, ...]:
    """Every planned case in the order of the newest plan, then those that only older runs have."""
    plans: dict[str, PlannedCase] = {}
    processes: dict[str, int] = defaultdict(int)
    for planned in (planned for report in reversed(ordered) for planned in report.run.planned):
        plans.setdefault(planned.case.case_id, planned)
        processes[planned.case.case_id] += planned.processes
    return tuple(one.model_copy(update={"processes": processes[case_id]}) for case_id, one in plans.items())


def _environment(runs: Sequence[Run]) -> Environment:
    """The newest run's environment, with all values of the soft facts that differ.

    Raises:
        NotComparableError: a hard fact differs.
    """
    newest = runs[-1].environment.facts
    keys = dict.fromkeys(key for run in reversed(runs) for key in run.environment.facts)
    facts: dict[str, Scalar] = {}
    for key in keys:
        by_value: dict[Scalar, str] = {}
        for run in runs:
            by_value.setdefault(run.environment.facts.get(key), run.run_id)
        if len(by_value) > 1 and key in HARD_FACTS:
            (one, first), (other, second) = list(by_value.items())[:2]
            raise NotComparableError(
                f"Runs {first} and {second} cannot stand for one side, as they ran on different machines: "
                f"{key} is {one!r} and {other!r}. Name runs of one machine."
            )
        several = ", ".join("unknown" if value is None else str(value) for value in by_value)
        facts[key] = several if len(by_value) > 1 else newest.get(key)
    return Environment(facts=facts)
