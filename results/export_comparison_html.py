"""An outcome as one HTML page: how the environments differ, the verdict, a forest plot per case, every row, and what to do next."""

from collections.abc import Iterable, Mapping

from results.caveats import sentence
from results.export_html import CSS
from results.export_svg import Mark, forest, reach_of
from results.export_table import date, escape, heading
from results.figures import VERDICTS
from results.format import quantity
from results.gate import Judgement, RowJudgement
from results.html_document import document
from results.metrics import METRICS
from results.outcome import Outcome, shell
from results.verdict_words import (
    COLUMNS,
    band,
    changed,
    commit_of,
    detectable,
    labels_of,
    margin,
    method,
    ratios,
    replicates,
    sided_warnings,
    verdict_words,
    why,
)

COLOURS = {verdict: colour for verdict, (colour, _) in VERDICTS.items()}
SIGNS = {"regression": "✕", "inconclusive": "○", "no_change": "●", "improvement": "◆", "described": "|"}
STYLE = (
    CSS
    + "svg .band{fill:var(--soft);fill-opacity:.22}\ntd.mark{white-space:nowrap}\ntd.why{min-width:14rem}\n.sign{font-weight:700}\n"
)
STYLE += "".join(f".{verdict}{{color:{colour}}}\n" for verdict, colour in COLOURS.items())


def comparison_html(outcome: Outcome) -> str:
    title = f"{outcome.verdict.capitalize()}{f': {outcome.suite}' if outcome.suite else ''}"
    parts = [f"<h1>{escape(title)}</h1>", f"<p>{escape(outcome.sentence)}</p>", *_sides(outcome)]
    if outcome.judgement:
        parts += _judged(outcome.judgement)
    if outcome.calibration_words:
        parts.append(f"<h2>Calibration</h2>\n<p>{escape(outcome.calibration_words)}</p>")
    if outcome.command:
        parts.append(f"<h2>Reproduce</h2>\n<pre>{escape(shell(outcome.command))}</pre>")
    if outcome.accept:
        told = "If the change is meant, this makes B the baseline:"
        parts.append(f"<h2>Accept</h2>\n<p>{told}</p>\n<pre>{escape(shell(outcome.accept))}</pre>")
    return document(title, STYLE, "\n".join(parts))


def _sides(outcome: Outcome) -> list[str]:
    if not outcome.sides:
        return []
    rows = [
        (name, side.name, ", ".join(side.run_ids), run.suite, date(run.started_at), commit_of(run), run.git_branch or "–")
        for name, side, run in outcome.runs
    ]
    parts = ["<h2>Environments</h2>"]
    if outcome.differences:
        facts = [(one.key, *one.shown, "must agree" if one.hard else "") for one in outcome.differences]
        parts.append(_table(("Fact", "A", "B", "To compare"), facts))
    else:
        parts.append("<p>Both sides ran in the same environment.</p>")
    return [*parts, "<h2>Sides</h2>", _table(("", "Name", "Runs", "Suite", "Started", "Commit", "Branch"), rows)]


def _judged(judgement: Judgement) -> list[str]:
    labels = labels_of(judgement.comparison)
    parts = ["<h2>Verdict</h2>", f"<ul>{''.join(f'<li>{escape(line)}</li>' for line in judgement.reasons)}</ul>"]
    return [*parts, *_charts(judgement, labels), *_rows(judgement, labels)]


def _charts(judgement: Judgement, labels: Mapping[str, str]) -> list[str]:
    """A forest plot per case, in the order of its worst row; all on one scale."""
    grouped: dict[str, list[Mark]] = {}
    for judged in judgement.rows:
        if mark := _mark(judged):
            grouped.setdefault(labels[judged.row.planned.case.case_id], []).append(mark)
    reach = reach_of(mark for marks in grouped.values() for mark in marks)
    figures = "".join(
        f"<figure><h3>{escape(label)}</h3>{forest(label, marks, reach, COLOURS)}</figure>" for label, marks in grouped.items()
    )
    signs = ", ".join(f"{_sign(verdict)} {verdict.replace('_', ' ')}" for verdict in SIGNS)
    told = f"B against A with its interval; the grey band is the margin within which nothing matters. {signs}."
    return [f'<h2>At a glance</h2>\n<p class="soft">{told}</p>\n<div class="charts">{figures}</div>'] if figures else []


def _mark(judged: RowJudgement) -> Mark | None:
    found = ratios(judged)
    return Mark(heading(METRICS[judged.row.metric]), changed(judged), *found, band(judged), judged.verdict) if found else None


def _rows(judgement: Judgement, labels: Mapping[str, str]) -> list[str]:
    notes: dict[str, int] = {}
    lines = []
    for judged in judgement.rows:
        row, unit = judged.row, METRICS[judged.row.metric].unit
        warnings = dict.fromkeys(f"{side}: {sentence(warning)}" for side, warning in sided_warnings(row))
        numbers = [notes.setdefault(warning, len(notes) + 1) for warning in warnings]
        marks = "".join(f'<sup><a href="#note-{number}">{number}</a></sup> ' for number in numbers)
        values = [escape(quantity(side.value, unit)) for side in (row.a, row.b)]
        words = [escape(one) for one in (margin(judged), detectable(judged), replicates(row))]
        cells = "".join(f'<td class="number">{cell}</td>' for cell in (*values, _stacked(changed(judged)), *words))
        lines.append(
            f'<tr><td class="mark">{_sign(judged.verdict)} {escape(verdict_words(judged))}</td>'
            f"<td>{escape(heading(METRICS[row.metric]))}</td>"
            f'<td class="text">{escape(labels[row.planned.case.case_id])} {marks}</td>'
            f'{cells}<td class="why">{escape(why(judged))}</td></tr>'
        )
    numbered = "".join(f'<th class="number">{name}</th>' for name in ("A", "B", "Change", "Margin", "Detectable", "n"))
    head = f"<tr><th>Verdict</th><th>Metric</th><th>Case</th>{numbered}<th>Why</th></tr>"
    parts = ["<h2>Rows</h2>", f'<div class="wide"><table><thead>{head}</thead><tbody>{"".join(lines)}</tbody></table></div>']
    parts.append(f'<p class="soft">{escape(method(judgement))} {COLUMNS}</p>')
    listed = "".join(f'<li id="note-{number}">{escape(note)}</li>' for note, number in notes.items())
    return [*parts, *([f"<ol>{listed}</ol>"] if listed else [])] if lines else []


def _stacked(cell: str) -> str:
    """The interval under its value, which keeps the table narrow."""
    value, bracket, interval = escape(cell).partition(" [")
    return f'{value}<br><span class="soft">[{interval}</span>' if bracket else value


def _sign(verdict: str) -> str:
    return f'<span class="sign {verdict}">{SIGNS[verdict]}</span>'


def _table(headings: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    head = "".join(f"<th>{escape(name)}</th>" for name in headings)
    body = "".join(f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in cells)}</tr>" for cells in rows)
    return f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'
