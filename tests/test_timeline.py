"""One request's moments in order, its slow gaps, and the server's account of it."""

import pytest
from fakes import make_request
from hypothesis import given
from hypothesis import strategies as st

from results.timeline import accounts, timeline


def test_every_moment_from_the_schedule_to_the_end() -> None:
    request = make_request(
        "q1", scheduled_s=9.5, sent_s=10.0, event_times_s=(11.0, 12.0, 12.5, 14.0, 14.25), event_tokens=(0, 1, 2, 1, 0),
        first_content_s=12.5, last_content_s=14.0, values={"connect_s": 0.25},
    )  # fmt: skip
    assert [(one.at_s, one.what, one.gap_s, one.tokens) for one in timeline(request)] == [
        (-0.5, "scheduled", None, None),
        (-0.25, "connecting: no open connection was left", None, None),
        (0.0, "sent", None, None),
        (1.0, "first event, no token", 1.0, 0),
        (2.0, "first and last thought", 1.0, 1),
        (2.5, "first content", 0.5, 2),
        (4.0, "last content", 1.5, 1),
        (4.25, "no token, end", 0.25, 0),
    ]


def test_the_longest_gaps_after_the_first_token_are_ranked() -> None:
    times = (5.0, 5.1, 5.2, 5.5, 5.6, 6.6, 6.7, 6.9, 7.0, 7.3)
    request = make_request("q1", event_times_s=times, event_tokens=(1,) * 10, first_content_s=5.0, last_content_s=7.3)
    assert {one.at_s: one.rank for one in timeline(request) if one.rank} == {6.6: 1, 5.5: 2, 7.3: 3}


def test_even_gaps_are_not_ranked() -> None:
    assert {one.rank for one in timeline(make_request("q1", ttft_s=3.0, tokens=30))} == {None}


def test_a_request_that_never_left_has_only_a_schedule() -> None:
    request = make_request("q1", error="unsent: 20 requests in a row had failed", event_times_s=(), event_tokens=())
    assert [one.what for one in timeline(request)] == ["scheduled"]


@given(st.lists(st.tuples(st.floats(0, 1), st.integers(0, 2)), max_size=30))
def test_no_event_is_lost_and_gaps_add_up(events: list[tuple[float, int]]) -> None:
    times = tuple(1.0 + sum(gap for gap, _ in events[: k + 1]) for k in range(len(events)))
    request = make_request("q1", event_times_s=times, event_tokens=tuple(count for _, count in events), first_content_s=1.5)
    found = [one for one in timeline(request) if one.tokens is not None]
    assert [(one.at_s, one.tokens) for one in found] == list(zip(times, request.event_tokens, strict=True))
    assert sum(one.gap_s or 0.0 for one in found) == pytest.approx(times[-1] if times else 0.0)
    assert sorted(one.rank for one in found if one.rank) in ([], [1], [1, 2], [1, 2, 3])


def test_the_server_beside_us() -> None:
    request = make_request("q1", ttft_s=0.5, tpot_s=0.25, tokens=5, values={"server_prefill_s": 0.375, "server_load_s": 2.0})
    loading, prefill = accounts(request)
    assert (loading.label, loading.ours, loading.server, loading.difference) == ("Loading", None, 2.0, None)
    assert (prefill.ours, prefill.server, prefill.difference) == (0.5, 0.375, 0.125)
    assert accounts(make_request("q1")) == ()
    decoding = make_request("q1", ttft_s=0.5, tpot_s=0.25, tokens=5, values={"server_decode_s": 0.75, "server_decode_tps": 5.0})
    assert [(one.ours, one.difference) for one in accounts(decoding)] == [(1.0, 0.25), (4.0, -1.0)]


def test_a_failed_request_has_no_figures_of_ours() -> None:
    request = make_request("q1", error="timeout: no end", values={"server_prefill_s": 0.1, "server_decode_s": 0.2})
    assert {one.ours for one in accounts(request)} == {None}
