"""Facts of this machine, the doctor's findings, and what is kept of content."""

import json
import subprocess
from pathlib import Path

import pytest

from bench.contents import keeper
from bench.doctor import examine, others_on_cpu
from bench.environment import environment, installed, this_machine, tuning
from results.records import HARD_FACTS, Environment


def test_the_environment_is_stable_and_plain() -> None:
    first, second = environment(["transformers"]), environment(["transformers"])
    assert first == second
    assert first.environment_id == second.environment_id
    assert Environment.from_json(first.to_json()) == first
    assert first.facts.keys() >= HARD_FACTS
    assert first.facts["torch"] == installed("torch")
    assert first.facts["cpu_model"]
    assert not any("/" in str(value) and str(Path.home()) in str(value) for value in first.facts.values())


def test_variables_that_tune_are_facts_without_paths_and_secrets() -> None:
    variables = {
        "OMP_NUM_THREADS": "1", "ATEN_CPU_CAPABILITY": "default", "TORCH_HOME": "/home/me/torch", "GGML_API_KEY": "secret",
        "CUDA_VISIBLE_DEVICES": "0", "OMPI_COMM_WORLD_RANK": "3", "HOME": "x", "KMP_AFFINITY": "granularity=fine,\x1b[31mcompact",
    }  # fmt: skip
    assert tuning(variables) == {
        "variable ATEN_CPU_CAPABILITY": "default",
        "variable CUDA_VISIBLE_DEVICES": "0",
        "variable KMP_AFFINITY": "granularity=fine,compact",
        "variable OMP_NUM_THREADS": "1",
    }


def test_auto_is_resolved_without_torch() -> None:
    machine = this_machine()
    assert machine.device in ("cpu", "cuda")
    assert machine.threads >= 1


def test_the_doctor_names_every_topic_and_a_remedy_for_what_is_missing(tmp_path: Path) -> None:
    findings = examine(str(tmp_path / "none.db"), sleep=lambda _: None)
    assert {one.topic for one in findings} >= {
        "python",
        "cpu",
        "memory",
        "gpu",
        "load",
        "engine",
        "dashboard",
        "weights",
        "sqlite",
        "store",
    }
    assert all(one.remedy for one in findings if one.state != "ok")
    assert not (tmp_path / "none.db").exists()
    json.dumps([one.__dict__ for one in findings])


@pytest.mark.slow
def test_a_busy_neighbour_is_found() -> None:
    import sys

    burners = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(2)]
    try:
        import time

        finding = others_on_cpu(time.sleep)
    finally:
        for burner in burners:
            burner.kill()
            burner.wait()
    assert finding.state == "note"
    assert "busy" in finding.text


def test_kept_content(tmp_path: Path) -> None:
    key = tmp_path / "new" / "key"
    assert keeper("full", key)("text") == "text"
    assert keeper("none", key)("text") is None
    assert not key.exists()
    keep = keeper("hash", key)
    assert keep("text") == keeper("hash", key)("text") != keep("texts")
    assert key.stat().st_mode & 0o077 == 0
    assert keeper("hash", tmp_path / "other")("text") != keep("text")
