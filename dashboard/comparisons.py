"""Two runs' comparison turned into the DataFrames that the page shows and draws. Comparing is `results.compare`'s, judging `results.gate`'s."""

import math
from collections.abc import Iterable

import pandas as pd

from results.caveats import sentence
from results.compare import Comparison, ComparisonRow, Difference
from results.format import plain
from results.gate import judge
from results.metrics import METRICS
from results.summary import estimate_text
from results.verdict_words import change, detectable, worst_first


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
            estimate_text(row.a, row.metric),
            estimate_text(row.b, row.metric),
            detectable(row),
        )
        for row in worst_first(comparison)
    ]
    return pd.DataFrame(rows, columns=["Case", "Metric", "Verdict", "Change", "A", "B", "Detectable"])


def ratios_frame(comparison: Comparison, names: dict[str, str]) -> pd.DataFrame:
    """The rows that have a ratio, for `results.figures.forest`."""
    columns = ["case", "metric", "verdict", "ratio", "low", "high", "band_low", "band_high"]
    rows = [
        (names[row.planned.case.case_id], row.metric, judge(row), row.ratio, row.low, row.high, *band(row))
        for row in worst_first(comparison)
        if row.ratio is not None
    ]
    return pd.DataFrame(rows, columns=columns).astype(dict.fromkeys(columns[3:], float))


def band(row: ComparisonRow) -> tuple[float | None, float | None]:
    """The margin's ends as ratios."""
    if row.margin is None or (row.in_points and not row.a.value):
        return None, None
    if row.in_points:
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
