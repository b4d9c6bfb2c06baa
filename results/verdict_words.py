"""A judgement in words, for the terminal, the files and the pages alike: changes, counts, what more is needed, what was calibrated."""

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import UTC

from results.comparison import Comparison, ComparisonRow
from results.decided import Calibration
from results.format import number, percent, points, quantity
from results.gate import VERDICTS, Judgement, RowJudgement, Verdict
from results.metrics import METRICS
from results.records import Failure, RowWarning, Run
from results.stats import Shift, exp
from results.summary import FAULTS

COUNTED: dict[Verdict, str] = {
    "regression": "worse",
    "inconclusive": "inconclusive",
    "no_change": "unchanged",
    "improvement": "better",
    "described": "described only",
}
"""What rows of a verdict are called where they are counted."""

COLUMNS = (
    "Margin: what does not matter. n: processes of A and B, pairs of them that were measured side by side, or items that both answered. "
    "↓: lower is better, ↑: higher is better."
)
"""How the columns of files are to be read that `method` does not explain."""

SHOWN_EFFECT = 0.05
"""The known change whose detection the calibration's sentence tells."""


def spoken(verdict: Verdict) -> str:
    return verdict.replace("_", " ")


def verdict_words(judged: RowJudgement) -> str:
    """The verdict of a row, and whether it is only shown."""
    return spoken(judged.verdict) + ("" if judged.gates or judged.verdict == "described" else ", not gated")


def change(row: ComparisonRow, effect: Shift | None = None) -> str:
    """The change from A to B with its interval: `+20.1 % [+18.9, +21.3]`, or in points for scores and shares.

    Exact metrics without a margin show the amount, as the least difference counts.

    Args:
        effect: with the interval that was judged; `None`: the row's own.
    """
    metric, effect = METRICS[row.metric], effect or row.effect
    if effect is None:
        return percent({"lost": 0.0, "gained": math.inf}[row.all_or_nothing]) if row.all_or_nothing else "–"
    if metric.exact and effect.value == effect.low == effect.high == 0:
        return "equal"
    if metric.exact and metric.margin is None:
        amount = row.b.value - row.a.value
        return f"{'+' if amount >= 0 else '-'}{quantity(abs(amount), metric.unit)}"
    if row.in_points:
        return points(effect.value, effect.low, effect.high)
    low, high = (None if end is None else exp(end) for end in (effect.low, effect.high))
    return percent(exp(effect.value), low, high)


def changed(judged: RowJudgement) -> str:
    """`change` with the interval that was judged."""
    return change(judged.row, judged.effect)


def ratios(judged: RowJudgement) -> tuple[float, float | None, float | None] | None:
    """B / A with the ends of the interval that was judged; `None` where there is no ratio."""
    row, effect = judged.row, judged.effect or judged.row.effect
    if effect is None or (row.in_points and not row.a.value):
        return None

    def ratio(at: float) -> float:
        return (row.a.value + at) / row.a.value if row.in_points else exp(at)

    low, high = (None if end is None else ratio(end) for end in (effect.low, effect.high))
    return ratio(effect.value), low, high


def band(judged: RowJudgement) -> tuple[float, float] | None:
    """The ends of what does not matter as ratios; `None` where nothing is judged, or A has nothing to refer to."""
    row, reference = judged.row, abs(judged.row.a.value)
    if judged.margin is None or (not reference and (row.in_points or judged.floor)):
        return None
    floor = judged.floor / reference if judged.floor else 0.0
    if row.in_points:
        most = max(judged.margin / reference, floor)
        return 1 - most, 1 + most
    most = max(judged.margin, floor)
    return 1 / (1 + most), 1 + most


def detectable(judged: RowJudgement) -> str:
    """The smallest change for the worse that would have been seen with 80 % power."""
    seen = _detectable(judged)
    if not seen:
        return "–" if seen is None else "any"
    return "> 1000 %" if seen > 10 else _relative(seen, judged.row)


def margin(judged: RowJudgement) -> str:
    """What does not matter, such as `5 %`, `1 point` or `5 %, 1 ms`."""
    if judged.margin is None:
        return "–"
    floor = quantity(judged.floor, METRICS[judged.row.metric].unit) if judged.floor else ""
    return ", ".join(filter(None, (_relative(judged.margin, judged.row), floor)))


def replicates(row: ComparisonRow) -> str:
    """Processes of both sides, such as `5/3` or `5 pairs`, or for scores the items that both answered."""
    if row.is_score:
        return f"{row.replicates} items"
    return f"{row.replicates} pairs" if row.paired else f"{len(row.a_values)}/{len(row.b_values)}"


def why(judged: RowJudgement) -> str:
    """Why it is this verdict, what speaks for it, and what would decide it."""
    parts = [judged.reason]
    if judged.verdict in ("regression", "improvement"):
        others = judged.corroborated_by
        told = "1 other row points" if others == 1 else f"{others} other rows point"
        parts.append(f"{told} the same way" if others else "no other row agrees")
    elif judged.verdict == "inconclusive":
        parts.append(needed(judged))
    return "; ".join(filter(None, parts))


def needed(judged: RowJudgement) -> str:
    """About how many replicates would show a change of the margin's size; empty where their number is not what is lacking."""
    count = _replicates_needed(judged)
    shown = _relative(judged.margin, judged.row) if judged.margin else ""
    return f"about {count} {_units(judged.row)} would show {shown}" if count else ""


def _replicates_needed(judged: RowJudgement) -> int | None:
    """The smallest detectable change falls with the root of their number. `None`: so many that nobody would measure them, or enough."""
    seen = _detectable(judged)
    if not judged.margin or not seen or seen <= judged.margin:
        return None
    count = math.ceil(judged.row.replicates * (seen / judged.margin) ** 2)
    return count if count < 1000 else None


def _units(row: ComparisonRow) -> str:
    return "items" if row.is_score else "processes a side"


def method(judgement: Judgement) -> str:
    """How changes are to be read."""
    return (
        f"Change: B against A with its {_share(judgement.confidence)} % interval. "
        "Detectable: the smallest change for the worse seen with 80 % power."
    )


def counts(judgement: Judgement) -> str:
    """How many rows, failures and cases stand behind a verdict: `2 worse, 9 unchanged, 1 newly failed`."""
    verdicts = [judged.verdict for judged in judgement.rows]
    found = [(verdicts.count(verdict), COUNTED[verdict]) for verdict in VERDICTS]
    found += [
        (len(judgement.failures), "newly failed"),
        (len(judgement.excused), "newly failed and excused"),
        (len(judgement.comparison.unreached), "not reached"),
    ]
    return ", ".join(f"{count} {words}" for count, words in found if count) or "nothing could be judged"


def headline(judgement: Judgement) -> str:
    """One sentence, such as `Regression: 2 worse, 9 unchanged.`"""
    look = f" (look {judgement.look})" if judgement.look else ""
    return f"{spoken(judgement.verdict).capitalize()}{look}: {counts(judgement)}."


def lacking(judgement: Judgement) -> list[str]:
    """Why rows that decide are inconclusive and what they need, one sentence per different reason, the most frequent first."""
    by_reason: dict[tuple[str, str], list[RowJudgement]] = {}
    for judged in of_verdict(judgement.rows, "inconclusive"):
        if judged.gates:
            by_reason.setdefault((judged.reason, _units(judged.row)), []).append(judged)
    return [
        f"Inconclusive in {len(rows)} row{'s' if len(rows) > 1 else ''}: {reason}{_needed_by(rows)}."
        for (reason, _), rows in sorted(by_reason.items(), key=lambda item: -len(item[1]))
    ]


def _needed_by(rows: Sequence[RowJudgement]) -> str:
    """What several rows need, as a range."""
    told = {needed(judged) for judged in rows} - {""}
    if len(told) < 2:
        return "".join(f"; {one}" for one in told)
    counts = [count for judged in rows if (count := _replicates_needed(judged))]
    ends = " to ".join(map(str, dict.fromkeys((min(counts), max(counts)))))
    some = "" if len(counts) == len(rows) else f" in {len(counts)} of them"
    return f"; about {ends} {_units(rows[0].row)} would show changes of their margins' size{some}"


def open_cases(judgement: Judgement, most: int = 3) -> str:
    """The cases that more processes may decide, so many by their labels; empty where there are none."""
    labels = [planned.label for planned in judgement.undecided]
    more = f" and {len(labels) - most} more" if len(labels) > most else ""
    return f"Undecided: {', '.join(labels[:most])}{more}." if labels else ""


def labels_of(comparison: Comparison) -> dict[str, str]:
    """Each case's label by its id, with the id where several have the same label."""
    labels = {one.case.case_id: one.label for one in (*comparison.a_run.planned, *comparison.b_run.planned)}
    counted = Counter(labels.values())
    return {case_id: label if counted[label] == 1 else f"{label} {case_id}" for case_id, label in labels.items()}


def worse_failures(judgement: Judgement) -> list[Failure]:
    """The new failures that are regressions: faults of the case itself, in every process of B. The others leave it undecided."""
    lost = {planned.case.case_id for planned in judgement.comparison.only_a}
    return [one for one in judgement.failures if one.kind in FAULTS and one.case_id in lost]


def sided_warnings(row: ComparisonRow) -> list[tuple[str, RowWarning]]:
    """A row's warnings with the side that each belongs to: `A`, `B`, or `A and B`."""
    both = [one for one in row.a_warnings if one in row.b_warnings]
    sides = (("A and B", both), ("A", row.a_warnings), ("B", row.b_warnings))
    return [(side, one) for side, warnings in sides for one in warnings if side == "A and B" or one not in both]


def commit_of(run: Run) -> str:
    return f"{run.git_commit}{' with uncommitted changes' if run.git_dirty else ''}" if run.git_commit else "–"


def of_verdict(rows: Iterable[RowJudgement], *verdicts: Verdict) -> list[RowJudgement]:
    return [judged for judged in rows if judged.verdict in verdicts]


def calibrated(found: Calibration | None, suite: str) -> str:
    """How often this gate is wrong and what it finds, by replays of stored processes; or that nobody tried.

    The interval is the worst metric's own: trials of several metrics are of the same replays, and tell less than so many would.
    """
    tried = [one for one in found.metrics if one.trials] if found else []
    if not found or not tried:
        return f"Nothing is calibrated for suite {suite} on this machine: bench calibrate tells how often a gate is wrong here."
    from scipy.stats import binomtest

    worst = max(tried, key=lambda one: one.false_regressions / one.trials)
    wrong, trials = worst.false_regressions, worst.trials
    interval = binomtest(wrong, trials).proportion_ci(method="wilson")
    ends = f"{_share(interval.low)} to {_share(interval.high)} %"
    return (
        f"On this machine and suite, replays of unchanged code were called a regression in at most {wrong} of {trials} "
        f"({_share(wrong / trials)} %, 95 % interval {ends}, {_label(worst.metric)}){_power(found)} (policy {found.policy}, {found.at.astimezone(UTC):%Y-%m-%d})."
    )


def _power(found: Calibration) -> str:
    shares = {
        _label(one.metric): power.found / power.trials
        for one in found.metrics
        for power in one.power
        if power.trials and math.isclose(power.effect, SHOWN_EFFECT)
    }
    if not shares:
        return ""
    worst, best = min(shares, key=shares.__getitem__), max(shares, key=shares.__getitem__)
    ends = dict.fromkeys((worst, best))
    return f"; +{100 * SHOWN_EFFECT:g} % is found in " + " to ".join(f"{_share(shares[one])} % ({one})" for one in ends)


def _label(metric: str) -> str:
    return METRICS[metric].label if metric in METRICS else metric


def _detectable(judged: RowJudgement) -> float | None:
    """Relative, or points: 0.03 is 3 % worse."""
    effect = judged.effect or judged.row.effect
    if effect is None or effect.detectable is None:
        return None
    return effect.detectable if judged.row.in_points else exp(effect.detectable) - 1


def _relative(value: float, row: ComparisonRow) -> str:
    shown = number(100 * value, 2)
    return f"{shown} {('point' if shown == '1' else 'points') if row.in_points else '%'}"


def _share(value: float) -> str:
    """In percent, without a 99.6 that reads as 100."""
    return number(100 * value, 2 if value < 0.95 else 3)
