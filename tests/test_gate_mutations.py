"""What goes wrong with the data of a gate ends in its named verdict and exit code, and never in a silent pass."""

import math
import re
from collections.abc import Callable

import pytest
from fakes import make_case, make_environment, make_failure, make_measurement, make_planned, make_run
from judgements import side_of
from test_gate import PLANNED, STEADY, make_comparison, make_row, times

from results.compare import compare
from results.errors import NotComparableError
from results.gate import Judgement, gate
from results.outcome import outcome_of
from results.policy import Policy
from results.records import Environment, Measurement, Report, Score

CASE, LONG = make_case(), make_case(output_tokens=64)
BASE, SAME, WORSE = (0.100, 0.101, 0.099), (0.0995, 0.1005, 0.1), (0.120, 0.121, 0.119)
MARGIN_0 = Policy.model_validate({"rules": [{"metrics": ["tpot_s"], "margin": 0}]})


def report(run_id: str, tpots: tuple[float, ...], environment: Environment | None = None, **changes: object) -> Report:
    """Two cases in as many processes; the token times of both are the given ones, and the TTFTs alike."""
    measured = tuple(
        make_measurement(f"{run_id}{k}{n}", case, run_id=run_id, process=k, tpot_s=tpot, ttft_s=tpot, **changes)
        for n, case in enumerate((CASE, LONG))
        for k, tpot in enumerate(tpots)
    )
    run = make_run(make_planned(CASE), make_planned(LONG), run_id=run_id, environment=environment or make_environment())
    return Report(run=run, measurements=measured)


def only(one: Report, keep: Callable[[Measurement], bool]) -> Report:
    return one.model_copy(update={"measurements": tuple(filter(keep, one.measurements))})


def ended(found: Judgement) -> tuple[str, int]:
    return found.verdict, found.exit_code


def test_the_unmutated_gate_passes_and_fails() -> None:
    assert ended(gate(compare(report("a", BASE), report("b", SAME)))) == ("no_change", 0)
    assert ended(gate(compare(report("a", BASE), report("b", WORSE)))) == ("regression", 1)


def test_sides_swapped() -> None:
    assert ended(gate(compare(report("a", WORSE), report("b", BASE)))) == ("improvement", 0)


@pytest.mark.parametrize(("factor", "verdict"), [(0.8, "regression"), (1.25, "improvement")])
def test_direction_flipped(factor: float, verdict: str) -> None:
    """Of goodput more is better."""
    row = make_row(times(100), times(100 * factor), metric="goodput_rps")
    assert gate(make_comparison(row)).verdict == verdict


@pytest.mark.parametrize(
    ("ratio", "ends"),
    [(1.0, ("no_change", 0)), (1.04, ("no_change", 0)), (1.06, ("regression", 1)), (0.94, ("improvement", 0))],
)
def test_constant_data(ratio: float, ends: tuple[str, int]) -> None:
    found = gate(compare(report("a", (0.1,) * 3), report("b", (0.1 * ratio,) * 3)))
    assert ended(found) == ends
    row = make_row([0.1] * 3, [0.1 * ratio] * 3)
    assert (ended(gate(make_comparison(row))), gate(make_comparison(row)).rows[0].p_value) == (ends, None)


def test_one_constant_side() -> None:
    assert ended(gate(make_comparison(make_row([0.1] * 3, BASE)))) == ("no_change", 0)
    assert ended(gate(make_comparison(make_row([0.1] * 3, WORSE)))) == ("regression", 1)


@pytest.mark.parametrize("n", [1, 2])
def test_too_few_samples(n: int) -> None:
    for b in (SAME, WORSE):
        found = gate(compare(report("a", BASE[:n]), report("b", b[:n])))
        assert ended(found) == ("inconclusive", 3)
        assert any("a verdict needs 3" in one.reason for one in found.rows)


def test_no_samples_on_one_side() -> None:
    found = gate(make_comparison(make_row(BASE, ())))
    assert ended(found) == ("inconclusive", 3)
    assert found.rows[0].reason == "no value on one side"


@pytest.mark.parametrize(
    ("metric", "wrong"),
    [
        *(("error_share", wrong) for wrong in (math.nan, math.inf, -math.inf)),
        *(("tpot_s", wrong) for wrong in (math.nan, math.inf, -math.inf, 0.0, -1.0)),
        *(("weights_bytes", wrong) for wrong in (math.nan, math.inf, 0.0)),
    ],
)
def test_values_that_are_no_measurements(metric: str, wrong: float) -> None:
    for a, b in ((BASE, (*SAME, wrong)), ((*BASE, wrong), SAME), ((wrong,) * 3, BASE), (BASE, (wrong,) * 3)):
        found = gate(make_comparison(make_row(a, b, metric=metric)))
        assert ended(found) == ("inconclusive", 3)
        assert found.rows[0].reason in ("values of zero have no ratio", "values that are no finite numbers")


@pytest.mark.parametrize(("b", "ends"), [(SAME, ("no_change", 0)), (WORSE, ("regression", 1))])
def test_unequal_counts(b: tuple[float, ...], ends: tuple[str, int]) -> None:
    assert ended(gate(compare(report("a", BASE * 3), report("b", b)))) == ends
    assert ended(gate(compare(report("a", BASE), report("b", b * 3)))) == ends
    assert ended(gate(compare(report("a", BASE * 3), report("b", b[:1])))) == ("inconclusive", 3)


def test_a_metric_that_is_missing() -> None:
    """Lost by the candidate it keeps the gate from passing; new on it, it is told."""
    memory = {"peak_rss_bytes": 1.6e9, "weights_bytes": 1.07e9}
    whole, lacking = report("a", BASE, values=memory), report("b", SAME, values={"weights_bytes": 1.07e9})
    lost, new = gate(compare(whole, lacking)), gate(compare(lacking, whole))
    assert ended(lost) == ("inconclusive", 3)
    assert any("Peak RSS of" in one and "missing on B" in one for one in lost.reasons)
    assert ended(new) == ("no_change", 0)
    assert any("Peak RSS of" in one and "on B only" in one for one in new.reasons)


def test_every_request_failed() -> None:
    """Then there is no time to compare, and the share of errors went from none to all."""
    failed = report("b", SAME)
    broken = tuple(
        one.model_copy(update={"requests": tuple(r.model_copy(update={"error": "empty: no token"}) for r in one.requests)})
        for one in failed.measurements
    )
    found = gate(compare(report("a", BASE), failed.model_copy(update={"measurements": broken})))
    assert ended(found) == ("regression", 1)
    assert sum("missing on B" in one for one in found.reasons) == 6  # TTFT, TPOT and end to end of two cases


def test_faster_with_errors_in_single_requests() -> None:
    failing = report("b", tuple(tpot / 2 for tpot in SAME))
    broken = tuple(
        one.model_copy(update={"requests": (one.requests[0].model_copy(update={"error": "http_5xx: no"}), *one.requests[1:])})
        for one in failing.measurements
    )
    found = gate(compare(report("a", BASE), failing.model_copy(update={"measurements": broken})))
    assert ended(found) == ("regression", 1)
    assert {one.row.metric for one in found.rows if one.verdict == "regression"} == {"error_share"}


def with_quality(run_id: str, scores: tuple[float, ...]) -> Report:
    """Beside the two cases, a quality pass of five prompts, of which so many have a score."""
    quality = make_case(purpose="quality", prompt_tokens=None, stop="eos")
    one = report(run_id, SAME)
    answers = make_measurement(f"{run_id}-q", quality, run_id=run_id, iterations=5)
    return one.model_copy(
        update={
            "run": one.run.model_copy(update={"planned": (*one.run.planned, make_planned(quality, processes=1))}),
            "measurements": (*one.measurements, answers),
            "scores": tuple(
                Score(request_id=request.request_id, scorer="heuristic", version="v1", item="relevance", value=value)
                for request, value in zip(answers.requests, scores, strict=False)
            ),
        }
    )


@pytest.mark.parametrize(("answered", "told"), [(0, "Quality of .* quality"), (4, "Quality of 1 item of .* quality")])
def test_scores_that_are_missing(answered: int, told: str) -> None:
    """All of them, or those of some items."""
    a = with_quality("a", (1.0,) * 5)
    assert ended(gate(compare(a, with_quality("b", (1.0,) * 5)))) == ("no_change", 0)
    found = gate(compare(a, with_quality("b", (1.0,) * answered)))
    assert ended(found) == ("inconclusive", 3)
    assert any(re.match(f"{told}.* was measured on A and is missing on B", one) for one in found.reasons)
    assert ended(gate(compare(with_quality("b", (1.0,) * answered), a))) == ("no_change", 0)


def test_a_run_against_itself() -> None:
    """Under its own name, and under another one."""
    one, renamed = report("a", BASE), report("b", SAME).model_copy(update={"measurements": report("a", BASE).measurements})
    for other in (one, renamed):
        found = outcome_of((side_of(one), side_of(other)), Policy())
        assert (found.exit_code, found.judgement) == (4, None)
        assert found.refusal.startswith("Run a is on both sides")


def test_a_lone_regression_that_a_policy_would_let_pass() -> None:
    lone = make_comparison(make_row(BASE, WORSE))
    policy = Policy(lone_regressions="confirm", inconclusive="pass")
    assert ended(gate(lone, policy)) == ("inconclusive", 3)
    assert ended(gate(make_comparison(make_row(BASE[:2], WORSE[:2])), policy)) == ("inconclusive", 0)


def test_a_renamed_case() -> None:
    b = report("b", SAME)
    renamed = make_case(output_tokens=65)
    moved = tuple(
        one.model_copy(update={"case_id": renamed.case_id}) if one.case_id == LONG.case_id else one for one in b.measurements
    )
    b = b.model_copy(update={"run": make_run(make_planned(CASE), make_planned(renamed), run_id="b"), "measurements": moved})
    found = gate(compare(report("a", BASE), b))
    assert ended(found) == ("inconclusive", 3)
    assert any("tg64 was measured on A and is missing on B" in one for one in found.reasons)
    assert any("tg65 was measured on B only" in one for one in found.reasons)


def test_another_machine() -> None:
    with pytest.raises(NotComparableError, match="gpus") as error:
        compare(report("a", BASE, make_environment(gpus="L4")), report("b", SAME, make_environment(gpus="A10")))
    assert error.value.exit_code == 4


def test_nothing_in_common() -> None:
    with pytest.raises(NotComparableError) as error:
        compare(report("a", BASE), only(report("b", SAME), lambda _: False))
    assert error.value.exit_code == 4
    assert ended(gate(make_comparison())) == ("inconclusive", 3)


@pytest.mark.parametrize(("kind", "ends"), [("oom", ("regression", 1)), ("missing_weights", ("inconclusive", 3))])
def test_everything_failed(kind: str, ends: tuple[str, int]) -> None:
    nothing = only(report("b", SAME), lambda _: False)
    failures = tuple(make_failure(f"f{n}", case, run_id="b", kind=kind) for n, case in enumerate((CASE, LONG)))
    comparison = compare(report("a", BASE), nothing.model_copy(update={"failures": failures}))
    assert ended(gate(comparison)) == ends
    allowed = gate(comparison, Policy(allow_failures=(kind,)))  # type: ignore[arg-type]
    assert ended(allowed) == ("inconclusive", 3)  # what is excused leaves nothing that could pass


def test_a_case_that_was_not_reached() -> None:
    cut = only(report("b", SAME), lambda one: one.case_id == CASE.case_id)
    found = gate(compare(report("a", BASE), cut), Policy(missing_cases="pass", inconclusive="pass"))
    assert ended(found) == ("inconclusive", 3)


def test_only_described_rows() -> None:
    found = gate(make_comparison(make_row(times(20), times(10), metric="decode_tps")))
    assert (ended(found), found.rows[0].verdict) == (("inconclusive", 3), "described")


def test_a_margin_of_zero() -> None:
    """Then only what repeats is unchanged."""
    verdicts = [gate(make_comparison(make_row(BASE, b)), MARGIN_0).verdict for b in (SAME, WORSE, BASE)]
    assert verdicts == ["inconclusive", "regression", "inconclusive"]
    assert gate(make_comparison(make_row([0.1] * 3, [0.1] * 3)), MARGIN_0).verdict == "no_change"


def test_a_margin_of_zero_calls_no_noise() -> None:
    """No margin bounds the estimate there, so the correction for many rows is all there is."""
    base, noisy = (0.97, 0.98, 1.0, 0.99, 0.96), (0.99, 1.0, 1.01, 1.02, 1.06)
    fields = {"rules": [{"metrics": ["tpot_s"], "margin": 0}]}
    rows = [make_row(base, base[::-1], planned=make_planned(make_case(workload=f"w{k}"))) for k in range(60)]
    found = gate(make_comparison(make_row(base, noisy), *rows), Policy.model_validate(fields))
    assert ended(found) == ("inconclusive", 3)


def test_two_hundred_rows_of_which_one_is_worse() -> None:
    rows = [make_row(STEADY, STEADY[::-1], planned=make_planned(make_case(workload=f"w{k}"))) for k in range(199)]
    found = gate(make_comparison(*rows, make_row(STEADY, times(1.2), planned=PLANNED)))
    assert ended(found) == ("regression", 1)
    assert [one.verdict for one in found.rows].count("regression") == 1
    assert found.rows[0].row.planned is PLANNED


@pytest.mark.parametrize(("factor", "verdict"), [(1.0, "no_change"), (1.02, "no_change"), (1.06, "regression")])
def test_so_many_processes_that_everything_is_significant(factor: float, verdict: str) -> None:
    a = [0.1 * (1 + 0.02 * math.sin(k)) for k in range(5000)]
    found = gate(make_comparison(make_row(a, [factor * one for one in reversed(a)]))).rows[0]
    assert found.verdict == verdict
    assert factor == 1.0 or (found.p_value is not None and found.p_value < 1e-9)


def test_enormous_and_tiny_values_stay_finite() -> None:
    found = gate(make_comparison(make_row((1e-300, 1e-290, 1e-310), (1e300, 1e290, 1e305)))).rows[0]
    assert found.verdict in ("regression", "inconclusive")
    assert found.row.ratio is not None and math.isfinite(found.row.ratio)
