"""The definitions, on requests with exact times."""

import pytest
from fakes import make_measurement, make_request

from results.caveats import CAVEATS, sentence
from results.format import quantity
from results.metrics import METRICS, process_value, request_values
from results.records import Request, RowWarning


def test_several_tokens_in_one_event_are_no_single_token() -> None:
    request = make_request(
        "q", event_times_s=(1.0, 1.5, 2.5), event_tokens=(2, 1, 3), output_tokens=6, first_content_s=1.0, last_content_s=2.5
    )
    assert request_values("tpot_s", request) == (pytest.approx(1.5 / 4),)
    assert request_values("itl_s", request) == (0.5, 1.0)


def test_an_empty_role_chunk_is_not_a_token() -> None:
    request = make_request(
        "q", event_times_s=(0.1, 1.0, 2.0), event_tokens=(0, 1, 1), output_tokens=2, first_content_s=1.0, last_content_s=2.0
    )
    assert request_values("ttft_s", request) == (1.0,)
    assert request_values("tpot_s", request) == (1.0,)
    assert request_values("itl_s", request) == (1.0,)


def test_times_from_the_schedule_hold_the_queue_too() -> None:
    request = make_request("q", sent_s=5.0, scheduled_s=3.0, ttft_s=0.5, tpot_s=0.25, tokens=5)
    assert request_values("ttft_s", request) == (0.5,)
    assert request_values("ttft_scheduled_s", request) == (2.5,)
    assert request_values("e2e_s", request) == (1.5,)
    assert request_values("e2e_scheduled_s", request) == (3.5,)
    assert request_values("e2e_tps", request) == (pytest.approx(5 / 1.5),)


def test_throughput_is_over_the_whole_window() -> None:
    requests = (
        make_request("a", sent_s=1.0, ttft_s=1.0, tpot_s=1.0, tokens=3),
        make_request("b", sent_s=2.0, ttft_s=1.0, tpot_s=1.0, tokens=5),
    )
    measurement = make_measurement("m", requests=requests)
    assert process_value("output_tps", measurement) == pytest.approx(8 / 6)
    assert process_value("request_rate", measurement) == pytest.approx(2 / 6)


def test_throughput_counts_the_time_in_which_requests_failed() -> None:
    """Five of ten seconds all are refused, at their beginning or at their end; what was never sent has no time."""
    refused = {"error": "http_5xx: 503", "first_content_s": None, "last_content_s": None, "event_times_s": (), "event_tokens": ()}
    for good, bad in ((range(50, 100), range(50)), (range(50), range(50, 100))):
        requests = [make_request(f"a{n}", sent_s=n / 10, ttft_s=0.1, tpot_s=0.0, tokens=2) for n in good]
        requests += [make_request(f"b{n}", sent_s=n / 10, **refused) for n in bad]
        requests.append(make_request("c", sent_s=99.0, **(refused | {"error": "unsent: too many failed"})))
        assert process_value("request_rate", make_measurement("m", requests=tuple(requests))) == pytest.approx(50 / 10, rel=0.02)


def test_steady_throughput_leaves_filling_and_draining_out() -> None:
    """Four at a time, each of 10 tokens in 1 s: 40 tok/s as soon as all four go on."""
    requests = tuple(
        make_request(f"{row}-{column}", sent_s=float(row), ttft_s=0.1, tpot_s=0.1, tokens=10)
        for row in range(10)
        for column in range(4)
    )
    assert process_value("output_tps_steady", make_measurement("m", requests=requests)) == pytest.approx(40.0)
    late = tuple(  # three of four begin with the ramp's end at 5 s
        one for one in requests if one.request_id.endswith("-0") or one.sent_s >= 5.0
    )
    assert process_value("output_tps_steady", make_measurement("m", requests=late, values={"ramp_s": 5.0})) == pytest.approx(40.0)
    assert process_value("output_tps_steady", make_measurement("m", requests=requests[:4])) is None


def test_failed_requests_give_no_values() -> None:
    request = make_request("q", error="cut", finish_reason="error")
    for name, metric in METRICS.items():
        if metric.level == "request":
            assert request_values(name, request) == ()
    measurement = make_measurement("m", requests=(request,))
    assert process_value("output_tps", measurement) is None
    assert process_value("ttft_s", measurement) is None


def test_unknown_is_none_and_never_zero() -> None:
    measurement = make_measurement("m", values={})
    assert process_value("peak_rss_bytes", measurement) is None
    assert process_value("energy_j", measurement) is None


def test_every_metric_has_a_definition_and_a_unit() -> None:
    for name, metric in METRICS.items():
        assert metric.name == name
        assert metric.definition.endswith(".")
        assert metric.label
        assert metric.margin is None or metric.better is not None
        suffix = {"s": "_s", "B": "_bytes", "J": "_j"}.get(metric.unit)
        assert suffix is None or name.endswith(suffix)


def test_every_caveat_is_a_sentence_and_unknown_ones_show_their_facts() -> None:
    assert (
        sentence(RowWarning(kind="cpu_contention", facts={"share": 0.12})) == "other processes took 12% of the machine's CPU time"
    )
    assert "from_the_future" in sentence(RowWarning(kind="from_the_future", facts={"x": 1}))
    assert not any(words[0].isupper() for words in CAVEATS.values())


def test_thoughts_are_no_part_of_the_time_per_visible_token() -> None:
    request = make_request("q", event_times_s=(1.0, 2.0, 3.0, 4.0), event_tokens=(1, 1, 1, 1), first_content_s=3.0, last_content_s=4.0, output_tokens=4)  # fmt: skip
    assert request_values("tpot_s", request) == (1.0,)


def test_an_end_of_sequence_without_an_event_makes_no_token_cheaper() -> None:
    """Five words at 10 ms and a sixth token that nobody saw come."""
    times = tuple(1 + 0.01 * n for n in range(5))
    request = make_request("q", event_times_s=(*times, 1.05), event_tokens=(1, 1, 1, 1, 1, 0), first_content_s=times[0], last_content_s=times[-1], output_tokens=6)  # fmt: skip
    assert request_values("tpot_s", request) == (pytest.approx(0.01),)


def test_thoughts_in_the_first_event_are_no_part_of_the_time_per_token() -> None:
    """Fifty words at 10 ms after 450 thoughts that were not shown."""
    times = tuple(1 + 0.01 * n for n in range(50))
    request = make_request("q", event_times_s=times, event_tokens=(451, *[1] * 49), first_content_s=times[0], last_content_s=times[-1], output_tokens=500)  # fmt: skip
    assert request_values("tpot_s", request) == (pytest.approx(0.01),)


def test_throughput_is_unknown_where_a_count_is() -> None:
    counted, failed = make_request("a", tokens=3), make_request("c", error="timeout: late", output_tokens=None)
    uncounted = make_request("b", tokens=3, output_tokens=None)
    for name in ("output_tps", "output_tps_steady", "energy_per_token_j", "cost_per_million_tokens"):
        one = make_request("d", sent_s=2.0, scheduled_s=2.0, ttft_s=0.5, tpot_s=0.1, tokens=3)
        known, unknown = (counted, failed, one), (counted, uncounted, one)
        values = {"energy_j": 8.0, "price_per_hour": 1.0}
        assert process_value(name, make_measurement("m", requests=known, values=values)) is not None, name
        assert process_value(name, make_measurement("m", requests=unknown, values=values)) is None, name


def test_energy_and_cost_per_token() -> None:
    """8 tokens in 4 s for 10 J, on a machine for 3.60 an hour: 0.0005 a token."""
    requests = (
        make_request("a", sent_s=1.0, ttft_s=1.0, tpot_s=1.0, tokens=2),
        make_request("b", sent_s=2.0, ttft_s=0.5, tpot_s=0.5, tokens=6),
    )
    measurement = make_measurement("m", requests=requests, values={"energy_j": 10.0, "price_per_hour": 3.6})
    assert process_value("energy_per_token_j", measurement) == pytest.approx(10 / 8)
    cost, rate = process_value("cost_per_million_tokens", measurement), process_value("output_tps", measurement)
    assert cost == pytest.approx(500.0)
    assert rate
    assert cost == pytest.approx(3.6 / 3600 / rate * 1e6)
    bare = make_measurement("m", requests=requests, values={})
    assert process_value("energy_per_token_j", bare) is None
    assert process_value("cost_per_million_tokens", bare) is None


def test_energy_and_cost_per_token_that_was_trained_on() -> None:
    step = {"output_tokens": None, "first_content_s": None, "last_content_s": None, "event_times_s": (), "event_tokens": ()}
    requests = tuple(
        make_request(f"s{number}", sent_s=number * 2.0, values={"step_s": 2.0, "trained_tokens": 256.0}, **step)
        for number in range(4)
    )
    measurement = make_measurement("m", requests=requests, values={"energy_j": 512.0, "price_per_hour": 0.9})
    assert process_value("energy_per_token_j", measurement) == pytest.approx(0.5)
    assert process_value("cost_per_million_tokens", measurement) == pytest.approx(0.9 / 3600 * 8 / 1024 * 1e6)


def test_nothing_is_divided_by_no_tokens() -> None:
    silent = make_request("q", tokens=2, output_tokens=0)
    measurement = make_measurement("m", requests=(silent,), values={"energy_j": 5.0, "price_per_hour": 1.0})
    assert process_value("energy_per_token_j", measurement) is None
    assert process_value("cost_per_million_tokens", measurement) is None


def test_money_is_shown_without_a_unit() -> None:
    assert quantity(1.2345, METRICS["cost_per_million_tokens"].unit) == "1.23"
    assert quantity(0.0004567, "currency", 0.0004, 0.0005) == "0.000457 [0.0004, 0.0005]"


def test_sequences_of_one_batch_are_one_value_of_a_tail() -> None:
    def batches(count: int, size: int) -> tuple[Request, ...]:
        return tuple(make_request(f"q{n}-{k}", sent_s=float(n), ttft_s=0.1 + n / 1000) for n in range(count) for k in range(size))

    assert process_value("ttft_p90_s", make_measurement("m", requests=batches(3, 8))) is None
    alone = process_value("ttft_p90_s", make_measurement("m", requests=batches(20, 1)))
    assert alone == pytest.approx(process_value("ttft_p90_s", make_measurement("m", requests=batches(20, 4))))
