"""A comparison on the terminal: environments, a row per case and metric with its verdict, and one closing sentence."""

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from bench.tables import Column, Fitted, case_label, footnotes, table
from results.compare import Comparison, ComparisonRow
from results.format import moment, plain, quantity
from results.gate import MIN_REPLICATES, Verdict, judge, verdict_of
from results.metrics import METRICS
from results.records import RowWarning
from results.stats import Estimate
from results.verdict_words import change, detectable, gaps, worst_first

VERDICT_STYLES: dict[Verdict, str] = {"regression": "bold red", "inconclusive": "yellow", "improvement": "green"}


def comparison_table(comparison: Comparison) -> RenderableType:
    """What differs between the environments, a row per case and metric, worst first, and what one side lacks."""
    rows = worst_first(comparison)
    marks, notes = footnotes([_sided(row) for row in rows])

    def wide(joint: str, width: int, leading: int) -> Table:
        return table(
            [
                Column("Verdict", [_verdict(row) for row in rows]),
                Column("Metric", [METRICS[row.metric].label for row in rows]),
                Column("Case", [case_label(row.planned) for row in rows], wraps=width),
                Column("A", [_side(row, row.a) for row in rows], justify="right"),
                Column("B", [_side(row, row.b) for row in rows], justify="right"),
                Column("Change", [change(row).replace(" [", f"{joint}[") for row in rows], justify="right"),
                Column("Detectable", [detectable(row) for row in rows], justify="right"),
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
    notes += gaps(comparison)
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
    few = any(judge(row) == "inconclusive" and not row.is_score and row.replicates < MIN_REPLICATES for row in comparison.rows)
    remedy = " A verdict needs three processes a side." if few else ""
    words = f"{verdict.replace('_', ' ').capitalize()}: {', '.join(parts) or 'nothing could be judged'}.{remedy}"
    return Text(words, style=VERDICT_STYLES.get(verdict, ""))


def _sided(row: ComparisonRow) -> list[tuple[str, RowWarning]]:
    """A row's warnings with the side that each belongs to."""
    both = [one for one in row.a_warnings if one in row.b_warnings]
    sides = (("A and B", both), ("A", row.a_warnings), ("B", row.b_warnings))
    return [(side, one) for side, warnings in sides for one in warnings if side == "A and B" or one not in both]


def _stacked_change(row: ComparisonRow, marks: str) -> RenderableType:
    title = Text.assemble(_verdict(row), f"  {METRICS[row.metric].label}  {case_label(row.planned)}")
    seen = f", detectable {detectable(row)}" if row.detectable is not None else ""
    sides = f"{_side(row, row.a)} → {_side(row, row.b)}"
    facts = f"{sides}  {change(row)}{seen}, n {_replicates(row)}{f'  ({marks})' if marks else ''}"
    return Group(title, Padding(Text(facts), (0, 0, 0, 2), expand=False))


def _verdict(row: ComparisonRow) -> Text:
    verdict = judge(row)
    return Text(verdict.replace("_", " "), style=VERDICT_STYLES.get(verdict, ""))


def _side(row: ComparisonRow, side: Estimate) -> str:
    return quantity(side.value, METRICS[row.metric].unit)


def _replicates(row: ComparisonRow) -> str:
    if row.is_score:
        return f"{row.replicates} items"
    return "/".join(str(side.n if side.basis == "processes" else 1) for side in (row.a, row.b))


def _fact(value: object) -> str:
    return "unknown" if value is None else str(value)
