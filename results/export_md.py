"""A report as GitHub Markdown. Text from outside is escaped, so that it can be no markup, HTML or link."""

import re
from collections.abc import Iterable

from results.export_table import METHOD, command_of, environment_of, escape, facts_of, failure_label, heading, table_of
from results.records import Report
from results.summary import unresolved


def markdown(report: Report) -> str:
    """Facts, the table with footnotes, failures, environment and the command that repeats it."""
    parts = [
        f"# {inline(report.run.suite)}: {inline(report.run.run_id)}",
        _table(("Fact", "Value"), facts_of(report).items()),
        "## Results",
        *_results(report),
    ]
    failures = unresolved(report.measurements, report.failures)
    if failures:
        parts.append("## Failures")
    for failure in failures:
        parts.append(f"**{inline(failure_label(report, failure))}**: {inline(failure.message)}")
        if failure.stderr_tail.strip():
            parts.append(block(failure.stderr_tail))
    environment = [(name, value, "must agree" if hard else "") for name, value, hard in environment_of(report)]
    parts += [
        "## Environment",
        _table(("Fact", "Value", "To compare"), environment),
        "## Reproduce",
        block(command_of(report)),
    ]
    return "\n\n".join(parts) + "\n"


def _results(report: Report) -> list[str]:
    table = table_of(report)
    rows = [
        (inline(line.label) + "".join(f"[^{number}]" for number in line.notes), line.status, line.processes, *line.cells)
        for line in table.lines
    ]
    headings = ("Case", "Status", "Processes", *(heading(metric) for metric in table.columns))
    notes = [f"[^{number}]: {inline(note)}" for number, note in enumerate(table.notes, start=1)]
    return [_rows(headings, rows), METHOD, *(["\n".join(notes)] if notes else [])]


def _table(headings: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    return _rows(headings, [tuple(inline(cell) for cell in row) for row in rows])


def _rows(headings: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    """A table from cells that are Markdown already."""
    lines = [headings, ("---",) * len(headings), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def inline(text: str) -> str:
    """One line of inline text: HTML as entities, Markdown's signs behind backslashes, no bare links."""
    line = " ".join(escape(text, quote=False).split())
    return re.sub(r"([\\`*_\[\]|~$]|:(?=//))", r"\\\1", line)


def block(text: str) -> str:
    """Several lines as they are: inside `<pre>` only entities mean anything."""
    return f"<pre>\n{escape(text, quote=False).rstrip()}\n</pre>"
