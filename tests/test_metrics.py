"""The definitions, on requests with exact times."""

import pytest
from fakes import make_measurement, make_request

from results.caveats import CAVEATS, sentence
from results.metrics import METRICS, process_value, request_values
from results.records import RowWarning


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
