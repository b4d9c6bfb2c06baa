"""What a load says as a whole, from requests with exact times."""

from dataclasses import replace

import pytest
from fakes import make_case, make_planned, make_request

from bench.client_protocol import Usage
from bench.load_values import Told, load_values, load_warnings
from bench.load_values import tested_arrivals as arrivals_of
from results.cases import Load, PlannedCase
from results.caveats import CAVEATS
from results.records import RowWarning

CALM = {"client_cpu_share": 0.1, "client_stall_p99_s": 0.001}
CONSTANT = Load(arrivals="constant", rate=10.0)
CLOSED = Load(arrivals="closed", concurrency=2)
NOTHING: dict[str, object] = {
    "first_content_s": None, "last_content_s": None, "event_times_s": (), "event_tokens": (), "output_tokens": None
}  # fmt: skip


def planned_load(load: Load = CLOSED, limits: str | None = None, **case: object) -> PlannedCase:
    return make_planned(make_case(load=load, **case), limits=limits, min_seconds=0.0)


def told(number: int, *, lag_s: float = 0.0, turn: int = 1, attempts: int = 1, connect_s: float = 0.0, uneven: bool = False,
         wanted: int | None = 32, **request: object) -> Told:  # fmt: skip
    due = 1.0 + number * 0.1
    one = make_request(f"q{number}", index=number, sent_s=due + lag_s, **({"scheduled_s": due} | request))
    end = one.last_content_s if one.last_content_s is not None else due
    return Told(one, end, turn, attempts, connect_s, wanted, 16, uneven)


def kinds(found: list[RowWarning]) -> dict[str, dict[str, object]]:
    for one in found:
        CAVEATS[one.kind].format(**one.facts)  # the words have all the facts that they name
    return {one.kind: dict(one.facts) for one in found}


def warned(requests: list[Told], planned: PlannedCase | None = None, **values: float) -> dict[str, dict[str, object]]:
    planned = planned or planned_load()
    return kinds(load_warnings(planned, requests, CALM | values, arrivals_of(planned.case.load or CLOSED, requests)))


def valued(planned: PlannedCase, requests: list[Told], usage: Usage | None = None) -> dict[str, float]:
    usages = [usage or Usage(0.1, 10.0, 0.0, 0.0)]
    return load_values(planned, requests, usages, 1, arrivals_of(planned.case.load or CLOSED, requests))


def test_the_clients_cost_is_that_of_the_busiest() -> None:
    usages = [Usage(1.0, 10.0, 0.001, 0.5), Usage(3.0, 10.0, 0.002, 0.1)]
    values = load_values(planned_load(), [told(0)], usages, 5000, None)
    assert values == {
        "client_cpu_share": 0.3, "client_stall_p99_s": 0.002, "client_stall_max_s": 0.5, "client_peak_rss_bytes": 5000.0
    }  # fmt: skip


def test_goodput_of_a_closed_loop_counts_all_until_the_last_end() -> None:
    good = [told(number) for number in range(3)]
    slow = told(3, ttft_s=0.6)
    failed = told(4, error="timeout: no end", **NOTHING)
    unsent = told(40, error="unsent: too many failed", attempts=0, **NOTHING)
    assert valued(planned_load(limits="ttft_s<0.5"), [*good, slow, failed, unsent])["goodput_rps"] == pytest.approx(
        3 / (5.0 - 1.0)
    )


@pytest.mark.parametrize("load", [CONSTANT, Load(arrivals="trace", trace="t1-0")])
def test_goodput_of_an_open_loop_is_the_good_share_of_its_rate_however_long_answers_take(load: Load) -> None:
    slow = [told(number, tpot_s=10 / 15) for number in range(100)]
    planned = planned_load(load, limits="ttft_s<0.5")
    assert valued(planned, slow)["goodput_rps"] == pytest.approx(10.0)
    timed_out = replace(told(99, error="timeout: no end within 120 s", **NOTHING), end_s=131.0)
    assert valued(planned, [*slow[:99], timed_out])["goodput_rps"] == pytest.approx(9.9)


def test_goodput_counts_the_turns_of_the_conversations_that_a_rate_counts() -> None:
    turns = [told(number, turn=turn) for number in range(100) for turn in (1, 2)]
    assert valued(planned_load(CONSTANT, limits="ttft_s<0.5", turns=2), turns)["goodput_rps"] == pytest.approx(20.0)


def test_goodput_of_a_single_request_is_its_rate() -> None:
    assert valued(planned_load(CONSTANT, limits="ttft_s<0.5"), [told(0)])["goodput_rps"] == pytest.approx(10.0)


def test_an_open_loops_arrivals_are_tested_and_a_closed_loops_not() -> None:
    requests = [told(number) for number in range(100)]
    open_values = valued(planned_load(CONSTANT), requests)
    assert open_values["arrival_rate"] == pytest.approx(10.0)
    assert open_values["arrivals_ok"] == 1.0
    assert open_values["over_saturated"] == 0.0
    assert not any(name.startswith("arrival") for name in valued(planned_load(), requests))


def test_the_ramp_is_told() -> None:
    assert valued(planned_load(Load(arrivals="closed", concurrency=2, ramp_s=3.0)), [told(0)])["ramp_s"] == 3.0


def test_arrivals_other_than_planned_are_warned_of() -> None:
    bunched = [told(number, lag_s=0.1 * (9 - number % 10)) for number in range(100)]
    assert "arrivals" in warned(bunched, planned_load(CONSTANT))
    assert "arrivals" not in warned([told(number) for number in range(100)], planned_load(CONSTANT))
    assert "arrivals" not in warned([told(number, lag_s=0.06, connect_s=0.06) for number in range(100)], planned_load(CONSTANT))


def test_a_calm_client_is_not_warned_of() -> None:
    assert warned([told(number, lag_s=0.0005) for number in range(100)]) == {}


def test_a_busy_client_is_warned_of() -> None:
    found = warned([told(0)], client_cpu_share=0.9)
    assert found["client_bottleneck"]["value"] == 0.9
    assert "90%" in str(found["client_bottleneck"]["why"])


def test_a_client_that_stands_still_is_warned_of_when_that_matters() -> None:
    assert "client_bottleneck" in warned([told(0)], client_stall_p99_s=0.02)
    assert "client_bottleneck" not in warned([told(0, ttft_s=1.0)], client_stall_p99_s=0.02)  # 2 % of a TTFT of 1 s
    assert "client_bottleneck" not in warned([told(0, ttft_s=0.001)], client_stall_p99_s=0.004)


def test_a_client_that_sends_late_is_warned_of_but_not_for_connections() -> None:
    late = [told(number, lag_s=0.03) for number in range(100)]
    assert warned(late)["client_bottleneck"]["value"] == pytest.approx(0.03)
    assert warned([told(number, lag_s=0.03, connect_s=0.029) for number in range(100)]) == {}
    assert "client_bottleneck" in warned([told(number, lag_s=0.3, attempts=2) for number in range(100)])  # the first was late


def test_a_closed_loop_that_ended_before_its_seconds_is_warned_of() -> None:
    requests = [told(number, ttft_s=0.1, tpot_s=0.0) for number in range(10)]  # from 1.0 to 2.0 s
    short = planned_load().model_copy(update={"min_seconds": 60.0})
    assert warned(requests, short)["short_load"] == {"seconds": pytest.approx(1.0), "wanted": 60.0}
    assert warned(requests, short.model_copy(update={"min_seconds": 0.9})) == {}
    assert "short_load" not in warned(requests, planned_load(CONSTANT).model_copy(update={"min_seconds": 60.0}))


def test_errors_are_counted_by_kind() -> None:
    unsent = [told(number, error="unsent: x", attempts=0, **NOTHING) for number in (1, 2)]
    late = told(3, error="timeout: no end within 1 s", **NOTHING)
    assert warned([told(0), *unsent, late])["request_errors"] == {"failed": 3, "requests": 4, "kinds": "unsent 2, timeout 1"}


def test_cache_hits_are_warned_of_unless_they_are_meant() -> None:
    some = [told(number, values={"cached_prompt_tokens": 16.0}) for number in range(4)]
    assert warned(some)["cache_hits"] == {"share": 0.5}
    assert warned(some, planned_load(prompt_cache=True)) == {}
    assert warned([told(0, values={"cached_prompt_tokens": 1.0})]) == {}


def test_prompt_counts_other_than_asked_for_are_warned_of_in_first_turns() -> None:
    assert warned([told(0), told(1, prompt_tokens=33)])["prompt_count"] == {"wanted": 32, "server": 33, "requests": 1}
    assert warned([told(0, wanted=None, prompt_tokens=99), told(1, turn=2, prompt_tokens=99), told(2, prompt_tokens=None)]) == {}


def test_early_stops_are_warned_of_where_lengths_are_fixed() -> None:
    short = [told(0), told(1, tokens=7)]
    assert warned(short)["early_stop"] == {"stopped": 1, "requests": 2, "wanted": 16}
    assert warned(short, planned_load(stop="eos")) == {}


def test_uneven_events_and_saturation_are_warned_of() -> None:
    assert warned([told(0, uneven=True), told(1)])["uneven_events"] == {"requests": 1}
    assert "over_saturated" in warned([told(0)], over_saturated=1.0)
    assert "over_saturated" not in warned([told(0)], over_saturated=0.0)
