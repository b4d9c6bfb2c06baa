"""Loads against the golden server: phases, schedules, what becomes of failures, and what the whole says."""

import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime

import pytest
from fakes import make_case, make_planned
from golden_server import GoldenServer, Script
from golden_session import KEY, PROMPTS, WARMUP, GoldenSession

from bench.load import LoadOutcome, measure_load
from bench.measure import Instruments
from results.metrics import request_values
from results.records import Load, PlannedCase

TOOLS = Instruments(time.perf_counter, lambda: datetime.now(UTC), lambda: 10**6)


@pytest.fixture(scope="module")
def server() -> Iterator[GoldenServer]:
    with GoldenServer() as golden:
        yield golden


def planned_load(load: Load, case: dict[str, object] | None = None, **changes: object) -> PlannedCase:
    fields = {"engine": "openai", "load": load, "prompt_tokens": None, "output_tokens": 8, "device": "server", "threads": None}
    defaults = {"iterations": 10, "min_seconds": 0.0, "warmup": 0, "request_timeout_s": 10.0}
    return make_planned(make_case(**(fields | (case or {}))), **(defaults | changes))


def measured(session: GoldenSession, planned: PlannedCase, phases: list[tuple[str, int, int]] | None = None) -> LoadOutcome:
    def tell(name: str, done: int, total: int) -> None:
        if phases is not None:
            phases.append((name, done, total))

    return measure_load(session, planned, 0, PROMPTS, WARMUP, time.perf_counter(), TOOLS, tell, seed=7)


def test_closed(server: GoldenServer) -> None:
    session = GoldenSession(server)
    outcome = measured(session, planned_load(Load(arrivals="closed", concurrency=2), clients=2, warmup=3))
    for one in outcome.requests:
        print(one)
    print(outcome.values, outcome.warnings)
    assert 0


def test_open(server: GoldenServer) -> None:
    session = GoldenSession(server)
    outcome = measured(session, planned_load(Load(arrivals="poisson", rate=100.0), clients=2, warmup=3, iterations=200))
    print(sorted(one.sent_s - one.scheduled_s - one.values.get("connect_s", 0) for one in outcome.requests)[-20:])
    print(outcome.values, outcome.warnings)
    assert 0
