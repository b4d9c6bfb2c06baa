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

from results.cases import PlannedCase
from results.caveats import sentence
from results.format import moment, plain
from results.metrics import METRICS
from results.reading import RunSummary
from results.records import RowWarning
from results.summary import HEADLINES, CaseRow, estimate_text, headline, worst_of_each

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
        words = column.header.split() if column.wraps else [column.header]
        lines = [*words, *(line for cell in column.cells for line in str(cell).split("\n") if not column.wraps)]
        made.add_column(
            column.header,
            justify=column.justify,  # type: ignore[arg-type]
            no_wrap=not column.wraps,
            min_width=max(column.wraps, *map(cell_len, lines)),
            overflow="fold",
        )
    for cells in zip(*(column.cells for column in shown), strict=True):
        made.add_row(*(cell if isinstance(cell, Text) else Text(plain(cell)) for cell in cells))
    return made


def cases_table(rows: Sequence[CaseRow]) -> RenderableType:
    """The standing table of a run: a row per case, with footnotes and failures below."""
    marks, notes = footnotes([[("", one) for one in (*row.warnings, *row.quality_warnings)] for row in rows])
    base = [
        (row.planned.base_model and row.kind != "training")
        or any(one.kind == "base_model" for one in (*row.warnings, *row.quality_warnings))
        for row in rows
    ]
    marks = [f"† {mark}".rstrip() if is_base else mark for mark, is_base in zip(marks, base, strict=True)]
    if any(base):
        notes.insert(0, f"† {sentence(RowWarning(kind='base_model'))}")
    if any(one.basis == "processes" for row in rows for one in row.estimates.values()):
        notes.insert(0, "[ ] 95 % interval over the processes")
    tables: list[RenderableType] = []
    for kind in HEADLINES:
        mine = [(row, mark) for row, mark in zip(rows, marks, strict=True) if row.kind == kind]
        if mine:
            tables += [_fitted([row for row, _ in mine], [mark for _, mark in mine]), Text()]
    return Group(*tables, *map(Text, notes), *_failures(rows))


def _fitted(rows: Sequence[CaseRow], marks: Sequence[str]) -> RenderableType:
    names = headline(rows)

    def wide(joint: str, width: int, leading: int) -> Table:
        metrics = [
            Column(METRICS[name].label, [_estimate(row, name).replace(" [", f"{joint}[") for row in rows], justify="right")
            for name in names
        ]
        labels = Column("Case", [case_label(row.planned) for row in rows], wraps=width)
        counts = Column("n", [_count(row).replace(" ", joint) for row in rows], justify="right")
        return table([labels, counts, *metrics, Column("Notes", marks, wraps=5)], leading)

    stacked = Group(*(_stacked(row, mark, names) for row, mark in zip(rows, marks, strict=True)))
    return Fitted((wide(" ", 32, 0), wide("\n", 20, 1), stacked))


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


def footnotes(groups: Sequence[Sequence[tuple[str, RowWarning]]]) -> tuple[list[str], list[str]]:
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
        for failure, label in [(one, case_label(row.planned)) for one in row.failures] + [
            (one, f"{case_label(row.planned)}, quality") for one in row.quality_failures
        ]:
            line = f"{label}: {failure.kind} in phase {failure.phase}: {failure.message}"
            lines[line] = lines.get(line, 0) + 1
    found = [Text(plain(f"✗ {line}{f' ({count} times)' if count > 1 else ''}"), style="red") for line, count in lines.items()]
    return [Text(), *found] if found else []


def case_label(planned: PlannedCase) -> str:
    source = planned.case.source_precision
    return f"{planned.label} from {source}" if source not in (None, planned.case.quantization) else planned.label


def _count(row: CaseRow) -> str:
    """Processes that measured the case, of how many; and why none did."""
    count = f"{row.processes}/{row.planned.processes}"
    return count if row.processes else f"{count} {row.status}"


def _estimate(row: CaseRow, name: str) -> str:
    return estimate_text(row.estimates.get(name), name, unknown="")


def _stacked(row: CaseRow, marks: str, names: Sequence[str]) -> RenderableType:
    grid = Table.grid(padding=(0, 2))
    for name in names:
        if name in row.estimates:
            grid.add_row(Text(METRICS[name].label), Text(_estimate(row, name)))
    title = Text.assemble((case_label(row.planned), "bold"), f"  n {_count(row)}", f"  ({marks})" if marks else "")
    return Group(title, Padding(grid, (0, 0, 0, 2), expand=False)) if grid.row_count else title
