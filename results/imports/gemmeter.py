"""Our own reports (`bench export --format json`): they come in as they were. That their parts belong to one run, the store checks."""

import re
from collections import Counter

from results.errors import UsageError
from results.format import plain
from results.imports.source import Source
from results.records import Failure, Measurement, Report

SCHEMA = Report.schema_name()
RUN_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
"""What can be typed on a command line and shown in a terminal."""


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
    if report.run.run_id == "latest" or not RUN_ID.fullmatch(report.run.run_id):
        raise UsageError(f"{source.name}: {report.run.run_id!r} is no id of a run: export it again.")
    attempts: tuple[Measurement | Failure, ...] = (*report.measurements, *report.failures)
    planned = [one.case.case_id for one in report.run.planned]
    requests = [request.request_id for one in attempts for request in one.requests]
    for ids in (planned, requests, [one.attempt_id for one in attempts]):
        if doubled := next((one for one, count in Counter(ids).items() if count > 1), None):
            raise UsageError(f"{source.name}: {plain(doubled)} stands in it twice: export it again.")
    return report
