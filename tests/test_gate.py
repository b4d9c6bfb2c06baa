"""The gate is right about equal sides, finds what is there, never judges on too little, and says why."""

import json
import math
import random
import re
from collections import Counter
from collections.abc import Sequence

import pytest
from fakes import make_case, make_failure, make_planned, make_report, make_run
from hypothesis import assume, given
from hypothesis import strategies as st

from results.cases import PlannedCase
from results.compare import compare
from results.comparison import Comparison, ComparisonRow, MissingMetric
from results.errors import UsageError
from results.gate import EXIT_CODES, VERDICTS, Judgement, RowJudgement, Verdict, gate, verdict_on
from results.policy import Policy
from results.records import Report, RowWarning
from results.stats import Estimate, estimate
from results.verdict_words import change

BACK: dict[Verdict, Verdict] = {"regression": "improvement", "improvement": "regression"}
STOPPED = (RowWarning(kind="early_stop", facts={"stopped": 1, "requests": 3, "wanted": 16}),)
STEADY = (0.100, 0.1005, 0.0995, 0.1002, 0.0998)
PLANNED, OTHER = make_planned(), make_planned(make_case(output_tokens=64))


def make_row(
    a: Sequence[float], b: Sequence[float], *, metric: str = "tpot_s", planned: PlannedCase = PLANNED,
    warnings: tuple[RowWarning, ...] = (), paired: bool = False,
) -> ComparisonRow:  # fmt: skip
    sides = [estimate([[value] for value in side]) or Estimate(0.0, None, None, 0, "processes") for side in (a, b)]
    paired = paired or metric == "quality"
    return ComparisonRow(planned, metric, *sides, tuple(a), tuple(b), paired, a_warnings=warnings)


def make_comparison(*rows: ComparisonRow, **changes: object) -> Comparison:
    runs = {side: make_run(PLANNED, OTHER) for side in ("a_run", "b_run")}
    fields: dict[str, object] = {"rows": rows, "differences": (), "only_a": (), "only_b": ()}
    return Comparison(**(runs | fields | changes))  # type: ignore[arg-type]


def policy_of(**fields: object) -> Policy:
    return Policy.model_validate(fields)


def judged(row: ComparisonRow, **policy: object) -> RowJudgement:
    return gate(make_comparison(row), policy_of(**policy)).rows[0]


def times(factor: float, values: Sequence[float] = STEADY) -> tuple[float, ...]:
    return tuple(factor * value for value in values)


@pytest.mark.parametrize(
    ("ratio", "half", "verdict"),
    [
        (1.20, 0.05, "regression"),
        (0.80, 0.05, "improvement"),
        (1.00, 0.02, "no_change"),
        (1.00, 0.10, "inconclusive"),
        (1.04, 0.03, "regression"),  # excludes 1 and reaches beyond the margin
        (1.03, 0.01, "no_change"),  # worse for sure, and for sure too little: equivalence wins
        (1.10, 0.11, "inconclusive"),  # large, and not sure
        (1.024, 0.025, "no_change"),
        (1.026, 0.0256, "regression"),  # just over half of the margin
        (1.024, 0.0236, "no_change"),
        (1.0245, 0.0241, "no_change"),
        (1.0, 0.0, "no_change"),
        (1.06, 0.0, "regression"),
        (1.04, 0.0, "no_change"),
    ],
)
def test_rule(ratio: float, half: float, verdict: Verdict) -> None:
    value, margin, least = math.log(ratio), math.log1p(0.05), math.log1p(0.025)
    there = verdict_on(value, value - half, value + half, margin, least, is_sure=True)
    back = verdict_on(-value, -value - half, -value + half, margin, least, is_sure=True)
    assert (there, back) == (verdict, BACK.get(verdict, verdict))


def test_what_is_too_small_or_not_sure_is_never_called() -> None:
    assert verdict_on(0.02, 0.0001, 0.06, 0.05, 0.025, is_sure=True) == "inconclusive"
    assert verdict_on(-0.02, -0.06, -0.0001, 0.05, 0.025, is_sure=True) == "inconclusive"
    assert verdict_on(0.03, 0.0001, 0.06, 0.05, 0.025, is_sure=False) == "inconclusive"
    assert verdict_on(0.03, 0.0001, 0.06, 0.05, 0.025, is_sure=True) == "regression"
    assert verdict_on(0.01, 0.005, 0.015, 0.05, 0.025, is_sure=False) == "no_change"


@pytest.mark.parametrize("n", [1, 2])
def test_fewer_than_three_processes_judge_nothing(n: int) -> None:
    for factor in (2.0, 0.5, 1.0):
        found = judged(make_row(STEADY[:n], times(factor)[:n]))
        assert (found.verdict, found.gates) == ("inconclusive", True)
        assert found.reason == f"{n} process{'' if n == 1 else 'es'} a side: a verdict needs 3"


def test_exact_metrics_need_no_replicates_and_no_margin() -> None:
    def found(ratio: float, n: int = 1) -> RowJudgement:
        return judged(make_row([1e9] * n, [ratio * 1e9] * n, metric="weights_bytes"))

    assert [found(one).verdict for one in (1.0, 1 + 1e-9, 1 - 1e-9)] == ["no_change", "regression", "improvement"]
    assert (found(1.0).reason, found(1.1, n=3).reason) == ("equal", "every process says so, without spread")
    tolerant = {"rules": [{"metrics": ["weights_bytes"], "margin": "0.1%"}]}
    assert judged(make_row([1e9], [1.0005e9], metric="weights_bytes"), **tolerant).verdict == "no_change"
    assert judged(make_row([1e9], [1.002e9], metric="weights_bytes"), **tolerant).verdict == "regression"


def test_an_exact_metric_that_does_not_repeat_is_treated_as_noisy() -> None:
    def verdict(n: int) -> Verdict:
        return judged(make_row(STEADY[:n], times(1.1)[:n], metric="weights_bytes")).verdict

    assert [verdict(2), verdict(3)] == ["inconclusive", "regression"]


@pytest.mark.parametrize(
    ("differences", "verdict"),
    [
        ([-0.05] * 5, "regression"),  # quality is better when higher
        ([0.05] * 5, "improvement"),
        ([-0.009, -0.004, 0.001, 0.0, -0.002], "no_change"),  # inside one point
        ([-0.2, 0.1, 0.0, -0.15, 0.1], "inconclusive"),
        ([0.0, 0.0], "no_change"),  # identical answers
        ([-0.3], "inconclusive"),
        ([-0.3, -0.3], "inconclusive"),  # two items are too few, however alike
    ],
)
def test_quality_is_judged_in_points_over_its_items(differences: list[float], verdict: Verdict) -> None:
    b = [0.5 + one for one in differences]
    assert judged(make_row([0.5] * len(b), b, metric="quality")).verdict == verdict


@pytest.mark.parametrize(("lost", "won", "verdict"), [(3, 0, "inconclusive"), (8, 0, "regression"), (0, 8, "improvement")])
def test_right_and_wrong_answers_need_enough_that_changed(lost: int, won: int, verdict: Verdict) -> None:
    a = [1.0] * lost + [0.0] * won + [1.0] * 5
    b = [0.0] * lost + [1.0] * won + [1.0] * 5
    found = judged(make_row(a, b, metric="quality"))
    assert found.verdict == verdict
    assert found.p_value == pytest.approx(2 * 0.5 ** (lost + won))  # the exact binomial test of changed answers


@pytest.mark.parametrize(
    ("a", "b", "verdict"),
    [
        ([0.0, 0.0, 0.0], [0.5, 0.5, 0.5], "regression"),
        ([0.0, 0.0, 0.0], [0.45, 0.5, 0.55], "regression"),
        ([0.5, 0.5, 0.5], [0.0, 0.0, 0.0], "improvement"),
        ([0.0, 0.0, 0.0], [0.0, 0.0, 0.0], "no_change"),
        ([0.0, 0.0, 0.0], [0.004, 0.006, 0.005], "no_change"),  # half a point, inside the margin of one
        ([0.001, 0.001, 0.001], [0.002, 0.002, 0.002], "no_change"),  # twice as many of almost none
        ([0.0, 0.0, 0.0], [0.0, 0.0, 0.1], "inconclusive"),
        ([0.0, 0.0], [0.5, 0.5], "inconclusive"),  # two processes are too few
    ],
)
def test_errors_are_judged_in_points(a: list[float], b: list[float], verdict: Verdict) -> None:
    assert judged(make_row(a, b, metric="error_share")).verdict == verdict


@pytest.mark.parametrize(("a", "b", "verdict"), [(10.0, 0.0, "regression"), (0.0, 10.0, "improvement")])
def test_a_goodput_of_nothing_is_judged_without_an_interval(a: float, b: float, verdict: Verdict) -> None:
    rows = [make_row([a] * n, [b] * n, metric="goodput_rps") for n in (1, 2, 3)]
    assert [judged(row).verdict for row in rows] == ["inconclusive", "inconclusive", verdict]
    assert change(rows[2]) == ("-100.0 %" if b == 0 else "+∞ %")
    assert judged(rows[2], rules=[{"metrics": ["goodput_rps"], "floor": "20/s"}]).verdict == "no_change"


def test_metrics_without_a_margin_are_described_unless_the_policy_has_one() -> None:
    row = make_row(times(20), times(10), metric="decode_tps")
    assert (judged(row).verdict, judged(row).gates) == ("described", False)
    assert judged(row, rules=[{"metrics": ["decode_tps"], "margin": "5%"}]).verdict == "regression"


def test_early_stops_leave_the_end_to_end_time_unjudged() -> None:
    def verdict(metric: str, warnings: tuple[RowWarning, ...]) -> Verdict:
        return judged(make_row(STEADY, times(1.5), metric=metric, warnings=warnings)).verdict

    assert verdict("e2e_s", STOPPED) == "described"
    assert verdict("e2e_s", ()) == verdict("ttft_s", STOPPED) == "regression"


def test_a_floor_lets_small_differences_be() -> None:
    """0.1 s become 0.12 s: 20 % more, and 20 ms."""
    row = make_row(STEADY, times(1.2))
    verdicts = [judged(row, rules=[{"floor": floor, "metrics": ["tpot_s"]}]).verdict for floor in ("1 ms", "19 ms", "22 ms")]
    assert verdicts == ["regression", "regression", "no_change"]
    back = make_row(times(1.2), STEADY)
    verdicts = [judged(back, rules=[{"floor": floor, "metrics": ["tpot_s"]}]).verdict for floor in ("1 ms", "19 ms", "22 ms")]
    assert verdicts == ["improvement", "improvement", "no_change"]
    shares = make_row([0.0, 0.001, 0.0], [0.03, 0.031, 0.03], metric="error_share")
    assert judged(shares).verdict == "regression"
    assert judged(shares, rules=[{"metrics": ["error_share"], "floor": "5 points"}]).verdict == "no_change"


def test_below_the_floor_nothing_is_called_however_wide_the_interval() -> None:
    row = make_row([0.1, 0.1001, 0.0999], [0.111, 0.112, 0.116])  # 13 ms, of which some are sure
    assert judged(row).verdict == "regression"
    assert judged(row, rules=[{"metrics": ["tpot_s"], "floor": "14 ms"}]).verdict == "inconclusive"


def test_a_rule_can_show_a_row_without_its_deciding() -> None:
    worse, same = make_row(STEADY, times(1.2)), make_row(STEADY, STEADY, metric="ttft_s")
    found = gate(make_comparison(worse, same), policy_of(rules=[{"metrics": ["tpot_s"], "gate": False}]))
    assert [(one.verdict, one.gates) for one in found.rows] == [("regression", False), ("no_change", True)]
    assert (found.verdict, found.exit_code, found.undecided) == ("no_change", 0, ())


def test_blocks_take_out_what_happened_to_both_sides() -> None:
    a = (0.100, 0.110, 0.120, 0.130, 0.140)
    b = tuple(1.06 * value + 0.0001 * k for k, value in enumerate(a))
    assert judged(make_row(a, b)).verdict == "inconclusive"
    assert judged(make_row(a, b, paired=True)).verdict == "regression"


def simulate(factor: float, *, rounds: int, n: int = 5, spread: float = 0.02) -> Counter[Verdict]:
    """Verdicts on sides of n processes with this spread between them, the second one slower by the factor."""
    noise = random.Random(20260301)
    found: Counter[Verdict] = Counter()
    for _ in range(rounds):
        a, b = ([math.exp(noise.gauss(0, spread)) for _ in range(n)] for _ in range(2))
        found[judged(make_row(a, times(factor, b))).verdict] += 1
    return found


@pytest.mark.slow
@pytest.mark.parametrize("spread", [0.02, 0.15])
def test_false_regressions_are_rare_on_equal_sides(spread: float) -> None:
    found = simulate(1.0, rounds=1000, spread=spread)
    assert found["regression"] <= 35
    assert found["improvement"] <= 35
    assert found["no_change"] >= 700 if spread == 0.02 else found["no_change"] <= 10


@pytest.mark.slow
def test_shifts_are_found_and_equivalence_is_not_claimed_at_the_margin() -> None:
    assert simulate(1.2, rounds=200)["regression"] >= 198
    found = simulate(1.05, rounds=500)
    assert 350 <= found["regression"] <= 450
    assert found["no_change"] <= 25


medians = st.lists(st.floats(min_value=1e-6, max_value=1e6), min_size=1, max_size=5)


@given(medians, medians, st.sampled_from(["tpot_s", "peak_rss_bytes", "weights_bytes", "decode_tps"]), st.booleans())
def test_swapped_sides_turn_a_regression_into_an_improvement(a: list[float], b: list[float], metric: str, floor: bool) -> None:
    policy: dict[str, object] = {"rules": [{"metrics": [metric], "margin": "5%"} | ({"floor": 0.5} if floor else {})]}
    there, back = make_row(a, b, metric=metric), make_row(b, a, metric=metric)
    effect, edges = there.effect, (0.0, math.log1p(0.025), math.log1p(0.05), there.scaled_floor(0.5))
    assume(effect and all(abs(abs(end or 0) - edge) > 1e-9 for end in (effect.value, effect.low, effect.high) for edge in edges))
    first, second = judged(there, **policy), judged(back, **policy)
    assert second.verdict == BACK.get(first.verdict, first.verdict)


@given(medians, medians, st.booleans())
def test_everything_shown_is_finite_and_has_a_reason(a: list[float], b: list[float], paired: bool) -> None:
    length = min(len(a), len(b)) if paired else 5
    row = make_row(a[:length], b[:length], paired=paired)
    found = judged(row)
    assert found.verdict in VERDICTS
    assert found.reason
    shown = [row.ratio, row.low, row.high, row.detectable, found.p_value, found.adjusted_p]
    assert all(value is None or math.isfinite(value) for value in shown)


SAME, WORSE, BETTER = make_row(STEADY, STEADY), make_row(STEADY, times(1.2)), make_row(STEADY, times(0.8))
UNSURE = make_row(STEADY, (0.08, 0.12, 0.09, 0.11, 0.1), metric="ttft_s")
LACKING_B = (MissingMetric(PLANNED, "tpot_s", "B"),)
LACKING_A = (MissingMetric(PLANNED, "tpot_s", "A"),)


@pytest.mark.parametrize(
    ("comparison", "verdict", "code"),
    [
        (make_comparison(SAME, SAME), "no_change", 0),
        (make_comparison(SAME, BETTER), "improvement", 0),
        (make_comparison(SAME, UNSURE, BETTER), "inconclusive", 3),
        (make_comparison(SAME, UNSURE, BETTER, WORSE), "regression", 1),
        (make_comparison(SAME, newly_failed=(make_failure("f"),), only_a=(PLANNED,)), "regression", 1),
        (make_comparison(newly_failed=(make_failure("f"),), only_a=(PLANNED,)), "regression", 1),
        (make_comparison(SAME, newly_failed=(make_failure("f"),)), "inconclusive", 3),  # other processes measured it
        (
            make_comparison(BETTER, newly_failed=(make_failure("f", kind="missing_weights"),), only_a=(PLANNED,)),
            "inconclusive",
            3,
        ),
        (make_comparison(WORSE, newly_failed=(make_failure("f", kind="unsupported"),), only_a=(PLANNED,)), "regression", 1),
        (make_comparison(SAME, unreached=(PLANNED,), only_a=(PLANNED,)), "inconclusive", 3),
        (make_comparison(SAME, only_a=(OTHER,)), "inconclusive", 3),
        (make_comparison(SAME, only_b=(OTHER,)), "no_change", 0),
        (make_comparison(SAME, missing_metrics=LACKING_B), "inconclusive", 3),
        (make_comparison(SAME, missing_metrics=LACKING_A), "no_change", 0),
        (make_comparison(), "inconclusive", 3),
        (make_comparison(make_row(STEADY, times(1.2), metric="decode_tps")), "inconclusive", 3),
    ],
)
def test_the_strongest_verdict_wins(comparison: Comparison, verdict: Verdict, code: int) -> None:
    found = gate(comparison)
    assert (found.verdict, found.exit_code) == (verdict, code)
    assert found.reasons or verdict in ("no_change", "improvement")


@pytest.mark.parametrize(
    ("comparison", "policy", "verdict", "code", "reason"),
    [
        (make_comparison(SAME, UNSURE), {"inconclusive": "pass"}, "inconclusive", 0, "1 of 2 rows is inconclusive, which this policy"),
        (make_comparison(), {"inconclusive": "pass"}, "inconclusive", 3, "Nothing that decides"),
        (make_comparison(SAME, UNSURE, only_a=(OTHER,)), {"inconclusive": "pass"}, "inconclusive", 3, "missing on B"),
        (make_comparison(SAME, only_a=(OTHER,)), {"missing_cases": "pass"}, "no_change", 0, "Let pass: .*tg64 was measured on A"),
        (make_comparison(SAME, missing_metrics=LACKING_B), {"missing_cases": "pass"}, "no_change", 0, "Let pass: TPOT of"),
        (make_comparison(SAME, missing_metrics=LACKING_A), {}, "no_change", 0, "TPOT of .* measured on B only"),
        (make_comparison(SAME, only_b=(OTHER,)), {}, "no_change", 0, "tg64 was measured on B only"),
        (make_comparison(SAME, unreached=(OTHER,)), {"missing_cases": "pass"}, "inconclusive", 3, "tg64 was planned on B, and has no measurement"),
        (make_comparison(WORSE), {"inconclusive": "pass"}, "regression", 1, "1 of 1 row got worse"),
        (make_comparison(SAME), {"rules": [{"metrics": ["itl_s"], "margin": "5%"}]}, "no_change", 0, r"Rule 1 .*itl_s.* fits no row"),
        (make_comparison(SAME), {"rules": [{"gate": False}]}, "inconclusive", 3, "Nothing that decides"),
    ],
)  # fmt: skip
def test_policies_let_pass_what_they_name_and_say_so(
    comparison: Comparison, policy: dict[str, object], verdict: Verdict, code: int, reason: str
) -> None:
    found = gate(comparison, policy_of(**policy))
    assert (found.verdict, found.exit_code) == (verdict, code)
    assert [one for one in found.reasons if re.search(reason, one)], found.reasons


def test_fewer_processes_than_planned_are_told() -> None:
    short, whole = (make_planned(processes=count) for count in (8, 5))

    def told(a: PlannedCase, b: PlannedCase) -> tuple[str, ...]:
        rows = tuple(
            make_row(STEADY, STEADY, planned=planned, metric=name) for planned in (b, OTHER) for name in ("tpot_s", "ttft_s")
        )
        return gate(make_comparison(*rows, a_run=make_run(a, OTHER), b_run=make_run(b, OTHER))).reasons

    assert told(whole, whole) == ()
    assert told(whole, short) == (f"B measured {short.label} in 5 of 8 processes that were planned: it is judged on these.",)
    assert told(short, whole)[0].startswith("A measured")
    many = make_planned(make_case(output_tokens=64), processes=6)
    rows = (make_row(STEADY, STEADY, planned=short), make_row(STEADY, STEADY, planned=many))
    (both,) = gate(make_comparison(*rows, a_run=make_run(), b_run=make_run(short, many))).reasons
    assert "in 5 of 8 processes that were planned, and 1 more so: it" in both


def test_allowed_failures_are_shown_and_fail_nothing() -> None:
    comparison = make_comparison(SAME, newly_failed=(make_failure("f", kind="timeout"),), only_a=(PLANNED,))
    found = gate(comparison, policy_of(allow_failures=["timeout"]))
    assert (found.verdict, found.failures, len(found.excused)) == ("no_change", (), 1)
    assert "newly failed, which is allowed: timeout" in found.reasons[0]
    assert (gate(comparison).verdict, len(gate(comparison).failures)) == ("regression", 1)


def test_the_rate_of_false_calls_is_held_over_all_rows() -> None:
    """One row that alone would be called is not sure among 200, and one that is far off stays so."""
    weak, strong = (0.99, 1.0, 1.01, 1.02, 1.06), (1.2, 1.21, 1.22, 1.2, 1.21)
    base = (0.97, 0.98, 1.0, 0.99, 0.96)
    rows = [make_row(base, base[::-1], planned=make_planned(make_case(workload=f"w{k}"))) for k in range(198)]
    alone = gate(make_comparison(make_row(base, weak))).rows[0]
    assert alone.verdict == "regression"
    found = gate(make_comparison(make_row(base, weak), make_row(base, strong, metric="ttft_s"), *rows))
    by_metric = {one.row.metric: one for one in found.rows if one.row.planned is PLANNED}
    assert by_metric["tpot_s"].verdict == "inconclusive"
    assert by_metric["tpot_s"].reason == "not sure enough among 200 rows"
    assert by_metric["ttft_s"].verdict == "regression"
    p, adjusted = by_metric["ttft_s"].p_value, by_metric["ttft_s"].adjusted_p
    assert p is not None and adjusted == pytest.approx(200 * p)


def test_corroboration_counts_the_metric_elsewhere_and_its_relatives_here() -> None:
    rows = (
        WORSE,
        make_row(STEADY, times(1.2), planned=OTHER),
        make_row(STEADY, times(1.2), metric="ttft_s"),
        make_row(STEADY, times(1.2), metric="ttft_s", planned=make_planned(make_case(output_tokens=99))),
        make_row(STEADY, times(1.2), metric="peak_rss_bytes"),
        make_row(STEADY, times(0.8), planned=make_planned(make_case(output_tokens=98))),
        make_row(STEADY, times(1.2), metric="e2e_s"),  # contains the others of its case
    )
    found = {id(one.row): one.corroborated_by for one in gate(make_comparison(*rows)).rows}
    assert [found[id(row)] for row in rows] == [2, 1, 2, 1, 0, 0, 0]


def test_a_lone_regression_waits_for_confirmation_until_the_last_look() -> None:
    policy = policy_of(lone_regressions="confirm", looks=[3, 5])
    lone, first, last = (gate(make_comparison(WORSE), policy, look=look) for look in (None, 1, 2))
    assert [one.verdict for one in (lone, first, last)] == ["inconclusive", "inconclusive", "regression"]
    assert lone.undecided == (PLANNED,)
    assert "alone" in lone.rows[0].reason
    both = gate(make_comparison(WORSE, make_row(STEADY, times(1.2), metric="ttft_s")), policy)
    assert both.verdict == "regression"
    assert gate(make_comparison(WORSE)).verdict == "regression"


def test_looks_spend_alpha() -> None:
    row = make_row((0.97, 0.98, 1.0, 0.99, 0.96), (0.99, 1.0, 1.01, 1.02, 1.06))
    single, first = gate(make_comparison(row)), gate(make_comparison(row), look=1)
    assert (single.verdict, first.verdict) == ("regression", "inconclusive")
    assert (single.confidence, single.look, first.look) == (pytest.approx(0.95), None, 1)
    assert first.confidence == pytest.approx(0.98785, abs=1e-4)
    wide, narrow = first.rows[0].effect, single.rows[0].effect
    assert wide and narrow and wide.low and narrow.low and wide.low < narrow.low
    assert narrow == row.effect
    with pytest.raises(UsageError, match="no look 10"):
        gate(make_comparison(row), look=10)


def test_confidence_is_the_policys() -> None:
    row = make_row((0.97, 0.98, 1.0, 0.99, 0.96), (0.99, 1.0, 1.01, 1.02, 1.06))
    assert gate(make_comparison(row), policy_of(confidence=0.999)).verdict == "inconclusive"


def test_undecided_cases_are_those_that_more_processes_can_decide() -> None:
    score = make_row([0.5, 0.6, 0.7], [0.3, 0.7, 0.9], metric="quality", planned=OTHER)
    found = gate(make_comparison(score, UNSURE, SAME))
    assert [one.verdict for one in found.rows] == ["inconclusive", "inconclusive", "no_change"]
    assert found.undecided == (PLANNED,)
    assert gate(make_comparison(UNSURE), policy_of(rules=[{"gate": False}])).undecided == ()
    nonsense = gate(make_comparison(make_row((0.1, math.inf, 0.1), STEADY)))
    assert (nonsense.verdict, nonsense.undecided) == ("inconclusive", ())
    nothing_left = gate(make_comparison(make_row((2.0, 2.1), (0.0, 0.0), metric="goodput_rps")))
    assert (nothing_left.verdict, nothing_left.undecided) == ("inconclusive", (PLANNED,))


def test_rows_come_worst_first() -> None:
    found = gate(make_comparison(SAME, BETTER, UNSURE, WORSE, make_row(STEADY, times(1.3), metric="ttft_s")))
    assert [one.verdict for one in found.rows] == ["regression", "regression", "inconclusive", "no_change", "improvement"]
    assert [one.row.metric for one in found.rows[:2]] == ["ttft_s", "tpot_s"]


def test_json_form_is_plain_and_whole() -> None:
    comparison = make_comparison(WORSE, SAME, UNSURE, missing_metrics=LACKING_B, newly_failed=(make_failure("f"),))
    found = json.loads(json.dumps(gate(comparison, look=2).to_dict(), allow_nan=False))
    assert (found["schema"], found["verdict"], found["exit_code"], found["look"]) == ("judgement/1", "regression", 1, 2)
    row = found["rows"][0]
    assert (row["verdict"], row["metric"], row["margin"], row["gates"]) == ("regression", "tpot_s", 0.05, True)
    assert row["effect"]["value"] == pytest.approx(math.log(1.2))
    assert row["reason"]
    assert found["undecided"][0]["case_id"] == PLANNED.case.case_id
    assert found["failures"][0]["kind"] == "crash"
    assert found["missing_metrics"][0]["lacking"] == "B"
    assert found["policy"]["name"] == "default"


@pytest.mark.parametrize("kind", ["oom", "timeout", "crash", "bad_output", "engine_error"])
def test_a_case_that_fails_in_every_process_of_b_is_a_regression(kind: str) -> None:
    assert verdict_on_reports(*lost_on_b(kind)) == "regression"


@pytest.mark.parametrize("kind", ["unsupported", "missing_dependency", "missing_weights", "interrupted", "pruned"])
def test_what_the_machine_lacks_is_no_regression(kind: str) -> None:
    assert verdict_on_reports(*lost_on_b(kind)) == "inconclusive"


def verdict_on_reports(a: Report, b: Report) -> Verdict:
    found: Judgement = gate(compare(a, b))
    assert found.exit_code == EXIT_CODES[found.verdict]
    return found.verdict


def lost_on_b(kind: str) -> tuple[Report, Report]:
    """Two equal runs, but that B measured its first case in no process."""
    a, b = make_report(with_failure=False), make_report(run_id="20260302-120000-bbbb", with_failure=False)
    case = b.run.planned[0].case
    kept = tuple(one for one in b.measurements if one.case_id != case.case_id)
    failures = tuple(make_failure(f"x{p}", case, run_id=b.run.run_id, process=p, kind=kind) for p in range(3))
    return a, b.model_copy(update={"measurements": kept, "failures": failures})


def test_a_crash_in_one_process_of_b_is_inconclusive_and_made_good_it_is_nothing() -> None:
    a, b = make_report(with_failure=False), make_report(run_id="20260302-120000-bbbb", with_failure=False, seed=2)
    crashed = make_failure("x", b.run.planned[0].case, run_id=b.run.run_id, process=2)
    made_good = b.model_copy(update={"failures": (crashed,)})
    assert verdict_on_reports(a, made_good) == "no_change"
    fewer = tuple(one for one in b.measurements if (one.case_id, one.process) != (crashed.case_id, 2))
    assert verdict_on_reports(a, made_good.model_copy(update={"measurements": fewer})) == "inconclusive"


def test_reports_end_to_end() -> None:
    base = make_report()
    slower = make_report(run_id="20260302-120000-bbbb", slower=1.2, seed=2)
    assert verdict_on_reports(base, slower) == "regression"
    assert verdict_on_reports(slower, base) == "improvement"
    assert verdict_on_reports(base, make_report(run_id="20260302-120000-bbbb", seed=2)) == "no_change"
    assert verdict_on_reports(make_report(processes=2), make_report(processes=2, slower=3.0)) == "inconclusive"
