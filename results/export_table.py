"""What a readable report says, as plain text in order: facts, one table, notes, failures, environment. Markdown and HTML draw it."""

import html
import shlex
from dataclasses import dataclass
from datetime import UTC, datetime

from results.caveats import sentence
from results.format import plain
from results.metrics import METRICS, Metric
from results.records import HARD_FACTS, Failure, Report
from results.summary import estimate_text, headline, summarize, unresolved

METHOD = (
    "Values are medians over processes with their 95 % interval; in rows of a single process, medians over its requests "
    "with their quartiles. ↓: lower is better, ↑: higher is better."
)
ARROWS = {"lower": " ↓", "higher": " ↑", None: ""}


@dataclass(frozen=True)
class Line:
    """One case of the table."""

    label: str
    status: str
    processes: str
    """Measured of planned, such as `3/3`."""
    cells: tuple[str, ...]
    """One per column."""
    notes: tuple[int, ...]
    """Numbers of the table's notes, from 1."""


@dataclass(frozen=True)
class Table:
    columns: tuple[Metric, ...]
    lines: tuple[Line, ...]
    notes: tuple[str, ...]


def table_of(report: Report) -> Table:
    """The standing table: the headline metrics that any case has, and each different warning once."""
    rows = summarize(report)
    columns = tuple(METRICS[name] for name in headline(rows))
    notes: dict[str, int] = {}
    lines = []
    for row in rows:
        caveats = dict.fromkeys(sentence(warning) for warning in (*row.warnings, *row.quality_warnings))
        numbers = tuple(notes.setdefault(caveat, len(notes) + 1) for caveat in caveats)
        processes = f"{row.processes}/{row.planned.processes}"
        cells = tuple(estimate_text(row.estimates.get(one.name), one.name) for one in columns)
        lines.append(Line(row.planned.label, row.status, processes, cells, numbers))
    return Table(columns, tuple(lines), tuple(notes))


def heading(metric: Metric) -> str:
    return metric.label + ARROWS[metric.better]


def facts_of(report: Report) -> dict[str, str]:
    """What the report is about, by name."""
    run = report.run
    commit = f"{run.git_commit}{' with uncommitted changes' if run.git_dirty else ''}" if run.git_commit else "–"
    return {
        "Run": run.run_id,
        "Suite": f"{run.suite} ({run.suite_hash})",
        "Started": date(run.started_at),
        "Status": report.status,
        "Measured": f"{len(report.measurements)} of {sum(planned.processes for planned in run.planned)} processes",
        "Failed": str(len(unresolved(report.measurements, report.failures))),
        "Tags": ", ".join(report.tags) or "–",
        "Git commit": commit,
        "Environment": run.environment.environment_id,
    }


def environment_of(report: Report) -> list[tuple[str, str, bool]]:
    """Name, value, and whether runs are comparable only where it agrees; those first."""
    facts = report.run.environment.facts
    named = [(name, "–" if value in (None, "") else str(value), name in HARD_FACTS) for name, value in facts.items()]
    return sorted(named, key=lambda fact: (not fact[2], fact[0]))


def failure_label(report: Report, failure: Failure) -> str:
    """The case that failed, where and how, such as `gemma … (process 0): crash while measure, exit code -9`."""
    code = "" if failure.exit_code is None else f", exit code {failure.exit_code}"
    label = report.run.plan_of(failure.case_id).label
    return f"{label} (process {failure.process}): {failure.kind} in phase {failure.phase}{code}"


def command_of(report: Report) -> str:
    """The command that made the run, for a shell."""
    return plain(shlex.join(report.run.command))


def date(at: datetime) -> str:
    """In UTC: a report is read on other machines."""
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"


def escape(text: str, *, quote: bool = True) -> str:
    """Text as HTML shows it, safe inside attributes too with `quote`: no markup, no control or bidi characters."""
    return html.escape(plain(text), quote=quote)
