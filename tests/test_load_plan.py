"""Which client sends what when: disjoint, complete, and enough of it."""

import pytest
from fakes import make_case, make_planned
from hypothesis import given
from hypothesis import strategies as st

from bench.arrivals import schedule
from bench.client_protocol import Phase, Sent
from bench.load_plan import closed_phases, due, open_phases, pool_size, ramp
from bench.trace import Trace, TraceEntry
from monitor.stream import Answer
from results.cases import Load, PlannedCase

POISSON = Load(arrivals="poisson", rate=100.0)


def numbers(phases: list[Phase]) -> list[int]:
    return sorted(item.number for phase in phases for item in phase.items)


@given(count=st.integers(0, 40), clients=st.integers(1, 6))
def test_every_request_of_a_schedule_belongs_to_one_client(count: int, clients: int) -> None:
    offsets = [number / 10 for number in range(count)]
    phases = open_phases([b"%d" % number for number in range(count)], offsets, 2, clients)
    assert len(phases) == clients
    assert numbers(phases) == list(range(count))
    assert all(item.at_s == offsets[item.number] and item.body == str(item.number) for phase in phases for item in phase.items)
    assert all(item.turns == 2 for phase in phases for item in phase.items)


@given(pool=st.integers(0, 40), runners=st.integers(1, 9), clients=st.integers(1, 6), data=st.data())
def test_a_closed_loop_is_dealt_whole(pool: int, runners: int, clients: int, data: st.DataObject) -> None:
    at_least = data.draw(st.integers(0, pool))
    phases = closed_phases([b""] * pool, ramp(runners, 3.0), at_least, clients)
    assert len(phases) == clients
    assert numbers(phases) == list(range(pool))
    assert sorted(begin for phase in phases for begin in phase.runners) == ramp(runners, 3.0)
    assert sum(phase.at_least for phase in phases) == at_least
    assert all(phase.at_least <= len(phase.items) for phase in phases)
    assert all(bool(phase.runners) or not phase.items for phase in phases)


def test_the_ramp_begins_at_once_and_ends_at_its_end() -> None:
    assert ramp(1, 5.0) == [0.0]
    assert ramp(5, 2.0) == [0.0, 0.5, 1.0, 1.5, 2.0]


def test_an_open_loop_has_its_number_and_its_seconds() -> None:
    long = schedule(POISSON, 1000, 7)
    assert due(POISSON, 30, 0.0, 7, None) == long[:30]
    within = due(POISSON, 30, 2.0, 7, None)
    assert within == long[: len(within)]
    assert within[-1] < 2.0 <= long[len(within)]
    assert due(POISSON, 500, 2.0, 7, None) == long[:500]


def test_a_trace_is_cut_like_a_schedule_and_not_repeated() -> None:
    trace = Trace(tuple(TraceEntry(at_s=at_s, prompt_tokens=1, output_tokens=1) for at_s in (0.0, 1.0, 2.0, 8.0)))
    load = Load(arrivals="trace", trace=trace.digest)
    assert due(load, 1, 1.5, 7, trace) == (0.0, 1.0)
    assert due(load, 3, 0.0, 7, trace) == (0.0, 1.0, 2.0)
    assert due(load, 100, 60.0, 7, trace) == (0.0, 1.0, 2.0, 8.0)


def test_only_a_load_that_replays_a_trace_takes_one() -> None:
    trace = Trace((TraceEntry(at_s=0.0, prompt_tokens=1, output_tokens=1),))
    assert due(POISSON, 30, 0.0, 7, trace) == schedule(POISSON, 30, 7)
    with pytest.raises(ValueError, match="needs it"):
        due(Load(arrivals="trace", trace=trace.digest), 1, 0.0, 7, None)


def closed(**changes: object) -> PlannedCase:
    fields: dict[str, object] = {"iterations": 10, "min_seconds": 60.0}
    return make_planned(make_case(output_tokens=101, load=Load(arrivals="closed", concurrency=4)), **(fields | changes))


def warm(ttft_s: float, tpot_s: float, tokens: int = 8) -> Sent:
    times = tuple(100 + ttft_s + number * tpot_s for number in range(tokens))
    answer = Answer(times, (1,) * tokens, "text", first_content=times[0], last_content=times[-1], output_tokens=tokens)
    return Sent(0, 1, 100.0, 100.0, times[-1], answer, attempts=1)


def test_a_pool_lasts_for_its_seconds_at_the_rate_of_the_warm_up() -> None:
    one = warm(ttft_s=0.2, tpot_s=0.01)  # 0.2 s + 100 more tokens: 1.2 s, so that 4 runners send 200 requests in 60 s
    assert pool_size(closed(), [one] * 3) == pytest.approx(1.5 * 200 + 4, abs=1)
    assert pool_size(closed(), [warm(9.0, 1.0), warm(8.0, 1.0), one]) == pool_size(closed(), [one])  # a cold one is no measure
    assert pool_size(closed(min_seconds=0.0), [one]) == 10
    assert pool_size(closed(iterations=1000), [one]) == 1000


def test_a_pool_without_a_warm_up_holds_what_must_be_sent() -> None:
    failed = Sent(0, 1, 100.0, 100.0, 101.0, Answer(error="timeout: no end"))
    assert pool_size(closed(), []) == 10
    assert pool_size(closed(), [failed]) == 10


def test_conversations_count_by_their_turns() -> None:
    planned = closed(iterations=10, min_seconds=0.0)
    three = planned.model_copy(update={"case": planned.case.model_copy(update={"turns": 3})})
    assert pool_size(three, []) == 4
