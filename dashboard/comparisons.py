"""Two runs' comparison turned into the DataFrames that the page shows and draws. Comparing is `results.compare`'s, judging `results.gate`'s."""

import math
from collections.abc import Iterable

import pandas as pd

from dashboard.queries import shown
from results.caveats import sentence
from results.compare import Comparison, ComparisonRow, Difference
from results.format import number, percent, plain, points
from results.gate import judge
from results.metrics import METRICS


def differences_frame(differences: Iterable[Difference]) -> pd.DataFrame:
    """What differs between the environments; hard differences forbid a comparison."""
    rows = [(one.key, plain(str(one.a)), plain(str(one.b)), "yes" if one.hard else "no") for one in differences]
    return pd.DataFrame(rows, columns=["Fact", "A", "B", "Forbids comparing"])


def rows_frame(comparison: Comparison, names: dict[str, str]) -> pd.DataFrame:
    """One row per case and metric, worst first."""
    rows = [
        (
            names[row.planned.case.case_id],
            METRICS[row.metric].label,
            judge(row).replace("_", " "),
            change(row),
            shown(row.a, row.metric),
            shown(row.b, row.metric),
            detectable(row),
        )
        for row in comparison.rows
    ]
    return pd.DataFrame(rows, columns=["Case", "Metric", "Verdict", "Change", "A", "B", "Detectable"])


def ratios_frame(comparison: Comparison, names: dict[str, str]) -> pd.DataFrame:
    """The rows that have a ratio, for `results.figures.forest`."""
    columns = ["case", "metric", "verdict", "ratio", "low", "high", "band_low", "band_high"]
    rows = [
        (names[row.planned.case.case_id], row.metric, judge(row), row.ratio, row.low, row.high, *band(row))
        for row in comparison.rows
        if row.ratio is not None
    ]
    return pd.DataFrame(rows, columns=columns).astype(dict.fromkeys(columns[3:], float))


def change(row: ComparisonRow) -> str:
    """The change from A to B with its interval: `+20.1 % [+18.9, +21.3]`, or in points for scores."""
    effect = row.effect
    if effect is None or row.ratio is None:
        return "–"
    if METRICS[row.metric].exact and effect.value == effect.low == effect.high == 0:
        return "equal"
    return points(effect.value, effect.low, effect.high) if row.is_score else percent(row.ratio, row.low, row.high)


def detectable(row: ComparisonRow) -> str:
    """The smallest change for the worse that would have been seen with 80 % power."""
    if not row.detectable:
        return "–" if row.detectable is None else "any"
    return f"{number(100 * row.detectable, 2)} {'points' if row.is_score else '%'}"


def band(row: ComparisonRow) -> tuple[float | None, float | None]:
    """The margin's ends as ratios."""
    if row.margin is None or (row.is_score and not row.a.value):
        return None, None
    if row.is_score:
        return 1 - row.margin / row.a.value, 1 + row.margin / row.a.value
    return math.exp(-row.margin), math.exp(row.margin)


def warnings_list(comparison: Comparison, names: dict[str, str]) -> list[str]:
    """The warnings of both sides, one line each."""
    lines = [
        f"{names[row.planned.case.case_id]}, {side}: {plain(sentence(warning))}"
        for row in comparison.rows
        for side, warnings in (("A", row.a_warnings), ("B", row.b_warnings))
        for warning in warnings
    ]
    return list(dict.fromkeys(lines))


def gaps_list(comparison: Comparison) -> list[str]:
    """What only one side has, one line each."""
    labels = {one.case.case_id: one.label for one in (*comparison.a_run.planned, *comparison.b_run.planned)}
    lines = [f"Failed on B only: {labels[one.case_id]}: {one.kind}: {one.message}" for one in comparison.newly_failed]
    told = {one.case_id for one in comparison.newly_failed} | {one.case.case_id for one in comparison.unreached}
    for words, cases in (
        ("Not reached on B", comparison.unreached),
        ("Only in A", [one for one in comparison.only_a if one.case.case_id not in told]),
        ("Only in B", comparison.only_b),
    ):
        lines += [f"{words}: {one.label}" for one in cases]
    return [plain(line) for line in lines]
