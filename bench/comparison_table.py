"""An outcome on the terminal: environments, a row per case and metric with its verdict, what one side lacks, and the closing words."""

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from bench.tables import Column, Fitted, case_label, footnotes, table
from results.format import moment, plain, quantity
from results.gate import Judgement, RowJudgement, Verdict
from results.metrics import METRICS
from results.outcome import Outcome
from results.stats import Estimate
from results.verdict_words import changed, detectable, lacking, method, replicates, sided_warnings, verdict_words

MOST = 5
"""Different reasons of inconclusive rows that are told."""

VERDICT_STYLES: dict[Verdict, str] = {"regression": "bold red", "inconclusive": "yellow", "improvement": "green"}


def comparison_table(outcome: Outcome) -> RenderableType:
    """What differs between the environments, a row per case and metric, worst first, and what one side lacks."""
    if not outcome.judgement:
        return Group(*_environments(outcome))
    verdict = outcome.judgement.verdict
    told = (*outcome.judgement.reasons, *lacking(outcome.judgement)[:MOST], outcome.calibration_words)
    closing = [plain(line) for line in told]
    return Group(
        *_environments(outcome),
        *_judged(outcome.judgement),
        *map(Text, closing),
        Text(outcome.sentence, style=VERDICT_STYLES.get(verdict, "")),
    )


def _environments(outcome: Outcome) -> list[RenderableType]:
    parts: list[RenderableType] = []
    for name, side, run in outcome.runs:
        known = "" if run.run_id in side.name else f"{run.run_id}, "
        parts.append(Text(plain(f"{name}: {side.name}, {known}{run.suite}, {moment(run.started_at)}")))
    if outcome.differences:
        facts = [
            Column("Environment", [f"{one.key} (hard)" if one.hard else one.key for one in outcome.differences]),
            Column("A", [one.shown[0] for one in outcome.differences], wraps=12),
            Column("B", [one.shown[1] for one in outcome.differences], wraps=12),
        ]
        parts += [Text(), table(facts)]
    return parts


def _judged(judgement: Judgement) -> list[RenderableType]:
    rows = judgement.rows
    marks, notes = footnotes([sided_warnings(judged.row) for judged in rows])
    parts: list[RenderableType] = [Text()]
    if rows:
        parts += [_rows(rows, marks), Text()]
        notes.insert(0, method(judgement))
    return [*parts, *(Text(plain(note)) for note in notes), Text()]


def _rows(rows: tuple[RowJudgement, ...], marks: list[str]) -> RenderableType:
    def wide(joint: str, width: int, leading: int) -> Table:
        return table(
            [
                Column("Verdict", [_verdict(one) for one in rows]),
                Column("Metric", [METRICS[one.row.metric].label for one in rows]),
                Column("Case", [case_label(one.row.planned) for one in rows], wraps=width),
                Column("A", [_side(one, one.row.a) for one in rows], justify="right"),
                Column("B", [_side(one, one.row.b) for one in rows], justify="right"),
                Column("Change", [changed(one).replace(" [", f"{joint}[") for one in rows], justify="right"),
                Column("Detectable", [detectable(one) for one in rows], justify="right"),
                Column("n", [replicates(one.row) for one in rows], justify="right"),
                Column("Notes", marks, wraps=5),
            ],
            leading,
        )

    stacked = Group(*(_stacked(judged, mark) for judged, mark in zip(rows, marks, strict=True)))
    return Fitted((wide(" ", 32, 0), wide("\n", 20, 1), stacked))


def _stacked(judged: RowJudgement, marks: str) -> RenderableType:
    row = judged.row
    title = Text.assemble(_verdict(judged), f"  {METRICS[row.metric].label}  {case_label(row.planned)}")
    seen = f", detectable {detectable(judged)}" if detectable(judged) != "–" else ""
    sides = f"{_side(judged, row.a)} → {_side(judged, row.b)}"
    facts = f"{sides}  {changed(judged)}{seen}, n {replicates(row)}{f'  ({marks})' if marks else ''}"
    return Group(title, Padding(Text(facts), (0, 0, 0, 2), expand=False))


def _verdict(judged: RowJudgement) -> Text:
    return Text(verdict_words(judged), style=VERDICT_STYLES.get(judged.verdict, "") if judged.gates else "")


def _side(judged: RowJudgement, side: Estimate) -> str:
    return quantity(side.value, METRICS[judged.row.metric].unit)
