"""`bench explain` for the terminal: the facts, the timeline, the server's account and every tool's figures of one request."""

import statistics
from collections.abc import Callable, Sequence
from functools import partial
from itertools import groupby
from operator import attrgetter, itemgetter

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from bench.tables import Cell, Column, table
from results.caveats import sentence
from results.definitions import FIGURES, TOOLS, Row, definitions_of
from results.format import moment, number, percent, plain, quantity, scale
from results.metrics import METRICS, request_values
from results.reading import RequestOrigin
from results.records import ERROR_KINDS, Request
from results.timeline import Account, Moment, accounts, timeline, was_not_sent

COUNTED = {"engine": ", counted by the engine", "usage": ", counted by the server", "tokenizer": ", counted by a tokenizer"}
TIMES = {figure for figure, (_, unit) in FIGURES.items() if unit == "s"}
HEAD, TAIL = 8, 6
"""Events at the start and at the end that are shown one by one; between them only the slow ones are."""


def explanation(origin: RequestOrigin, request: Request) -> RenderableType:
    parts: list[RenderableType] = [_facts(origin, request), Text(), *_timeline(timeline(request))]
    if found := accounts(request):
        parts += [Text(), Text("The server's own account beside ours", style="bold"), _accounts(found)]
    return Group(*parts, Text(), *_definitions(definitions_of(request)))


def _facts(origin: RequestOrigin, request: Request) -> RenderableType:
    facts = [
        ("Request", request.request_id),
        ("Case", origin.planned.label),
        ("Run", f"{origin.run_id}, process {origin.process}, request {request.index}"),
        ("Sent", _sent(request)),
        ("From schedule", _from_schedule(request)),
        ("Tokens", _tokens(request)),
        ("Finish", request.finish_reason or "unknown"),
        ("Error", _error(request.error) if request.error else ""),
        ("Failure", f"the case failed after this request: {origin.failure}" if origin.failure else ""),
        *(("Note", sentence(warning)) for warning in origin.warnings),
    ]
    return _pairs([(name, value) for name, value in facts if value])


def _sent(request: Request) -> str:
    if was_not_sent(request):
        return "never"
    late = request.sent_s - request.scheduled_s
    return moment(request.sent_at) + (f", {quantity(late, 's')} after its scheduled time" if late > 0 else "")


def _from_schedule(request: Request) -> str:
    if request.sent_s == request.scheduled_s:
        return ""
    names = ("ttft_scheduled_s", "e2e_scheduled_s")
    values = {METRICS[name].label: request_values(name, request) for name in names}
    return ", ".join(
        f"{label.removesuffix(' from schedule')} {_precise(value[0], 's')}" for label, value in values.items() if value
    )


def _tokens(request: Request) -> str:
    source = COUNTED.get(request.token_source or "", "") if request.output_tokens is not None else ""
    cached = request.values.get("cached_prompt_tokens")
    hit = f", {number(cached)} of the prompt's from the server's cache" if cached else ""
    return f"{_known(request.prompt_tokens)} → {_known(request.output_tokens)}{source}{hit}"


def _error(error: str) -> str:
    meaning = ERROR_KINDS.get(error.partition(":")[0])
    return f"{error} ({meaning})" if meaning else error


def _timeline(moments: Sequence[Moment]) -> list[RenderableType]:
    gaps = [one.gap_s for one in moments if one.gap_s]
    factor, unit = scale(statistics.median(gaps) if gaps else 1e-3, "s")
    shown = partial(_shown, factor)
    rows: list[tuple[Cell, ...]] = []
    for is_folded, group in groupby(_foldable(moments), key=itemgetter(0)):
        found = [one for _, one in group]
        if is_folded and len(found) > 1:
            rows.append(("⋮", "", str(sum(one.tokens or 0 for one in found)), _folded(found, shown, unit)))
        else:
            rows += [(shown(one.at_s), shown(one.gap_s), _known(one.tokens, ""), _marked(one)) for one in found]
    headers = (f"At ({unit})", f"Gap ({unit})", "Tokens")
    columns = [Column(header, [row[place] for row in rows], justify="right") for place, header in enumerate(headers)]
    happened = any(one.tokens is not None for one in moments)
    title = "Timeline" if happened else "Timeline: no event of the answer was kept"
    return [Text(title, style="bold"), table([*columns, Column("What", [row[-1] for row in rows], wraps=20)])]


def _shown(factor: float, seconds: float | None) -> str:
    return "" if seconds is None else f"{seconds / factor:z.1f}"


def _foldable(moments: Sequence[Moment]) -> list[tuple[bool, Moment]]:
    """Each moment, and whether it goes into a fold: an ordinary event in the middle of many."""
    first = next((place for place, one in enumerate(moments) if one.tokens is not None), len(moments))
    middle = range(first + HEAD, len(moments) - TAIL)
    return [(len(middle) > 2 and place in middle and one.rank is None, one) for place, one in enumerate(moments)]


def _folded(found: Sequence[Moment], shown: Callable[[float | None], str], unit: str) -> str:
    gaps = [one.gap_s or 0.0 for one in found]
    return f"{len(found)} events, gaps {shown(min(gaps))} to {shown(max(gaps))} {unit}"


def _marked(one: Moment) -> Cell:
    if one.rank is None:
        return one.what
    return Text.assemble(plain(one.what), ("  ◀ " + ("slowest gap", "2nd slowest", "3rd slowest")[one.rank - 1], "yellow"))


def _accounts(found: Sequence[Account]) -> RenderableType:
    return table(
        [
            Column("", [one.label for one in found]),
            Column("Ours", [_precise(one.ours, one.unit) for one in found], justify="right"),
            Column("Server", [_precise(one.server, one.unit) for one in found], justify="right"),
            Column("Difference", [_difference(one) for one in found], justify="right"),
            Column("Between them", [one.why for one in found], wraps=12),
        ]
    )


def _difference(one: Account) -> str:
    if one.difference is None or one.ours is None:
        return "–"
    sign = "+" if one.difference > 0 else ""
    share = f" ({percent(one.ours / one.server)})" if one.server > 0 else ""
    return f"{sign}{quantity(one.difference, one.unit)}{share}"


def _definitions(rows: Sequence[Row]) -> list[RenderableType]:
    """The tools that have times of this request as a table, and below it what sets each tool apart."""
    title = Text("The same request under each tool's definitions", style="bold")
    by_tool = {tool: list(found) for tool, found in groupby(rows, key=attrgetter("tool"))}
    known = {
        tool: found for tool, found in by_tool.items() if any(row.value is not None and row.figure in TIMES for row in found)
    }
    if not known:
        return [title, Text(f"None has any. {rows[0].reason}")]
    columns = [Column("Tool", list(known))]
    for place, (label, unit) in enumerate(FIGURES.values()):
        columns.append(
            Column(
                label, [_precise(found[place].value, unit if unit == "s" else "") for found in known.values()], justify="right"
            )
        )
    notes = [(tool.name, " ".join([tool.difference, *_missing(by_tool[tool.name], tool.name in known)])) for tool in TOOLS]
    return [title, table(columns), Text(), _pairs(notes)]


def _missing(rows: Sequence[Row], is_in_table: bool) -> list[str]:
    """Why figures are missing that the tool would have: by reason, after the figures' labels."""
    reasons: dict[str, list[str]] = {}
    for row in rows:
        if row.value is None and row.name:
            reasons.setdefault(row.reason, []).append(FIGURES[row.figure][0])
    return [f"{', '.join(labels)} unknown: {reason}" if is_in_table else reason for reason, labels in reasons.items()]


def _precise(value: float | None, unit: str) -> str:
    """With a digit more than elsewhere: what is compared here differs by little."""
    if value is None:
        return "–"
    factor, name = scale(value, unit)
    return f"{number(value / factor, 4)} {name}".strip()


def _pairs(rows: Sequence[tuple[str, str]]) -> RenderableType:
    grid = Table.grid(padding=(0, 2))
    grid.add_column(no_wrap=True)
    grid.add_column(overflow="fold")
    for name, value in rows:
        grid.add_row(Text(plain(name)), Text(plain(value)))
    return grid


def _known(count: int | None, otherwise: str = "–") -> str:
    return otherwise if count is None else str(count)
