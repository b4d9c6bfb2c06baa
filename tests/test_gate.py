"""The gate is right about equal sides, finds what is there, and never judges on too little."""

import math
import random
from collections import Counter

import pytest
from fakes import make_failure, make_planned, make_report, make_run
from hypothesis import assume, given
from hypothesis import strategies as st

from results.compare import Comparison, ComparisonRow, compare
from results.gate import EXIT_CODES, VERDICTS, Verdict, judge, verdict_of
from results.records import Report, RowWarning
from results.stats import Estimate, Shift, estimate, paired, welch
from results.verdict_words import change

BACK: dict[Verdict, Verdict] = {"regression": "improvement", "improvement": "regression"}
STOPPED = (RowWarning(kind="early_stop", facts={"stopped": 1, "requests": 3, "wanted": 16}),)


def make_row(effect: Shift | None, *, metric: str = "tpot_s", n: int = 5, warnings: tuple[RowWarning, ...] = ()) -> ComparisonRow:
    side = Estimate(0.8, None, None, n, "processes")
    return ComparisonRow(make_planned(), metric, side, side, effect, n, a_warnings=warnings)


def shift(value: float, half: float | None = 0.0) -> Shift:
    if half is None:
        return Shift(value, None, None, None)
    return Shift(value, value - half, value + half, half)


def of_ratio(ratio: float, half: float | None = 0.0) -> Shift:
    return shift(math.log(ratio), half)


@pytest.mark.parametrize(
    ("effect", "verdict"),
    [
        (of_ratio(1.20, 0.05), "regression"),
        (of_ratio(0.80, 0.05), "improvement"),
        (of_ratio(1.00, 0.02), "no_change"),
        (of_ratio(1.00, 0.10), "inconclusive"),
        (of_ratio(1.04, 0.03), "regression"),  # excludes 1 and reaches beyond the margin
        (of_ratio(1.03, 0.01), "no_change"),  # worse for sure, and for sure too little: equivalence wins
        (of_ratio(1.10, 0.11), "inconclusive"),  # large, and not sure
        (of_ratio(1.024, 0.025), "no_change"),
        (of_ratio(1.026, 0.0256), "regression"),  # just over half of the margin
        (of_ratio(1.0, 0.0), "no_change"),
        (of_ratio(1.06, 0.0), "regression"),
        (of_ratio(1.04, 0.0), "no_change"),
        (of_ratio(1.2, None), "inconclusive"),
        (None, "inconclusive"),
    ],
)
def test_rule(effect: Shift | None, verdict: Verdict) -> None:
    assert judge(make_row(effect)) == verdict


def test_effects_below_half_the_margin_are_never_a_regression() -> None:
    row = make_row(Shift(math.log(1.02), 0.0001, 0.06, 0.03))
    assert judge(row) == "inconclusive"


@pytest.mark.parametrize("n", [1, 2])
def test_fewer_than_three_processes_judge_nothing(n: int) -> None:
    for effect in (of_ratio(2.0, 0.01), of_ratio(0.5, 0.01), of_ratio(1.0, 0.01), of_ratio(1.0), of_ratio(2.0)):
        assert judge(make_row(effect, n=n)) == "inconclusive"


def test_exact_metrics_need_no_replicates_and_no_margin() -> None:
    def verdict(ratio: float) -> Verdict:
        return judge(make_row(of_ratio(ratio), metric="weights_bytes", n=1))

    assert [verdict(1.0), verdict(1 + 1e-9), verdict(1 - 1e-9)] == ["no_change", "regression", "improvement"]


def test_an_exact_metric_that_does_not_repeat_is_treated_as_noisy() -> None:
    assert judge(make_row(of_ratio(1.1, 0.01), metric="weights_bytes", n=2)) == "inconclusive"
    assert judge(make_row(of_ratio(1.1, 0.01), metric="weights_bytes", n=3)) == "regression"


@pytest.mark.parametrize(
    ("differences", "verdict"),
    [
        ([-0.05] * 5, "regression"),  # quality is better when higher
        ([0.05] * 5, "improvement"),
        ([-0.009, -0.004, 0.001, 0.0, -0.002], "no_change"),  # inside one point
        ([-0.2, 0.1, 0.0, -0.15, 0.1], "inconclusive"),
        ([0.0], "no_change"),  # identical answers
        ([-0.3], "inconclusive"),
        ([-0.3, -0.3], "inconclusive"),  # two items are too few, however alike
    ],
)
def test_quality_is_judged_in_points_over_its_items(differences: list[float], verdict: Verdict) -> None:
    effect = shift(0.0) if differences == [0.0] else paired(differences)
    assert judge(make_row(effect, metric="quality", n=len(differences))) == verdict


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
    assert judge(make_row(welch(a, b), metric="error_share", n=len(a))) == verdict


@pytest.mark.parametrize(("a", "b", "verdict"), [(10.0, 0.0, "regression"), (0.0, 10.0, "improvement")])
def test_a_goodput_of_nothing_is_judged_without_an_interval(a: float, b: float, verdict: Verdict) -> None:
    def row(n: int) -> ComparisonRow:
        sides = [estimate([[value]] * n) for value in (a, b)]
        assert sides[0] and sides[1]
        return ComparisonRow(make_planned(), "goodput_rps", *sides, None, n)

    assert [judge(row(n)) for n in (1, 2, 3)] == ["inconclusive", "inconclusive", verdict]
    assert change(row(3)) == ("-100.0 %" if b == 0 else "+∞ %")


def test_metrics_without_a_margin_are_described() -> None:
    assert judge(make_row(of_ratio(0.5), metric="decode_tps")) == "described"


def test_early_stops_leave_the_end_to_end_time_unjudged() -> None:
    assert judge(make_row(of_ratio(1.5), metric="e2e_s", warnings=STOPPED)) == "described"
    assert judge(make_row(of_ratio(1.5), metric="e2e_s")) == "regression"
    assert judge(make_row(of_ratio(1.5), metric="ttft_s", warnings=STOPPED)) == "regression"


def simulate(factor: float, *, rounds: int = 2000, n: int = 5, spread: float = 0.02) -> Counter[Verdict]:
    """Verdicts on sides of n processes with this spread between them, the second one slower by the factor."""
    noise = random.Random(20260301)
    found: Counter[Verdict] = Counter()
    for _ in range(rounds):
        a, b = ([noise.gauss(0, spread) for _ in range(n)] for _ in range(2))
        found[judge(make_row(welch(a, [math.log(factor) + value for value in b]), n=n))] += 1
    return found


def test_false_regressions_are_rare_on_equal_sides() -> None:
    found = simulate(1.0)
    assert found["regression"] <= 0.035 * 2000
    assert found["improvement"] <= 0.035 * 2000
    assert found["no_change"] >= 0.7 * 2000


@pytest.mark.slow
def test_false_regressions_stay_rare_when_the_noise_is_large() -> None:
    found = simulate(1.0, spread=0.15)
    assert found["regression"] <= 0.035 * 2000
    assert found["no_change"] <= 0.01 * 2000


def test_a_fifth_slower_is_found() -> None:
    assert simulate(1.2, rounds=500)["regression"] >= 495


def test_a_twentieth_slower_is_found_three_times_in_four() -> None:
    assert 0.7 * 1000 <= simulate(1.05, rounds=1000)["regression"] <= 0.9 * 1000


def test_equivalence_is_not_claimed_at_the_margin() -> None:
    assert simulate(1.05, rounds=1000)["no_change"] <= 0.05 * 1000


medians = st.lists(st.floats(min_value=1e-6, max_value=1e6), min_size=1, max_size=6)


@given(medians, medians, st.sampled_from(["tpot_s", "peak_rss_bytes", "weights_bytes"]))
def test_swapped_sides_turn_a_regression_into_an_improvement(a: list[float], b: list[float], metric: str) -> None:
    logs = [[math.log(value) for value in side] for side in (a, b)]
    n = min(len(a), len(b))
    there, back = (make_row(welch(*pair), metric=metric, n=n) for pair in (logs, logs[::-1]))
    assume(all(abs(abs(there.effect.value) - edge) > 1e-9 for edge in (0.0, math.log1p(0.025), math.log1p(0.015))))
    assert judge(back) == BACK.get(judge(there), judge(there))


@given(medians, medians)
def test_everything_shown_is_finite(a: list[float], b: list[float]) -> None:
    row = make_row(welch([math.log(value) for value in a], [math.log(value) for value in b]), n=min(len(a), len(b)))
    assert judge(row) in VERDICTS
    shown = [row.ratio, row.low, row.high, row.detectable]
    assert all(value is None or math.isfinite(value) for value in shown)


def make_comparison(*effects: Shift, **changes: object) -> Comparison:
    run = make_run()
    fields: dict[str, object] = {
        "rows": tuple(make_row(effect) for effect in effects),
        "differences": (),
        "only_a": (),
        "only_b": (),
    }
    return Comparison(a_run=run, b_run=run, **(fields | changes))  # type: ignore[arg-type]


SAME, WORSE, BETTER, UNSURE = of_ratio(1.0, 0.01), of_ratio(1.2, 0.01), of_ratio(0.8, 0.01), of_ratio(1.0, 0.2)


@pytest.mark.parametrize(
    ("comparison", "verdict", "code"),
    [
        (make_comparison(SAME, SAME), "no_change", 0),
        (make_comparison(SAME, BETTER), "improvement", 0),
        (make_comparison(SAME, UNSURE, BETTER), "inconclusive", 3),
        (make_comparison(SAME, UNSURE, BETTER, WORSE), "regression", 1),
        (make_comparison(SAME, newly_failed=(make_failure("f"),), only_a=(make_planned(),)), "regression", 1),
        (make_comparison(newly_failed=(make_failure("f"),), only_a=(make_planned(),)), "regression", 1),
        (make_comparison(SAME, newly_failed=(make_failure("f"),)), "inconclusive", 3),  # other processes measured it
        (
            make_comparison(BETTER, newly_failed=(make_failure("f", kind="missing_weights"),), only_a=(make_planned(),)),
            "inconclusive",
            3,
        ),
        (
            make_comparison(WORSE, newly_failed=(make_failure("f", kind="unsupported"),), only_a=(make_planned(),)),
            "regression",
            1,
        ),
        (make_comparison(SAME, unreached=(make_planned(),)), "inconclusive", 3),
        (make_comparison(SAME, only_b=(make_planned(),)), "no_change", 0),
        (make_comparison(), "inconclusive", 3),
        (make_comparison(rows=(make_row(WORSE, metric="decode_tps"),)), "inconclusive", 3),
    ],
)
def test_the_strongest_verdict_wins(comparison: Comparison, verdict: Verdict, code: int) -> None:
    assert verdict_of(comparison) == verdict
    assert EXIT_CODES[verdict] == code


@pytest.mark.parametrize("kind", ["oom", "timeout", "crash", "bad_output", "engine_error"])
def test_a_case_that_fails_in_every_process_of_b_is_a_regression(kind: str) -> None:
    a, b = lost_on_b(kind)
    assert verdict_of(compare(a, b)) == "regression"


@pytest.mark.parametrize("kind", ["unsupported", "missing_dependency", "missing_weights", "interrupted", "pruned"])
def test_what_the_machine_lacks_is_no_regression(kind: str) -> None:
    a, b = lost_on_b(kind)
    assert verdict_of(compare(a, b)) == "inconclusive"


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
    assert verdict_of(compare(a, made_good)) == "no_change"
    fewer = tuple(one for one in b.measurements if (one.case_id, one.process) != (crashed.case_id, 2))
    assert verdict_of(compare(a, made_good.model_copy(update={"measurements": fewer}))) == "inconclusive"


def test_reports_end_to_end() -> None:
    base = make_report()
    slower = make_report(run_id="20260302-120000-bbbb", slower=1.2, seed=2)
    assert verdict_of(compare(base, slower)) == "regression"
    assert verdict_of(compare(slower, base)) == "improvement"
    assert verdict_of(compare(base, make_report(run_id="20260302-120000-bbbb", seed=2))) == "no_change"
    assert verdict_of(compare(make_report(processes=2), make_report(processes=2, slower=3.0))) == "inconclusive"
