"""What a later look keeps of an earlier one."""

from collections.abc import Sequence

import pytest
from fakes import make_measurement, make_planned, make_run

from results.compare import compare
from results.gate import Judgement, gate
from results.looks import with_baseline_told, with_decided_rows
from results.policy import Policy, Rule
from results.records import Report

POLICY = Policy(rules=(Rule(gate=False), Rule(metrics=("tpot_s", "ttft_s"), gate=True)), looks=(3, 5))


def report(tpot_s: Sequence[float], ttft_s: Sequence[float], run_id: str) -> Report:
    measured = [
        make_measurement(f"{run_id}{process}", run_id=run_id, process=process, tpot_s=tpot, ttft_s=ttft)
        for process, (tpot, ttft) in enumerate(zip(tpot_s, ttft_s, strict=True))
    ]
    return Report(run=make_run(make_planned(), run_id=run_id), measurements=tuple(measured))


STEADY, NOISY = (0.0500, 0.0501, 0.0502, 0.0503, 0.0504), (0.10, 0.13, 0.08, 0.12, 0.09)


def look_at(processes: int, earlier: Judgement | None, b_tpot_s: Sequence[float]) -> Judgement:
    a = report(STEADY[:processes], NOISY[:processes], "a")
    b = report(b_tpot_s[:processes], NOISY[:processes], "b")
    return gate(with_decided_rows(compare(a, b), earlier), POLICY, look=1 if earlier is None else 2)


def row(judgement: Judgement, metric: str) -> tuple[str, int]:
    [found] = [one for one in judgement.rows if one.row.metric == metric]
    return found.verdict, found.row.replicates


@pytest.mark.parametrize(
    ("later", "verdict"),
    [((0.0500, 0.0501, 0.0502, 0.5, 0.5), "no_change"), ((0.0600, 0.0601, 0.0602, 0.05, 0.05), "regression")],
)
def test_a_row_stops_at_its_first_verdict_though_its_case_goes_on(later: Sequence[float], verdict: str) -> None:
    first = look_at(3, None, later)
    assert row(first, "tpot_s") == (verdict, 3)
    assert row(first, "ttft_s") == ("inconclusive", 3)
    assert len(first.undecided) == 1
    second = look_at(5, first, later)
    assert row(second, "tpot_s") == (verdict, 3)
    assert row(second, "ttft_s") == ("inconclusive", 5)


def test_the_first_look_takes_rows_as_they_are() -> None:
    comparison = compare(report(STEADY, NOISY, "a"), report(STEADY, NOISY, "b"))
    assert with_decided_rows(comparison, None) is comparison


def test_a_small_baseline_is_told_where_it_may_be_the_reason() -> None:
    few, many = report(STEADY[:3], NOISY[:3], "a"), report(STEADY, NOISY, "b")
    judgement = gate(compare(few, many), POLICY, look=2)
    assert judgement.verdict == "inconclusive"
    assert "The baseline has only 3 processes of some cases" in with_baseline_told(judgement, few, many).reasons[-1]
    assert with_baseline_told(judgement, many, few) is judgement
    assert with_baseline_told(judgement, many, many) is judgement
    decided = gate(compare(few, many), Policy(rules=(Rule(gate=False), Rule(metrics=("tpot_s",), gate=True))))
    assert with_baseline_told(decided, few, many) is decided
