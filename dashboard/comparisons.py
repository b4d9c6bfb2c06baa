"""A judged comparison turned into the DataFrames that the page shows and draws. Comparing is `results.compare`'s, judging `results.gate`'s."""

from collections.abc import Iterable, Mapping

import pandas as pd

from results.caveats import sentence
from results.comparison import Difference
from results.format import plain
from results.gate import Judgement
from results.metrics import METRICS
from results.summary import estimate_text
from results.verdict_words import band, changed, detectable, ratios, sided_warnings, verdict_words, why


def differences_frame(differences: Iterable[Difference]) -> pd.DataFrame:
    """What differs between the environments; hard differences forbid a comparison."""
    rows = [(one.key, *map(plain, one.shown), "yes" if one.hard else "no") for one in differences]
    return pd.DataFrame(rows, columns=["Fact", "A", "B", "Forbids comparing"])


def rows_frame(judgement: Judgement, names: Mapping[str, str]) -> pd.DataFrame:
    """One row per case and metric, worst first."""
    rows = [
        (
            names[judged.row.planned.case.case_id],
            METRICS[judged.row.metric].label,
            verdict_words(judged),
            changed(judged),
            estimate_text(judged.row.a, judged.row.metric),
            estimate_text(judged.row.b, judged.row.metric),
            detectable(judged),
            judged.corroborated_by,
            why(judged),
        )
        for judged in judgement.rows
    ]
    return pd.DataFrame(rows, columns=["Case", "Metric", "Verdict", "Change", "A", "B", "Detectable", "Rows that agree", "Why"])


def ratios_frame(judgement: Judgement, names: Mapping[str, str]) -> pd.DataFrame:
    """The rows that have a ratio, for `results.figures.forest`."""
    columns = ["case", "metric", "verdict", "ratio", "low", "high", "band_low", "band_high"]
    rows = [
        (names[judged.row.planned.case.case_id], judged.row.metric, judged.verdict, *found, *(band(judged) or (None, None)))
        for judged in judgement.rows
        if (found := ratios(judged))
    ]
    return pd.DataFrame(rows, columns=columns).astype(dict.fromkeys(columns[3:], float))


def warnings_list(judgement: Judgement, names: Mapping[str, str]) -> list[str]:
    """The warnings of both sides, one line each."""
    lines = [
        f"{names[judged.row.planned.case.case_id]}, {side}: {plain(sentence(warning))}"
        for judged in judgement.rows
        for side, warning in sided_warnings(judged.row)
    ]
    return list(dict.fromkeys(lines))
