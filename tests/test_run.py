"""`bench run` as a process, on a tiny real Gemma: what is stored when things go right and when they are killed."""

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import psutil
import pytest
from fakes import START, make_failure, make_measurement, make_run
from queue_server import QueueServer
from terminal import run_bench

from bench.commands.run import exit_code
from results.records import Report
from results.store import Store

pytest_plugins = ["postgres"]
BENCH = (sys.executable, "-P", "-c", "from bench.cli import main; main()")
SUITE = """
name: tiny
question: Does the path hold?
defaults: {{processes: 2, iterations: 2, min_seconds: {seconds}, warmup: 1, timeout_s: 60}}
matrix: {{model: [{model}], output_tokens: [4, 8]}}
workload: {{prompt_tokens: 16}}
quality: [heuristic-v1]
quality_tokens: 8
"""


@pytest.fixture
def folder(tmp_path: Path, tiny_gemma: Path) -> Path:
    (tmp_path / "tiny.yaml").write_text(SUITE.format(model=tiny_gemma, seconds=0))
    (tmp_path / "slow.yaml").write_text(SUITE.format(model=tiny_gemma, seconds=3))
    return tmp_path


def bench(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "BENCH_CACHE": str(folder / "cache"), "COLUMNS": "200", **environment}
    return subprocess.run([*BENCH, *arguments], cwd=folder, capture_output=True, text=True, env=env, timeout=120)


@pytest.fixture
def started(folder: Path) -> Iterator[subprocess.Popen[str]]:
    """A run of the slow suite, in the middle of its second case."""
    env = {**os.environ, "BENCH_CACHE": str(folder / "cache")}
    process = subprocess.Popen(
        [*BENCH, "run", "slow.yaml", "--seed", "1"],
        cwd=folder,
        text=True,
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    wait_until(lambda: attempts(folder) >= 1)
    time.sleep(1)
    yield process
    process.kill()
    process.communicate()


def attempts(folder: Path) -> int:
    database = folder / ".bench/results.db"
    if not database.exists():
        return 0
    with closing(sqlite3.connect(database)) as connection:
        try:
            return int(connection.execute("SELECT count(*) FROM attempts").fetchone()[0])
        except sqlite3.OperationalError:
            return 0


def wait_until(condition: object, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():  # type: ignore[operator]
        if time.monotonic() > deadline:
            pytest.fail("it did not happen in time")
        time.sleep(0.05)


def children_of(pid: int, module: str) -> list[psutil.Process]:
    return [child for child in psutil.Process(pid).children(recursive=True) if module in child.cmdline()]


def workers_of(pid: int) -> list[psutil.Process]:
    return children_of(pid, "bench.worker")


def the_report(folder: Path) -> Report:
    with Store.reading(str(folder / ".bench/results.db")) as store:
        return store.report(store.resolve_run("latest"))


@pytest.mark.slow
def test_a_run_measures_stores_and_shows(folder: Path) -> None:
    done = bench(folder, "run", "tiny.yaml", "--tag", "first")
    assert done.returncode == 0, done.stderr
    assert "tiny-gemma transformers" in done.stdout  # how much of the label stands in one line, the widths of the numbers decide
    assert "tok/s" in done.stdout
    assert "bench dashboard" in done.stdout
    assert done.stderr == ""
    report = the_report(folder)
    assert report.status == "finished"
    assert report.tags == ("first",)
    assert Counter(one.process for one in report.measurements) == {0: 3, 1: 2}
    assert report.failures == ()
    for measurement in report.measurements:
        planned = report.run.plan_of(measurement.case_id)
        assert measurement.timing == "perf_counter"
        assert measurement.values["weights_bytes"] > 1e5
        assert measurement.values["peak_rss_bytes"] >= measurement.values["start_rss_bytes"] > 5e7
        assert measurement.values["harness_token_s"] < 1e-4
        for request in measurement.requests:
            assert request.first_content_s
            assert request.sent_s < request.first_content_s <= (request.last_content_s or 0)
            assert request.output
            if planned.case.purpose == "speed":
                assert request.prompt_tokens == 16
                assert request.output_tokens == planned.case.output_tokens == len(request.event_times_s)
                assert request.finish_reason == "length"
    assert len(report.scores) == 5 * 4
    assert str(folder) not in json.dumps([one.model_dump(mode="json") for one in report.run.planned])


@pytest.mark.slow
def test_json_is_the_only_thing_on_stdout(folder: Path) -> None:
    done = bench(folder, "run", "tiny.yaml", "--json", "--set", "processes=1", "--set", "output_tokens=4")
    found = json.loads(done.stdout)
    assert found["exit_code"] == done.returncode == 0
    assert [row["label"].split()[-1] for row in found["cases"]] == ["tg4"]


@pytest.mark.slow
def test_a_servers_password_is_neither_shown_nor_stored(folder: Path, postgresql_url: str) -> None:
    password = postgresql_url.split(":")[2].partition("@")[0]
    short = ("--set", "processes=1", "--set", "output_tokens=4", "--store", postgresql_url)
    ran, shown = bench(folder, "run", "tiny.yaml", *short), bench(folder, "show", "latest", "--json", "--store", postgresql_url)
    assert (ran.returncode, shown.returncode) == (0, 0), ran.stderr
    assert password not in ran.stdout + ran.stderr + shown.stdout
    with Store.reading(postgresql_url) as store:
        report = store.report(store.resolve_run("latest"))
    assert len(report.measurements) == 2
    assert password not in report.to_json()


@pytest.mark.slow
def test_content_policies(folder: Path) -> None:
    for policy in ("none", "hash"):
        text = (folder / "tiny.yaml").read_text() + f"content: {policy}\n"
        (folder / f"{policy}.yaml").write_text(text)
        assert bench(folder, "run", f"{policy}.yaml", "--set", "processes=1").returncode == 0
        report = the_report(folder)
        requests = [request for one in report.measurements for request in one.requests]
        assert {request.content_policy for request in requests} == {policy}
        assert all((request.prompt is None) == (policy == "none") for request in requests)
        assert "machine learning" not in (folder / ".bench/results.db").read_bytes().decode(errors="replace")
        assert len(report.scores) == 20


@pytest.mark.slow
def test_sigkill_to_the_worker_costs_the_case_in_flight(folder: Path, started: subprocess.Popen[str]) -> None:
    before = attempts(folder)
    (worker,) = workers_of(started.pid)
    worker.kill()
    output, _ = started.communicate(timeout=90)
    assert started.returncode == 5
    report = the_report(folder)
    assert report.status == "finished"
    assert [failure.kind for failure in report.failures] == ["crash"]
    assert report.failures[0].exit_code == -9
    assert len(report.measurements) == 4 >= before
    units = {(one.case_id, one.process) for one in (*report.measurements, *report.failures)}
    assert len(units) == 5
    assert "crash" in output


@pytest.mark.slow
def test_sigkill_to_the_parent_loses_nothing_and_resume_does_the_rest(folder: Path, started: subprocess.Popen[str]) -> None:
    (worker,) = workers_of(started.pid)
    started.kill()
    started.wait()
    wait_until(lambda: not worker.is_running(), 10)
    before = the_report(folder)
    assert before.status == "open"
    assert before.measurements
    done = bench(folder, "run", "--resume", "latest", "--set", "processes=1")
    assert done.returncode == 2
    done = bench(folder, "run", "--resume", before.run.run_id)
    assert done.returncode == 0, done.stderr
    after = the_report(folder)
    assert after.status == "finished"
    assert [event.kind for event in after.events] == ["resumed", "finished"]
    kept = {one.attempt_id for one in before.measurements}
    assert kept <= {one.attempt_id for one in after.measurements}
    assert Counter((one.case_id, one.process) for one in after.measurements).most_common(1)[0][1] == 1
    assert len(after.measurements) == 5
    again = bench(folder, "run", "--resume", before.run.run_id)
    assert again.returncode == 2
    assert "nothing is left" in again.stderr


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_keeps_what_is_finished(folder: Path, started: subprocess.Popen[str], number: int) -> None:
    (worker,) = workers_of(started.pid)
    started.send_signal(number)
    output, errors = started.communicate(timeout=30)
    assert started.returncode == 130
    assert "Traceback" not in errors
    assert "--resume" in output
    assert not worker.is_running()
    report = the_report(folder)
    assert report.status == "interrupted"
    assert [failure.kind for failure in report.failures] == ["interrupted"]
    assert report.measurements
    done = bench(folder, "run", "--resume", "latest")
    assert done.returncode == 0, done.stderr
    assert len(the_report(folder).measurements) == 5


@pytest.mark.slow
def test_a_second_interrupt_waits_for_nothing(folder: Path, started: subprocess.Popen[str]) -> None:
    (worker,) = workers_of(started.pid)
    began = time.monotonic()
    while started.poll() is None:  # whatever it is at, it hears a second one, and more
        started.send_signal(signal.SIGINT)
        time.sleep(0.01)
    assert time.monotonic() - began < 10
    assert started.returncode == 130
    wait_until(lambda: not worker.is_running() or worker.status() == psutil.STATUS_ZOMBIE, 2)
    assert "Traceback" not in started.communicate()[1]
    assert the_report(folder).status == "interrupted"
    assert bench(folder, "run", "--resume", "latest").returncode == 0
    assert len(the_report(folder).measurements) == 5


@pytest.mark.slow
def test_a_finished_run_is_extended_by_more_processes_of_a_case(folder: Path) -> None:
    assert bench(folder, "run", "tiny.yaml", "--set", "processes=1", "--paired-with", "another").returncode == 0
    before = the_report(folder)
    assert before.run.paired_with == "another"
    long = before.run.planned[1].case.case_id
    done = bench(folder, "run", "--extend", "latest", "--processes", "3", "--case", long, "--json")
    assert json.loads(done.stdout)["run_id"] == before.run.run_id, done.stderr
    after = the_report(folder)
    assert Counter(one.case_id for one in after.measurements) == {one.case.case_id: 1 for one in after.run.planned} | {long: 3}
    assert sorted(one.process for one in after.measurements if one.case_id == long) == [0, 1, 2]
    assert [one.processes for one in after.run.planned] == [1, 3, 1]
    assert [event.kind for event in after.events] == ["finished", "resumed", "finished"]
    assert after.run.seed == before.run.seed
    again = bench(folder, "run", "--extend", "latest", "--processes", "3", "--case", long)
    assert again.returncode == 2
    assert "nothing is left" in again.stderr


@pytest.mark.slow
def test_an_interrupted_load_keeps_its_requests(folder: Path) -> None:
    defaults = {"engine": "openai", "server": "mine", "model": "queue", "concurrency": 4, "processes": 1, "iterations": 400}
    suite = {
        "name": "load",
        "question": "?",
        "defaults": defaults | {"output_tokens": 4},
        "servers": {"mine": {}},
        "include": [{}],
    }
    (folder / "load.yaml").write_text(json.dumps(suite))
    env = {**os.environ, "BENCH_CACHE": str(folder / "cache")}
    with QueueServer(token_s=0.05) as server:
        command = [*BENCH, "run", "load.yaml", "--server", f"mine={server.url}"]
        with subprocess.Popen(command, cwd=folder, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
            wait_until(lambda: any(one.net_connections() for one in children_of(process.pid, "bench.client")))
            time.sleep(3)
            process.send_signal(signal.SIGINT)
            _, errors = process.communicate(timeout=30)
    assert process.returncode == 130, errors
    (failure,) = the_report(folder).failures
    assert (failure.kind, len(failure.requests)) == ("interrupted", 400)
    assert sum(request.error is None for request in failure.requests) > 8
    others = {request.error.split(":")[0] for request in failure.requests if request.error}
    assert others <= {"unsent", "timeout"}


@pytest.mark.slow
def test_a_run_that_is_going_on_cannot_be_resumed(folder: Path, started: subprocess.Popen[str]) -> None:
    refused = bench(folder, "run", "--resume", "latest")
    assert refused.returncode == 2
    assert "still going on" in refused.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("run", "nosuch"), 2, "There is no suite 'nosuch'"),
        (("run", "./none.yaml"), 2, "There is no suite file ./none.yaml"),
        (("run",), 2, "Name a suite to run"),
        (("run", "--resume", "latest"), 2, "There is no store"),
        (("run", "--extend", "latest", "--processes", "3"), 2, "There is no store"),
        (("run", "--extend", "", "--processes", "3"), 2, "Name a suite to run"),
        (("run", "--resume", ""), 2, "Name a suite to run"),
        (("run", "--extend", "latest"), 2, "--extend RUN and --processes N go together"),
        (("run", "tiny.yaml", "--processes", "3"), 2, "--extend RUN and --processes N go together"),
        (("run", "--resume", "latest", "--case", "c1"), 2, "--extend RUN and --processes N go together"),
        (("run", "tiny.yaml", "--extend", "latest", "--processes", "3"), 2, "Name a suite to run, or a run with --resume"),
        (("run", "--extend", "latest", "--processes", "3", "--seed", "1"), 2, "--extend goes on with the run as it was planned"),
        (("run", "--extend", "latest", "--processes", "3", "--retry-failed"), 2, "--retry-failed goes with --resume"),
        (("run", "tiny.yaml", "--set", "processes"), 2, "write KEY=VALUE"),
        (("run", "tiny.yaml", "--set", "proceses=1"), 2, "defaults.proceses: unknown key, did you mean 'processes'?"),
        (("run", "tiny.yaml", "--set", "model=gemma-3-8b-it"), 2, "gemma-3-4b-it"),
        (("run", "tiny.yaml", "--set", "model=./none.gguf"), 2, "none.gguf"),
        (("run", "tiny.yaml", "--set", "dtype=fp8"), 2, "unknown dtype 'fp8'"),
        (("run", "empty.yaml"), 2, "no case is left"),
        (("run", "tiny.yaml", "--tag", "latest"), 2, "means a run already"),
        (("run", "tiny.yaml", "--store", "mysql://x/y"), 2, "is not supported"),
        (("frobnicate",), 2, "No such command"),
        (("show", "--frobnicate"), 2, "No such option"),
    ],
)
def test_bad_input_gets_one_sentence(
    gemma_files: Path, tmp_path: Path, arguments: tuple[str, ...], code: int, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "tiny.yaml").write_text(SUITE.format(model=gemma_files, seconds=0))
    (tmp_path / "empty.yaml").write_text("name: empty\nquestion: None?\nmatrix: {}\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BENCH_CACHE", str(tmp_path / "cache"))
    done = run_bench(*arguments)
    assert done.code == code
    assert words in done.error
    assert done.output == ""
    assert not (tmp_path / ".bench").exists()


@pytest.mark.slow
def test_errors_go_to_stderr_without_a_traceback(folder: Path) -> None:
    done = bench(folder, "run", "nosuch")
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("Error: There is no suite 'nosuch'")
    assert "Traceback" not in done.stderr


def test_a_failure_made_good_does_not_fail_the_run() -> None:
    crashed, measured = make_failure("f"), make_measurement("m")
    assert exit_code(Report(run=make_run(), measurements=(measured,), failures=(crashed,))) == 0
    elsewhere = make_failure("g", process=1)
    assert exit_code(Report(run=make_run(), measurements=(measured,), failures=(crashed, elsewhere))) == 5
    assert exit_code(Report(run=make_run(), measurements=(measured,), failures=(crashed, elsewhere)), ("crash",)) == 0
    stopped = make_failure("h", kind="interrupted", started_at=START + timedelta(minutes=9))
    assert exit_code(Report(run=make_run(), measurements=(make_measurement("m", process=1),), failures=(crashed, stopped))) == 5


@pytest.mark.slow
def test_a_closed_pipe_is_no_verdict(folder: Path) -> None:
    command = " ".join(f"'{word}'" for word in (*BENCH, "schema"))
    done = subprocess.run(
        ["bash", "-c", f"{command} | true; echo ${{PIPESTATUS[0]}}"], cwd=folder, capture_output=True, text=True
    )
    assert done.stdout.strip() in ("0", "5")
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_missing_weights_are_a_failure_of_their_case(folder: Path) -> None:
    """The package with the weights is hidden from the process: its path hook is put before everything else."""
    code = (
        "import sys\n"
        "class Hide:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.startswith('gemma3_270m'): raise ModuleNotFoundError(name)\n"
        "sys.meta_path.insert(0, Hide())\n"
        "from bench.cli import main\n"
        "main()"
    )
    env = {**os.environ, "BENCH_CACHE": str(folder / "cache")}
    arguments = ["run", "tiny.yaml", "--set", "model=gemma-3-270m"]
    done = subprocess.run([sys.executable, "-P", "-c", code, *arguments], cwd=folder, capture_output=True, text=True, env=env)
    assert done.returncode == 5
    assert "Traceback" not in done.stderr
    assert {failure.kind for failure in the_report(folder).failures} == {"missing_weights"}
    assert "pip install" in the_report(folder).failures[0].message
