"""The server that takes no time, and what is measured against it."""

import http.client
import json
import sys
import time

import pytest

from bench.client_calibration import calibrate_client, exchange, job, null_endpoint
from bench.load_clients import LoadClients
from bench.null_server import body, rendered, whole

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("gap_s", [None, 0.0, 0.001])
def test_the_null_server_answers_as_many_tokens_as_were_asked_for(gap_s: float | None) -> None:
    with null_endpoint() as url, LoadClients(1, job(url), time.perf_counter) as clients:
        sent, _ = exchange(clients, 5, 16, gap_s=gap_s, runners=2)
    assert [one.answer.output_tokens for one in sent] == [16] * 5
    assert [one.answer.event_tokens.count(1) for one in sent] == [16] * 5
    assert {one.answer.error for one in sent} == {None}
    if gap_s is None:
        assert {one.reads for one in sent} == {1}


def test_any_client_can_read_it() -> None:
    with null_endpoint() as url:
        connection = http.client.HTTPConnection(url.split("/")[2], timeout=10)
        for tokens in (1, 3):
            connection.request("POST", "/v1/completions", body(tokens, 0.0))
            lines = connection.getresponse().read().decode().split("\n\n")
            assert len(lines) == tokens + 3  # the last one, [DONE], and what follows it
            assert json.loads(lines[-3].removeprefix("data: "))["usage"]["completion_tokens"] == tokens
        connection.close()


def test_a_request_is_whole_when_its_body_is() -> None:
    head = b"POST / HTTP/1.1\r\nContent-Length: 3\r\n\r\n"
    assert [whole(part) for part in (b"POST", head, head + b"ab", head + b"abc")] == [None, None, None, b"abc"]


def test_answers_are_rendered_in_one_write_or_one_for_each_event() -> None:
    assert len(rendered(4, None).writes) == 1
    each = rendered(4, 0.0).writes
    assert len(each) == 1 + 4 + 2
    assert b"".join(each) == rendered(4, None).writes[0]


def test_a_calibration_that_fails_leaves_nothing_and_no_error() -> None:
    assert calibrate_client(time.perf_counter, (sys.executable, "-c", "pass")) == {}


@pytest.mark.slow
def test_the_clients_cost_is_positive_and_small() -> None:
    values = calibrate_client(time.perf_counter)
    assert values.keys() == {"client_request_s", "client_token_s", "client_max_rate"}
    assert 0 < values["client_token_s"] < 0.01
    assert 0 < values["client_request_s"] < 0.1
    assert values["client_max_rate"] > 50
