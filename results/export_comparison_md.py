"""An outcome as GitHub Markdown, for pull requests and step summaries: what got worse comes first, what did not change is folded away."""

from collections.abc import Iterable, Mapping, Sequence

from results.caveats import sentence
from results.export_md import block, inline
from results.export_table import date, heading
from results.format import quantity
from results.gate import Judgement, RowJudgement
from results.metrics import METRICS
from results.outcome import Outcome, shell
from results.verdict_words import (
    COLUMNS,
    COUNTED,
    changed,
    commit_of,
    detectable,
    labels_of,
    margin,
    method,
    of_verdict,
    replicates,
    sided_warnings,
    verdict_words,
    why,
)

MOST = 250
"""Rows of one table: GitHub shows a summary of at most 1 MiB."""
HEADINGS = ("Verdict", "Metric", "Case", "A", "B", "Change", "Margin", "Detectable", "n", "Why")


def comparison_markdown(outcome: Outcome) -> str:
    """Verdict, regressions, what is undecided and what it lacks, improvements, the rest, both sides, and what to do next."""
    parts = [f"# {inline(outcome.verdict.capitalize())}{f': {inline(outcome.suite)}' if outcome.suite else ''}"]
    parts.append(inline(outcome.sentence))
    if outcome.differences:
        names = ", ".join(f"{one.key}{' (hard)' if one.hard else ''}" for one in outcome.differences)
        parts.append(f"**The environments differ** in {inline(names)}.")
    if outcome.judgement:
        parts += _judged(outcome.judgement)
    parts += _sides(outcome)
    if outcome.calibration_words:
        parts.append(inline(outcome.calibration_words))
    parts += _commands(outcome)
    return "\n\n".join(parts) + "\n"


def _judged(judgement: Judgement) -> list[str]:
    notes: dict[str, int] = {}
    rows, labels = judgement.rows, labels_of(judgement.comparison)
    parts = ["\n".join(f"- {inline(reason)}" for reason in judgement.reasons)] if judgement.reasons else []
    for title, found in (
        ("Regressions", of_verdict(rows, "regression")),
        ("Inconclusive", of_verdict(rows, "inconclusive")),
        ("Improvements", of_verdict(rows, "improvement")),
    ):
        if found:
            parts += [f"## {title}", _rows(found, labels, notes)]
    if rest := of_verdict(rows, "no_change", "described"):
        told = ", ".join(
            f"{len(mine)} {COUNTED[verdict]}" for verdict in ("no_change", "described") if (mine := of_verdict(rest, verdict))
        )
        parts.append(f"<details>\n<summary>{told}</summary>\n\n{_rows(rest, labels, notes)}\n\n</details>")
    if rows:
        parts.append(f"{method(judgement)} {COLUMNS}")
    if notes:
        parts.append("\n".join(f"[^{number}]: {inline(note)}" for note, number in notes.items()))
    return parts


def _rows(rows: Sequence[RowJudgement], labels: Mapping[str, str], notes: dict[str, int]) -> str:
    """A table of rows; their warnings become footnotes, each different one once."""
    lines = []
    for judged in rows[:MOST]:
        row, metric = judged.row, METRICS[judged.row.metric]
        warnings = dict.fromkeys(f"{side}: {sentence(warning)}" for side, warning in sided_warnings(row))
        marks = "".join(f"[^{notes.setdefault(warning, len(notes) + 1)}]" for warning in warnings)
        values = (quantity(row.a.value, metric.unit), quantity(row.b.value, metric.unit))
        numbers = (changed(judged), margin(judged), detectable(judged), replicates(row))
        case = inline(labels[row.planned.case.case_id]) + marks
        lines.append(
            (inline(verdict_words(judged)), inline(heading(metric)), case, *values, *map(inline, numbers), inline(why(judged)))
        )
    more = f"\n\n{len(rows) - MOST} more rows are in the other formats." if len(rows) > MOST else ""
    return _table(HEADINGS, lines) + more


def _sides(outcome: Outcome) -> list[str]:
    if not outcome.sides:
        return []
    facts = {
        "": [f"{name}: {side.name}" for name, side, _ in outcome.runs],
        "Runs": [", ".join(side.run_ids) for _, side, _ in outcome.runs],
        "Suite": [f"{run.suite} ({run.suite_hash})" for _, _, run in outcome.runs],
        "Started": [date(run.started_at) for _, _, run in outcome.runs],
        "Commit": [commit_of(run) for _, _, run in outcome.runs],
        "Branch": [run.git_branch or "–" for _, _, run in outcome.runs],
        "Environment": [run.environment.environment_id for _, _, run in outcome.runs],
    }
    rows = [(name, *map(inline, values)) for name, values in facts.items()]
    parts = ["## Sides", _table(rows[0], rows[1:])]
    if outcome.differences:
        lines = [(inline(one.key), *map(inline, one.shown), "must agree" if one.hard else "") for one in outcome.differences]
        parts += ["### What differs between the environments", _table(("Fact", "A", "B", "To compare"), lines)]
    else:
        parts.append("Both sides ran in the same environment.")
    return parts


def _commands(outcome: Outcome) -> list[str]:
    parts = ["## Reproduce", block(shell(outcome.command))] if outcome.command else []
    if outcome.accept:
        parts += ["## Accept", "If the change is meant, this makes B the baseline:", block(shell(outcome.accept))]
    return parts


def _table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table from cells that are Markdown already."""
    return "\n".join(f"| {' | '.join(line)} |" for line in (headings, ("---",) * len(headings), *rows))
