"""What goes over the pipes comes out as it went in."""

import json

from hypothesis import given
from hypothesis import strategies as st

from bench.client_protocol import (
    Item,
    Job,
    Phase,
    Sent,
    Usage,
    job_line,
    phase_line,
    read_job,
    read_phase,
    read_sent,
    read_usage,
    sent_line,
    usage_line,
)
from monitor.stream import Answer

TIME = st.floats(0, 1e6)
TEXT = st.text()
ANSWERS = st.builds(
    Answer,
    event_times=st.lists(TIME).map(tuple),
    event_tokens=st.lists(st.integers(0, 9)).map(tuple),
    text=TEXT,
    reasoning=TEXT,
    first_content=st.none() | TIME,
    last_content=st.none() | TIME,
    first_reasoning=st.none() | TIME,
    prompt_tokens=st.none() | st.integers(0, 9),
    output_tokens=st.none() | st.integers(0, 9),
    token_source=st.sampled_from([None, "usage", "engine"]),
    finish_reason=st.sampled_from([None, "length", "stop"]),
    uneven=st.booleans(),
    error=st.none() | TEXT,
    values=st.dictionaries(TEXT, TIME),
)
SENT = st.builds(
    Sent,
    number=st.integers(0),
    turn=st.integers(1, 9),
    scheduled=TIME,
    sent=TIME,
    ended=TIME,
    answer=ANSWERS,
    connect_s=st.none() | TIME,
    attempts=st.integers(0, 9),
    last_sent=st.none() | TIME,
    reads=st.integers(0, 9),
    raw=st.lists(st.tuples(TIME, st.binary())).map(tuple),
)
ITEMS = st.builds(Item, st.integers(0), TEXT, st.none() | TIME, st.integers(1, 9))
PHASES = st.builds(Phase, st.lists(ITEMS).map(tuple), st.lists(TIME).map(tuple), st.integers(0), TIME)
JOB = Job("http://127.0.0.1:8000/v1", {"Authorization": "Bearer sk-ünï"}, "openai-chat", 120.0, 1, 20)


def facts(line: str) -> dict[str, object]:
    assert line.isascii()
    assert line.count("\n") == 1
    return dict(json.loads(line))


@given(SENT)
def test_requests_come_out_as_they_went_in(sent: Sent) -> None:
    assert read_sent(facts(sent_line(sent))) == sent


@given(PHASES)
def test_phases_come_out_as_they_went_in(phase: Phase) -> None:
    assert read_phase(facts(phase_line(phase))) == phase


def test_jobs_and_usages_come_out_as_they_went_in() -> None:
    assert read_job(facts(job_line(JOB))) == JOB
    usage = Usage(0.1, 2.0, 0.001, 0.5)
    assert read_usage(facts(usage_line(usage))) == usage


def test_a_job_does_not_show_its_headers() -> None:
    assert "sk-" not in repr(JOB)
