"""A serving sweep as a whole run, against a server whose capacity is known: which loads are measured, what is found, and going on."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml
from queue_server import QueueServer
from terminal import run_bench

from bench.serving import R20
from results.errors import GemmeterError
from results.records import Report
from results.store import Store

pytestmark = pytest.mark.slow
BENCH = (sys.executable, "-P", "-c", "from bench.cli import main; main()")
SLOTS, TOKEN_S = 4, 0.005


def capacity(output_tokens: int) -> float:
    """Answers per second that the server can give at the most."""
    return SLOTS / (output_tokens * TOKEN_S)


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BENCH_CACHE", str(tmp_path / "cache"))
    return tmp_path


def write_suite(serving: dict[str, Any], *output_tokens: int) -> None:
    suite = {
        "name": "s",
        "question": "How much?",
        "servers": {"mine": {}},
        "defaults": {
            "engine": "openai", "server": "mine", "model": "queue", "processes": 1, "iterations": 20, "min_seconds": 0, "warmup": 1,
        },
        "matrix": {"output_tokens": list(output_tokens)},
        "serving": serving,
    }  # fmt: skip
    Path("s.yaml").write_text(yaml.safe_dump(suite))


def the_report() -> Report:
    with Store.reading("sqlite:///.bench/results.db") as store:
        return store.report(store.resolve_run("latest"))


def measured() -> int:
    try:
        return len(the_report().measurements)
    except GemmeterError:  # it is being made
        return 0


def loads(report: Report, output_tokens: int) -> list[str]:
    """Labels in the order in which they were measured."""
    cases = [report.run.plan_of(one.case_id).case for one in sorted(report.measurements, key=lambda one: one.started_at)]
    return [case.load.label for case in cases if case.load and case.output_tokens == output_tokens]


def test_the_ends_then_rates_between_on_the_grid() -> None:
    write_suite({"steps": 3, "all_at_once": 8}, 4)
    with QueueServer(slots=SLOTS, token_s=TOKEN_S) as server:
        done = run_bench("run", "s.yaml", "--server", f"mine={server.url}")
    assert (done.code, done.error) == (0, "")
    report = the_report()
    assert report.status == "finished"
    found = loads(report, 4)
    assert set(found[:2]) == {"c1", "c8"}
    rates = [float(label.removeprefix("poisson ").removesuffix("/s")) for label in found[2:]]
    assert rates == sorted(set(rates))
    assert 1 <= len(rates) <= 3
    assert all(any(rate == pytest.approx(ten * one) for one in R20 for ten in (1, 10, 100)) for rate in rates)
    assert max(rates) < 1.1 * capacity(4)
    for measurement in report.measurements:
        load = report.run.plan_of(measurement.case_id).case.load
        assert len(measurement.requests) == {"c1": 20, "c8": 32}.get(load.label if load else "", 100)
    sentence = r"It answers [\d.]+/s one at a time and [\d.]+/s with 8 at once\."
    for text in (done.output, run_bench("show", "latest").output):
        assert re.search(sentence, " ".join(text.split()))
    shown = json.loads(run_bench("show", "latest", "--json").output)
    assert [re.search(sentence, one) is not None for one in shown["conclusions"]] == [True]
    again = run_bench("run", "--resume", "latest", "--server", f"mine={server.url}")
    assert (again.code, "nothing is left" in again.error) == (2, True)


def test_the_highest_rate_is_found_for_each_configuration_and_after_an_interruption(here: Path) -> None:
    write_suite({"steps": 0, "all_at_once": 8}, 4, 8)
    with QueueServer(slots=SLOTS, token_s=TOKEN_S) as server:
        option = ("--server", f"mine={server.url}")
        process = subprocess.Popen(
            [*BENCH, "run", "s.yaml", "--find-max", "ttft_s.p75<200ms", *option], cwd=here, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, text=True, env=dict(os.environ),
        )  # fmt: skip
        deadline = time.monotonic() + 60
        while measured() < 5:
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        output, errors = process.communicate(timeout=30)
        assert (process.returncode, "Traceback" in errors) == (130, False)
        assert "So far:" in output
        before = the_report()
        done = run_bench("run", "--resume", "latest", *option)
    assert (done.code, done.error) == (0, "")
    after = the_report()
    assert after.status == "finished"
    kept = {one.attempt_id for one in before.measurements}
    assert kept < {one.attempt_id for one in after.measurements}
    assert Counter((one.case_id, one.process) for one in after.measurements).most_common(1)[0][1] == 1
    text = " ".join(done.output.split())
    for output_tokens in (4, 8):
        [(rate, next_one)] = re.findall(
            rf"tg{output_tokens}: The highest rate that holds ttft_s.p75<0.2 is ([\d.]+)/s \(95 % confidence, .*?\); ([\d.]+)/s",
            text,
        )
        assert capacity(output_tokens) / 2 <= float(rate) <= 1.15 * capacity(output_tokens)
        assert float(rate) < float(next_one) <= 1.3 * float(rate)
        assert set(loads(after, output_tokens)) >= {"c1", "c8"}
