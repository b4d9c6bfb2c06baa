"""Judgements in words: exact numbers, and no word for what is not known."""

import math
from dataclasses import replace

import pytest
from fakes import make_case, make_planned
from judgements import CALIBRATION, make_outcome, make_row

from results.comparison import ComparisonRow
from results.stats import Estimate, Shift
from results.verdict_words import (
    band,
    calibrated,
    change,
    changed,
    counts,
    detectable,
    headline,
    labels_of,
    lacking,
    margin,
    needed,
    open_cases,
    ratios,
    replicates,
    verdict_words,
    why,
)


def row_of(a: tuple[float, ...], b: tuple[float, ...], metric: str = "tpot_s", *, paired: bool = False) -> ComparisonRow:
    before, after = (Estimate(values[0], None, None, len(values), "processes") for values in (a, b))
    return ComparisonRow(make_planned(), metric, before, after, a, b, paired)


SLOWER = row_of((0.1, 0.1, 0.1), (0.2, 0.2, 0.2))


def test_the_interval_that_was_judged_is_shown() -> None:
    judged = make_row(SLOWER, "regression", effect=Shift(0.0953101798, 0.0, 0.1823215568, 0.2))
    assert changed(judged) == "+10.0 % [+0.0, +20.0]"
    assert change(SLOWER) == "+100.0 % [+100.0, +100.0]"
    assert ratios(judged) == pytest.approx((1.1, 1.0, 1.2))
    assert detectable(judged) == "22 %"


def test_points_and_ratios_of_scores() -> None:
    judged = make_row(row_of((0.8, 0.8), (0.7, 0.7), "quality"), "regression", effect=Shift(-0.1, -0.12, -0.08, 0.03))
    assert changed(judged) == "-10.0 points [-12.0, -8.0]"
    assert ratios(judged) == pytest.approx((0.875, 0.85, 0.9))
    assert band(judged) == pytest.approx((1 - 0.01 / 0.8, 1 + 0.01 / 0.8))
    assert (margin(judged), detectable(judged), replicates(judged.row)) == ("1 point", "3 points", "2 items")


def test_nothing_of_a_has_no_ratio() -> None:
    judged = make_row(row_of((0.0, 0.0), (0.1, 0.1), "error_share"), "inconclusive")
    assert (ratios(judged), band(judged)) == (None, None)


def test_a_floor_widens_the_band() -> None:
    judged = make_row(SLOWER, "no_change", floor=0.02)
    assert margin(judged) == "5 %, 20 ms"
    assert band(judged) == pytest.approx((1 / 1.2, 1.2))


def test_how_many_processes_would_decide() -> None:
    def told(seen: float | None, margin: float | None = 0.05) -> str:
        effect = Shift(0.0, -0.1, 0.1, seen)
        return needed(make_row(SLOWER, "inconclusive", effect=effect, margin=margin))

    assert told(0.0953101798) == "about 12 processes a side would show 5 %"  # 10 % with three: four times as many
    assert told(0.03) == ""
    assert told(None) == ""
    assert told(0.1, None) == ""
    assert told(3.0) == ""


def test_why_names_what_speaks_for_it_and_what_is_lacking() -> None:
    assert why(make_row(SLOWER, "regression", corroborated_by=0)) == "the interval lies above the margin; no other row agrees"
    assert why(make_row(SLOWER, "regression", corroborated_by=2)).endswith("2 other rows point the same way")
    assert verdict_words(make_row(SLOWER, "regression", gates=False)) == "regression, not gated"
    assert verdict_words(make_row(SLOWER, "no_change")) == "no change"


def test_replicates_of_each_kind() -> None:
    assert replicates(row_of((0.1, 0.1), (0.1, 0.1, 0.1))) == "2/3"
    assert replicates(row_of((0.1, 0.1), (0.1, 0.1), paired=True)) == "2 pairs"


def test_counts_and_headline() -> None:
    judgement = make_outcome().judgement
    assert judgement
    assert counts(judgement) == "2 worse, 2 inconclusive, 5 unchanged, 2 better, 4 described only"
    assert headline(replace(judgement, look=2)).startswith("Regression (look 2): 2 worse")
    assert counts(replace(judgement, rows=())) == "nothing could be judged"
    assert lacking(judgement) == ["Inconclusive in 2 rows: the interval reaches beyond the margin."]


def test_rows_that_lack_the_same_are_told_together() -> None:
    judgement = make_outcome().judgement
    assert judgement

    def told(*seen: float) -> list[str]:
        rows = [
            make_row(SLOWER, "inconclusive", effect=Shift(0.0, -0.1, 0.1, math.log1p(one)), margin=0.05, reason="too wide")
            for one in seen
        ]
        return lacking(replace(judgement, rows=tuple(rows)))

    assert told(0.0999) == ["Inconclusive in 1 row: too wide; about 12 processes a side would show 5 %."]
    assert told(0.0999, 0.0999) == ["Inconclusive in 2 rows: too wide; about 12 processes a side would show 5 %."]
    assert told(0.0999, 0.1999) == [
        "Inconclusive in 2 rows: too wide; about 12 to 48 processes a side would show changes of their margins' size."
    ]
    assert told(0.0999, 0.1999, 3.0)[0].endswith("changes of their margins' size in 2 of them.")


def test_open_cases_are_named_up_to_a_number() -> None:
    judgement = make_outcome().judgement
    assert judgement
    cases = [make_planned(make_case(output_tokens=number)) for number in (8, 16, 32, 64)]
    short, *_ = (planned.label for planned in cases)
    assert open_cases(replace(judgement, undecided=())) == ""
    assert open_cases(replace(judgement, undecided=tuple(cases[:1]))) == f"Undecided: {short}."
    assert open_cases(replace(judgement, undecided=tuple(cases)), most=1) == f"Undecided: {short} and 3 more."


def test_labels_that_several_cases_have_get_their_id() -> None:
    judgement = make_outcome().judgement
    assert judgement
    first, second, *others = judgement.comparison.a_run.planned
    twin = second.model_copy(update={"case": first.case.model_copy(update={"workload": "other"})})
    run = judgement.comparison.a_run.model_copy(update={"planned": (first, twin, *others)})
    labels = labels_of(replace(judgement.comparison, a_run=run, b_run=run))
    assert labels[first.case.case_id] == f"{first.label} {first.case.case_id}"
    assert labels[others[0].case.case_id] == others[0].label


def test_what_was_calibrated() -> None:
    assert calibrated(CALIBRATION, "quickstart") == (
        "On this machine and suite, replays of unchanged code were called a regression in at most 5 of 400 (1.2 %, 95 % interval 0.54 to 2.9 %, TTFT); "
        "+5 % is found in 88 % (TTFT) to 97 % (TPOT) (policy default, 2026-03-01)."
    )
    one = CALIBRATION.model_copy(update={"metrics": CALIBRATION.metrics[:1]})
    assert "; +5 % is found in 97 % (TPOT) (policy" in calibrated(one, "quickstart")
    without = [metric.model_copy(update={"power": ()}) for metric in CALIBRATION.metrics]
    assert "+5 %" not in calibrated(CALIBRATION.model_copy(update={"metrics": tuple(without)}), "quickstart")


@pytest.mark.parametrize("found", [None, CALIBRATION.model_copy(update={"metrics": ()})])
def test_nothing_calibrated_is_said(found: object) -> None:
    assert calibrated(found, "mine") == (  # type: ignore[arg-type]
        "Nothing is calibrated for suite mine on this machine: bench calibrate tells how often a gate is wrong here."
    )
