"""One real child process for each way to end."""

import os
import re
import sys
import time
from pathlib import Path

import psutil
import pytest
from children import Children
from fakes import make_case, make_planned

from bench.launch import Outside, launch
from bench.worker import Job
from bench.workloads import Prompts
from results.cases import Case
from results.records import Failure, Measurement

BAD_WORKER = Path(__file__).parent / "bad_worker.py"
PROMPTS = Prompts(name="p", prompts=("hello",))
CASES = tuple(make_case(output_tokens=tokens) for tokens in (1, 2, 3))


def run(
    mode: str, monkeypatch: pytest.MonkeyPatch, *, timeout_s: float = 20, limit: int | None = None, cases: tuple[Case, ...] = CASES,
    **outside: object,
) -> list[Measurement | Failure]:  # fmt: skip
    """
    Args:
        limit: of the memory of the second case.
    """
    monkeypatch.setenv("TEST_CASE_IDS", " ".join(case.case_id for case in cases))
    limits = [2**34, limit, 2**34] if limit else [None] * 3
    job = Job(
        source=Path(),
        process=1,
        cases=tuple(
            make_planned(case, timeout_s=timeout_s, memory_limit_bytes=one) for case, one in zip(cases, limits, strict=True)
        ),
        prompts={PROMPTS.digest: PROMPTS},
        warmup=PROMPTS,
    )
    defaults: dict[str, object] = {"command": (sys.executable, str(BAD_WORKER), mode), "floor_bytes": 0}
    return list(launch(job, "run", lambda *_: None, Outside(**(defaults | outside))))  # type: ignore[arg-type]


def failure_of(outcomes: list[Measurement | Failure]) -> Failure:
    """The failure in the second case, after the first was measured."""
    assert [type(one) for one in outcomes] == [Measurement, Failure]
    assert outcomes[0].case_id == CASES[0].case_id
    assert outcomes[1].case_id == CASES[1].case_id
    assert isinstance(outcomes[1], Failure)
    return outcomes[1]


def test_a_good_worker_measures_all(monkeypatch: pytest.MonkeyPatch) -> None:
    outcomes = run("good", monkeypatch)
    assert [one.case_id for one in outcomes] == [case.case_id for case in CASES]
    first = outcomes[0]
    assert isinstance(first, Measurement)
    assert first.process == 1
    assert first.values["load_s"] == 1.5
    assert first.values["weights_bytes"] == 10
    assert first.values["peak_rss_bytes"] >= first.values["start_rss_bytes"] > 1e6
    assert {warning.kind for warning in first.warnings} >= {"expanded_weights"}
    assert len(first.series[0].times_s) >= 2


def test_the_clients_exact_peak_is_not_lost_to_a_sampled_one(monkeypatch: pytest.MonkeyPatch) -> None:
    served = make_case(target="theirs")
    monkeypatch.setenv("TEST_CASE_IDS", served.case_id)
    job = Job(process=0, cases=(make_planned(served),), prompts={}, warmup=PROMPTS)
    peaks = []
    for mode in ("good", "knows its peak"):
        (one,) = launch(job, "run", lambda *_: None, Outside(command=(sys.executable, str(BAD_WORKER), mode), floor_bytes=0))
        assert isinstance(one, Measurement)
        peaks.append(one.values["client_peak_rss_bytes"])
    assert 1e6 < peaks[0] < 1e12
    assert peaks[1] == 1e12


@pytest.mark.parametrize(
    ("mode", "kind", "exit_code", "words"),
    [
        ("sigkill", "crash", -9, "signal 9"),
        ("exit 3", "crash", 3, "exited with code 3"),
        ("exit 0", "bad_output", 0, "without a result"),
        ("rubbish", "bad_output", -9, "Loading checkpoint shards"),
        ("endless line", "bad_output", -9, "xxxx"),
        ("no requests", "bad_output", -9, "wrong event"),
        ("wrong case", "bad_output", -9, "wrong event"),
        ("wrong event", "bad_output", -9, "wrong event"),
        ("unknown kind", "bad_output", -9, "wrong event"),
        ("infinite progress", "bad_output", -9, "wrong event"),
        ("uneven request", "bad_output", -9, "wrong event"),
        ("says oom", "oom", 0, "smaller model"),
        ("segfault", "crash", -11, "signal 11"),
        ("abort", "crash", -6, "signal 6"),
        ("server killed", "crash", -9, "signal 9"),
        ("server out of memory", "oom", -9, "CPU buffer of size 206158430208"),
        pytest.param(
            "bad alloc", "oom", -6, "std::bad_alloc", marks=pytest.mark.skipif(sys.platform != "linux", reason="its C++")
        ),
    ],
)
def test_a_bad_worker_becomes_a_failure_of_its_kind(
    mode: str, kind: str, exit_code: int, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    failure = failure_of(run(mode, monkeypatch))
    assert failure.kind == kind
    assert words in failure.message
    if mode != "says oom":
        assert failure.exit_code == exit_code
    assert len(failure.requests) == (0 if mode == "no requests" else 1)


def test_stderr_is_kept_without_its_escapes(monkeypatch: pytest.MonkeyPatch) -> None:
    assert failure_of(run("exit 3", monkeypatch)).stderr_tail == "the engine's last words"


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["hang", "holds the GIL"])
def test_a_hung_case_is_a_timeout(mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    started = time.monotonic()
    failure = failure_of(run(mode, monkeypatch, timeout_s=1.5))
    assert failure.kind == "timeout"
    assert "timeout_s" in failure.message
    assert time.monotonic() - started < 20


@pytest.mark.slow
@pytest.mark.parametrize(
    ("mode", "kind"), [("dies at load", "crash"), ("hangs at load", "timeout"), ("hangs at first call", "timeout")]
)
def test_a_failed_load_fails_every_case(mode: str, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    outcomes = run(mode, monkeypatch, timeout_s=1.5)
    assert [one.case_id for one in outcomes] == [case.case_id for case in CASES]
    assert {one.kind for one in outcomes if isinstance(one, Failure)} == {kind}


@pytest.mark.slow
def test_the_worker_is_ended_before_memory_is(monkeypatch: pytest.MonkeyPatch) -> None:
    before = psutil.Process().memory_info().rss
    floor, children = 2**30, Children()

    def free() -> int:
        """A machine whose memory is 120 MiB: what the tests' own children hold is taken from it."""
        held = sum(child.memory_info().rss for child in children())
        return floor + 120 * 2**20 - held

    failure = failure_of(run("eats memory", monkeypatch, floor_bytes=floor, free_bytes=free))
    assert failure.kind == "oom"
    assert "memory were left" in failure.message
    assert psutil.Process().memory_info().rss - before < 200 * 2**20


def test_the_kernels_kill_is_told_from_a_crash(monkeypatch: pytest.MonkeyPatch) -> None:
    for mode in ("sigkill", "server killed"):
        kills = iter([4, 5])
        failure = failure_of(run(mode, monkeypatch, oom_kills=lambda kills=kills: next(kills)))
        assert failure.kind == "oom"
        assert "kernel" in failure.message


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["eats memory", "child eats memory"])
def test_a_case_ends_at_its_memory_limit(mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    children = Children()
    failure = failure_of(run(mode, monkeypatch, limit=100 * 2**20))
    assert failure.kind == "oom"
    found = re.search(
        r"Ended at ([\d.]+) MiB of resident memory, the limit given was 100 MiB: raise memory_limit", failure.message
    )
    assert found, failure.message
    assert 100 <= float(found[1]) < 300
    assert children() == []


@pytest.mark.slow
def test_a_load_ends_at_the_highest_limit_of_its_cases(monkeypatch: pytest.MonkeyPatch) -> None:
    outcomes = run("eats at load", monkeypatch, limit=100 * 2**20, timeout_s=3)
    assert {one.kind for one in outcomes if isinstance(one, Failure)} == {"timeout"}
    monkeypatch.setenv("TEST_CASE_IDS", CASES[0].case_id)
    job = Job(process=0, cases=(make_planned(CASES[0], memory_limit_bytes=100 * 2**20),), prompts={}, warmup=PROMPTS)
    command = (sys.executable, str(BAD_WORKER), "eats at load")
    (one,) = launch(job, "run", lambda *_: None, Outside(command=command, floor_bytes=0))
    assert isinstance(one, Failure)
    assert (one.kind, one.phase) == ("oom", "load")


def test_a_case_that_the_engine_refuses_leaves_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    outcomes = run("refuses the second", monkeypatch)
    assert [(type(one), one.case_id) for one in outcomes] == [
        (Failure, CASES[1].case_id), (Measurement, CASES[0].case_id), (Measurement, CASES[2].case_id),
    ]  # fmt: skip
    refused = outcomes[0]
    assert isinstance(refused, Failure)
    assert (refused.kind, refused.message) == ("unsupported", "no such switch: leave it out.")


def test_a_case_refused_while_it_is_made_ready_costs_no_new_load(monkeypatch: pytest.MonkeyPatch) -> None:
    outcomes = run("refuses at begin", monkeypatch)
    assert [(type(one), one.case_id) for one in outcomes] == [
        (Measurement, CASES[0].case_id), (Failure, CASES[1].case_id), (Measurement, CASES[2].case_id),
    ]  # fmt: skip


@pytest.mark.slow
def test_a_case_that_is_late_to_begin_is_not_the_load(monkeypatch: pytest.MonkeyPatch) -> None:
    failure = failure_of(run("hangs at begin", monkeypatch, timeout_s=1.5))
    assert (failure.kind, failure.phase, failure.requests) == ("timeout", "prepare", ())
    assert failure.message.startswith("Making the case ready took more than 1.5 s")


@pytest.mark.slow
def test_a_load_that_runs_out_of_memory_fails_for_each_of_its_cases(monkeypatch: pytest.MonkeyPatch) -> None:
    cases = tuple(make_case(engine="llamacpp", prompt_tokens=tokens) for tokens in (32, 9000, 512))
    monkeypatch.setenv("TEST_CASE_IDS", " ".join(case.case_id for case in cases))
    limited = tuple(make_planned(case, memory_limit_bytes=100 * 2**20) for case in cases)
    job = Job(process=0, cases=limited, prompts={}, warmup=PROMPTS)
    command = (sys.executable, str(BAD_WORKER), "eats at load")
    outcomes = list(launch(job, "run", lambda *_: None, Outside(command=command, floor_bytes=0)))
    assert [one.case_id for one in outcomes] == [case.case_id for case in cases]
    assert {one.kind for one in outcomes if isinstance(one, Failure)} == {"oom"}


def test_a_request_that_comes_twice_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    failure = failure_of(run("same request", monkeypatch))
    assert failure.kind == "bad_output"
    assert [request.request_id == "once" for request in failure.requests] == [False, True]


@pytest.mark.slow
def test_a_worker_that_never_stops_talking_is_late_too(monkeypatch: pytest.MonkeyPatch) -> None:
    assert failure_of(run("chatter", monkeypatch, timeout_s=1.5)).kind == "timeout"


@pytest.mark.slow
def test_a_worker_that_never_reads_its_job_is_a_timeout() -> None:
    prompts = Prompts(name="long", prompts=("x" * 2**20,))
    planned = make_planned(CASES[0], timeout_s=1.0)
    job = Job(source=Path(), process=0, cases=(planned,), prompts={prompts.digest: prompts}, warmup=prompts)
    command = (sys.executable, "-c", "import time; time.sleep(60)")
    (outcome,) = launch(job, "run", lambda *_: None, Outside(command=command, floor_bytes=0))
    assert isinstance(outcome, Failure)
    assert outcome.kind == "timeout"


@pytest.mark.slow
def test_grandchildren_in_their_own_session_are_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    children = Children()
    failure = failure_of(run("grandchild", monkeypatch, timeout_s=1.5))
    pid = int(failure.stderr_tail.split()[-1])
    for _ in range(50):
        if not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
            break
        time.sleep(0.1)
    else:
        pytest.fail("the grandchild lives on")
    assert children() == []


def test_secrets_stay_with_the_parent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "secret")
    seen: list[str] = []
    monkeypatch.setenv("TEST_CASE_IDS", "none")
    job = Job(source=Path(), process=0, cases=(make_planned(CASES[0]),), prompts={}, warmup=PROMPTS)
    command = (sys.executable, "-c", "import os; print('\\n'.join(os.environ), flush=True)")
    for outcome in launch(job, "run", lambda *_: None, Outside(command=command, floor_bytes=0)):
        assert isinstance(outcome, Failure)
        seen.append(outcome.message)
    command = (sys.executable, "-c", "import os, sys; sys.stderr.write(' '.join(os.environ)); sys.exit(1)")
    for outcome in launch(job, "run", lambda *_: None, Outside(command=command, floor_bytes=0)):
        assert isinstance(outcome, Failure)
        assert "PATH" in outcome.stderr_tail.split()
        assert "HF_TOKEN" not in outcome.stderr_tail.split()
    assert os.environ["HF_TOKEN"] == "secret"
