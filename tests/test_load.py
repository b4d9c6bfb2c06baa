"""Loads against the golden server: schedules and phases, what becomes of failures, and that nothing of ours is left."""

import json
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime

import psutil
import pytest
from fakes import make_case, make_planned
from golden_server import GoldenServer, Script, golden_text
from golden_session import KEY, PROMPTS, WARMUP, GoldenSession

from bench.arrivals import schedule
from bench.engines.server_process import free_port
from bench.load import LoadOutcome, last_times, measure_load
from bench.measure import Instruments
from bench.trace import Trace, TraceEntry
from monitor.http import Endpoint
from results.cases import Load, PlannedCase, PromptFormat
from results.record import digest
from results.records import Request

pytestmark = pytest.mark.slow

TOOLS = Instruments(time.perf_counter, lambda: datetime.now(UTC), lambda: 10**6)
CLOSED = Load(arrivals="closed", concurrency=2)
POISSON = Load(arrivals="poisson", rate=200.0)
SEED = 7

Phases = list[tuple[str, int, int]]


@pytest.fixture(scope="module")
def server() -> Iterator[GoldenServer]:
    with GoldenServer() as golden:
        yield golden


def planned_load(load: Load, case: dict[str, object] | None = None, **changes: object) -> PlannedCase:
    asked = {"engine": "openai", "device": "server", "threads": None, "load": load, "prompt_tokens": None, "output_tokens": 8}
    fields = {"iterations": 10, "min_seconds": 0.0, "warmup": 0, "request_timeout_s": 10.0}
    return make_planned(make_case(**(asked | (case or {}))), **(fields | changes))


def measured(
    session: GoldenSession, planned: PlannedCase, phases: Phases | None = None, trace: Trace | None = None, seed: int = SEED
) -> LoadOutcome:
    def tell(name: str, done: int, total: int) -> None:
        if phases is not None:
            phases.append((name, done, total))

    return measure_load(session, planned, 0, PROMPTS, WARMUP, time.perf_counter(), TOOLS, tell, seed=seed, trace=trace)


def children() -> list[psutil.Process]:
    return [one for one in psutil.Process().children(recursive=True) if "bench.client" in one.cmdline()]


def errors(outcome: LoadOutcome) -> list[str]:
    return [(one.error or "ok").partition(":")[0] for one in outcome.requests]


def warnings(outcome: LoadOutcome) -> dict[str, dict[str, object]]:
    return {one.kind: dict(one.facts) for one in outcome.warnings}


def in_flight(requests: tuple[Request, ...]) -> int:
    """The most requests between sent and last content."""
    steps = sorted(step for one in requests for step in ((one.sent_s, 1), (one.last_content_s or one.sent_s, -1)))
    level = most = 0
    for _, step in steps:
        level += step
        most = max(most, level)
    return most


def test_an_open_loop_keeps_its_schedule_exactly(server: GoldenServer) -> None:
    planned = planned_load(POISSON, iterations=60, clients=2)
    outcome = measured(GoldenSession(server), planned)
    seed = int(digest([SEED, planned.case.case_id, 0]), 16)
    due = schedule(POISSON, 60, seed)
    scheduled = [one.scheduled_s for one in outcome.requests]
    assert [at - scheduled[0] for at in scheduled] == pytest.approx([at - due[0] for at in due], abs=1e-9)
    assert all(one.sent_s >= one.scheduled_s for one in outcome.requests)
    assert [one.index for one in outcome.requests] == list(range(60))
    assert len({one.prompt for one in outcome.requests}) == 60
    assert errors(outcome) == ["ok"] * 60
    assert outcome.values["arrivals_ok"] == 1.0
    assert outcome.broken is None
    assert children() == []


def test_requests_hold_what_the_server_said(server: GoldenServer) -> None:
    script = Script(tokens=5, ttft_s=0.02, tpot_s=0.005, prompt_tokens=11)
    outcome = measured(GoldenSession(server, lambda _: script), planned_load(POISSON, iterations=4))
    records = server.records()
    for one in outcome.requests:
        assert (one.output_tokens, one.prompt_tokens, one.token_source) == (5, 11, "usage")
        assert (one.output, one.finish_reason, one.content_policy) == (golden_text(script), "length", "full")
        first_write = next(at for at, tokens in records[one.prompt]["writes"] if tokens)
        received = records[one.prompt]["received"]
        assert one.first_content_s is not None
        assert one.sent_s <= one.first_content_s
        assert one.first_content_s - one.sent_s >= first_write - received


def test_a_closed_loop_is_as_wide_as_its_concurrency(server: GoldenServer) -> None:
    session = GoldenSession(server, lambda _: Script(ttft_s=0.02))
    outcome = measured(session, planned_load(Load(arrivals="closed", concurrency=3), iterations=12, clients=2))
    assert len(outcome.requests) == 12
    assert in_flight(outcome.requests) == 3


def test_a_closed_loop_fills_its_seconds_from_a_pool_sized_by_the_warm_up(server: GoldenServer) -> None:
    session = GoldenSession(server, lambda _: Script(ttft_s=0.02))
    outcome = measured(session, planned_load(CLOSED, iterations=1, min_seconds=0.3))
    assert max(one.last_content_s or 0 for one in outcome.requests) - outcome.requests[0].scheduled_s >= 0.3
    asked = len(session.bodies) - 1  # one was the warm-up
    assert len(outcome.requests) < asked < 4 * len(outcome.requests)
    assert set(errors(outcome)) == {"ok"}


def test_the_warm_up_asks_other_things_and_does_not_count(server: GoldenServer) -> None:
    session, phases = GoldenSession(server), Phases()
    outcome = measured(session, planned_load(CLOSED, iterations=5, warmup=3, clients=2), phases)
    assert [phase[::2] for phase in phases] == [("warmup", 3), ("measure", 5)]
    assert sum("warm" in prompt for prompt, _ in session.bodies) == 3
    assert not any("warm" in (one.prompt or "") for one in outcome.requests)


def test_a_trace_is_replayed_with_its_times_and_lengths(server: GoldenServer) -> None:
    entries = tuple(
        TraceEntry(at_s=at, prompt_tokens=40 + length, output_tokens=8) for at, length in ((0.0, 0), (0.05, 9), (0.06, 3))
    )
    trace = Trace(entries)
    session = GoldenSession(server, lambda number: Script(prompt_tokens=(40, 49, 43)[number]))
    planned = planned_load(Load(arrivals="trace", trace=trace.digest), iterations=3)
    outcome = measured(session, planned, trace=trace)
    start = outcome.requests[0].scheduled_s
    assert [one.scheduled_s - start for one in outcome.requests] == pytest.approx([0.0, 0.05, 0.06], abs=1e-9)
    assert [len(one.prompt or "") for one in outcome.requests] == [40, 49, 43]
    assert "prompt_count" not in warnings(outcome)


def test_conversations_carry_what_was_said(server: GoldenServer) -> None:
    session = GoldenSession(server, lambda _: Script(tokens=3))
    planned = planned_load(CLOSED, {"turns": 3}, iterations=6, clients=2)
    outcome = measured(session, planned)
    assert sorted(one.values["turn"] for one in outcome.requests) == [1, 1, 2, 2, 3, 3]
    said = golden_text(Script(tokens=3))
    last = [(prompt, history) for prompt, history in session.bodies if len(history) == 4]
    assert len(last) == 2
    for prompt, history in last:
        assert history[1] == history[3] == said
        assert len({prompt, history[0], history[2]}) == 3
    assert len({one.prompt for one in outcome.requests}) == 6


def test_failures_are_counted_by_kind_and_the_rest_is_kept(server: GoldenServer) -> None:
    scripts = [
        Script(),
        Script(status=503),
        Script(fault_at=2, fault="error"),
        Script(fault_at=2, fault="cut"),
        Script(status=404),
    ]
    session = GoldenSession(server, lambda number: scripts[number % 5])
    outcome = measured(session, planned_load(POISSON, iterations=10, limits="ttft_s<5"))
    assert errors(outcome) == ["ok", "http_5xx", "server_error", "disconnected", "http_4xx"] * 2
    assert warnings(outcome)["request_errors"]["failed"] == 8
    window = outcome.requests[-1].scheduled_s - outcome.requests[0].scheduled_s
    assert outcome.values["goodput_rps"] == pytest.approx(2 / (window * 10 / 9))
    assert outcome.requests[2].event_tokens.count(1) == 2  # what came before the error is there


def test_a_key_in_an_error_of_a_stream_is_in_no_result(server: GoldenServer) -> None:
    """Short, and in an answer that is read again for its tokens as the server counts none."""

    class Open(GoldenSession):
        def endpoint(self, form: PromptFormat) -> Endpoint:
            return Endpoint(super().endpoint(form).url, {"X-Key": "golden engine", "X-Word": "plain3"})

    session = Open(server, lambda number: Script(fault_at=2, fault="error") if number else Script(usage="none"))
    said, failed = measured(session, planned_load(CLOSED, iterations=2)).requests
    assert (said.output_tokens, said.token_source) == (8, "tokenizer")
    assert said.output == golden_text(Script()).replace("plain3", "***")
    assert failed.error == "server_error: the *** broke"


def test_silence_ends_with_the_requests_time_limit(server: GoldenServer) -> None:
    session = GoldenSession(server, lambda number: Script(fault_at=1, fault="silence") if number == 1 else Script())
    outcome = measured(session, planned_load(POISSON, iterations=3, request_timeout_s=0.3))
    assert errors(outcome) == ["ok", "timeout", "ok"]
    assert outcome.requests[1].first_content_s is not None


def test_without_a_server_all_that_was_scheduled_counts() -> None:
    session = GoldenSession(None, url=f"http://127.0.0.1:{free_port()}/v1/chat/completions")
    planned = planned_load(POISSON, iterations=40, give_up_after=5, retries=1, limits="ttft_s<5")
    outcome = measured(session, planned)
    found = errors(outcome)
    assert len(found) == 40
    assert found.count("connect") >= 5
    assert set(found) == {"connect", "unsent"}
    assert outcome.values["goodput_rps"] == 0.0
    assert warnings(outcome)["request_errors"]["failed"] == 40
    assert {one.values.get("attempts") for one in outcome.requests} <= {1.0, 2.0, None}
    assert any(one.values.get("last_attempt_s", 0.0) >= 0.1 for one in outcome.requests)


def test_a_request_counts_as_sent_when_it_first_was(server: GoldenServer) -> None:
    session = GoldenSession(server, lambda _: Script(status=503))
    outcome = measured(session, planned_load(CLOSED, iterations=2, retries=1))
    assert all(one.values["last_attempt_s"] >= 0.1 for one in outcome.requests)
    assert all(one.sent_s - one.scheduled_s < 0.1 for one in outcome.requests)


@pytest.mark.slow
def test_a_case_whose_time_is_nearly_over_tells_what_it_has(server: GoldenServer) -> None:
    session = GoldenSession(server, lambda number: Script(ttft_s=60.0) if number == 1 else Script())
    planned = planned_load(Load(arrivals="constant", rate=2.0), iterations=100, timeout_s=4.0)
    outcome = measured(session, planned)
    found = errors(outcome)
    assert len(found) == 100
    assert found[:3] == ["ok", "timeout", "ok"]
    assert found[-90:] == ["unsent"] * 90
    assert outcome.requests[-1].error == "unsent: the case's time limit was near: raise timeout_s"
    assert outcome.broken is None
    assert warnings(outcome)["out_of_time"]["seconds"] == pytest.approx(2.5, abs=1.5)


def test_the_last_times_leave_room_to_tell() -> None:
    assert last_times(300.0, 120.0) == (240.0, 270.0)
    assert last_times(300.0, 10.0) == (260.0, 270.0)
    assert last_times(60.0, 120.0) == (48.0, 54.0)
    assert last_times(8.0, 120.0) == (4.0, 6.0)
    assert last_times(3600.0, 120.0) == (3480.0, 3540.0)


@pytest.mark.slow
def test_what_other_clients_told_outlives_one(server: GoldenServer) -> None:
    planned = planned_load(Load(arrivals="constant", rate=20.0), iterations=200, clients=2)

    def kill_one() -> None:
        children()[0].kill()

    timer = threading.Timer(2.0, kill_one)
    timer.start()
    outcome = measured(GoldenSession(server), planned)
    timer.join()
    assert outcome.broken == "A client of the load ended with code -9."
    assert outcome.values == {}
    assert len(outcome.requests) == 100
    assert {"ok", "unsent"} == set(errors(outcome))
    assert children() == []


def test_no_two_runs_ask_a_server_the_same(server: GoldenServer) -> None:
    first, again, second = GoldenSession(server), GoldenSession(server), GoldenSession(server)
    planned = planned_load(CLOSED, iterations=3, warmup=2)
    for session, seed in ((first, 1), (again, 1), (second, 2)):
        measured(session, planned, seed=seed)
    assert set(first.bodies) == set(again.bodies)
    assert not set(first.bodies) & set(second.bodies)


def test_a_key_is_in_no_result_no_command_line_and_no_environment(server: GoldenServer) -> None:
    seen: list[str] = []

    def look(_: int) -> Script:
        seen.extend(" ".join(one.cmdline()) + json.dumps(one.environ()) for one in children())
        return Script(status=401)

    outcome = measured(GoldenSession(server, look), planned_load(CLOSED, iterations=4))
    assert seen
    assert not any(KEY in text for text in seen)
    assert server.records()[outcome.requests[0].prompt]["head"].count(KEY) == 1  # it did reach the server
    assert KEY not in repr(outcome)


@pytest.mark.slow
def test_a_server_that_dies_leaves_counted_errors_and_what_was_finished() -> None:
    with GoldenServer() as server:
        session = GoldenSession(server, lambda _: Script(tokens=20, tpot_s=0.01))

        def kill() -> None:
            server.kill()
            session.broken = "The server was killed by signal 9 (SIGKILL)."

        timer = threading.Timer(1.0, kill)
        timer.start()
        outcome = measured(session, planned_load(Load(arrivals="poisson", rate=40.0), iterations=160, clients=2))
        timer.join()
    found = errors(outcome)
    assert len(found) == 160
    assert found.count("ok") > 5
    assert found.count("disconnected") > 0
    assert found.count("unsent") > 50
    assert outcome.broken == "The server was killed by signal 9 (SIGKILL)."
    assert children() == []


def test_a_server_that_is_dead_after_the_warm_up_is_not_put_under_load(server: GoldenServer) -> None:
    session = GoldenSession(server)
    session.broken = "The server ended with exit code 1."
    outcome = measured(session, planned_load(CLOSED, warmup=1))
    assert (outcome.requests, outcome.broken) == ((), "The server ended with exit code 1.")


@pytest.mark.slow
def test_a_client_that_stands_still_is_caught(server: GoldenServer) -> None:
    def stand_still() -> None:
        time.sleep(1.0)
        (client,) = children()
        client.suspend()
        time.sleep(0.4)
        client.resume()

    thread = threading.Thread(target=stand_still)
    thread.start()
    outcome = measured(GoldenSession(server), planned_load(Load(arrivals="constant", rate=50.0), iterations=125))
    thread.join()
    assert outcome.values["client_stall_max_s"] > 0.2
    assert "client_bottleneck" in warnings(outcome)
    assert len(outcome.requests) == 125  # late, but none was skipped
    assert set(errors(outcome)) == {"ok"}


@pytest.mark.slow
def test_four_clients_together_are_one_poisson_stream(server: GoldenServer) -> None:
    from scipy.stats import chi2

    planned = planned_load(POISSON, iterations=5500, clients=4)
    outcome = measured(GoldenSession(server, lambda _: Script(tokens=1)), planned)
    sent = sorted(one.sent_s for one in outcome.requests)
    scheduled = [one.scheduled_s for one in outcome.requests]
    achieved = (len(sent) - 1) / (sent[-1] - sent[0])
    assert achieved == pytest.approx((len(sent) - 1) / (scheduled[-1] - scheduled[0]), rel=0.001)
    windows = 1050
    width = (sent[-1] - sent[0]) / windows
    counts = [0] * windows
    for at in sent:
        counts[min(windows - 1, int((at - sent[0]) / width))] += 1
    mean = sum(counts) / windows
    dispersion = sum((count - mean) ** 2 for count in counts) / (windows - 1) / mean
    low, high = (float(chi2.ppf(share, windows - 1)) / (windows - 1) for share in (0.005, 0.995))
    assert low < dispersion < high
    assert outcome.values["arrivals_ok"] == 1.0
