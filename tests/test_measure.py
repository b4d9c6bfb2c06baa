"""Timing with a clock that the test moves: exact numbers."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import pytest
from fakes import START, make_case, make_planned, make_request

from bench.engines.protocol import Clock, Generation
from bench.measure import Instruments, calibrate, first_call_s, mark_of, measure, request_warnings
from bench.workloads import Prompt, Prompts
from results.cases import Case, PromptFormat
from results.metrics import process_value, request_values
from results.records import Request

PROMPTS = Prompts(name="p", prompts=("What is it?", "Why is it so?"))
WARMUP = Prompts(name="w", prompts=("Other words entirely.",))


class FakeClock:
    def __init__(self) -> None:
        self.time = 100.0

    def __call__(self) -> float:
        return self.time


class FakeSession:
    """Takes 0.5 s to the first token and 0.25 s for each further one; one token per character."""

    timing = "perf_counter"

    def __init__(self, clock: FakeClock, *, stops_after: int | None = None) -> None:
        self.clock, self.prompts, self.stops_after = clock, list[str](), stops_after

    def encode(self, text: str, form: PromptFormat) -> Sequence[int]:
        return [1, *map(ord, text)]

    def decode(self, ids: Sequence[int]) -> str:
        return "".join(map(chr, ids[1:]))

    def recount(self, text: str) -> int:
        return len(text)

    def generate(self, prompt: Prompt, output_tokens: int, stop: Literal["length", "eos"], clock: Clock) -> Generation:
        self.prompts.append(prompt.text)
        tokens = min(output_tokens, self.stops_after or output_tokens)
        sent = clock()
        self.clock.time += 0.25
        times = []
        for _ in range(tokens):
            self.clock.time += 0.25
            times.append(clock())
        self.clock.time += 0.1
        return Generation(sent, tuple(times), (1,) * tokens, len(prompt.token_ids), tokens, "x" * tokens, "length")

    def values(self) -> dict[str, float]:
        return {}

    def begin(self, case: Case) -> None: ...


def tools(clock: FakeClock) -> Instruments:
    rss = iter(range(1000, 10**9, 10))
    return Instruments(clock=clock, now=lambda: START, rss_bytes=lambda: next(rss))


def requests_of(session: FakeSession, clock: FakeClock, **plan: object) -> list[Request]:
    case = make_case(output_tokens=5, prompt_tokens=10)
    planned = make_planned(case, **({"iterations": 3, "min_seconds": 0, "warmup": 2} | plan))
    return list(measure(session, planned, 1, PROMPTS, WARMUP, clock(), tools(clock), lambda *_: None))


def test_times_are_exact_and_count_from_the_origin() -> None:
    clock = FakeClock()
    requests = requests_of(FakeSession(clock), clock, warmup=0)
    assert len(requests) == 3
    first = requests[0]
    assert first.sent_s == 0
    assert first.event_times_s == (0.5, 0.75, 1.0, 1.25, 1.5)
    assert request_values("ttft_s", first) == (0.5,)
    assert request_values("tpot_s", first) == (0.25,)
    assert request_values("decode_tps", first) == (4.0,)
    assert request_values("e2e_s", first) == (1.5,)
    assert request_values("prefill_tps", first) == (20.0,)
    assert request_values("itl_s", first) == (0.25,) * 4
    assert first.prompt_tokens == 10
    assert first.values == {"rss_bytes": 1010.0, "rss_delta_bytes": 10.0}
    assert requests[1].sent_s == pytest.approx(1.6)


def test_tpot_needs_a_second_token() -> None:
    clock = FakeClock()
    requests = requests_of(FakeSession(clock, stops_after=1), clock)
    assert request_values("tpot_s", requests[0]) == ()
    assert request_values("ttft_s", requests[0]) == (0.5,)


def test_minimum_iterations_and_minimum_seconds_both_hold() -> None:
    clock = FakeClock()
    assert len(requests_of(FakeSession(clock), clock, iterations=3, min_seconds=0)) == 3
    assert len(requests_of(FakeSession(clock), clock, iterations=1, min_seconds=7.9)) == 5  # 1.6 s each


def test_warmup_uses_other_prompts_and_every_prompt_begins_differently() -> None:
    clock = FakeClock()
    session = FakeSession(clock)
    requests_of(session, clock)
    assert [text[2:] for text in session.prompts[:2]] != [text[2:] for text in session.prompts[2:4]]
    assert all(len(text) == 9 for text in session.prompts)
    measured = session.prompts[2:]
    assert len({text[:6] for text in measured}) == len(measured)
    other_process = FakeSession(clock)
    planned = make_planned(make_case(output_tokens=5, prompt_tokens=10), warmup=0, min_seconds=0)
    list(measure(other_process, planned, 2, PROMPTS, WARMUP, 0, tools(clock), lambda *_: None))
    assert not set(measured) & set(other_process.prompts)


def test_quality_asks_each_prompt_as_it_stands() -> None:
    clock = FakeClock()
    session = FakeSession(clock)
    case = make_case(purpose="quality", prompt_tokens=None, stop="eos", output_tokens=5)
    planned = make_planned(case, iterations=2, min_seconds=0)
    requests = list(measure(session, planned, 0, PROMPTS, WARMUP, 0, tools(clock), lambda *_: None))
    assert session.prompts == list(PROMPTS.prompts)
    assert [one.prompt_index for one in requests] == [0, 1]


def test_early_stops_and_other_counts_are_warned_of() -> None:
    clock = FakeClock()
    session = FakeSession(clock, stops_after=2)
    requests = requests_of(session, clock)
    planned = make_planned(make_case(output_tokens=5, prompt_tokens=10))
    assert [(one.kind, one.facts) for one in request_warnings(planned, session, requests)] == [
        ("early_stop", {"stopped": 3, "requests": 3, "wanted": 5})
    ]
    session.recount = lambda text: len(text) + 4  # type: ignore[method-assign]
    assert request_warnings(planned, session, requests)[1].facts == {"requests": 3, "count": 2, "recount": 6}


def test_first_call_is_one_token() -> None:
    clock = FakeClock()
    assert first_call_s(FakeSession(clock), WARMUP, make_planned(), clock, "0") == pytest.approx(0.6)


def test_calibration_measures_the_clock_itself() -> None:
    ticks = iter(range(10**9))
    found = calibrate(lambda: next(ticks) * 1e-6, tools(FakeClock()))
    assert found["harness_token_s"] == pytest.approx(1e-6)
    assert found["harness_request_s"] > 0


def test_the_process_value_is_the_median_of_its_requests() -> None:
    from fakes import make_measurement, make_request

    requests = tuple(make_request(str(n), index=n, ttft_s=ttft) for n, ttft in enumerate((0.1, 0.4, 0.2)))
    measurement = make_measurement("m", requests=requests)
    assert process_value("ttft_s", measurement) == pytest.approx(0.2)


def test_the_mark_tells_runs_cases_and_processes_apart() -> None:
    cases = [make_case(output_tokens=tokens) for tokens in range(1, 41)]
    marks = [mark_of(seed, case, process) for seed in (1, 2) for case in cases for process in range(3)]
    assert len(set(marks)) == len(marks) == 240
    assert {len(mark) for mark in marks} == {8}
    assert mark_of(1, cases[0], 0) == marks[0]


def test_prompts_that_a_server_knew_or_counts_otherwise_are_warned_of() -> None:
    planned = make_planned(make_case(output_tokens=16, prompt_tokens=32))
    session = FakeSession(FakeClock())
    session.recount = lambda _: 16  # type: ignore[method-assign]
    cached = [make_request("q", prompt_tokens=33, values={"cached_prompt_tokens": 20.0})]
    assert {one.kind: one.facts for one in request_warnings(planned, session, cached)} == {
        "prompt_count": {"wanted": 32, "server": 33, "requests": 1},
        "cache_hits": {"share": 20 / 33},
    }
    meant = make_planned(make_case(output_tokens=16, prompt_tokens=33, prompt_cache=True))
    assert request_warnings(meant, session, cached) == []


def test_a_server_that_fails_again_and_again_is_asked_no_more() -> None:
    clock = FakeClock()
    session = FakeSession(clock)
    working = session.generate
    session.generate = lambda *given: replace(working(*given), error="connect: refused")  # type: ignore[method-assign]
    planned = make_planned(make_case(), iterations=1000, min_seconds=0, warmup=0, give_up_after=5)
    assert len(list(measure(session, planned, 0, PROMPTS, WARMUP, 0, tools(clock), lambda *_: None))) == 5
