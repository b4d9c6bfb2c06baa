"""Our own reports (`bench export --format json`): they come in as they were. That their parts belong to one run, the store checks."""

from collections import Counter

from results.errors import UsageError
from results.format import plain
from results.imports.source import Source
from results.records import Failure, Measurement, Report

SCHEMA = Report.schema_name()


def matches(source: Source) -> bool:
    return str(source.first.get("schema")).startswith("report/")


def read(source: Source) -> Report:
    if source.first["schema"] != SCHEMA:
        raise UsageError(
            f"{source.name} is a report of another version ({source.first['schema']!r}, this one reads {SCHEMA!r}): "
            "export it again with the version that you import it with."
        )
    fields = {key: value for key, value in source.first.items() if key != "schema"}
    report = source.checked(fields, Report)
    attempts: tuple[Measurement | Failure, ...] = (*report.measurements, *report.failures)
    planned = [one.case.case_id for one in report.run.planned]
    requests = [request.request_id for one in attempts for request in one.requests]
    for ids in (planned, requests, [one.attempt_id for one in attempts]):
        if doubled := next((one for one, count in Counter(ids).items() if count > 1), None):
            raise UsageError(f"{source.name}: {plain(doubled)} stands in it twice: export it again.")
    return report
