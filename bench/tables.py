"""Tables for the terminal: rows in, rich renderables out. Which layout fits is decided when the width is known."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from rich import box
from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.measure import Measurement
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from results.caveats import sentence
from results.compare import Comparison, ComparisonRow
from results.format import moment, number, percent, plain, points, quantity
from results.gate import VERDICTS, Verdict, judge, verdict_of
from results.metrics import METRICS
from results.records import RowWarning
from results.stats import Estimate
from results.store import RunSummary
from results.summary import HEADLINE, CaseRow, worst_of_each

VERDICT_STYLES: dict[Verdict, str] = {"regression": "bold red", "inconclusive": "yellow", "improvement": "green"}

Cell = str | Text


def console() -> Console:
    """A console for standard output that takes no text for markup; `COLUMNS` and `NO_COLOR` are heeded."""
    return Console(markup=False, emoji=False, highlight=False)


@dataclass(frozen=True)
class Fitted:
    """The first layout whose words and numbers all fit the width; the last one where none does."""

    layouts: tuple[RenderableType, ...]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        unlimited = options.update(width=10_000)
        fits = (one for one in self.layouts if Measurement.get(console, unlimited, one).minimum <= options.max_width)
        yield next(fits, self.layouts[-1])


@dataclass(frozen=True)
class Column:
    header: str
    cells: Sequence[Cell]
    wraps: int = 0
    """The width down to which words may be wrapped; 0 keeps each line of a cell whole."""
    justify: str = "left"


def table(columns: Iterable[Column], leading: int = 0) -> Table:
    """A table with one line under its header; columns without any text are left out."""
    shown = [column for column in columns if any(map(len, column.cells))]
    made = Table(box=box.SIMPLE, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0), leading=leading, header_style="bold")
    for column in shown:
        lines = [line for cell in column.cells for line in str(cell).split("\n")]
        made.add_column(
            column.header,
            justify=column.justify,  # type: ignore[arg-type]
            no_wrap=not column.wraps,
            min_width=column.wraps or max(map(cell_len, lines)),
            overflow="fold",
        )
    for cells in zip(*(column.cells for column in shown), strict=True):
        made.add_row(*(cell if isinstance(cell, Text) else Text(plain(cell)) for cell in cells))
    return made


def cases_table(rows: Sequence[CaseRow]) -> RenderableType:
    """The standing table of a run: a row per case, with footnotes and failures below."""
    marks, notes = _footnotes([[("", one) for one in (*row.warnings, *row.quality_warnings)] for row in rows])
    for position, row in enumerate(rows):
        if row.planned.base_model:
            marks[position] = f"† {marks[position]}".rstrip()
    if any(row.planned.base_model for row in rows):
        notes.insert(0, f"† {sentence(RowWarning(kind='base_model'))}")
    if any(one.basis == "processes" for row in rows for one in row.estimates.values()):
        notes.insert(0, "[ ] 95 % interval over the processes")
    names = [name for name in HEADLINE if any(name in row.estimates for row in rows)]

    def wide(joint: str, width: int, leading: int) -> Table:
        metrics = [
            Column(METRICS[name].label, [_estimate(row, name).replace(" [", f"{joint}[") for row in rows], justify="right")
            for name in names
        ]
        labels = Column("Case", [_label(row) for row in rows], wraps=width)
        counts = Column("n", [_count(row).replace(" ", joint) for row in rows], justify="right")
        return table([labels, counts, *metrics, Column("Notes", marks, wraps=5)], leading)

    stacked = Group(*(_stacked(row, mark, names) for row, mark in zip(rows, marks, strict=True)))
    return Group(Fitted((wide(" ", 32, 0), wide("\n", 20, 1), stacked)), Text(), *map(Text, notes), *_failures(rows))


def runs_table(runs: Sequence[RunSummary]) -> RenderableType:
    """A row per run."""
    ids = Column("Run", [run.run_id for run in runs])
    what = [
        Column("Suite", [run.suite for run in runs], wraps=10),
        Column("Models", [", ".join(run.models) for run in runs], wraps=12),
        Column("Measured", [f"{run.measured} of {run.planned}" for run in runs], justify="right"),
        Column("Failed", [str(run.failed) if run.failed else "" for run in runs], justify="right"),
        Column("Status", [run.status for run in runs]),
        Column("Tags", [", ".join(run.tags) for run in runs], wraps=6),
    ]
    started = Column("Started", [moment(run.started_at) for run in runs])
    commit = Column("Commit", [(run.git_commit or "")[:8] for run in runs])
    return Fitted((table([ids, started, *what, commit]), table([ids, *what])))


def comparison_table(comparison: Comparison) -> RenderableType:
    """What differs between the environments, a row per case and metric, worst first, and what one side lacks."""
    rows = sorted(comparison.rows, key=lambda row: VERDICTS.index(judge(row)))
    marks, notes = _footnotes([_sided(row) for row in rows])

    def wide(joint: str, width: int, leading: int) -> Table:
        return table(
            [
                Column("Verdict", [_verdict(row) for row in rows]),
                Column("Metric", [METRICS[row.metric].label for row in rows]),
                Column("Case", [row.planned.label for row in rows], wraps=width),
                Column("A", [_side(row, row.a) for row in rows], justify="right"),
                Column("B", [_side(row, row.b) for row in rows], justify="right"),
                Column("Change", [_change(row).replace(" [", f"{joint}[") for row in rows], justify="right"),
                Column("Detectable", [_detectable(row) for row in rows], justify="right"),
                Column("n", [_replicates(row) for row in rows], justify="right"),
                Column("Notes", marks, wraps=5),
            ],
            leading,
        )

    stacked = Group(*(_stacked_change(row, mark) for row, mark in zip(rows, marks, strict=True)))
    runs = (("A", comparison.a_run), ("B", comparison.b_run))
    parts: list[RenderableType] = [
        Text(plain(f"{side}: {run.run_id}, {run.suite}, {moment(run.started_at)}")) for side, run in runs
    ]
    parts.append(Text())
    if comparison.differences:
        facts = [
            Column("Environment", [f"{one.key} (hard)" if one.hard else one.key for one in comparison.differences]),
            Column("A", [_fact(one.a) for one in comparison.differences], wraps=12),
            Column("B", [_fact(one.b) for one in comparison.differences], wraps=12),
        ]
        parts += [table(facts), Text()]
    if rows:
        parts += [Fitted((wide(" ", 32, 0), wide("\n", 20, 1), stacked)), Text()]
        notes.insert(0, "Change: B against A with its 95 % interval. Detectable: the smallest change seen with 80 % power.")
    labels = {one.case.case_id: one.label for one in comparison.a_run.planned}
    notes += [f"Failed on B only: {labels[one.case_id]}: {one.kind}: {one.message}" for one in comparison.newly_failed]
    notes += [f"Not reached on B: {one.label}" for one in comparison.unreached]
    notes += [f"Only in A: {one.label}" for one in comparison.only_a if one not in comparison.unreached]
    notes += [f"Only in B: {one.label}" for one in comparison.only_b]
    return Group(*parts, *(Text(plain(note)) for note in notes), Text(), _closing(comparison))


_COUNTED: dict[Verdict, str] = {
    "regression": "worse",
    "inconclusive": "inconclusive",
    "no_change": "unchanged",
    "improvement": "better",
    "described": "described only",
}


def _closing(comparison: Comparison) -> Text:
    """One sentence: the verdict, and how many rows stand behind it."""
    judged = [judge(row) for row in comparison.rows]
    parts = [f"{judged.count(verdict)} {words}" for verdict, words in _COUNTED.items() if verdict in judged]
    if comparison.newly_failed:
        parts.append(f"{len(comparison.newly_failed)} newly failed")
    if comparison.unreached:
        parts.append(f"{len(comparison.unreached)} not reached")
    verdict = verdict_of(comparison)
    few = any(judge(row) == "inconclusive" and not row.is_score and row.replicates < 3 for row in comparison.rows)
    remedy = " A verdict needs three processes a side." if few else ""
    words = f"{verdict.replace('_', ' ').capitalize()}: {', '.join(parts) or 'nothing could be judged'}.{remedy}"
    return Text(words, style=VERDICT_STYLES.get(verdict, ""))


def _sided(row: ComparisonRow) -> list[tuple[str, RowWarning]]:
    """A row's warnings with the side that each belongs to."""
    both = [one for one in row.a_warnings if one in row.b_warnings]
    sides = (("A and B", both), ("A", row.a_warnings), ("B", row.b_warnings))
    return [(side, one) for side, warnings in sides for one in warnings if side == "A and B" or one not in both]


def _footnotes(groups: Sequence[Sequence[tuple[str, RowWarning]]]) -> tuple[list[str], list[str]]:
    """Each row's marks, and the notes they point to. Warnings that differ in their numbers only share the worst one's note."""
    found: dict[tuple[str, ...], list[RowWarning]] = {}
    keys: list[list[tuple[str, ...]]] = []
    for group in groups:
        kept = [(side, one) for side, one in group if side or one.kind != "base_model"]
        keys.append([(side, one.kind, *(v for v in one.facts.values() if isinstance(v, str))) for side, one in kept])
        for key, (_, warning) in zip(keys[-1], kept, strict=True):
            found.setdefault(key, []).append(warning)
    numbers = {key: str(position) for position, key in enumerate(found, 1)}
    notes = []
    for key, warnings in found.items():
        side = f"{key[0]}: " if key[0] else ""
        several = " (in the worst case)" if any(one.facts != warnings[0].facts for one in warnings) else ""
        notes.append(plain(f"{numbers[key]} {side}{sentence(worst_of_each(warnings)[0])}{several}"))
    return [" ".join(dict.fromkeys(numbers[key] for key in mine)) for mine in keys], notes


def _failures(rows: Sequence[CaseRow]) -> list[Text]:
    """A line per case and kind of failure."""
    lines: dict[str, int] = {}
    for row in rows:
        for failure, label in [(one, _label(row)) for one in row.failures] + [
            (one, f"{_label(row)}, quality") for one in row.quality_failures
        ]:
            line = f"{label}: {failure.kind} in phase {failure.phase}: {failure.message}"
            lines[line] = lines.get(line, 0) + 1
    found = [Text(plain(f"✗ {line}{f' ({count} times)' if count > 1 else ''}"), style="red") for line, count in lines.items()]
    return [Text(), *found] if found else []


def _label(row: CaseRow) -> str:
    source = row.planned.case.source_precision
    return f"{row.planned.label} from {source}" if source else row.planned.label


def _count(row: CaseRow) -> str:
    """Processes that measured the case, of how many; and why none did."""
    count = f"{row.processes}/{row.planned.processes}"
    return count if row.processes else f"{count} {row.status}"


def _estimate(row: CaseRow, name: str) -> str:
    one = row.estimates.get(name)
    return quantity(one.value, METRICS[name].unit, one.low, one.high) if one else ""


def _stacked(row: CaseRow, marks: str, names: Sequence[str]) -> RenderableType:
    grid = Table.grid(padding=(0, 2))
    for name in names:
        if name in row.estimates:
            grid.add_row(Text(METRICS[name].label), Text(_estimate(row, name)))
    title = Text.assemble((_label(row), "bold"), f"  n {_count(row)}", f"  ({marks})" if marks else "")
    return Group(title, Padding(grid, (0, 0, 0, 2), expand=False)) if grid.row_count else title


def _stacked_change(row: ComparisonRow, marks: str) -> RenderableType:
    title = Text.assemble(_verdict(row), f"  {METRICS[row.metric].label}  {row.planned.label}")
    detectable = f", detectable {_detectable(row)}" if row.detectable is not None else ""
    sides = f"{_side(row, row.a)} → {_side(row, row.b)}"
    facts = f"{sides}  {_change(row)}{detectable}, n {_replicates(row)}{f'  ({marks})' if marks else ''}"
    return Group(title, Padding(Text(facts), (0, 0, 0, 2), expand=False))


def _verdict(row: ComparisonRow) -> Text:
    verdict = judge(row)
    return Text(verdict.replace("_", " "), style=VERDICT_STYLES.get(verdict, ""))


def _side(row: ComparisonRow, side: Estimate) -> str:
    return quantity(side.value, METRICS[row.metric].unit)


def _change(row: ComparisonRow) -> str:
    """Exact metrics without a margin show the amount, as the least difference counts."""
    metric, effect = METRICS[row.metric], row.effect
    if effect is None or row.ratio is None:
        return "–"
    if metric.exact and effect.value == effect.low == effect.high == 0:
        return "equal"
    if metric.exact and metric.margin is None:
        amount = row.b.value - row.a.value
        return f"{'+' if amount > 0 else '-'}{quantity(abs(amount), metric.unit)}"
    return points(effect.value, effect.low, effect.high) if row.is_score else percent(row.ratio, row.low, row.high)


def _detectable(row: ComparisonRow) -> str:
    if not row.detectable:
        return "–" if row.detectable is None else "any"
    return f"{number(100 * row.detectable, 2)} {'points' if row.is_score else '%'}"


def _replicates(row: ComparisonRow) -> str:
    if row.is_score:
        return f"{row.replicates} items"
    return "/".join(str(side.n if side.basis == "processes" else 1) for side in (row.a, row.b))


def _fact(value: object) -> str:
    return "unknown" if value is None else str(value)
