"""What a worker's events do to the sampler, and what they become."""

import os
from datetime import UTC, datetime
from typing import Any

import pytest
from fakes import make_case, make_planned

from bench.endings import WorkerEnded
from bench.worker import Job
from bench.worker_events import WorkerEvents
from bench.workloads import Prompts
from monitor.sampler import Sampler
from results.records import Failure

CASES = tuple(make_case(output_tokens=tokens) for tokens in (1, 2, 3))


class Marked(Sampler):
    """Without its thread; it remembers when what is counted began."""

    def __init__(self) -> None:
        super().__init__(os.getpid(), lambda _: None, floor_bytes=0)
        self.marks: list[str | None] = []

    def mark(self, device: str | None) -> None:
        self.marks.append(device)


@pytest.fixture
def sampler() -> Marked:
    return Marked()


@pytest.fixture
def events(sampler: Marked) -> WorkerEvents:
    prompts = Prompts(name="p", prompts=("hello",))
    job = Job(process=0, cases=tuple(make_planned(case) for case in CASES), prompts={}, warmup=prompts)
    return WorkerEvents(job, "run", sampler, lambda: datetime(2026, 3, 1, tzinfo=UTC), lambda: "", lambda: False)


def phase(name: str, done: int = 0) -> dict[str, Any]:
    return {"event": "phase", "phase": name, "done": done, "total": 9}


LOADED = {"event": "loaded", "values": {"load_s": 1.5}}


def started(number: int) -> dict[str, Any]:
    return {"event": "case_started", "case_id": CASES[number].case_id, "origin": 0.0}


def test_what_is_counted_begins_once_in_a_case(sampler: Marked, events: WorkerEvents) -> None:
    for event in (LOADED, started(0), phase("warmup"), *[phase("measure")] * 3, phase("measure", 1)):
        events.take(event)
    assert sampler.marks == ["cpu"]
    events.take(started(0))
    events.take(phase("measure"))
    assert sampler.marks == ["cpu", "cpu"]


def test_a_case_that_is_made_ready_is_neither_the_load_nor_the_case_before(events: WorkerEvents) -> None:
    assert events.doing == "The load"
    for event in (LOADED, phase("prepare")):
        events.take(event)
    assert (events.doing, events.in_hand) == ("Making the case ready", None)
    (failure,) = events.failures("timeout", "late", None, "")
    assert (failure.case_id, failure.phase, failure.requests) == (CASES[0].case_id, "prepare", ())
    events.take(started(0))
    assert events.doing == "The case"


def test_a_case_refused_after_the_load_leaves_the_others(events: WorkerEvents) -> None:
    for event in (LOADED, phase("prepare")):
        events.take(event)
    for number in (0, 1):
        if number:
            events.take(started(number))
        refused = events.take({"event": "refused", "case_id": CASES[number].case_id, "message": "no such switch."})
        assert isinstance(refused, Failure)
        assert (refused.kind, refused.case_id, refused.phase) == (
            "unsupported", CASES[number].case_id, "warmup" if number else "prepare",
        )  # fmt: skip
    assert ([one.case for one in events.left], events.in_hand, events.doing) == ([CASES[2]], None, "Making the case ready")
    with pytest.raises(ValueError, match="not in hand"):
        events.take({"event": "refused", "case_id": CASES[0].case_id, "message": "?"})
    with pytest.raises(WorkerEnded):
        events.take({"event": "failed", "kind": "crash", "message": "?"})
