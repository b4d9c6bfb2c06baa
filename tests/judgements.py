"""Outcomes with known verdicts for tests of what draws them, whatever the gate would have said."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from functools import cache
from typing import Any

from fakes import START, make_environment, make_measurement, make_report

from results.compare import compare
from results.comparison import Comparison, ComparisonRow
from results.decided import CalibratedMetric, Calibration, Power
from results.gate import EXIT_CODES, VERDICTS, Judgement, RowJudgement, Verdict
from results.metrics import METRICS
from results.outcome import Outcome, outcome_of
from results.policy import Policy
from results.records import HARD_FACTS, Report
from results.sides import Side

FIRST, SECOND = "20260301-120000-aaaa", "20260302-120000-bbbb"
BY_METRIC: dict[str, Verdict] = {"tpot_s": "regression", "ttft_s": "inconclusive", "e2e_s": "improvement"}
"""What the rows of `make_outcome` are called; the other judged ones did not change."""
REASONS: dict[Verdict, str] = {
    "regression": "the interval lies above the margin",
    "inconclusive": "the interval reaches beyond the margin",
    "no_change": "the whole interval is inside the margin",
    "improvement": "the interval lies below the margin",
    "described": "it has no margin",
}


def side_of(report: Report, name: str | None = None) -> Side:
    return Side(name or report.run.run_id, report, (report.run.run_id,))


@cache
def two_sides(slower: float = 1.2, **facts: object) -> tuple[Side, Side]:
    """The base as baseline `main`, and a run a day later; `facts` differ in its environment."""
    a, b = make_report(), make_report(run_id=SECOND, slower=slower, seed=2, started_at=START + timedelta(days=1))
    changes: dict[str, Any] = {"git_commit": "badf00d", "git_dirty": True, "git_branch": "faster"}
    if facts:
        changes["environment"] = make_environment(**facts)
    b = b.model_copy(update={"run": b.run.model_copy(update=changes), "tags": ()})
    return side_of(a, "baseline main"), side_of(b)


def make_row(row: ComparisonRow, verdict: Verdict, **changes: Any) -> RowJudgement:
    margin = METRICS[row.metric].margin
    fields: dict[str, Any] = {
        "row": row, "verdict": verdict, "gates": True, "margin": 0.0 if margin is None and row.margin == 0 else margin, "floor": 0.0,
        "p_value": 0.01, "adjusted_p": 0.02, "corroborated_by": 1 if verdict == "regression" else 0, "reason": REASONS[verdict],
    }  # fmt: skip
    return RowJudgement(**(fields | changes))


def make_judgement(comparison: Comparison, verdicts: Mapping[str, Verdict] = BY_METRIC, **changes: Any) -> Judgement:
    rows = [
        make_row(row, "described" if row.margin is None else verdicts.get(row.metric, "no_change")) for row in comparison.rows
    ]
    rows.sort(key=lambda judged: VERDICTS.index(judged.verdict))
    found = {judged.verdict for judged in rows}
    verdict: Verdict = next((one for one in VERDICTS if one in found and EXIT_CODES.get(one)), "no_change")
    fields: dict[str, Any] = {
        "comparison": comparison, "policy": Policy(), "rows": tuple(rows), "verdict": verdict, "exit_code": EXIT_CODES[verdict],
        "reasons": (f"{len(rows)} rows were judged by the policy default.",),
    }  # fmt: skip
    return Judgement(**(fields | changes))


CALIBRATION = Calibration(
    suite="quickstart", machine_id=make_environment().machine_id, at=START, policy="default", processes=24, seed=1,
    metrics=tuple(
        CalibratedMetric(
            metric=metric, cases=2, spread=0.02, trials=400, false_regressions=wrong, inconclusive=5, margin=0.05, proposed_margin=0.04,
            power=(Power(effect=0.05, trials=200, found=found, mean_processes=5.5), Power(effect=0.1, trials=200, found=200, mean_processes=4)),
        )
        for metric, wrong, found in (("tpot_s", 3, 194), ("ttft_s", 5, 176))
    ),
)  # fmt: skip


@cache
def _compared() -> Comparison:
    a, b = two_sides(python="3.12.1")
    return compare(a.report, b.report, HARD_FACTS)


def make_outcome(verdicts: Mapping[str, Verdict] = BY_METRIC, **changes: Any) -> Outcome:
    """Two sides judged as said, on machines that differ in their Python."""
    sides = two_sides(python="3.12.1")
    fields: dict[str, Any] = {
        "sides": sides, "judgement": make_judgement(_compared(), verdicts), "calibration": CALIBRATION,
        "command": ("bench", "gate", SECOND, "--against", "baseline:main"),
        "accept": ("bench", "baseline", "accept", "main", SECOND, "--reason", "TEXT"),
    }  # fmt: skip
    return Outcome(**(fields | changes))


HOSTILE = "</pre><script>alert(1)</script> | **x** ![i](http://evil.example/i.png) \x00\x1b[31m\u202e\ufffe]]> a, b: 100 %\n::error::boom"


@cache
def hostile_outcome() -> Outcome:
    """Names and messages that want to be markup, commands and control sequences, judged by the real gate."""
    sides: list[Side] = []
    for number, side in enumerate(two_sides()):
        run = side.report.run
        planned = tuple(one.model_copy(update={"model": HOSTILE}) for one in run.planned)
        report = side.report.model_copy(update={"run": run.model_copy(update={"planned": planned, "suite": HOSTILE})})
        if number:
            failures = tuple(one.model_copy(update={"message": HOSTILE, "run_id": SECOND}) for one in report.failures)
            lost = failures[0].case_id
            report = report.model_copy(update={"failures": failures})
            sides[0] = replace(sides[0], report=_with_case(sides[0].report, lost))
        sides.append(Side(HOSTILE, report, side.run_ids))
    outcome = outcome_of((sides[0], sides[1]), Policy())
    return replace(outcome, command=("bench", "compare", HOSTILE, SECOND))


def _with_case(report: Report, case_id: str) -> Report:
    """The report with a failed case measured after all, so that it is newly failed on the other side."""
    case = report.run.plan_of(case_id).case
    measured = make_measurement("made-good", case, run_id=report.run.run_id)
    return report.model_copy(update={"measurements": (*report.measurements, measured), "failures": ()})


def refused() -> Outcome:
    """Two sides on different machines."""
    sides = two_sides(cpu_model="Other CPU", python="3.12.1")
    command = ("bench", "gate", SECOND, "--against", "baseline:main")
    return Outcome(sides, None, "The two sides ran on different machines: cpu_model. Add --allow-env-diff cpu_model.", command)
