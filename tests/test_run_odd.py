"""Sweeps that end: a suite with impossible, crashing and hanging cases measures all others, and says what became of these."""

import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Self

import odd_engine
import psutil
import pytest
import yaml

from bench.commands.run import exit_code
from monitor.devices import free_memory_bytes, memory_floor_bytes
from results.records import Report
from results.store import Store

pytestmark = pytest.mark.slow
BENCH = (sys.executable, "-P", "-c", "from bench.cli import main; main()")
DEFAULTS = {
    "engine": "odd", "processes": 1, "iterations": 2, "min_seconds": 0, "warmup": 1, "threads": 1, "memory_limit": "400MiB",
}  # fmt: skip
TOO_LARGE = {
    "model": "gemma-3-27b-it", "weights": "random", "engine": "transformers", "dtype": "fp32", "output_tokens": 4, "timeout_s": 120,
    "memory_limit": "1GiB",
}  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path, tiny_gemma: Path) -> Path:
    odd_engine.install(tmp_path / "packages")
    return tmp_path


def bench(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    env = os.environ | {"BENCH_CACHE": str(folder / "cache"), "COLUMNS": "200", "PYTHONPATH": str(folder / "packages")}
    return subprocess.run([*BENCH, *arguments], cwd=folder, capture_output=True, text=True, env=env, timeout=240)


def write(folder: Path, model: Path, ways: list[str], lengths: list[int], timeout_s: float = 8, **fields: object) -> None:
    suite = {
        "name": "odd", "question": "?", "defaults": DEFAULTS | {"model": str(model), "timeout_s": timeout_s},
        "matrix": {"kv_dtype": ways, "output_tokens": lengths}, "workload": {"prompt_tokens": 16},
    }  # fmt: skip
    suite |= fields
    (folder / "odd.yaml").write_text(yaml.safe_dump(suite))


def the_report(folder: Path) -> Report:
    with Store.reading(str(folder / ".bench/results.db")) as store:
        return store.report(store.resolve_run("latest"))


def became(report: Report) -> dict[str, dict[int, list[str]]]:
    """What became of each case, by the way in which it goes wrong and its output length."""
    found: dict[str, dict[int, list[str]]] = {}
    for one in (*report.measurements, *report.failures):
        case = report.run.plan_of(one.case_id).case
        found.setdefault(str(case.kv_dtype), {}).setdefault(case.output_tokens, []).append(getattr(one, "kind", "measured"))
    return found


class Watch:
    """The least free memory while it watches."""

    def __init__(self) -> None:
        self.least, self._stop = free_memory_bytes(), threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(0.02):
            self.least = min(self.least, free_memory_bytes())


def test_a_suite_with_impossible_crashing_and_hanging_cases_measures_all_others(folder: Path, tiny_gemma: Path) -> None:
    ways = ["fine", "eats", "crashes", "aborts", "hangs", "impossible"]
    write(folder, tiny_gemma, ways, [4, 8, 12], include=[TOO_LARGE])
    floor = memory_floor_bytes()
    with Watch() as watch:
        done = bench(folder, "run", "odd.yaml")
    assert done.returncode == 5, done.stderr
    assert watch.least > floor
    report = the_report(folder)
    assert report.status == "finished"
    measured = ["measured"]
    found = became(report)
    assert found.pop("eats") in (
        {4: measured, 8: ["oom"], 12: ["pruned"]}, {4: measured, 8: ["oom"], 12: measured},  # it may come before
    )  # fmt: skip
    assert found == {
        "fine": {4: measured, 8: measured, 12: measured},
        "crashes": {4: measured, 8: ["crash"], 12: measured},
        "aborts": {4: measured, 8: ["crash"], 12: measured},
        "hangs": {4: measured, 8: ["timeout"], 12: measured},
        "impossible": {4: ["oom"], 8: ["oom"], 12: ["oom"]},
        "None": {4: ["oom"]},
    }
    assert all(kind in done.stdout for kind in ("oom", "crash", "timeout"))
    limited = [one for one in report.failures if one.kind == "oom"]
    assert {one.message.partition("the limit given was ")[2].split(":")[0] for one in limited} == {"400 MiB", "1 GiB"}
    (hung,) = (one for one in report.failures if one.kind == "timeout")
    assert "odd_engine.py" in hung.stderr_tail and "_go_wrong" in hung.stderr_tail
    assert [one for one in psutil.process_iter(["cmdline"]) if str(folder) in " ".join(one.info["cmdline"] or ())] == []

    assert exit_code(report, ("oom", "crash", "timeout")) == 0
    assert exit_code(report, ("oom", "crash")) == 5
    shown = json.loads(bench(folder, "show", "latest", "--json").stdout)
    assert {one["kind"] for case in shown["cases"] for one in case["failures"]} >= {"oom", "crash", "timeout"}


def test_each_failure_costs_its_own_cases_alone(folder: Path, tiny_gemma: Path) -> None:
    write(folder, tiny_gemma, ["refused", "unable", "missing", "hangs-at-load"], [4, 8], timeout_s=4)
    done = bench(folder, "run", "odd.yaml", "--allow-failures=timeout", "--allow-failures=missing_dependency")
    assert done.returncode == 0, done.stderr
    measured = ["measured"]
    assert became(the_report(folder)) == {
        "refused": {4: measured, 8: ["unsupported"]},
        "unable": {4: measured, 8: ["unsupported"]},
        "missing": {4: ["missing_dependency"], 8: ["missing_dependency"]},
        "hangs-at-load": {4: ["timeout"], 8: ["timeout"]},
    }


def test_pruned_cases_stay_so_when_the_run_goes_on_unless_they_are_tried_again(folder: Path, tiny_gemma: Path) -> None:
    write(folder, tiny_gemma, ["impossible"], [4, 8], isolation="case")
    seeds = {}
    for seed in range(8):  # until the smaller one comes first
        assert bench(folder, "run", "odd.yaml", "--seed", str(seed)).returncode == 5
        seeds[seed] = became(the_report(folder))["impossible"]
        if seeds[seed] == {4: ["oom"], 8: ["pruned"]}:
            break
    else:
        pytest.fail(f"never pruned: {seeds}")
    assert bench(folder, "run", "--resume", "latest").returncode == 2
    assert bench(folder, "run", "--resume", "latest", "--retry-failed").returncode == 5
    assert became(the_report(folder))["impossible"] == {4: ["oom", "oom"], 8: ["pruned", "pruned"]}
