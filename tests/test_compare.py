"""Comparing pairs the right things, refuses the wrong ones, and loses nothing on the way."""

import json
import math
from typing import Any

import pytest
from fakes import (
    make_case,
    make_environment,
    make_failure,
    make_measurement,
    make_planned,
    make_report,
    make_request,
    make_run,
)

from results.cases import Load
from results.compare import compare
from results.comparison import Comparison, ComparisonRow, Difference, MissingMetric
from results.errors import NotComparableError, UsageError
from results.records import Measurement, Report, RowWarning, Score

CASE = make_case()


def report_of(*measurements: Measurement, run_id: str = "a", **changes: object) -> Report:
    return Report(run=make_run(make_planned(CASE), run_id=run_id), measurements=measurements, **changes)  # type: ignore[arg-type]


def processes_of(*tpots_s: float, side: str = "a", **changes: object) -> list[Measurement]:
    return [
        make_measurement(f"{side}{process}", CASE, run_id=side, process=process, tpot_s=tpot, **changes)  # type: ignore[arg-type]
        for process, tpot in enumerate(tpots_s)
    ]


def row_of(comparison: Comparison, metric: str) -> ComparisonRow:
    (row,) = (row for row in comparison.rows if row.metric == metric)
    return row


def test_ratio_is_of_the_processes_geometric_means() -> None:
    comparison = compare(report_of(*processes_of(0.1, 0.4)), report_of(*processes_of(0.4, 0.4, side="b"), run_id="b"))
    row = row_of(comparison, "tpot_s")
    assert row.ratio == pytest.approx(2.0)
    assert (row.a.value, row.b.value) == pytest.approx((0.25, 0.4))
    assert row.low == pytest.approx(2 * math.exp(-12.7062 * math.log(4) / 2), rel=1e-4)
    assert row.replicates == 2


def test_a_process_with_many_requests_weighs_as_one() -> None:
    few = processes_of(0.1, 0.1, 0.2)
    many = [*processes_of(0.1, 0.1), make_measurement("a2", CASE, run_id="a", process=2, tpot_s=0.2, iterations=50)]
    other = report_of(*processes_of(0.1, 0.11, 0.12, side="b"), run_id="b")
    first, second = (row_of(compare(report_of(*side), other), "tpot_s") for side in (few, many))
    assert (first.ratio, first.low, first.high) == pytest.approx((second.ratio, second.low, second.high))
    assert first.replicates == second.replicates == 3


def test_one_process_a_side_has_a_ratio_and_no_interval() -> None:
    row = row_of(compare(report_of(*processes_of(0.1)), report_of(*processes_of(0.2, side="b"), run_id="b")), "tpot_s")
    assert row.ratio == pytest.approx(2.0)
    assert (row.low, row.high, row.detectable) == (None, None, None)


def test_metrics_are_those_with_a_margin_the_exact_ones_and_two_for_reading() -> None:
    comparison = compare(make_report(), make_report(run_id="b"))
    speed = {row.metric for row in comparison.rows if row.planned.case.purpose == "speed"}
    quality = {row.metric for row in comparison.rows if row.planned.case.purpose == "quality"}
    assert speed == {"ttft_s", "tpot_s", "e2e_s", "peak_rss_bytes", "weights_bytes", "prefill_tps", "decode_tps"}
    assert quality == {"quality"}


def test_weights_are_compared_to_the_byte() -> None:
    a = [make_measurement("a0", CASE, values={"weights_bytes": 1_000_000_000.0})]
    b = [make_measurement("b0", CASE, values={"weights_bytes": 1_000_000_001.0})]
    row = row_of(compare(report_of(*a), report_of(*b, run_id="b")), "weights_bytes")
    assert row.low == row.high == row.ratio
    assert row.ratio > 1
    same = row_of(compare(report_of(*a), report_of(*a, run_id="b")), "weights_bytes")
    assert (same.ratio, same.low, same.high, same.detectable) == (1, 1, 1, 0)


def test_values_without_a_logarithm_are_handled() -> None:
    def side(name: str, *values: float) -> Report:
        made = [make_measurement(f"{name}{k}", CASE, process=k, values={"peak_device_bytes": v}) for k, v in enumerate(values)]
        return report_of(*made, run_id=name)

    unknown = row_of(compare(side("a", 0.0, 0.0, 0.0), side("b", 1.0, 2.0, 3.0)), "peak_device_bytes")
    assert (unknown.effect, unknown.ratio, unknown.low) == (None, None, None)
    equal = row_of(compare(side("a", 0.0, 0.0, 0.0), side("b", 0.0, 0.0, 0.0)), "peak_device_bytes")
    assert (equal.ratio, equal.low, equal.high) == (1, 1, 1)


def under_load(name: str, failed: tuple[int, ...], goodputs: tuple[float, ...]) -> Report:
    """Processes of 10 requests, so many of which failed, with these goodputs."""
    case = make_case(load=Load(arrivals="poisson", rate=2.0))
    made = [
        make_measurement(
            f"{name}{k}", case, run_id=name, process=k, values={"goodput_rps": goodput},
            requests=tuple(make_request(f"{name}{k}-{n}", index=n, error="http_5xx: 503" if n < lost else None) for n in range(10)),
        )
        for k, (lost, goodput) in enumerate(zip(failed, goodputs, strict=True))
    ]  # fmt: skip
    return Report(run=make_run(make_planned(case, limits="ttft_s<0.5"), run_id=name), measurements=tuple(made))


def test_shares_are_compared_by_their_difference() -> None:
    comparison = compare(under_load("a", (0, 0, 0), (2.0, 2.1, 2.0)), under_load("b", (5, 5, 5), (1.0, 1.1, 1.0)))
    row = row_of(comparison, "error_share")
    assert (row.in_points, row.is_score, row.replicates, row.margin) == (True, False, 3, 0.01)
    assert row.effect and (row.effect.value, row.effect.low, row.effect.high) == (0.5, 0.5, 0.5)
    assert (row.ratio, row.low) == (None, None)  # of nothing
    assert row.to_dict()["difference"]["value"] == 0.5


def test_a_goodput_that_is_gone_is_a_full_loss() -> None:
    some, none, mixed = ((3, 3, 3), (2.0, 2.1, 2.0)), ((10, 10, 10), (0.0, 0.0, 0.0)), ((3, 3, 3), (2.0, 0.0, 0.0))

    def row(a: Any, b: Any) -> ComparisonRow:
        return row_of(compare(under_load("a", *a), under_load("b", *b)), "goodput_rps")

    lost, gained = row(some, none), row(none, some)
    assert (lost.all_or_nothing, lost.ratio, lost.low) == ("lost", None, None)
    assert (gained.all_or_nothing, gained.ratio) == ("gained", None)
    assert [row(some, mixed).all_or_nothing, row(none, mixed).all_or_nothing, row(none, none).all_or_nothing] == [None] * 3
    assert compare(under_load("a", *some), under_load("b", *none)).rows[0].metric == "goodput_rps"
    assert json.dumps(lost.to_dict(), allow_nan=False)


def judged(run_id: str, scores: dict[int, float], processes: int = 1) -> Report:
    """A quality pass whose prompt k scored `scores[k]`."""
    case = make_case(purpose="quality", prompt_tokens=None, stop="eos")
    measurements = tuple(
        make_measurement(
            f"{run_id}{process}", case, run_id=run_id, process=process,
            requests=tuple(make_request(f"{run_id}{process}-{item}", index=item, prompt_index=item) for item in scores),
        )
        for process in range(processes)
    )  # fmt: skip
    found = tuple(
        Score(
            request_id=request.request_id, scorer="heuristic", version="v1", item="relevance", value=scores[request.prompt_index]
        )
        for one in measurements
        for request in one.requests
    )
    return Report(run=make_run(make_planned(case), run_id=run_id), measurements=measurements, scores=found)


def test_quality_is_paired_by_item() -> None:
    a, b = {0: 0.2, 1: 0.5, 2: 0.9}, {0: 0.1, 1: 0.4, 2: 0.8}
    row = row_of(compare(judged("a", a), judged("b", b)), "quality")
    assert row.is_score
    assert row.effect is not None and row.effect.low is not None
    assert row.effect.value == pytest.approx(-0.1)
    assert row.effect.low == pytest.approx(-0.1, abs=1e-9)  # each item lost as much, however far the items lie apart
    assert row.replicates == 3
    assert row.ratio == pytest.approx(0.43333 / 0.53333, rel=1e-4)
    assert row.low == pytest.approx(row.ratio)


def test_quality_counts_items_and_not_processes_or_missing_items() -> None:
    row = row_of(compare(judged("a", {0: 0.2, 1: 0.5, 2: 0.9}, processes=4), judged("b", {1: 0.5, 2: 0.8, 7: 0.0})), "quality")
    assert row.replicates == 2
    assert row.effect is not None
    assert row.effect.value == pytest.approx(-0.05)
    nothing = row_of(compare(judged("a", {0: 0.2}), judged("b", {1: 0.5})), "quality")
    assert (nothing.effect, nothing.replicates) == (None, 0)


def test_warnings_of_both_sides_travel_along() -> None:
    busy = RowWarning(kind="cpu_contention", facts={"share": 0.4})
    a = report_of(*processes_of(0.1, 0.1, 0.1, warnings=()))
    b = report_of(*processes_of(0.1, 0.1, 0.2, side="b", warnings=(busy,)), run_id="b")
    row = row_of(compare(a, b), "tpot_s")
    assert row.a_warnings == ()
    assert [one.kind for one in row.b_warnings] == ["cpu_contention", "process_spread"]
    assert row.warnings == row.b_warnings


def test_rows_come_worst_first_and_described_ones_last() -> None:
    comparison = compare(make_report(), make_report(run_id="b", slower=1.2, seed=2))
    metrics = [row.metric for row in comparison.rows]
    assert set(metrics[:6]) == {"tpot_s", "e2e_s", "ttft_s"}
    assert set(metrics[-4:]) == {"prefill_tps", "decode_tps"}
    ratios = [row.ratio or 0 for row in comparison.rows[:6]]
    assert ratios == sorted(ratios, reverse=True)


def test_hard_differences_are_refused_with_both_values_and_the_remedy() -> None:
    a = make_report()
    b = a.model_copy(update={"run": a.run.model_copy(update={"environment": make_environment(cpu_count=8, python="3.12.1")})})
    with pytest.raises(NotComparableError, match=r"cpu_count \(2 and 8\)\. .* --allow-env-diff cpu_count\.$") as error:
        compare(a, b)
    assert error.value.exit_code == 4
    comparison = compare(a, b, allow=["cpu_count"])
    assert comparison.differences == (Difference("cpu_count", 2, 8, True), Difference("python", "3.11.7", "3.12.1", False))


def test_what_a_side_lacks_is_unknown_and_a_variable_was_not_set() -> None:
    assert Difference("kernel", None, "6.1", False).shown == ("unknown", "6.1")
    assert Difference("variable OMP_NUM_THREADS", "1", None, False).shown == ("1", "not set")


def test_a_hard_fact_that_one_side_lacks_is_a_difference() -> None:
    a = make_report()
    b = a.model_copy(update={"run": a.run.model_copy(update={"environment": make_environment(cpu_limit=1.5)})})
    with pytest.raises(NotComparableError, match=r"cpu_limit \(None and 1\.5\)"):
        compare(a, b)


def test_allowing_an_unknown_fact_is_refused() -> None:
    with pytest.raises(UsageError, match="'cpus'"):
        compare(make_report(), make_report(run_id="b"), allow=["cpus"])


def test_nothing_in_common_is_not_comparable() -> None:
    other = make_report(run_id="b")
    renamed = [one.model_copy(update={"case": make_case(workload=f"other{k}")}) for k, one in enumerate(other.run.planned)]
    moved = [one.model_copy(update={"case_id": renamed[0].case.case_id}) for one in other.measurements[:3]]
    other = other.model_copy(
        update={"run": other.run.model_copy(update={"planned": tuple(renamed)}), "measurements": tuple(moved)}
    )
    with pytest.raises(NotComparableError, match=r"\(3 cases\) and b \(1 cases\)"):
        compare(make_report(), other)


def without_first_case(report: Report) -> Report:
    gone = report.run.planned[0].case.case_id
    return report.model_copy(update={"measurements": tuple(one for one in report.measurements if one.case_id != gone)})


def test_cases_on_one_side_are_told_apart() -> None:
    whole, partial = make_report(), without_first_case(make_report(run_id="b"))
    comparison = compare(whole, partial)
    assert comparison.only_a == comparison.unreached == whole.run.planned[:1]
    back = compare(partial, whole)
    assert (back.only_b, back.only_a, back.unreached) == (whole.run.planned[:1], (), ())


def test_new_failures_are_told_from_old_and_from_interruptions() -> None:
    whole = make_report()
    case = whole.run.planned[0].case
    failures = make_report(run_id="b").failures

    def failing(kind: str) -> Comparison:
        crashed = make_failure("x", case, run_id="b", kind=kind)
        return compare(whole, without_first_case(make_report(run_id="b")).model_copy(update={"failures": (*failures, crashed)}))

    assert [one.case_id for one in failing("oom").newly_failed] == [case.case_id]
    assert failing("oom").unreached == ()
    for kind in ("interrupted", "pruned"):
        assert failing(kind).newly_failed == ()
        assert len(failing(kind).unreached) == 1


def test_a_case_that_failed_on_both_sides_has_not_newly_failed() -> None:
    case = make_report().run.planned[0].case

    def flaky(run_id: str) -> Report:
        report = make_report(run_id=run_id)
        kept = tuple(one for one in report.measurements if (one.case_id, one.process) != (case.case_id, 2))
        failures = (make_failure("x", case, run_id=run_id, process=2),)
        return report.model_copy(update={"measurements": kept, "failures": failures})

    assert compare(flaky("a"), flaky("b")).newly_failed == ()
    assert len(compare(make_report(), flaky("b")).newly_failed) == 1


def test_a_run_that_only_failed_is_compared_all_the_same() -> None:
    whole = make_report()
    crashed = tuple(make_failure(f"x{k}", one.case, run_id="b") for k, one in enumerate(whole.run.planned))
    lost = make_report(run_id="b").model_copy(update={"measurements": (), "failures": crashed})
    comparison = compare(whole, lost)
    assert comparison.rows == ()
    assert len(comparison.newly_failed) == 3


def test_json_form_is_plain_and_whole() -> None:
    comparison = compare(make_report(), make_report(run_id="b", slower=1.2, seed=2))
    found = json.loads(json.dumps(comparison.to_dict(), allow_nan=False))
    assert (found["a_run"], found["b_run"]) == (make_report().run.run_id, "b")
    row = next(one for one in found["rows"] if one["metric"] == "tpot_s")
    assert row["ratio"] == pytest.approx(1.2, rel=0.02)
    assert row["low"] < row["ratio"] < row["high"]
    assert row["a_warnings"][0]["sentence"].startswith("other processes took")
    quality = next(one for one in found["rows"] if one["metric"] == "quality")
    assert quality["difference"]["value"] == 0


def side_by_side(*tpots_s: float, processes: tuple[int, ...] = (), side: str = "b") -> Report:
    """A run whose processes stood beside those of run a, with these numbers."""
    numbered = zip(processes or range(len(tpots_s)), tpots_s, strict=True)
    measured = [make_measurement(f"{side}{k}", CASE, run_id=side, process=k, tpot_s=tpot) for k, tpot in numbered]
    return Report(run=make_run(make_planned(CASE), run_id=side, paired_with="a"), measurements=tuple(measured))


DRIFT = (0.100, 0.110, 0.120, 0.130, 0.140)


def test_processes_that_stood_side_by_side_are_paired_by_their_number() -> None:
    a = report_of(*processes_of(*DRIFT))
    shuffled = side_by_side(0.1437, 0.1236, 0.1031, 0.1134, 0.1339, processes=(4, 2, 0, 1, 3))
    row = row_of(compare(a, shuffled), "tpot_s")
    assert row.paired
    assert row.b_values == pytest.approx((0.1031, 0.1134, 0.1236, 0.1339, 0.1437))
    assert row.ratio == pytest.approx(1.03, rel=0.01)
    assert row.low is not None and row.low > 1.02
    elsewhere = shuffled.model_copy(update={"run": make_run(make_planned(CASE), run_id="b", paired_with="another")})
    alone = row_of(compare(a, elsewhere), "tpot_s")
    assert not alone.paired
    assert alone.low is not None and alone.low < 0.9
    older = make_measurement("older", CASE, run_id="before", process=5, tpot_s=0.1)
    pool = a.model_copy(update={"measurements": (*a.measurements, older)})
    assert not row_of(compare(pool, shuffled), "tpot_s").paired  # its numbers are no longer those of the run beside B


def test_processes_without_a_partner_are_left_out_of_pairs() -> None:
    a = report_of(*processes_of(*DRIFT))
    row = row_of(compare(a, side_by_side(0.1031, 0.1236, 0.1437, 0.9, processes=(0, 2, 4, 9))), "tpot_s")
    assert (row.paired, row.replicates) == (True, 3)
    assert row.a_values == pytest.approx((0.100, 0.120, 0.140))
    few = row_of(compare(a, side_by_side(0.1031, 0.1236, 0.9, processes=(0, 2, 9))), "tpot_s")
    assert (few.paired, len(few.a_values), len(few.b_values)) == (False, 5, 3)


def test_sides_have_names() -> None:
    a, b = report_of(*processes_of(0.1)), report_of(*processes_of(0.1, side="b"), run_id="b")
    assert (compare(a, b).a_name, compare(a, b).b_name) == ("a", "b")
    named = compare(a, b, names=("baseline main", "")).to_dict()
    assert (named["a_name"], named["b_name"]) == ("baseline main", "b")


def test_metrics_without_a_margin_are_compared_when_asked_for() -> None:
    found = compare(make_report(), make_report(run_id="b"), also={"load_s", "price_per_hour"})
    assert "load_s" in {row.metric for row in found.rows}
    assert "price_per_hour" not in {row.metric for row in found.rows}


def test_a_metric_that_one_side_lacks_is_told() -> None:
    values = {"peak_rss_bytes": 1.6e9, "weights_bytes": 1.07e9}
    a = report_of(*processes_of(0.1, values=values))
    b = report_of(*processes_of(0.1, side="b", values={"weights_bytes": 1.07e9, "load_s": 2.0}), run_id="b")
    planned = a.run.planned[0]
    assert compare(a, b).missing_metrics == (MissingMetric(planned, "peak_rss_bytes", "B"),)
    assert compare(b, a).missing_metrics == (MissingMetric(planned, "peak_rss_bytes", "A"),)
    assert MissingMetric(planned, "load_s", "A") in compare(a, b, also=["load_s"]).missing_metrics
    assert compare(a, b).to_dict()["missing_metrics"][0]["lacking"] == "B"


def test_goodputs_under_other_limits_are_two_metrics() -> None:
    a, b = under_load("a", (0, 0, 0), (2.0, 2.1, 2.0)), under_load("b", (0, 0, 0), (2.0, 2.1, 2.0))
    stricter = b.model_copy(
        update={"run": b.run.model_copy(update={"planned": (b.run.planned[0].model_copy(update={"limits": "ttft_s<0.1"}),)})}
    )
    assert compare(a, b).missing_metrics == ()
    found = compare(a, stricter)
    assert [(one.metric, one.lacking) for one in found.missing_metrics] == [("goodput_rps", "B")]
    assert "goodput_rps" not in {row.metric for row in found.rows}
