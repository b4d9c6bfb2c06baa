"""Load curves: which cases make one, in which order, and what is read from their requests."""

import pytest
from fakes import make_case, make_failure, make_measurement, make_planned, make_request, make_run
from hypothesis import given
from hypothesis import strategies as st
from load_fakes import LIMITS, LOADS, fail, make_load_report

from results.cases import Load
from results.limits import parse_limits
from results.load_curve import (
    error_kind,
    in_flight_steps,
    knee_of,
    load_curves,
    load_labels,
    mean_in_flight,
    scheduled_rate,
    without_load,
)
from results.records import Report, Request


def test_one_curve_per_case_without_its_load() -> None:
    report = make_load_report(quantizations=("q4_k_m", "q8_0"), count=30)
    curves = load_curves(report)
    assert [curve.planned.case.quantization for curve in curves] == ["q4_k_m", "q8_0"]
    assert [len(curve.points) for curve in curves] == [len(LOADS)] * 2
    assert curves[0].curve_id == without_load(report.run.planned[0]).case.case_id != curves[1].curve_id
    assert {curve.planned.case.load for curve in curves} == {None}


def test_points_come_in_the_order_of_their_pressure_and_unmeasured_ones_last() -> None:
    report = make_load_report()
    lost = report.run.planned[0].case.case_id  # c1
    kept = tuple(one for one in report.measurements if one.case_id != lost)
    failure = make_failure("f", report.run.planned[0].case, run_id=report.run.run_id)
    (curve,) = load_curves(report.model_copy(update={"measurements": kept, "failures": (failure,)}))
    labels = [point.label for point in curve.points]
    assert labels == ["poisson 2/s", "poisson 3/s", "poisson 4/s", "poisson 5/s", "c32", "poisson 8/s", "c1"]
    assert [point.row.status for point in curve.points][-2:] == ["measured", "crash"]
    assert curve.points[-1].in_flight is None


def test_cases_without_a_load_make_no_curve() -> None:
    assert load_curves(Report(run=make_run(make_planned()))) == []


def test_a_point_has_its_requests_errors_and_rates() -> None:
    (curve,) = load_curves(make_load_report(processes=3))
    points = {point.label: point for point in curve.points}
    over = points["poisson 8/s"]
    assert len(over.requests) == 720
    assert over.errors == {"timeout": 6}
    assert over.over_saturated
    assert not points["poisson 5/s"].over_saturated
    assert (over.offered_rate, points["c32"].offered_rate) == (8.0, None)
    assert points["c1"].value("ttft_s") == pytest.approx(0.08, rel=0.05)
    assert points["c1"].value("energy_j") is None
    good = sum(parse_limits(LIMITS).met(request) for request in over.requests)
    assert 0 < good < 720
    assert over.good_share == good / 720
    (unlimited,) = load_curves(make_load_report(limits=None, count=30))
    assert unlimited.points[0].good_share is None
    assert knee_of(curve.points) is points["poisson 5/s"]


def test_a_trace_offers_what_its_schedule_says() -> None:
    case = make_case(load=Load(arrivals="trace", trace="ab" * 32))
    requests = tuple(make_request(f"r{n}", index=n, sent_s=0.5 * n) for n in range(5))
    (curve,) = load_curves(
        Report(run=make_run(make_planned(case)), measurements=(make_measurement("m", case, requests=requests),))
    )
    assert curve.points[0].offered_rate == 2.0


def test_no_knee_with_two_points_and_none_at_an_over_saturated_load() -> None:
    (curve,) = load_curves(make_load_report())
    assert knee_of(curve.points[:2]) is None
    knee = knee_of(curve.points)
    assert knee is not None
    knee.row.estimates["over_saturated"] = knee.row.estimates["arrivals_ok"]
    assert knee.over_saturated
    assert knee_of(curve.points) is None


def test_labels_tell_loads_apart() -> None:
    loads = [
        Load(arrivals="closed", concurrency=4),
        Load(arrivals="closed", concurrency=4, ramp_s=5),
        Load(arrivals="gamma", rate=2, burstiness=0.5),
        Load(arrivals="gamma", rate=2, burstiness=2),
        Load(arrivals="trace", trace="ab" * 32),
        Load(arrivals="trace", trace="cd" * 32),
    ]
    assert load_labels(loads) == [
        "c4", "c4 ramp 5 s", "gamma 2/s burstiness 0.5", "gamma 2/s burstiness 2", "trace abababab", "trace cdcdcdcd",
    ]  # fmt: skip


def two_of_three() -> list[Request]:
    """[0, 2) and [1, 4), and one that was sent at 3 and timed out."""
    requests = [
        make_request("a", sent_s=0, ttft_s=1, tpot_s=1, tokens=2),
        make_request("b", sent_s=1, ttft_s=1, tpot_s=2, tokens=2),
    ]
    return [*requests, fail(make_request("c", sent_s=3), "timeout"), fail(make_request("d", sent_s=3.5), "unsent")]


def test_requests_in_flight() -> None:
    assert in_flight_steps(two_of_three(), timeout_s=10) == [(0, 1), (1, 2), (2, 1), (3, 2), (4, 1), (13, 0)]
    assert mean_in_flight(make_measurement("m", requests=tuple(two_of_three())), 10) == (2 + 2) / 3
    assert mean_in_flight(make_measurement("m", requests=tuple(two_of_three()[:1])), 10) is None
    assert mean_in_flight(make_measurement("m", requests=()), 10) is None


def test_what_broke_off_was_in_flight_until_its_last_event() -> None:
    cut = make_request("a", sent_s=0, ttft_s=1, tpot_s=1, tokens=3, last_content_s=None, error="disconnected: the server went")
    assert in_flight_steps([cut], timeout_s=10) == [(0, 1), (3, 0)]


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(0, 50)), min_size=1, max_size=40))
def test_counts_end_at_zero_and_hold_what_was_sent(flights: list[tuple[int, int]]) -> None:
    requests = [make_request(str(n), sent_s=start, ttft_s=length, tokens=1) for n, (start, length) in enumerate(flights)]
    steps = in_flight_steps(requests, timeout_s=1)
    assert steps[-1][1] == 0
    assert [time for time, _ in steps] == sorted({time for time, _ in steps})
    for time, count in steps:
        assert count == sum(start <= time < start + length for start, length in flights)


def test_rate_of_a_schedule() -> None:
    assert scheduled_rate([make_request(str(n), sent_s=n / 4) for n in range(9)]) == 4.0
    assert scheduled_rate([make_request("a")]) is None
    assert scheduled_rate([]) is None


def test_kinds_of_errors() -> None:
    assert error_kind("http_5xx: 503 busy: try later") == "http_5xx"
    assert error_kind("boom") == "other"
