"""Single series on the terminal: a line of blocks, and a row per run. What was found in them is `bench.history_table`'s."""

from collections.abc import Mapping, Sequence

from rich.console import Group, RenderableType
from rich.text import Text

from bench.history_choice import Found
from bench.history_table import (
    STYLES,
    change_words,
    changes_by_series,
    commit_text,
    conclusion,
    counted,
    findings_table,
    machine_text,
    series_key,
    series_state,
    state_text,
)
from bench.tables import Cell, Column, Fitted, case_label, table
from results.format import moment, plain, quantity
from results.history import History, MetricSeries, RunOrigin
from results.history_groups import KnownChange

BLOCKS = "▁▂▃▄▅▆▇█"
NEWEST_DRAWN = 60
"""Runs of a series that its line shows."""


def details(found: Found, limit: int) -> RenderableType:
    """Each series with its newest points, and what changed."""
    states = changes_by_series(found.findings)
    parts: list[RenderableType] = []
    for one in found.histories:
        parts += [*_head(one), Text(), _points_table(one, states, limit), Text()]
    if found.findings:
        parts += [findings_table(found.findings, found.histories), Text()]
    return Group(*parts, *conclusion(found))


def metrics_table(found: Found) -> RenderableType:
    """A line for each series of one case, with the machine where there are several."""
    states = changes_by_series(found.findings)
    several = len({one.series.machine_id for one in found.histories}) > 1
    machines = [machine_text(one.series.points[-1].run) if several else "" for one in found.histories]
    return table(
        [
            Column("Metric", [one.series.about.label for one in found.histories]),
            Column("Runs", [str(len(one.series.points)) for one in found.histories], justify="right"),
            Column("Newest", [value_text(one.series, one.series.points[-1].value) for one in found.histories], justify="right"),
            Column("State", [state_text(series_state(one, states.get(series_key(one.series), []))) for one in found.histories]),
            Column("", [line(one, 30) for one in found.histories]),
            Column("Machine", machines, wraps=20),
        ]
    )


def line(history: History, newest: int = NEWEST_DRAWN) -> str:
    """A series as blocks, low to high, with a bar where a stretch begins and a cross for each run that failed."""
    series = history.series
    values = [point.value for point in series.points[-newest:]]
    low, span = min(values), max(values) - min(values)
    starts = {one.start for one in history.stretches if one.start > len(series.points) - len(values)}
    marks = []
    for place, point in enumerate(series.points[-newest:], len(series.points) - len(values)):
        block = BLOCKS[round((point.value - low) / span * 7)] if span > 0 else BLOCKS[3]
        marks.append((point.run.at, ("│" if place in starts else "") + block))
    first = series.points[-newest:][0].run.at
    marks += [(one.run.at, "✗") for one in series.failed if one.run.at > first]
    return "".join(mark for _, mark in sorted(marks, key=lambda one: one[0]))


def _head(one: History) -> list[RenderableType]:
    series = one.series
    values = [point.value for point in series.points]
    drawn = f", newest {NEWEST_DRAWN}" if len(values) > NEWEST_DRAWN else ""
    extremes = " to ".join(value_text(series, value) for value in (min(values), max(values)))
    return [
        Text(plain(f"{series.about.label}  {case_label(series.planned)}"), style="bold"),
        Text(plain(f"{series.planned.case.case_id}  {machine_text(series.points[-1].run)}")),
        Text(f"{line(one)}  {counted(len(values), 'run')}{drawn}, {extremes}"),
    ]


def _points_table(one: History, states: Mapping[tuple[str, str, str], Sequence[KnownChange]], limit: int) -> RenderableType:
    """The newest runs, newest first: points with their stretch, and failures in their place."""
    series = one.series
    stretch = {place: number for number, each in enumerate(one.stretches, 1) for place in range(each.start, each.end)}
    begins = {each.change.run.run_id: each for each in reversed(states.get(series_key(series), []))}
    rows: list[tuple[RunOrigin, list[Cell]]] = [
        (point.run, [str(point.processes), value_text(series, point.value), str(stretch[place])])
        for place, point in enumerate(series.points)
    ]
    rows += [(each.run, ["0", f"✗ {each.kind}", ""]) for each in series.failed]
    rows = sorted(rows, key=lambda row: (row[0].at, row[0].run_id), reverse=True)[:limit]
    cells = [
        [
            run.run_id,
            moment(run.at),
            commit_text(run),
            run.branch or "",
            *counted,
            _begun(begins.get(run.run_id)),
        ]
        for run, counted in rows
    ]
    headers = ("Run", "Started", "Commit", "Branch", "n", series.about.label, "Stretch", "Change")
    right = ("n", series.about.label, "Stretch")
    columns = [
        Column(header, [row[place] for row in cells], justify="right" if header in right else "left")
        for place, header in enumerate(headers)
    ]
    shown = (
        [] if len(rows) == len(series.points) + len(series.failed) else [Text(f"The newest {len(rows)}: --limit N shows more.")]
    )
    return Group(Fitted((table(columns), table([columns[0], *columns[4:]]))), *shown)


def _begun(one: KnownChange | None) -> Cell:
    if one is None:
        return ""
    return Text(plain(f"{change_words(one.change)} {one.state}"), style=STYLES.get(one.state, ""))


def value_text(series: MetricSeries, value: float) -> str:
    return quantity(value, series.about.unit)
