"""A comparison's numbers in words, for the terminal and the pages alike: the order, the change, what would have been seen, the gaps."""

import math

from results.compare import Comparison, ComparisonRow
from results.format import number, percent, plain, points, quantity
from results.gate import VERDICTS, judge
from results.metrics import METRICS
from results.stats import exp


def worst_first(comparison: Comparison) -> list[ComparisonRow]:
    """The rows by verdict, regressions first; within a verdict the worst effect first."""
    return sorted(comparison.rows, key=lambda row: VERDICTS.index(judge(row)))


def change(row: ComparisonRow) -> str:
    """The change from A to B with its interval: `+20.1 % [+18.9, +21.3]`, or in points for scores and shares.

    Exact metrics without a margin show the amount, as the least difference counts.
    """
    metric, effect = METRICS[row.metric], row.effect
    if effect is None:
        return percent({"lost": 0.0, "gained": math.inf}[row.all_or_nothing]) if row.all_or_nothing else "–"
    if metric.exact and effect.value == effect.low == effect.high == 0:
        return "equal"
    if metric.exact and metric.margin is None:
        amount = row.b.value - row.a.value
        return f"{'+' if amount >= 0 else '-'}{quantity(abs(amount), metric.unit)}"
    if row.in_points:
        return points(effect.value, effect.low, effect.high)
    return percent(exp(effect.value), row.low, row.high)


def detectable(row: ComparisonRow) -> str:
    """The smallest change for the worse that would have been seen with 80 % power."""
    if not row.detectable:
        return "–" if row.detectable is None else "any"
    if row.detectable > 10:
        return "> 1000 %"
    return f"{number(100 * row.detectable, 2)} {'points' if row.in_points else '%'}"


def gaps(comparison: Comparison) -> list[str]:
    """What only one side has, one line each."""
    labels = {one.case.case_id: one.label for one in (*comparison.a_run.planned, *comparison.b_run.planned)}
    lines = [f"Newly failed on B: {labels[one.case_id]}: {one.kind}: {one.message}" for one in comparison.newly_failed]
    told = {one.case_id for one in comparison.newly_failed} | {one.case.case_id for one in comparison.unreached}
    for words, cases in (
        ("Not reached on B", comparison.unreached),
        ("Only in A", [one for one in comparison.only_a if one.case.case_id not in told]),
        ("Only in B", comparison.only_b),
    ):
        lines += [f"{words}: {one.label}" for one in cases]
    return [plain(line) for line in lines]
