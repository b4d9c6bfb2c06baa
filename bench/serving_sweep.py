"""A serving sweep over a run: which cases it measures next, and what it found. The decisions are those of `bench.serving`."""

from collections import defaultdict

from bench.expansion import with_load
from bench.serving import Reached, Serving, next_loads, processes_of, reached
from bench.serving_conclusion import conclusion
from bench.suite import Suite
from results.cases import Load, PlannedCase
from results.records import Report
from results.summary import by_case

Swept = dict[Load, tuple[PlannedCase, Reached]]
"""What one configuration came to under each load so far."""


def further_cases(suite: Suite, report: Report) -> tuple[PlannedCase, ...]:
    """New loads, or known ones in more processes; none for a suite that is no serving sweep, or at its end."""
    serving = suite.serving
    if serving is None:
        return ()
    found = []
    for swept in _swept(serving, report):
        done = [one for _, one in swept.values()]
        template = min((planned for planned, _ in swept.values()), key=lambda planned: planned.iterations)
        for load in next_loads(serving, done):
            planned = swept[load][0] if load in swept else with_load(template, load, serving)
            processes = processes_of(serving, load, planned.processes, done)
            if load not in swept or processes > planned.processes:
                found.append(planned.model_copy(update={"processes": processes}))
    return tuple(found)


def conclusions(report: Report) -> list[str]:
    """A sentence for each configuration that the run swept; none for other runs."""
    source = report.run.suite_source.get("serving")
    if source is None:
        return []
    serving, sentences = Serving.model_validate(source), []
    for swept in _swept(serving, report):
        planned = next(planned for planned, _ in swept.values())
        label = planned.model_copy(update={"case": planned.case.model_copy(update={"load": None})}).label
        sentences.append(f"{label}: {conclusion(serving, [one for _, one in swept.values()]).sentence}")
    return sentences


def _swept(serving: Serving, report: Report) -> list[Swept]:
    """One for each case without its load."""
    measured, failed = by_case(report)
    found: dict[str, Swept] = defaultdict(dict)
    for planned in report.run.planned:
        case = planned.case
        if case.load:
            alone = case.model_copy(update={"load": None}).case_id
            found[alone][case.load] = (planned, reached(serving, planned, measured[case.case_id], failed[case.case_id]))
    return list(found.values())
